"""`WS /v1/sessions/connect`: session events as JSON text, audio as binary frames (contract section 3)."""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

import pybase64

from voicebus.contracts.envelope import Message
from voicebus.contracts.journal import EventType, SessionStarted, for_callers
from voicebus.engine import inputs
from voicebus.engine.config import Face
from voicebus.engine.outputs import ForwardAudio
from voicebus.errors import CommandRefusedError
from voicebus.ports import Clock
from voicebus.runtime import frames
from voicebus_services.access.principal import Principal
from voicebus_services.gateway.faces import native_commands as commands
from voicebus_services.gateway.faces.base import AudioError, ClientConnection, Host


class NativeConnection(ClientConnection):
    """One client of the native face.

    `after_seq`: recorded events up to it are not sent; `json_audio`: audio as base64 in text frames; `raw`: the
    model's events too.
    """

    kind = Face.NATIVE

    def __init__(
        self,
        host: Host,
        principal: Principal,
        clock: Clock,
        *,
        agent: str,
        traceparent: str | None = None,
        after_seq: int = 0,
        json_audio: bool = False,
        raw: bool = False,
    ) -> None:
        super().__init__(host, principal, agent=agent, traceparent=traceparent)
        self._clock = clock
        self._after_seq = after_seq
        self._json_audio = json_audio
        self.raw_events = raw
        self._audio_of: tuple[str, str, int] | None = None
        self._muted = False

    # --- to the client ------------------------------------------------------------------------------

    def record(self, seq: int, kind: EventType, at_ms: int, data: Message) -> None:
        super().record(seq, kind, at_ms, data)
        fields = for_callers(data)
        if isinstance(data, SessionStarted):
            # The token is for this client alone: it is neither recorded nor shown anywhere else.
            fields["token"] = self.token
            self.input_format(data.audio)
        elif seq <= self._after_seq:
            return
        self._send(kind.value, seq, at_ms, fields)

    def emit(self, kind: str, seq: int, at_ms: int, data: Mapping[str, Any]) -> None:
        self._send(kind, seq, at_ms, data)

    def audio(self, where: ForwardAudio, delta: frames.AudioDelta, seq: int) -> None:
        if self._socket is None:
            return
        part = (where.item_id, where.response_id, where.content_index)
        about = {"item_id": where.item_id, "response_id": where.response_id, "content_index": where.content_index}
        if self._json_audio:
            self._send("audio", seq, self._clock.at_ms(), {**about, "data": delta.delta})
            return
        if part != self._audio_of:
            self._audio_of = part
            self._send("audio", seq, self._clock.at_ms(), about)
        self._socket.send_binary(delta.samples)

    def refuse(self, code: str, message: str, close_code: int) -> None:
        self._send("error", 0, self._clock.at_ms(), {"id": None, "code": code, "message": message})
        self.close(close_code, code)

    def _send(self, kind: str, seq: int, at_ms: int, data: Mapping[str, Any]) -> None:
        if self._socket is not None:
            frame = {"type": kind, "seq": seq, "session": self.session, "at": at_ms, **data}
            self._socket.send_text(frames.dump_event(frame))

    def _answer(self, kind: str, **fields: Any) -> None:
        self._send(kind, self.live().last_seq, self._clock.at_ms(), fields)

    def _error(self, id: str | None, code: str, message: str) -> None:  # noqa: A002 - the wire's name
        self._answer("error", id=id, code=code, message=message)

    # --- from the client ----------------------------------------------------------------------------

    def audio_bytes(self, binary: bool, message: bytes) -> int:
        if binary:
            return len(message)
        try:
            command = commands.read_command(message)
        except commands.CommandError:  # will be answered when its turn comes
            return 0
        return len(command.data) * 3 // 4 if isinstance(command, commands.Audio) else 0

    def handle_binary(self, message: bytes) -> None:
        try:
            self.check_samples(len(message))
        except AudioError as error:
            self._error(None, error.code, str(error))
            return
        if message and not self._muted:
            self.live().send_audio(frames.append_frame(pybase64.b64encode_as_string(message)))

    def handle_text(self, message: bytes) -> None:
        try:
            command = commands.read_command(message)
        except commands.CommandError as error:
            self._error(error.id, error.code, str(error))
            return
        try:
            done = self._perform(command)
        except (AudioError, CommandRefusedError) as error:
            self._error(command.id, error.code, str(error))
        except ValueError as error:
            self._error(command.id, "invalid_value", str(error))
        else:
            if done:
                self._acknowledge(command.id)

    def _acknowledge(self, id: str | None) -> None:  # noqa: A002 - the wire's name
        if id is not None:
            self._answer("ack", id=id)

    def _perform(self, command: commands.Command) -> bool:
        """Carry out one command; False where its answer is given elsewhere."""
        driver = self.live()
        match command:
            case commands.Audio():
                self.check_base64(command.data)
                if command.data and not self._muted:
                    driver.send_audio(frames.append_frame(command.data))
            case commands.SendMessage():
                driver.feed(inputs.SendMessage(command.parts()))
            case commands.Commit():
                driver.feed(inputs.CommitAudio())
            case commands.Interrupt():
                driver.feed(inputs.Interrupt())
            case commands.Playback():
                driver.feed(inputs.Playback(command.item_id, command.content_index, command.played_ms))
            case commands.Mute():
                self._muted = command.muted
            case commands.UpdateAgent():
                driver.take_over(command.agent).add_done_callback(partial(self._taken_over, command.id))
                return False
            case commands.Approve():
                driver.decide(inputs.Approve(command.call_id, command.always))
            case commands.Reject():
                driver.decide(inputs.Reject(command.call_id, command.always, command.message))
            case commands.End():
                self._acknowledge(command.id)
                driver.feed(inputs.End("ended"))
                return False
        return True

    def _taken_over(self, id: str | None, done: asyncio.Future[None]) -> None:  # noqa: A002 - the wire's name
        refused = done.exception()
        if isinstance(refused, CommandRefusedError):
            self._error(id, refused.code, str(refused))
        else:
            self._acknowledge(id)


def error_frame(clock: Clock, *, code: str, message: str) -> bytes:
    """The `error` event for a client that gets no session."""
    frame = {"type": "error", "seq": 0, "session": None, "at": clock.at_ms(), "id": None, "code": code}
    return frames.dump_event(frame | {"message": message})
