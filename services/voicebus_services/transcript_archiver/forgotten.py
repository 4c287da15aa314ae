"""Sessions of the archive that are open there, and of which Redis knows nothing: it has lost them, and whoever owned
them died before it had written them again. They are ended in the archive, as nothing else is left of them.
"""

import time
from collections.abc import Callable
from typing import Final, NamedTuple

from ulid_transform import ulid_now

from voicebus.adapters.database.lines import RecordedEvent
from voicebus.adapters.database.store import TranscriptStore
from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.trimming import position, undone
from voicebus.contracts.envelope import Entry
from voicebus.contracts.journal import INTERRUPTED, LOCAL_TENANT, EventType
from voicebus.contracts.streams import ARCHIVER_GROUP, Keys
from voicebus.telemetry import metrics
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

PATIENCE_S: Final = 30.0
"""How long Redis must know nothing of a session, at least: a gateway that lives writes it again within seconds."""


class _Missed(NamedTuple):
    """Since when (monotonic, s) Redis does not know a session, and the last entry that its shard had then."""

    since: float
    last_entry: str


class Forgotten:
    """`see_to` each session that Redis does not know, in looks that `begin`.

    `on_ended` hears of each that was ended, by tenant and id.
    """

    def __init__(
        self,
        store: TranscriptStore,
        bus: RedisConnection,
        keys: Keys,
        *,
        grace_s: float,
        on_ended: Callable[[str, str], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._bus = bus
        self._keys = keys
        self._patience_s = max(PATIENCE_S, grace_s)
        self._on_ended = on_ended
        self._monotonic = monotonic
        # What was found in the look before this one, and in this one.
        self._known: dict[str, _Missed] = {}
        self._missed: dict[str, _Missed] = {}

    def begin(self) -> None:
        """A look begins: what is not seen to in it Redis knows, or cannot be asked for, and is missed anew after it."""
        self._known, self._missed = self._missed, {}

    async def see_to(self, session: str) -> None:
        """Redis does not know this session now: end it where that has been so for long enough.

        Raises:
            BusError, StoreError: Redis or the database cannot be reached.
        """
        now = self._monotonic()
        stream = self._keys.events(self._keys.event_shard(session))
        missed = self._known.get(session)
        if missed is None:
            entries = await self._bus.call("XREVRANGE", stream, "+", "-", "COUNT", 1)
            missed = _Missed(now, entries[0][0] if entries else "0-0")
        self._missed[session] = missed
        # What is on its way still may be the session's, and its end.
        if now >= missed.since + self._patience_s and await self._has_read(stream, missed.last_entry):
            await self._end(session)

    async def _has_read(self, stream: str, entry_id: str) -> bool:
        reached = (await undone(self._bus, stream)).get(ARCHIVER_GROUP)
        return reached is not None and position(reached) > position(entry_id)

    async def _end(self, session: str) -> None:
        last = await self._store.last_event(session)
        if last is None or last.has_gap:  # ended or erased meanwhile, or looked into still
            return
        data = {"reason": INTERRUPTED, "duration_ms": max(0, last.at - last.started_at)}
        entry = Entry(
            id=ulid_now(), type=EventType.SESSION_ENDED, session=session, epoch=last.epoch, at=last.at, data=data,
            seq=last.seq + 1,
        )  # fmt: skip
        await self._store.write([RecordedEvent.of(entry)])
        metrics.SESSIONS_ENDED.labels(reason=INTERRUPTED).inc()
        self._on_ended(last.tenant or LOCAL_TENANT, session)
        log.warning("ended a session that Redis has lost together with its gateway", session=session, seq=last.seq)
