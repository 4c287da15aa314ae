"""`WS /v1/realtime`: frames of the OpenAI Realtime protocol to and from a client (contract section 4).

Only frames are looked at here; what an event may do is decided by the engine and its client view.
"""

import secrets
from collections.abc import Mapping
from typing import Any

import msgspec

from voicebus.adapters.sockets import INTERNAL_ERROR, Socket
from voicebus.contracts.envelope import Message
from voicebus.contracts.journal import ErrorRecorded, EventType
from voicebus.engine.client_errors import EVENT_ID_LIMIT, ClientEventError
from voicebus.engine.client_requests import event_id_of
from voicebus.engine.config import Face
from voicebus.engine.inputs import ClientEvent, ClientMalformed
from voicebus.engine.outputs import ForwardAudio
from voicebus.runtime import frames
from voicebus_services.access.principal import Principal
from voicebus_services.gateway.faces.base import ClientConnection, Host
from voicebus_services.gateway.faces.input_audio import AudioError

APPEND = "input_audio_buffer.append"

_quoted = msgspec.json.encode


class OpenAIConnection(ClientConnection):
    """One client of the protocol."""

    kind = Face.OPENAI
    _last_error = "The session failed."

    def __init__(self, host: Host, principal: Principal, *, agent: str, traceparent: str | None = None) -> None:
        super().__init__(host, principal, agent=agent, traceparent=traceparent)
        self._event_prefix = f"event_{secrets.token_hex(6)}"
        self._events = 0
        self._read_append = frames.AppendReader().__call__  # itself: an object is asked for it at each call
        # The constant head of audio frames, which changes only with the content part.
        self._audio_of: ForwardAudio | None = None
        self._audio_head = b""

    def opened(self, socket: Socket) -> None:
        # What a client secret brings comes before anything that its client says.
        if self.principal.session:
            update = {"type": "session.update", "session": {"type": "realtime", **self.principal.session}}
            self.text(frames.dump_event(update))
        super().opened(socket)

    # --- to the client ------------------------------------------------------------------------------

    def server_event(self, event: Mapping[str, Any]) -> None:
        if self._outlet is None:
            return
        self._learn_format(event)
        self._events += 1
        self._outlet.send(frames.dump_event({**event, "event_id": f"{self._event_prefix}{self._events}"}))

    def audio(self, where: ForwardAudio, delta: frames.AudioDelta, seq: int) -> None:
        if self._outlet is None:
            return
        if where is not self._audio_of:
            self._audio_of = where
            self._audio_head = (
                b'{"type":"response.output_audio.delta","response_id":%b,"item_id":%b,"output_index":%d,'
                b'"content_index":%d,"event_id":"%b'
                % (
                    _quoted(where.response_id),
                    _quoted(where.item_id),
                    where.output_index,
                    where.content_index,
                    self._event_prefix.encode(),
                )
            )
        self._events += 1
        frame = b'%b%d","delta":"%b"}' % (self._audio_head, self._events, delta.text)
        self._outlet.send(frame, audio=True)

    def record(self, seq: int, kind: EventType, at_ms: int, data: Message) -> None:
        super().record(seq, kind, at_ms, data)
        if isinstance(data, ErrorRecorded):
            self._last_error = data.message

    def close(self, code: int, reason: str) -> None:
        """A session that failed says so before it closes, as the protocol does (protocol 3.3)."""
        if code == INTERNAL_ERROR:
            self.refuse(reason, self._last_error, code)
        else:
            super().close(code, reason)

    def refuse(self, code: str, message: str, close_code: int) -> None:
        error = {"type": "server_error", "code": code, "message": message, "param": None, "event_id": None}
        self.server_event({"type": "error", "error": error})
        super().close(close_code, f"server_error.{code}")

    def complain(self, code: str, message: str) -> None:
        if self._ready:
            self.live().feed(ClientMalformed(code, message))

    def _learn_format(self, event: Mapping[str, Any]) -> None:
        if event["type"] in ("session.created", "session.updated"):
            audio = event["session"].get("audio", {})
            self._input.learn({"input": audio.get("input", {}).get("format")})

    # --- from the client ----------------------------------------------------------------------------

    def audio_bytes(self, binary: bool, message: bytes) -> int:
        append = None if binary else frames.read_append(message)
        return 0 if append is None else append.size or 0

    def handle_text(self, message: bytes) -> None:
        read_append = self._read_append  # not called as it is looked up: it is no method
        append = read_append(message)
        if append is None:
            self._event(message)
            return
        driver = self.driver or self.live()
        try:
            if append.event_id is not None:
                event_id_of({"event_id": append.event_id})
            self._input.check_samples(append.size)
        except ClientEventError as error:
            echoed = (append.event_id or "")[:EVENT_ID_LIMIT]
            driver.feed(ClientMalformed(error.code, str(error), error.param, echoed))
            return
        except AudioError as error:
            driver.feed(ClientMalformed(error.code, str(error), "audio", append.event_id))
            return
        driver.send_audio(append.frame, append.size)

    def _event(self, message: bytes) -> None:
        """Anything but a well-formed append."""
        self.commands += 1
        driver = self.live()
        try:
            frames.check_values(message)
            event = frames.parse_event(message)
        except ValueError as error:
            driver.feed(ClientMalformed("invalid_json", f"Invalid frame: {error}."))
            return
        event_id = event.get("event_id")
        event_id = event_id[:EVENT_ID_LIMIT] if isinstance(event_id, str) else None
        kind = event.get("type")
        if not isinstance(kind, str):
            driver.feed(ClientMalformed("invalid_event", "The event has no type.", "type", event_id))
        elif kind == APPEND:
            # `read_append` takes every well-formed one, so a field is missing, unknown or of the wrong type.
            unknown = [name for name in event if name not in ("type", "event_id", "audio")]
            if unknown:
                name = unknown[0][:64]
                driver.feed(ClientMalformed("unknown_parameter", f"Unknown parameter: '{name}'.", name, event_id))
            elif "audio" not in event:
                why = "Missing required parameter: 'audio'."
                driver.feed(ClientMalformed("missing_required_parameter", why, "audio", event_id))
            else:
                name = "audio" if not isinstance(event["audio"], str) else "event_id"
                why = f"Invalid type for '{name}': expected a string."
                driver.feed(ClientMalformed("invalid_type", why, name, event_id))
        else:
            driver.feed(ClientEvent(event))

    def handle_binary(self, message: bytes) -> None:
        self.live().feed(ClientMalformed("invalid_event", "Binary frames are not part of this protocol."))


def error_frame(*, code: str | None, message: str, param: str | None = None) -> bytes:
    """The `error` event for a client that gets no session."""
    event = {
        "type": "error",
        "event_id": f"event_{secrets.token_hex(8)}",
        "error": {
            "type": "invalid_request_error",
            "code": code,
            "message": message,
            "param": param,
            "event_id": None,
        },
    }
    return frames.dump_event(event)
