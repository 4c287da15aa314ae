"""The way out to a client that must not slow anybody: bounded, and given up where its client does not read.

While the socket takes everything, frames go straight out. Otherwise they wait here: audio up to a bound, beyond which
the oldest is dropped, and everything else up to another. Beyond that one, states that a newer one has replaced are
dropped, and where that is not enough, the client is closed: soon if it takes nothing, late if it reads on.
"""

import asyncio
from collections import deque
from typing import Final, NamedTuple

from voicebus.adapters.sockets import TRY_AGAIN_LATER, Socket
from voicebus.adapters.sockets.pieces import Pieces
from voicebus.telemetry import metrics
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

MAX_AUDIO: Final = 1024 * 1024
SPEAKER_AUDIO: Final = 3 * 1024 * 1024
"""Of whoever talks: about a minute of 24 kHz PCM, since a model says an answer faster than anybody hears it."""

MAX_EVENTS: Final = 4 * 1024 * 1024
"""So many bytes of events wait for a client that takes nothing, and the newest one, of any size."""

MOST_EVENTS: Final = 32 * 1024 * 1024
"""So many, and the newest one, for a client that takes something still."""

MOST_WAITING: Final = MOST_EVENTS + SPEAKER_AUDIO
"""What a socket may be given to send at its end."""

STALLED_S: Final = 20.0
"""A client of which nothing was taken for so long does not read."""

ROOM: Final = 256 * 1024 * 1024
"""Bytes that may wait for all clients of a process. Beyond it each has a `CROWDED`th of its own bounds."""

CROWDED: Final = 16

TOO_SLOW: Final = "too slow"


class _Frame(NamedTuple):
    message: bytes | Pieces
    binary: bool
    audio: bool
    state: bool


class Crowd:
    """What waits in several outlets together: `size` in bytes."""

    def __init__(self) -> None:
        self.size: int = 0

    @property
    def share(self) -> int:
        """By what the bounds of each are divided."""
        return CROWDED if self.size > ROOM else 1


_everybody: Final = Crowd()


class Outlet:
    """Frames on their way to one socket, in order. `max_audio` is in bytes; `crowd` are those that share memory."""

    def __init__(self, socket: Socket, *, max_audio: int | None = None, crowd: Crowd = _everybody) -> None:
        self._socket = socket
        self._max_audio = MAX_AUDIO if max_audio is None else max_audio
        self._crowd = crowd
        self._waiting: deque[_Frame] = deque()
        self._audio = self._events = self._states = 0
        # What the client had taken as that was looked at last, and since when it had (s).
        self._taken, self._taken_at = -1, 0.0
        self._drain: asyncio.Task[None] | None = None
        self._withheld = False
        self._closed = False
        self.dropped = 0
        """Bytes of audio that were dropped."""

    def send(self, message: bytes | Pieces, *, binary: bool = False, audio: bool = False, state: bool = False) -> None:
        """Send a frame, or keep it for later; nothing once closed. A `state` says all that the one before it did."""
        if self._closed:
            return
        if not self._waiting and not self._withheld and not self._socket.is_congested:
            if isinstance(message, Pieces):
                self._socket.send_pieces(message)
            elif binary:
                self._socket.send_binary(message)
            else:
                self._socket.send_text(message)
            return
        if not audio and self._events > MAX_EVENTS // CROWDED and not self._has_room(state):
            self._give_up()
            return
        frame = _Frame(message, binary, audio, state)
        self._waiting.append(frame)
        self._count(frame, 1)
        if audio and self._audio > self._max_audio // self._crowd.share:
            self._drop_audio()
        if self._drain is None and not self._withheld:
            self._begin_to_drain()

    def withhold(self) -> None:
        """Send nothing until `release`: frames wait, as they do for a client that does not read."""
        self._withheld = True

    def release(self) -> None:
        """Send what waits, and whatever comes."""
        self._withheld = False
        while self._waiting and not self._socket.is_congested:
            self._put(self._next())
        if self._waiting and self._drain is None:
            self._begin_to_drain()

    def flush(self) -> None:
        """Hand everything that waits to the socket, which is about to be closed in order."""
        if not self._closed:
            for frame in self._waiting:
                self._put(frame)
            self.close()

    def close(self) -> None:
        """Forget what waits, and take nothing more."""
        self._closed = True
        self._waiting.clear()
        self._crowd.size -= self._audio + self._events
        self._audio = self._events = 0
        if self._drain is not None:
            self._drain.cancel()

    def _begin_to_drain(self) -> None:
        self._taken, self._taken_at = -1, asyncio.get_running_loop().time()
        self._drain = asyncio.create_task(self._send_waiting(), name="outlet")

    async def _send_waiting(self) -> None:
        while self._waiting:
            try:
                async with asyncio.timeout(STALLED_S):
                    await self._socket.writable()
            except TimeoutError:
                # What may wait while a client might read does not have to, though nothing more is said to it.
                if not self._has_room(state=False):
                    self._give_up()
                    return
                continue
            if self._waiting:
                self._put(self._next())
        self._drain = None

    def _next(self) -> _Frame:
        frame = self._waiting.popleft()
        self._count(frame, -1)
        return frame

    def _put(self, frame: _Frame) -> None:
        if isinstance(frame.message, Pieces):
            self._socket.send_pieces(frame.message)
        else:
            (self._socket.send_binary if frame.binary else self._socket.send_text)(frame.message)

    def _count(self, frame: _Frame, sign: int) -> None:
        size = sign * len(frame.message)
        if frame.audio:
            self._audio += size
        else:
            self._events += size
            self._states += sign * frame.state
        self._crowd.size += size

    # --- what is too much -----------------------------------------------------------------------------

    def _has_room(self, state: bool) -> bool:
        """Whether another event may wait; a `state` needs none of those before it."""
        share, keep = self._crowd.share, 0 if state else 1
        if self._events > MAX_EVENTS // share and self._states > keep:
            self._drop_states(keep)
        return self._events <= (MOST_EVENTS if self._reads() else MAX_EVENTS) // share

    def _reads(self) -> bool:
        taken, now = self._socket.taken, asyncio.get_running_loop().time()
        if taken != self._taken:
            self._taken, self._taken_at = taken, now
        return now - self._taken_at < STALLED_S

    def _give_up(self) -> None:
        metrics.LIMITS_REACHED.labels(limit="slow_reader").inc()
        log.warning("a client does not read, closing it", waiting=self._events, audio_dropped=self.dropped)
        self.close()
        # Not here: the caller is in the middle of telling everybody.
        asyncio.get_running_loop().call_soon(self._socket.close, TRY_AGAIN_LATER, TOO_SLOW)

    def _drop_states(self, keep: int) -> None:
        """Drop all states that wait but the `keep` newest ones."""
        kept: deque[_Frame] = deque()
        for frame in self._waiting:
            if frame.state and self._states > keep:
                self._count(frame, -1)
            else:
                kept.append(frame)
        self._waiting = kept

    def _drop_audio(self) -> None:
        """Drop the oldest audio, down to half: so that this is done seldom."""
        half = self._max_audio // self._crowd.share // 2
        kept: deque[_Frame] = deque()
        for frame in self._waiting:
            if frame.audio and self._audio > half:
                self._count(frame, -1)
                self.dropped += len(frame.message)
            else:
                kept.append(frame)
        self._waiting = kept
