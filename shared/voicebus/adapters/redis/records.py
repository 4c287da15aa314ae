"""A session's recorded events as Redis has them: the event stream while it is not trimmed, after that items,
calls and the end.

For those who ask late: the owner has the newest events in memory.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from voicebus.adapters.redis.client import RedisConnection
from voicebus.contracts.envelope import Entry
from voicebus.contracts.journal import EVENTS, EventType
from voicebus.contracts.streams import Keys
from voicebus.errors import ContractError
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

_PAGE: Final = 500
# Entries of a shard that are looked through for one session, at most.
_MAX_PAGES: Final = 400
# A gateway's clock, by which a session began, need not be the one that made the entries' ids.
_CLOCKS_APART_MS: Final = 60_000


class RedisRecords:
    """Reads recorded events back. Each is `(at, type, data)` under its `seq`."""

    def __init__(self, bus: RedisConnection, keys: Keys) -> None:
        self._bus = bus
        self._keys = keys

    async def read(self, session: str, after: int, upto: int) -> Mapping[int, tuple[int, EventType, dict[str, Any]]]:
        """The events above `after` up to `upto` that Redis still has.

        Raises:
            BusError: Redis cannot be reached.
        """
        found: dict[int, tuple[int, EventType, dict[str, Any]]] = {}
        await self._from_stream(session, after, upto, found)
        if len(found) < upto - after:
            await self._from_state(session, after, upto, found)
        return found

    async def kept(self, session: str, after: int, upto: int) -> Mapping[int, tuple[int, EventType, dict[str, Any]]]:
        """Those of the events above `after` up to `upto` that the session's items and calls still have.

        Raises:
            BusError: Redis cannot be reached.
        """
        found: dict[int, tuple[int, EventType, dict[str, Any]]] = {}
        await self._from_state(session, after, upto, found)
        return found

    async def _from_stream(
        self, session: str, after: int, upto: int, found: dict[int, tuple[int, EventType, dict[str, Any]]]
    ) -> None:
        stream = self._keys.events(self._keys.event_shard(session))
        # Not from the id: that of a call is its provider's, and says nothing of time.
        began = int(await self._bus.call("HGET", self._keys.session_state(session), "started_at") or 0)
        start = str(max(0, began - _CLOCKS_APART_MS))
        for _ in range(_MAX_PAGES):
            entries = await self._bus.call("XRANGE", stream, start, "+", "COUNT", _PAGE)
            for entry_id, flat in entries:
                start = f"({entry_id}"
                fields = flat if isinstance(flat, Mapping) else dict(zip(flat[::2], flat[1::2], strict=True))
                if fields.get("session") != session:
                    continue
                event = _readable(fields)
                if event is not None and event.seq is not None and after < event.seq <= upto:
                    found[event.seq] = (event.at, EventType(event.type), event.data)
            if len(entries) < _PAGE or upto in found:
                return

    async def _from_state(
        self, session: str, after: int, upto: int, found: dict[int, tuple[int, EventType, dict[str, Any]]]
    ) -> None:
        for key in (self._keys.session_items(session), self._keys.session_calls(session)):
            flat = await self._bus.call("HVALS", key)
            for text in flat:
                event = json.loads(text)
                seq = event.pop("seq")
                if after < seq <= upto and seq not in found:
                    found[seq] = (event.pop("at"), EventType(event.pop("type")), event)
        names = ("status", "seq", "started_at", "ended_at", "end_reason")
        values = await self._bus.call("HMGET", self._keys.session_state(session), *names)
        status, last, began, ended_at, reason = (value or "" for value in values)
        # Nothing is recorded behind a session's end.
        if status == "ended" and ended_at and after < int(last) <= upto and int(last) not in found:
            ended = {"reason": reason, "duration_ms": max(0, int(ended_at) - int(began or ended_at))}
            found[int(last)] = (int(ended_at), EventType.SESSION_ENDED, ended)


def _readable(fields: Mapping[str, str]) -> Entry | None:
    try:
        entry = Entry.parse(fields)
    except ContractError as error:
        log.warning("an event cannot be read", error=str(error))
        return None
    return entry if entry.type in EVENTS else None
