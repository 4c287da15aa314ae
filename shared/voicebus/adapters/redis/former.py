"""What a session's former owner has left on the way: answers in its inbox, and calls that somebody has in hand still.

A worker answers where the entry of its call says, which is the former owner's inbox until the call is published again.
So its new owner reads that inbox on for a while (contract section 8, Late results). A worker of the basic level knows
of no claims: a call that it may have in hand is not published again, and its answer is waited for there.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.portions import Portion
from voicebus.adapters.redis.trimming import pairs
from voicebus.contracts.envelope import Entry
from voicebus.contracts.streams import Keys
from voicebus.errors import BusError, ContractError
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

LATE_S: Final = 10.0
"""How long a former owner's inbox is read after a session was taken from it, at least."""

_POLL_S: Final = 0.2
# Entries of a queue that are looked through for the calls of one session, at most.
_MOST: Final = 2_000

Late = Callable[[Mapping[str, str]], Awaitable[None]]


class FormerInboxes:
    """Reads inboxes of former owners, each with one task. `late` takes an entry of a session that is followed."""

    def __init__(self, bus: RedisConnection, keys: Keys, late: Late) -> None:
        self._bus = bus
        self._keys = keys
        self._late = late
        # Of each owner its sessions, and until when (monotonic, s) they are followed.
        self._followed: dict[str, dict[str, float]] = {}
        self._readers: dict[str, asyncio.Task[None]] = {}
        self._from_start: set[str] = set()

    def follow(self, owner: str, session: str, *, for_s: float = LATE_S) -> None:
        """Bring what comes, or came, for a session to an inbox of the owner that it had."""
        self._followed.setdefault(owner, {})[session] = time.monotonic() + max(LATE_S, for_s)
        # What is there was written since its owner last looked, or a little before.
        self._from_start.add(owner)
        if owner not in self._readers:
            self._readers[owner] = asyncio.create_task(self._read(owner), name=f"former-inbox-{owner}")

    async def aclose(self) -> None:
        """Read no more."""
        readers = list(self._readers.values())
        for task in readers:
            task.cancel()
        await asyncio.gather(*readers, return_exceptions=True)

    async def _read(self, owner: str) -> None:
        stream, last = self._keys.inbox(owner), "0-0"
        sessions = self._followed[owner]
        portion = Portion()
        try:
            while sessions:
                if owner in self._from_start:
                    self._from_start.discard(owner)
                    last = "0-0"
                try:
                    asked = portion.count
                    reply = await self._bus.call("XREAD", "COUNT", asked, "STREAMS", stream, last)
                    entries = [(entry_id, pairs(fields)) for _, found in reply or () for entry_id, fields in found]
                    portion.took(known for _, known in entries)
                    for entry_id, known in entries:
                        if known.get("session") in sessions:
                            await self._late(known)
                        last = entry_id
                except BusError as error:
                    log.info("a former owner's inbox is read later", owner=owner, error=str(error))
                    entries = []
                if len(entries) < asked:
                    await asyncio.sleep(_POLL_S)
                now = time.monotonic()
                for session in [session for session, until in sessions.items() if now >= until]:
                    del sessions[session]
        finally:
            del self._followed[owner], self._readers[owner]
            self._from_start.discard(owner)


async def in_hand(bus: RedisConnection, keys: Keys, session: str, calls: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Of these calls (id, queue), those that are in their queue and have no claim: a worker of the basic level may run
    them or have run them, or any worker will. By id, each with its deadline (ms), 0 where it has none.

    Raises:
        BusError: Redis cannot be reached.
    """
    wanted: dict[str, set[str]] = {}
    for call_id, queue in calls:
        if not await bus.call("HEXISTS", keys.call(queue, session, call_id), "state"):
            wanted.setdefault(queue, set()).add(call_id)
    found: dict[str, int] = {}
    for queue, ids in wanted.items():
        for _, fields in await bus.call("XREVRANGE", keys.tools(queue), "+", "-", "COUNT", _MOST):
            known = pairs(fields)
            if known.get("session") == session:
                _match(known, ids, found)
    return found


def _match(fields: Mapping[str, str], ids: set[str], found: dict[str, int]) -> None:
    try:
        entry = Entry.parse(fields)
    except ContractError:
        return  # its worker gives it up
    call_id = entry.data.get("call_id")
    if call_id in ids:
        found[str(call_id)] = entry.deadline or 0
