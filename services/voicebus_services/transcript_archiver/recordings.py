"""What was recorded of sessions whose gateway has died: left in parts, put together here."""

import asyncio
from typing import TYPE_CHECKING, Final

from voicebus.errors import StoreError
from voicebus.telemetry import metrics
from voicebus.telemetry.logging import get_logger

if TYPE_CHECKING:
    from voicebus.adapters.recordings.reading import RecordingReader

log: Final = get_logger(__name__)

# What is beyond stays in parts, which can be read as well.
_MAX_WAITING: Final = 10_000


class LeftRecordings:
    """Run `run` as a task; `add` tells of a session that nobody records any more. Without a reader there is nothing."""

    def __init__(self, reader: "RecordingReader | None") -> None:
        self._reader = reader
        self._waiting: asyncio.Queue[tuple[str, str]] = asyncio.Queue(_MAX_WAITING)

    def add(self, tenant: str, session: str) -> None:
        """This session was ended; what there is of its recording is put together when its turn comes."""
        if self._reader is None:
            return
        try:
            self._waiting.put_nowait((tenant, session))
        except asyncio.QueueFull:
            log.warning("a recording stays in parts: too many wait", session=session)

    async def run(self) -> None:
        """Put one after another together until cancelled."""
        if self._reader is None:
            return
        try:
            while True:
                await self._complete(self._reader, *await self._waiting.get())
        finally:
            self._reader.close()

    async def _complete(self, reader: "RecordingReader", tenant: str, session: str) -> None:
        try:
            if await reader.complete(tenant, session):
                log.info("put together what was recorded of a session", session=session)
        except FileNotFoundError:
            log.info("somebody else has put a recording together", session=session)
        except Exception as error:  # one odd recording must not end the care of all
            metrics.RECORDING_FAILURES.labels(step="complete").inc()
            log.warning(
                "a recording stays in parts",
                session=session,
                error=str(error),
                exc_info=not isinstance(error, StoreError),
            )
