"""The way out to a client that must not slow anybody: bounded, and given up where it reads too slowly.

While the socket takes everything, frames go straight out. Otherwise they wait here: audio up to a bound, beyond which
the oldest is dropped, and everything else up to another, beyond which the client is closed.
"""

import asyncio
from collections import deque
from typing import Final, NamedTuple

from voicebus.adapters.sockets import TRY_AGAIN_LATER, Socket
from voicebus.telemetry import metrics
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

MAX_AUDIO: Final = 1024 * 1024
MAX_EVENTS: Final = 4 * 1024 * 1024
SPEAKER_AUDIO: Final = 3 * 1024 * 1024
"""Of whoever talks: about a minute of 24 kHz PCM, since a model says an answer faster than anybody hears it."""

TOO_SLOW: Final = "too slow"


class _Frame(NamedTuple):
    message: bytes
    binary: bool
    audio: bool


class Outlet:
    """Frames on their way to one socket, in order. `max_audio` is in bytes."""

    def __init__(self, socket: Socket, *, max_audio: int | None = None) -> None:
        self._socket = socket
        self._max_audio = MAX_AUDIO if max_audio is None else max_audio
        self._max_events = MAX_EVENTS
        self._waiting: deque[_Frame] = deque()
        self._audio = self._events = 0
        self._drain: asyncio.Task[None] | None = None
        self._closed = False
        self.dropped = 0
        """Bytes of audio that were dropped."""

    def send(self, message: bytes, *, binary: bool = False, audio: bool = False) -> None:
        """Send a frame, or keep it for later; nothing once closed."""
        if self._closed:
            return
        if not self._waiting and not self._socket.is_congested:
            if binary:
                self._socket.send_binary(message)
            else:
                self._socket.send_text(message)
            return
        frame = _Frame(message, binary, audio)
        self._waiting.append(frame)
        self._count(frame, 1)
        if self._audio > self._max_audio:
            self._drop_audio()
        if self._events > self._max_events:
            metrics.LIMITS_REACHED.labels(limit="slow_reader").inc()
            log.warning("a client does not read, closing it", waiting=self._events, audio_dropped=self.dropped)
            self.close()
            # Not here: the caller is in the middle of telling everybody.
            asyncio.get_running_loop().call_soon(self._socket.close, TRY_AGAIN_LATER, TOO_SLOW)
        elif self._drain is None:
            self._drain = asyncio.create_task(self._send_waiting(), name="outlet")

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
        if self._drain is not None:
            self._drain.cancel()

    async def _send_waiting(self) -> None:
        while self._waiting:
            await self._socket.writable()
            if self._waiting:
                frame = self._waiting.popleft()
                self._count(frame, -1)
                self._put(frame)
        self._drain = None

    def _put(self, frame: _Frame) -> None:
        (self._socket.send_binary if frame.binary else self._socket.send_text)(frame.message)

    def _count(self, frame: _Frame, sign: int) -> None:
        if frame.audio:
            self._audio += sign * len(frame.message)
        else:
            self._events += sign * len(frame.message)

    def _drop_audio(self) -> None:
        """Drop the oldest audio, down to half: so that this is done seldom."""
        kept: deque[_Frame] = deque()
        for frame in self._waiting:
            if frame.audio and self._audio > self._max_audio // 2:
                self._count(frame, -1)
                self.dropped += len(frame.message)
            else:
                kept.append(frame)
        self._waiting = kept
