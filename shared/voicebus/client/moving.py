"""A client that is asked to move (`migrate`): a second connection beside the first, for another gateway to go on with
the session. What came on both is given once (`line.Told`).
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from voicebus.client.dialling import CONNECT_TIMEOUT_S, delay
from voicebus.client.line import Line, Told
from voicebus.errors import RemoteError

# What a gateway that has let another one take its session may still have to say.
_LAST_FRAMES_S: Final = 5.0
_GOING_AWAY: Final = 1001


class Moving:
    """Has the second connection ready when the first one is closed.

    `dial` opens a connection to the session; `first` is the one in use, None once the session is over. `final` are the
    close codes after which there is nothing to come back to.
    """

    def __init__(
        self, dial: Callable[[], Awaitable[Line]], first: Callable[[], Line | None], told: Told, final: frozenset[int]
    ) -> None:
        self._dial = dial
        self._first = first
        self._told = told
        self._final = final
        self._opening: asyncio.Task[Line | None] | None = None

    @property
    def was_asked(self) -> bool:
        """Whether the second connection may be why the first one was closed."""
        return self._opening is not None

    def begin(self) -> None:
        """The gateway stops."""
        if self._opening is None or self._opening.done():
            self._told.begin()
            self._opening = asyncio.create_task(self._open(), name="gateway-move")

    async def second(self) -> Line | None:
        """The connection to go on with now that the first is closed; None where there is none."""
        opening = self._opening
        if opening is None:
            return None
        # Not by awaiting it: where `stay` cancels it, whoever waits here is not cancelled with it.
        await asyncio.wait([opening], timeout=CONNECT_TIMEOUT_S)
        self._opening = None
        if not opening.done():
            opening.cancel()
            await asyncio.wait([opening])
        line = None if opening.cancelled() else opening.result()
        if line is not None:
            self._told.moved()
        else:
            self._told.forget()
        return line

    async def stay(self) -> None:
        """Do not move any more."""
        opening, self._opening = self._opening, None
        if opening is None:
            return
        opening.cancel()
        (line,) = await asyncio.gather(opening, return_exceptions=True)
        if isinstance(line, Line):
            await line.close(_GOING_AWAY)

    async def _open(self) -> Line | None:
        """The connection on which the session goes on; None where it does not."""
        attempt = 0
        while self._first() is not None:
            if attempt:
                await asyncio.sleep(delay(attempt - 1))
            attempt += 1
            try:
                line = await self._dial()
            except RemoteError:
                continue
            try:
                if not await line.greeted():
                    if line.socket.close_code in self._final:
                        return None
                    continue
            except asyncio.CancelledError:
                await line.close(_GOING_AWAY)
                raise
            # What the first one still says has come before it is closed; one that is lost silently is not waited for.
            asyncio.get_running_loop().call_later(_LAST_FRAMES_S, self._leave, self._first())
            return line
        return None

    def _leave(self, first: Line | None) -> None:
        if first is not None and self._first() is first:
            first.socket.transport.abort()
