"""What an upgrade to `/v1/realtime` may ask for that is not served here, and how the protocol's servers say so."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from voicebus.errors import UsageError
from voicebus_services.gateway.faces.native_address import consent

CLOSE_CODE: Final = 4000
"""The protocol's close code of a session that cannot be as it was asked for (protocol 1.4)."""

_BETA: Final = "realtime=v1"
_CONVERSATION: Final = "conversation"


@dataclass(frozen=True, slots=True)
class Unserved:
    """The `error` that answers it before the connection closes."""

    code: str
    message: str
    param: str | None = None


def unserved(query: Mapping[str, str], headers: Mapping[str, str]) -> Unserved | None:
    """Why this upgrade gets no session; None where nothing is wrong with what it asks for. `headers` in lower case."""
    if _BETA in headers.get("openai-beta", "").replace(" ", "").split(","):
        return Unserved(
            "beta_api_shape_disabled",
            f"The beta form of the protocol is not served; leave the header 'OpenAI-Beta: {_BETA}' out.",
        )
    intent = query.get("intent", _CONVERSATION)
    if intent != _CONVERSATION:
        return Unserved(
            "invalid_value",
            f"Invalid value: '{intent[:64]}'. Sessions here are conversations with an agent; their transcripts come as "
            "events of the conversation.",
            "intent",
        )
    try:
        consent(query)
    except UsageError as error:
        return Unserved("invalid_value", f"Invalid value: {error}.", "record")
    return None
