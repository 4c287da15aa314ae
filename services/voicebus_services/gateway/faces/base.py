"""What both faces share: a client's socket on one side, a session's driver on the other, and audio checked cheaply."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Final, Protocol

import pybase64

from voicebus.adapters.sockets import SERVICE_RESTART, Socket
from voicebus.contracts.envelope import Message
from voicebus.contracts.journal import EventType, Handoff
from voicebus.engine.config import Face
from voicebus.engine.inputs import End, Trouble
from voicebus.engine.outputs import ForwardAudio
from voicebus.runtime.driver import HANGUP, SessionDriver
from voicebus.runtime.frames import AudioDelta
from voicebus_services.access.principal import Principal
from voicebus_services.gateway.faces.early import AUDIO_KEPT_S, EarlyFrames

MAX_APPEND_AUDIO: Final = 15 * 1024 * 1024
"""Bytes of samples in one append, as the model allows (protocol 1.7)."""

DRAINED: Final = "drained"
"""Why a session ends whose gateway stops; a client may come back at once."""


class AudioError(ValueError):
    """Samples from a client that cannot be passed on. `code` is the protocol's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Host(Protocol):
    """The gateway, as a client's connection sees it."""

    def begin(self, face: "ClientConnection") -> None:
        """The upgrade is done: take a slot and open the session."""
        ...

    def hung_up(self, face: "ClientConnection") -> None:
        """The client is gone before its session was live."""
        ...


class ClientConnection(ABC):
    """One client's connection. Implements `SocketListener` and `ClientFace`."""

    kind: Face

    def __init__(self, host: Host, principal: Principal, *, agent: str, traceparent: str | None = None) -> None:
        self._host = host
        self.principal = principal
        self.agent = agent
        self.traceparent = traceparent
        self.session = ""
        self.token = ""
        self.driver: SessionDriver | None = None
        self._socket: Socket | None = None
        self._ready = False
        self._early = EarlyFrames()
        self._paused = False
        self._sample_bytes = 2
        self.raw_events = False
        self.model: str | None = None
        """The model that the client asked for; whether it gets it is its agent's to say."""

    # --- SocketListener -----------------------------------------------------------------------------

    def opened(self, socket: Socket) -> None:
        self._socket = socket
        self._host.begin(self)

    def text(self, message: bytes) -> None:
        if self._ready:
            self.handle_text(message)
        else:
            self._keep(False, message)

    def binary(self, message: bytes) -> None:
        if self._ready:
            self.handle_binary(message)
        else:
            self._keep(True, message)

    def closed(self, code: int, reason: str) -> None:
        if self.driver is not None and self.driver.ended:
            return
        if self.driver is not None and self.driver.live:
            self.driver.feed(End(HANGUP))
        else:
            self._host.hung_up(self)

    def _keep(self, binary: bool, message: bytes) -> None:
        samples = self.audio_bytes(binary, message)
        self._early.add(binary, message, samples=samples, byte_rate=self._byte_rate)
        if self._early.is_full and not self._paused and self._socket is not None:
            self._paused = True
            self._socket.pause_reading()

    # --- ClientFace ---------------------------------------------------------------------------------

    def ready(self) -> None:
        early = self._early.take(byte_rate=self._byte_rate)
        self._ready = True
        if self._early.dropped:
            lost_s = self._early.dropped / self._byte_rate
            why = f"{lost_s:.1f} s of audio from before the session was ready were dropped; {AUDIO_KEPT_S} s are kept."
            self.live().feed(Trouble("early_audio_dropped", why, "client"))
        for binary, message in early:
            (self.handle_binary if binary else self.handle_text)(message)
        if self._paused and self._socket is not None:
            self._socket.resume_reading()

    def record(self, seq: int, kind: EventType, at_ms: int, data: Message) -> None:
        if isinstance(data, Handoff):
            self.agent = data.to_agent

    # Two that only one of the faces has.

    def emit(self, kind: str, seq: int, at_ms: int, data: Mapping[str, Any]) -> None:
        """Native face."""
        return

    def server_event(self, event: Mapping[str, Any]) -> None:
        """OpenAI face."""
        return

    @abstractmethod
    def audio(self, where: ForwardAudio, delta: AudioDelta, seq: int) -> None: ...

    def close(self, code: int, reason: str) -> None:
        if self._socket is not None:
            self._socket.close(SERVICE_RESTART if reason == DRAINED else code, reason)

    async def wait_closed(self) -> None:
        """Return once the client's connection is gone; `close` was called before, which bounds it."""
        if self._socket is not None:
            await self._socket.wait_closed()

    # --- the face's own -----------------------------------------------------------------------------

    @abstractmethod
    def handle_text(self, message: bytes) -> None: ...

    @abstractmethod
    def handle_binary(self, message: bytes) -> None: ...

    @abstractmethod
    def audio_bytes(self, binary: bool, message: bytes) -> int:
        """How many bytes of samples a frame brings, about; 0 where it is anything but audio."""

    @abstractmethod
    def refuse(self, code: str, message: str, close_code: int) -> None:
        """Say why there will be no session, and close."""

    def live(self) -> SessionDriver:
        """The driver of a session that is ready."""
        if self.driver is None:
            raise RuntimeError("a client was heard before its session was live")
        return self.driver

    @property
    def _byte_rate(self) -> int:
        """Bytes in a second of the client's audio."""
        return 48_000 if self._sample_bytes == 2 else 8_000

    def input_format(self, audio: Mapping[str, Any]) -> None:
        """Learn the session's input format from `{"input": FORMAT, …}`."""
        given = audio.get("input")
        kind = given.get("type") if isinstance(given, Mapping) else None
        self._sample_bytes = 1 if kind in ("audio/pcmu", "audio/pcma") else 2

    def check_samples(self, size: int) -> None:
        """Raises `AudioError` where so many bytes cannot be samples of one append."""
        if size % self._sample_bytes:
            raise AudioError("invalid_value", f"Invalid audio: {size} bytes are not whole 16 bit samples.")
        if size > MAX_APPEND_AUDIO:
            raise AudioError(
                "string_above_max_length", f"Invalid audio: {size} bytes in one append, at most {MAX_APPEND_AUDIO}."
            )

    def check_base64(self, audio: str) -> None:
        """Raises `AudioError` where the text is not the base64 of samples."""
        try:
            size = len(pybase64.b64decode(audio, validate=True))
        except ValueError as error:
            raise AudioError("invalid_value", "Invalid audio: it is not base64.") from error
        self.check_samples(size)


class ClosingListener:
    """Hears from a client that gets no session: says why and closes."""

    def __init__(self, frame: bytes, code: int, reason: str) -> None:
        self._frame = frame
        self._code = code
        self._reason = reason

    def opened(self, socket: Socket) -> None:
        socket.send_text(self._frame)
        # In the next turn, so that the upgrade's answer has left before the closing handshake begins.
        asyncio.get_running_loop().call_soon(socket.close, self._code, self._reason)

    def text(self, message: bytes) -> None:
        """Too late."""

    def binary(self, message: bytes) -> None:
        """Too late."""

    def closed(self, code: int, reason: str) -> None:
        """As announced."""
