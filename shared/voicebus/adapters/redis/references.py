"""Results that are too large for an inbox: read from the record of their call, which the reply refers to."""

from typing import Any, Final

from msgspec.structs import replace

from voicebus.adapters.redis.client import RedisConnection
from voicebus.contracts.envelope import Entry
from voicebus.contracts.streams import Keys
from voicebus.contracts.tools import TOOL_RESULT, Outcome, ToolFailure, ToolResult
from voicebus.errors import ContractError
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)


def refers(entry: Entry) -> bool:
    """Whether its output has to be read elsewhere."""
    return entry.type == TOOL_RESULT and entry.data.get("reference") is not None


async def whole(bus: RedisConnection, keys: Keys, entry: Entry) -> Entry:
    """`entry`, with its output where it only refers to it. One that is not there any more is an error to the model.

    Raises:
        ContractError: it refers to something that is no record of its call.
        BusError: Redis cannot be reached.
    """
    if not refers(entry):
        return entry
    reference, result = entry.data["reference"], ToolResult.of(entry)
    if not keys.is_record_of(str(reference), entry.session, result.call_id):
        raise ContractError(f"reference {str(reference)[:200]!r} is no record of its call", reason="malformed")
    stored: Any = await bus.call("HGET", reference, "result")
    if stored:
        found = ToolResult.stored(stored).model_copy(update={"reference": None})
    else:
        log.warning("stored result is gone", session=entry.session, call=result.call_id)
        failure = ToolFailure(kind="result_lost", message="the stored result of the call is not there any more")
        lost = {"outcome": Outcome.ERROR, "output": "The tool's result was lost.", "error": failure, "reference": None}
        found = result.model_copy(update=lost)
    return replace(entry, data=found.model_dump(mode="json"))
