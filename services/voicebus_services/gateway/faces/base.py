"""What both faces share: a session's driver on one side, its client's sockets on the other."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol

from voicebus.adapters.sockets import SERVICE_RESTART, Socket
from voicebus.contracts.envelope import Message
from voicebus.contracts.journal import EventType, Handoff, SessionStarted, for_callers
from voicebus.engine.config import Face
from voicebus.engine.inputs import End, Trouble
from voicebus.engine.outputs import ForwardAudio
from voicebus.runtime.driver import HANGUP, SessionDriver
from voicebus.runtime.frames import AudioDelta, dump_event
from voicebus_services.access.principal import Principal
from voicebus_services.gateway.admission import Ticket
from voicebus_services.gateway.faces.early import AUDIO_KEPT_S, EarlyFrames
from voicebus_services.gateway.faces.input_audio import InputAudio
from voicebus_services.gateway.faces.outlet import SPEAKER_AUDIO, Outlet
from voicebus_services.gateway.faces.recorded import Recorded, RecordedLog

DRAINED: Final = "drained"
MIGRATED: Final = "migrated"
"""Why a session ends whose gateway stops; a client may come back at once."""


class Host(Protocol):
    """The gateway, as a client's connection sees it."""

    def begin(self, face: "SessionFace") -> None:
        """The upgrade is done: take a slot and open the session."""
        ...

    def hung_up(self, face: "SessionFace") -> None:
        """Nobody will come (back) to a session that is not live yet."""
        ...

    @property
    def audio_speed(self) -> float:
        """How fast a client's audio may come, times real time."""
        ...

    async def recall(self, session: str, after: int, upto: int) -> Sequence[Recorded]:
        """The recorded events above `after` up to `upto`, which the face does not remember any more.

        Raises:
            BusError: Redis cannot be reached.
        """
        ...


class SessionFace(ABC):
    """A session's client side, whatever its sockets. Implements `ClientFace`.

    `principal` is who began it; `recorded` remembers what was recorded, for those who come later.
    """

    kind: Face

    def __init__(self, host: Host, principal: Principal, *, agent: str, traceparent: str | None = None) -> None:
        self._host = host
        self.principal = principal
        self.agent = agent
        self.traceparent = traceparent
        self.session = ""
        self.token = ""
        self.driver: SessionDriver | None = None
        self.commands: int = 0
        """What the client has asked for so far, audio aside."""
        self.raw_events = False
        self.ticket: Ticket | None = None
        """The session's room, which it gives back at its end."""
        self.model: str | None = None
        """The model that the client asked for; whether it gets it is its agent's to say."""
        self.consent: bool | None = None
        """Whether the client agrees to be recorded; None where it has not said."""
        self.recorded = RecordedLog()
        self.moves = False
        """Another gateway is about to go on with it."""
        self.may_have_hung_up = False
        """Whoever talked has left: to another gateway, or for good."""
        self.is_lost = False
        """Another gateway goes on with it."""
        self.began = asyncio.Event()
        """That it began is written, here or by its former owner: nobody is told of a session before, as one whose
        gateway dies then is known to nobody."""

    def invite(self) -> None:
        """Ask whoever talks to go to another gateway; those of faces that cannot are not asked."""
        return

    # --- ClientFace ---------------------------------------------------------------------------------

    @abstractmethod
    def ready(self) -> None: ...

    def record(self, seq: int, kind: EventType, at_ms: int, data: Message) -> None:
        if isinstance(data, Handoff):
            self.agent = data.to_agent
        self.recorded.add(
            Recorded(seq, kind.value, event_frame(kind.value, seq, self.session, at_ms, for_callers(data)))
        )
        if isinstance(data, SessionStarted):
            self.live().once_written(self.may_tell)

    def may_tell(self) -> None:
        """That the session began is written: its clients may hear of it."""
        self.began.set()

    # Two that only one of the faces has.

    def emit(self, kind: str, seq: int, at_ms: int, data: Mapping[str, Any]) -> None:
        """Native face."""
        return

    def server_event(self, event: Mapping[str, Any]) -> None:
        """OpenAI face."""
        return

    @abstractmethod
    def audio(self, where: ForwardAudio, delta: AudioDelta, seq: int) -> None: ...

    @abstractmethod
    def close(self, code: int, reason: str) -> None: ...

    # --- the face's own -----------------------------------------------------------------------------

    @abstractmethod
    async def wait_closed(self) -> None:
        """Return once the clients' connections are gone; `close` was called before, which bounds it."""

    @abstractmethod
    def refuse(self, code: str, message: str, close_code: int) -> None:
        """Say why there will be no session, and close."""

    @property
    @abstractmethod
    def is_attended(self) -> bool:
        """Whether somebody is there to talk."""

    def retire(self) -> None:
        """The session is over and cleaned up: keep what is recorded, and let go of everything else."""
        self.driver = None

    def signs_of_life(self) -> int:
        """What has come of the client that shows in no record: it grows with commands and with speech."""
        return self.commands + (0 if self.driver is None else self.driver.spoken)

    def live(self) -> SessionDriver:
        """The driver of a session that is ready."""
        if self.driver is None:
            raise RuntimeError("a client was heard before its session was live")
        return self.driver


class ClientConnection(SessionFace):
    """A session that lives and ends with its client's one connection. Implements `SocketListener`."""

    _paused = False

    def __init__(self, host: Host, principal: Principal, *, agent: str, traceparent: str | None = None) -> None:
        super().__init__(host, principal, agent=agent, traceparent=traceparent)
        self._socket: Socket | None = None
        self._outlet: Outlet | None = None
        self._ready = False
        self._early = EarlyFrames()
        self._input = InputAudio(principal.limits.audio_speed or host.audio_speed)
        # From `ready` on they are the face's own, as frames of audio would pay for asking each time.
        self.text: Callable[[bytes], None] = partial(self._keep, False)
        self.binary: Callable[[bytes], None] = partial(self._keep, True)

    @property
    def is_attended(self) -> bool:
        return True

    def retire(self) -> None:
        super().retire()
        self._socket = self._outlet = None

    # --- SocketListener -----------------------------------------------------------------------------

    def opened(self, socket: Socket) -> None:
        self._socket = socket
        self._outlet = Outlet(socket, max_audio=SPEAKER_AUDIO)
        self._outlet.withhold()
        self._host.begin(self)

    def closed(self, code: int, reason: str) -> None:
        if self._outlet is not None:
            self._outlet.close()
        if self.driver is not None and self.driver.ended:
            return
        if self.driver is not None and self.driver.live:
            self.driver.feed(End(HANGUP))
        else:
            self._host.hung_up(self)

    def _keep(self, binary: bool, message: bytes) -> None:
        samples = self.audio_bytes(binary, message)
        self._early.add(binary, message, samples=samples, byte_rate=self._input.byte_rate)
        if self._early.is_full and not self._paused and self._socket is not None:
            self._paused = True
            self._socket.pause_reading()

    # --- ClientFace ---------------------------------------------------------------------------------

    def ready(self) -> None:
        early = self._early.take(byte_rate=self._input.byte_rate)
        self._ready = True
        self.text, self.binary = self.handle_text, self.handle_binary
        if self._early.dropped:
            self.live().feed(early_audio_dropped(self._early, self._input))
        for binary, message in early:
            (self.handle_binary if binary else self.handle_text)(message)
        if self._paused and self._socket is not None:
            self._socket.resume_reading()

    def may_tell(self) -> None:
        super().may_tell()
        if self._outlet is not None:
            self._outlet.release()

    def close(self, code: int, reason: str) -> None:
        if self._outlet is not None:
            self._outlet.flush()
        if self._socket is not None:
            self._socket.close(SERVICE_RESTART if reason == DRAINED else code, reason)

    async def wait_closed(self) -> None:
        if self._socket is not None:
            await self._socket.wait_closed()

    # --- the face's own -----------------------------------------------------------------------------

    @abstractmethod
    def complain(self, code: str, message: str) -> None:
        """Tell the client of something that it did."""

    @abstractmethod
    def handle_text(self, message: bytes) -> None: ...

    @abstractmethod
    def handle_binary(self, message: bytes) -> None: ...

    @abstractmethod
    def audio_bytes(self, binary: bool, message: bytes) -> int:
        """How many bytes of samples a frame brings, about; 0 where it is anything but audio."""


def early_audio_dropped(early: EarlyFrames, audio: InputAudio) -> Trouble:
    """What the session records of audio that came too long before it was ready."""
    lost_s = early.dropped / audio.byte_rate
    why = f"{lost_s:.1f} s of audio from before the session was ready were dropped; {AUDIO_KEPT_S} s are kept."
    return Trouble("early_audio_dropped", why, "client")


def event_frame(kind: str, seq: int, session: str, at_ms: int, data: Mapping[str, Any]) -> bytes:
    """One event of the native face, as its text frame and as SSE's `data`."""
    return dump_event({"type": kind, "seq": seq, "session": session, "at": at_ms, **data})


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
