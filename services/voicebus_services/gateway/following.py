"""The recorded events of a session that another gateway holds, read as an observer of its native face."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import picows

from voicebus.adapters.sockets import GOING_AWAY, Socket
from voicebus.contracts.journal import EventType
from voicebus.errors import BusError
from voicebus.runtime.frames import parse_event
from voicebus_services.gateway.faces.recorded import Recorded
from voicebus_services.gateway.relaying import Peer, Peers

_RECORDED: Final = frozenset(EventType)
# Frames that wait for the reader before the peer is read no further.
_MAX_WAITING: Final = 100
_MAX_SEQ: Final = 10**15 - 1


class _Ear:
    """Hears from the peer. Implements `SocketListener`; reads no further while `_MAX_WAITING` frames wait."""

    def __init__(self) -> None:
        self.frames: deque[bytes] = deque()
        self.news = asyncio.Event()
        self.over = False
        self._socket: Socket | None = None
        self._is_paused = False

    def opened(self, socket: Socket) -> None:
        self._socket = socket

    def text(self, message: bytes) -> None:
        self.frames.append(message)
        self.news.set()
        # What was read with the frame that is one too many comes all the same.
        if len(self.frames) > _MAX_WAITING and self._socket is not None and not self._is_paused:
            self._is_paused = True
            self._socket.pause_reading()

    def binary(self, message: bytes) -> None:
        """Observers that do not ask for audio get none."""

    def closed(self, code: int, reason: str) -> None:
        self.over = True
        self.news.set()

    def take(self) -> bytes | None:
        frame = self.frames.popleft() if self.frames else None
        if self._is_paused and not self.frames and self._socket is not None:
            self._is_paused = False
            self._socket.resume_reading()
        return frame


async def follow(
    peers: Peers, peer: Peer, session: str, after: int, credential: str | None, *, idle_s: float
) -> AsyncIterator[Recorded | None]:
    """The recorded events above `after`, then each as it is recorded, until the session, or its gateway, is gone.

    None comes where nothing was recorded for `idle_s`.

    Raises:
        BusError: the peer cannot be reached.
    """
    ear = _Ear()
    query = {"session": session, "observe": "1", "seq": str(min(after, _MAX_SEQ))}
    try:
        socket = await peers.open(peer, query, credential, ear)
    except (OSError, TimeoutError, picows.WSError, ValueError) as error:
        raise BusError(f"gateway {peer.gateway} cannot be reached ({error})") from error
    seen = after
    try:
        while True:
            while (frame := ear.take()) is not None:
                event = parse_event(frame)
                if event.get("observer"):
                    seen = event["from_seq"]  # the greeting: where this begins, where there is less than was asked for
                elif (recorded := _recorded(frame, event, seen)) is not None:
                    seen = recorded.seq
                    yield recorded
            if ear.over:
                return
            ear.news.clear()
            try:
                async with asyncio.timeout(idle_s):
                    await ear.news.wait()
            except TimeoutError:
                yield None
    finally:
        socket.close(GOING_AWAY)


def _recorded(frame: bytes, event: Mapping[str, Any], seen: int) -> Recorded | None:
    """The recorded event above `seen` that a frame brings; None for a frame of another kind."""
    seq, kind = event.get("seq"), event.get("type")
    answers = kind == "error" and "id" in event
    if not isinstance(seq, int) or seq <= seen or kind not in _RECORDED or answers:
        return None
    return Recorded(seq, str(kind), frame)
