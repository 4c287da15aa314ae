"""A listener of the model layer that remembers what it heard."""

from typing import Any

from support.waiting import wait_until
from voicebus.agents.models.events import RealtimeModelEvent, RealtimeModelRawServerEvent
from voicebus.agents.models.model import RealtimeModelListener


class Ear(RealtimeModelListener):
    """`heard` are all events, in order."""

    def __init__(self) -> None:
        self.heard: list[RealtimeModelEvent] = []

    async def on_event(self, event: RealtimeModelEvent) -> None:
        self.heard.append(event)

    def types(self) -> list[str]:
        return [event.type for event in self.heard]

    def meanings(self) -> list[str]:
        """The types of those that are not the model's own events as they came."""
        return [kind for kind in self.types() if kind != "raw_server_event"]

    def raw(self) -> list[str]:
        """The types of the model's own events."""
        return [event.data["type"] for event in self.heard if isinstance(event, RealtimeModelRawServerEvent)]

    async def hears(self, kind: str, count: int = 1) -> Any:
        """The event of this type that is number `count`; waits for it."""
        await wait_until(lambda: self.types().count(kind) >= count, description=f"{kind} number {count}")
        return [event for event in self.heard if event.type == kind][count - 1]

    async def hears_raw(self, kind: str) -> None:
        """Wait for one of the model's own events of this type."""
        await wait_until(lambda: kind in self.raw(), description=f"the raw {kind}")
