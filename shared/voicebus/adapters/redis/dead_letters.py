"""The one writer of dead letters: the original entry, why it was given up, and where it stood (contract section 2)."""

from collections.abc import Mapping

from voicebus.adapters.redis.client import RedisConnection
from voicebus.contracts.streams import DEAD_LETTERS_MAXLEN


async def write_dead_letter(
    bus: RedisConnection,
    key: str,
    fields: Mapping[str, str],
    *,
    stream: str,
    entry_id: str,
    deliveries: int,
    reason: str,
    error: str,
    kept: Mapping[str, str] | None = None,
) -> None:
    """Append the entry with `fields`, which is `entry_id` of `stream`, to the dead letters at `key`,
    with what else is `kept` of it.

    Raises:
        BusError: Redis cannot be reached; the letter may or may not have been written.
    """
    letter = {
        **fields, **(kept or {}),
        "reason": reason, "error": error, "deliveries": str(deliveries), "origin": f"{stream}/{entry_id}",
    }  # fmt: skip
    flat = [text for pair in letter.items() for text in pair]
    await bus.call("XADD", key, "MAXLEN", "~", DEAD_LETTERS_MAXLEN, "*", *flat)
