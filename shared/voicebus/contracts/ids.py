"""Names for the ids that travel; all of them are opaque text."""

from typing import NewType

SessionId = NewType("SessionId", str)
CallId = NewType("CallId", str)
ItemId = NewType("ItemId", str)
ResponseId = NewType("ResponseId", str)
WorkerId = NewType("WorkerId", str)
GatewayId = NewType("GatewayId", str)
