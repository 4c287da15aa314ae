"""Connections to the native face that ask for more than is remembered here: they take part once that was read."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence

from voicebus.errors import BusError
from voicebus.telemetry.logging import get_logger
from voicebus_services.gateway.faces.native_connection import NativeConnection
from voicebus_services.gateway.faces.recorded import Recorded, RecordedLog

log = get_logger(__name__)


class Recalling:
    """Reads what a connection has missed by `recall(session, after, upto)`, and gives it to `admit`; where that cannot
    be read, `turn_away` is told why.
    """

    def __init__(
        self,
        recorded: RecordedLog,
        recall: Callable[[str, int, int], Awaitable[Sequence[Recorded]]],
        admit: Callable[[NativeConnection, Sequence[Recorded]], None],
        turn_away: Callable[[NativeConnection, str, str], None],
    ) -> None:
        self._recorded = recorded
        self._recall = recall
        self._admit = admit
        self._turn_away = turn_away
        self._reading: dict[NativeConnection, asyncio.Task[None]] = {}

    @property
    def connections(self) -> Collection[NativeConnection]:
        """Those that do not take part yet."""
        return self._reading.keys()

    def begin(self, connection: NativeConnection, session: str) -> None:
        """Take this one in as soon as it can be."""
        reading = asyncio.create_task(self._read(connection, session), name=f"recall-{session}")
        self._reading[connection] = reading
        reading.add_done_callback(lambda _: self._reading.pop(connection, None))

    def give_up(self, connection: NativeConnection) -> None:
        """It has ended."""
        reading = self._reading.pop(connection, None)
        if reading is not None:
            reading.cancel()

    async def _read(self, connection: NativeConnection, session: str) -> None:
        older: list[Recorded] = []
        seen = connection.after_seq
        try:
            while seen < self._recorded.forgotten:
                upto = self._recorded.forgotten
                older += await self._recall(session, seen, upto)
                seen = upto
        except BusError as error:
            log.warning("recorded events cannot be read", session=session, error=str(error))
            self._turn_away(connection, "bus_unavailable", "what was recorded cannot be read now; try again shortly")
            return
        except Exception as error:  # the boundary between one connection and the others
            log.exception("recorded events cannot be read", session=session)
            self._turn_away(connection, "internal_error", f"internal error ({type(error).__name__})")
            return
        if not connection.is_gone:
            self._admit(connection, older)
