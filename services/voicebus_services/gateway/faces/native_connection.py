"""One connection to the native face: who speaks in a session, or one who only observes it."""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

import pybase64

from voicebus.adapters.sockets import NORMAL, Socket
from voicebus.adapters.sockets.pieces import Pieces
from voicebus.engine.outputs import ForwardAudio
from voicebus_services.gateway.faces import native_commands as commands
from voicebus_services.gateway.faces.base import event_frame
from voicebus_services.gateway.faces.outlet import SPEAKER_AUDIO, Outlet

if TYPE_CHECKING:
    from voicebus_services.gateway.faces.native import NativeFace

AudioForm = Literal["binary", "json", "none"]

BEHIND_S: Final = 0.1
"""How long what a command brings about waits for its acknowledgement: while Redis is away sound must not wait."""

READ_ONLY: Final = "an observer sees and hears; it may not command the session"


class NativeConnection:
    """A client's connection. Implements `SocketListener`; `NativeFace` says what goes out on it.

    `after_seq`: up to which recorded event the client has everything; `raw`: the model's events too. `came_at`: when
    it asked to come in (s, of the event loop's clock). `held_ms`: how much it could say again.
    """

    observes = False
    max_audio: int | None = SPEAKER_AUDIO

    def __init__(
        self,
        face: "NativeFace",
        *,
        after_seq: int = 0,
        audio: AudioForm = "binary",
        raw: bool = False,
        token: str = "",
        came_at: float = 0.0,
        held_ms: int = 0,
    ) -> None:
        self._face = face
        self.came_at = came_at
        self.after_seq = after_seq
        self.raw = raw
        self.token = token
        self.held_ms = held_ms
        self._audio = audio
        self._audio_of: tuple[str, str, int] | None = None
        self._socket: Socket | None = None
        self._outlet: Outlet | None = None
        self.is_gone = False
        # What was heard before the face has taken this connection in; reading pauses then, so that it is little.
        self._early: list[tuple[bool, bytes]] | None = []
        self._waits = False
        # What waits behind acknowledgements (frame, binary, audio, state), and of how many; None where nothing has to.
        self._behind: list[tuple[bytes | Pieces, bool, bool, bool]] | None = None
        self._unwritten = 0
        self._told = 0
        self._latest: asyncio.TimerHandle | None = None

    # --- SocketListener -----------------------------------------------------------------------------

    def opened(self, socket: Socket) -> None:
        self._socket = socket
        self._outlet = Outlet(socket, max_audio=self.max_audio)
        self._face.join(self)
        if self._early is not None:
            self._waits = True
            socket.pause_reading()

    def text(self, message: bytes) -> None:
        self._hear(False, message)

    def binary(self, message: bytes) -> None:
        self._hear(True, message)

    def closed(self, code: int, reason: str) -> None:
        self.is_gone = True
        self._go_on()
        if self._outlet is not None:
            self._outlet.close()
        self._face.gone(self, code)

    def _hear(self, binary: bool, message: bytes) -> None:
        if self._early is not None:
            self._early.append((binary, message))
        else:
            self.handle(binary, message)

    # --- the face's side ----------------------------------------------------------------------------

    def handle(self, binary: bool, message: bytes) -> None:
        self._face.hear(self, binary, message)

    def taken_in(self) -> None:
        """The client has been greeted: what it says is heard from now on."""
        early, self._early = self._early, None
        if self._waits and self._socket is not None:
            self._waits = False
            self._socket.resume_reading()
        for binary, message in early or ():
            self.handle(binary, message)

    def withhold(self) -> None:
        """Tell the client nothing until `release`, or the close."""
        if self._outlet is not None:
            self._outlet.withhold()

    def release(self) -> None:
        """Tell the client what waits, and whatever comes."""
        if self._outlet is not None:
            self._outlet.release()

    def send(self, frame: bytes | Pieces, *, state: bool = False) -> None:
        """Tell the client something; a `state` says all that the one before it did."""
        self._put(frame, binary=False, audio=False, state=state)

    def hold(self, seq: int) -> None:
        """A command is carried out: what it brings about comes behind its answer, which `answer` gives. `seq` is the
        last recorded event before it.
        """
        self._unwritten += 1
        if self._behind is None:
            self._behind, self._told = [], seq
            self._latest = asyncio.get_running_loop().call_later(BEHIND_S, self._go_on)

    def told(self, seq: int) -> int:
        """Up to which recorded event its client was told, where `seq` is the last: not of those that wait behind an
        answer, as who comes back from the seq of that answer would miss them.
        """
        return seq if self._behind is None else self._told

    def answer(self, frame: bytes) -> None:
        """The answer of a command that was waited for."""
        if self._outlet is not None:
            self._outlet.send(frame)
        self._unwritten -= 1
        if not self._unwritten:
            self._go_on()

    def _go_on(self) -> None:
        if self._latest is not None:
            self._latest.cancel()
            self._latest = None
        behind, self._behind = self._behind, None
        for frame, binary, audio, state in behind or ():
            self._put(frame, binary=binary, audio=audio, state=state)

    def _put(self, frame: bytes | Pieces, *, binary: bool, audio: bool, state: bool = False) -> None:
        if self._behind is not None:
            self._behind.append((frame, binary, audio, state))
        elif self._outlet is not None:
            self._outlet.send(frame, binary=binary, audio=audio, state=state)

    def send_audio(self, where: ForwardAudio, samples: bytes, seq: int, at_ms: int) -> None:
        if self._audio == "none":
            return
        part = (where.item_id, where.response_id, where.content_index)
        about = {"item_id": where.item_id, "response_id": where.response_id, "content_index": where.content_index}
        if self._audio == "json":
            frame = self._event("audio", seq, at_ms, {**about, "data": pybase64.b64encode_as_string(samples)})
            self._put_audio(frame, binary=False)
            return
        if part != self._audio_of:
            self._audio_of = part
            self.send(self._event("audio", seq, at_ms, about))
        self._put_audio(samples, binary=True)

    def _put_audio(self, message: bytes, *, binary: bool) -> None:
        self._put(message, binary=binary, audio=True)

    def _event(self, kind: str, seq: int, at_ms: int, data: Mapping[str, Any]) -> bytes:
        return event_frame(kind, seq, self._face.session, at_ms, data)

    def pause_reading(self) -> None:
        if self._socket is not None:
            self._socket.pause_reading()

    def resume_reading(self) -> None:
        if self._socket is not None:
            self._socket.resume_reading()

    def complain(self, code: str, message: str) -> None:
        """Tell the client of something that it did."""
        if self._early is None:
            self._face.answer(self, "error", id=None, code=code, message=message)

    def close(self, code: int = NORMAL, reason: str = "") -> None:
        self._go_on()
        if self._outlet is not None:
            self._outlet.flush()
        if self._socket is not None:
            self._socket.close(code, reason)

    async def wait_closed(self) -> None:
        if self._socket is not None:
            await self._socket.wait_closed()


class Observer(NativeConnection):
    """Sees everything, commands nothing, slows nobody."""

    observes = True
    max_audio = None

    def __init__(self, face: "NativeFace", *, after_seq: int = 0, audio: AudioForm = "none", raw: bool = False) -> None:
        super().__init__(face, after_seq=after_seq, audio=audio, raw=raw)

    def close(self, code: int = NORMAL, reason: str = "") -> None:
        if self._outlet is not None:
            self._outlet.close()
        super().close(code, reason)

    def handle(self, binary: bool, message: bytes) -> None:
        given = None if binary else commands.id_of(message)
        self._face.answer(self, "error", id=given, code="read_only", message=READ_ONLY)
