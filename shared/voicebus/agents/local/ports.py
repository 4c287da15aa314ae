"""The small ports of a session in one process: its clock, its journal, and an inbox that nobody writes to."""

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from voicebus.agents.local.weighing import weight
from voicebus.engine.outputs import Record
from voicebus.ports import Deliver, SessionRef

MAX_RECORDS: Final = 10_000
"""Records that a session in process keeps; beyond that the oldest go."""

MAX_BYTES: Final = 16 * 1024 * 1024
"""Bytes of their texts, likewise: an hour of talk has less than one million."""


class LocalClock:
    """Implements `Clock` on this machine's clocks."""

    monotonic: Final[Callable[[], float]] = staticmethod(time.monotonic)

    def at_ms(self) -> int:
        return time.time_ns() // 1_000_000


class LocalJournal:
    """Implements `Journal`: keeps the last records of one session, `MAX_RECORDS` and `MAX_BYTES` at most."""

    def __init__(self) -> None:
        self._records: deque[tuple[Record, int, int]] = deque()
        self._bytes = 0

    def records(self) -> list[dict[str, Any]]:
        """What was recorded, as the native face shows it: `type`, `seq`, `at` (ms), and the record's fields."""
        return [
            {"type": record.type.value, "seq": record.seq, "at": at_ms, **record.data.model_dump(mode="json")}
            for record, at_ms, _ in self._records
        ]

    async def open(self, session: str, *, state: Mapping[str, str]) -> int:
        return 1

    def append(self, session: SessionRef, record: Record, at_ms: int) -> None:
        # Its fields as they stand: iterating over a model costs as much as all else here.
        size = weight(vars(record.data))
        self._records.append((record, at_ms, size))
        self._bytes += size
        while len(self._records) > MAX_RECORDS or (self._bytes > MAX_BYTES and len(self._records) > 1):
            self._bytes -= self._records.popleft()[2]

    def update(self, session: SessionRef, state: Mapping[str, str]) -> None:
        """Whoever holds the session sees its state."""

    def after(self, session: SessionRef, then: Callable[[], None]) -> None:
        then()

    async def close(self, session: SessionRef) -> None:
        """The records stay, for whoever holds the session."""


class NoInbox:
    """Implements `Inbox`: in process, answers come as inputs."""

    def subscribe(self, session: str, deliver: Deliver) -> None:
        """Nothing is delivered."""

    def unsubscribe(self, session: str) -> None:
        """Nothing was."""
