"""One simulated session: client events, audio and the clock in; server events and work for the driver out.

Nothing here waits. `handle()` takes a text frame, `tick()` a reading of the clock, and the driver reports what it was
asked for (`heard()`, the steps of a response through `responder`). Server events gather in `events`, work in `work`;
the driver empties both after every call. Times are seconds of the clock passed in.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from voicebus_services.model_simulator.brains import DetectorFactory
from voicebus_services.model_simulator.protocol import client_events
from voicebus_services.model_simulator.protocol.audio import MAX_APPEND_BYTES, bytes_per_ms, decode_base64
from voicebus_services.model_simulator.protocol.ids import Ids
from voicebus_services.model_simulator.protocol.input_buffer import (
    SEMANTIC_CAP_MS,
    InputBuffer,
    SpeechStarted,
    SpeechStopped,
)
from voicebus_services.model_simulator.protocol.items import Audio, Conversation, Item, from_client
from voicebus_services.model_simulator.protocol.kept_audio import KeptAudio
from voicebus_services.model_simulator.protocol.ledger import Ledger
from voicebus_services.model_simulator.protocol.quirks import Quirks
from voicebus_services.model_simulator.protocol.refusal import RefusedError
from voicebus_services.model_simulator.protocol.responder import Responder, Think
from voicebus_services.model_simulator.protocol.responses import ResponseRun
from voicebus_services.model_simulator.protocol.session_config import check_update, default_config, merged
from voicebus_services.model_simulator.protocol.transcription import transcription_events

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Listen:
    """Work for the driver: transcribe this audio and report it with `heard()` or `misheard()`.

    Attributes:
        committed: it came through the input buffer, so its transcription is told to the client.
    """

    item: Item
    audio: bytes
    format: str
    committed: bool


Work = Think | Listen


class SimulatedSession:
    """A session from `session.created` to its close.

    Attributes:
        events: server events to send, oldest first.
        work: what the driver shall do beside them.
        closing: a close code once the session is over.
    """

    def __init__(
        self,
        *,
        ids: Ids,
        clock: Callable[[], float],
        detector: DetectorFactory,
        session_type: str = "realtime",
        model: str | None = "gpt-realtime",
        lifetime: float = 3600.0,
        quirks: Quirks | None = None,
        config: JsonObject | None = None,
        is_call: bool = False,
    ) -> None:
        self._shapes = client_events.CALL_SHAPES if is_call else client_events.SHAPES
        self._ids = ids
        self._clock = clock
        self._quirks = quirks or Quirks()
        self.id = ids.mint("sess")
        self._expires_at = clock() + lifetime
        self.config = default_config(session_type, self.id, model, int(self._expires_at))
        if config is not None:
            self.config = merged(self.config, check_update(config, self.config))
        self.events: list[JsonObject] = []
        self.work: list[Work] = []
        self.closing: int | None = None
        self.conversation = Conversation(ids.mint("conv"))
        ids.taken = self.conversation
        self.ledger = Ledger(clock)
        self.responder = Responder(
            self.conversation, ids, self.emit, self.work.append, self._response_ended, self._quirks
        )
        self._buffer = InputBuffer(detector)
        self._configure_buffer()
        self._speech_item: str | None = None
        self._speech_cap_at = math.inf
        self._turn_waiting = False
        self._voice_locked = False
        self._idle_at = math.inf
        self._kept_audio = KeptAudio()
        self._handlers: dict[str, Callable[[JsonObject], None]] = {
            "session.update": self._session_update,
            "input_audio_buffer.append": self._append,
            "input_audio_buffer.commit": self._commit,
            "input_audio_buffer.clear": self._clear,
            "output_audio_buffer.clear": self._clear_output,
            "conversation.item.create": self._item_create,
            "conversation.item.retrieve": self._item_retrieve,
            "conversation.item.truncate": self._item_truncate,
            "conversation.item.delete": self._item_delete,
            "response.create": self._response_create,
            "response.cancel": self._response_cancel,
        }

    # -- what the driver calls -----------------------------------------------------------------------------------

    def greet(self) -> None:
        """Send what comes first on a new connection."""
        self.emit("session.created", session=self.config)
        if self._quirks.conversation_created:
            self.emit(
                "conversation.created", conversation={"id": self.conversation.id, "object": "realtime.conversation"}
            )

    def handle(self, frame: str | bytes) -> None:
        """Take one text frame; a frame that cannot be obeyed becomes one `error` event and changes nothing."""
        event: JsonObject = {}
        try:
            event = client_events.parse(frame)
            if event["type"] == "input_audio_buffer.append" and len(event) == 2 and isinstance(event.get("audio"), str):
                self._append(event)  # the frame that comes fifty times a second needs no more of a check
            else:
                checked = client_events.check(event, self._shapes)
                self._handlers[event["type"]](checked)
        except RefusedError as refused:
            self.refuse(refused, client_events.event_id_of(event))

    def handle_binary(self) -> None:
        """A binary frame is not part of the protocol."""
        self.refuse(RefusedError("Binary frames are not supported: send JSON as text.", code="invalid_event"))

    def refuse(self, refused: RefusedError, event_id: str | None = None) -> None:
        self.emit(
            "error",
            error={
                "type": refused.kind,
                "code": refused.code,
                "message": refused.message,
                "param": refused.param,
                "event_id": event_id,
            },
        )

    @property
    def deadline(self) -> float:
        """When `tick()` has something to do, unless something else changes that before."""
        return min(self._expires_at, self._idle_at, self._speech_cap_at)

    def tick(self) -> None:
        """Act on the time: expiry, idle timeout, the wall-time cap of semantic_vad."""
        now = self._clock()
        if now >= self._expires_at and self.closing is None:
            refused = RefusedError("Your session hit the maximum duration of 60 minutes.", code="session_expired")
            self.refuse(refused)
            self._expires_at = math.inf
            self.closing = 1001
        if now >= self._speech_cap_at:
            self._speech_stopped(self._buffer.stop())
        if now >= self._idle_at:
            self._idle_timeout()

    def heard(self, work: Listen, text: str) -> None:
        """The words of a spoken user item."""
        work.item.heard = text
        self.ledger.add("user", text, item_id=work.item.id)
        self._report_transcription(work, text)

    def misheard(self, work: Listen, text: str, failure: str) -> None:
        """The client's transcription of a user item failed; the model itself heard `text` all the same."""
        work.item.heard = text
        self.ledger.add("user", text, item_id=work.item.id, transcription="failed")
        self._report_transcription(work, None, failure)

    # -- emitting ------------------------------------------------------------------------------------------------

    def emit(self, event_type: str, **fields: Any) -> None:
        event = {"type": event_type, "event_id": self._ids.event(), **fields}
        if self._quirks.extra_fields:
            event["x_simulator"] = {"unknown": True}
        self.events.append(event)

    # -- session -------------------------------------------------------------------------------------------------

    def _session_update(self, event: JsonObject) -> None:
        given = event["session"]
        if self._quirks.session_type_optional and isinstance(given, dict):
            given = {"type": self.config["type"], **given}
        patch = check_update(given, self.config)
        output = patch.get("audio", {}).get("output", {})
        spoken, active = self.config["audio"].get("output", {}), self.responder.active
        has_spoken = self._voice_locked or (active is not None and active.audio_ms > 0)
        if has_spoken and output.get("voice", spoken["voice"]) != spoken["voice"]:
            raise RefusedError(
                "Cannot update a conversation's voice if assistant audio is present.", code="cannot_update_voice"
            )
        if active is not None and output.get("speed", spoken["speed"]) != spoken["speed"]:
            raise RefusedError(
                "Cannot update the speed while a response is in progress.",
                code="invalid_value",
                param="session.audio.output.speed",
            )
        before = self.config["audio"]["input"]
        self.config = merged(self.config, patch)
        after = self.config["audio"]["input"]
        if (before["format"], before["turn_detection"]) != (after["format"], after["turn_detection"]):
            self._configure_buffer()
        self.emit("session.updated", session=self.config)

    def _configure_buffer(self) -> None:
        hearing = self.config["audio"]["input"]
        self._buffer.configure(hearing["format"]["type"], hearing["turn_detection"])
        self._speech_item, self._speech_cap_at, self._idle_at = None, math.inf, math.inf

    # -- input audio ---------------------------------------------------------------------------------------------

    def _append(self, event: JsonObject) -> None:
        try:
            data = decode_base64(event["audio"])
        except ValueError:
            data = None
        if data is None or len(data) > MAX_APPEND_BYTES:
            what = "base64-encoded audio" if data is None else "at most 15 MiB of audio"
            raise RefusedError(f"Invalid 'audio'. Expected {what}.", code="invalid_value", param="audio")
        for signal in self._buffer.append(data):
            if isinstance(signal, SpeechStarted):
                self._speech_started(signal)
            else:
                self._speech_stopped(signal)
        turn_detection = self.config["audio"]["input"]["turn_detection"]
        if self._buffer.speaking and turn_detection["type"] == "semantic_vad":
            self._speech_cap_at = self._clock() + SEMANTIC_CAP_MS[turn_detection["eagerness"]] / 1000

    def _speech_started(self, signal: SpeechStarted) -> None:
        self._speech_item, self._idle_at = self._ids.mint("item"), math.inf
        self.emit("input_audio_buffer.speech_started", audio_start_ms=signal.audio_start_ms, item_id=self._speech_item)
        turn_detection = self.config["audio"]["input"]["turn_detection"]
        active = self.responder.active
        if active is not None and turn_detection.get("interrupt_response", True):
            # The speech itself asks for the next response; an older turn that waited for this one is part of it.
            self._turn_waiting = False
            self.responder.cancel(active.id, "turn_detected")

    def _speech_stopped(self, signal: SpeechStopped) -> None:
        item_id = self._speech_item or self._ids.mint("item")
        self._speech_item, self._speech_cap_at = None, math.inf
        self.emit("input_audio_buffer.speech_stopped", audio_end_ms=signal.audio_end_ms, item_id=item_id)
        self._committed(item_id, signal.audio)
        self._turn_ended()

    def _turn_ended(self) -> None:
        turn_detection = self.config["audio"]["input"]["turn_detection"]
        if self.config["type"] != "realtime" or not turn_detection.get("create_response", True):
            return
        if self.responder.active is None:
            self.responder.create(self.config, {})
        elif self._quirks.overlapping_turn == "wait":
            self._turn_waiting = True
        else:
            try:
                self.responder.refuse_second()
            except RefusedError as refused:
                self.refuse(refused)

    def _commit(self, _event: JsonObject) -> None:
        audio = self._buffer.commit()
        item_id, self._speech_item = self._speech_item or self._ids.mint("item"), None
        self._speech_cap_at = math.inf
        self._committed(item_id, audio)

    def _committed(self, item_id: str, audio: bytes) -> None:
        audio_format = self.config["audio"]["input"]["format"]["type"]
        body: JsonObject = {
            "id": item_id,
            "object": "realtime.item",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_audio", "transcript": None}],
        }
        item = Item(body, audio=Audio(audio, audio_format, len(audio) / bytes_per_ms(audio_format)))
        self.emit("input_audio_buffer.committed", item_id=item_id, previous_item_id=self.conversation.last_id)
        self._kept_audio.keep(item)
        self._add(item, None)
        self.work.append(Listen(item, audio, audio_format, committed=True))

    def _clear(self, _event: JsonObject) -> None:
        self._buffer.clear()
        self._speech_item, self._speech_cap_at = None, math.inf
        self.emit("input_audio_buffer.cleared")

    def _clear_output(self, _event: JsonObject) -> None:
        """No media flows, so nothing waits to be played."""
        active = self.responder.active
        self.emit("output_audio_buffer.cleared", response_id=active.id if active is not None else None)

    def _idle_timeout(self) -> None:
        turn_detection = self.config["audio"]["input"]["turn_detection"]
        self._idle_at = math.inf
        item_id, idle_ms = self._ids.mint("item"), turn_detection["idle_timeout_ms"]
        end_ms = max(self._buffer.written_ms, idle_ms)
        self.emit(
            "input_audio_buffer.timeout_triggered",
            item_id=item_id,
            audio_start_ms=end_ms - idle_ms,
            audio_end_ms=end_ms,
        )
        self._committed(item_id, self._buffer.take_all())
        self._turn_ended()

    def _report_transcription(self, work: Listen, text: str | None, failure: str = "") -> None:
        settings = self.config["audio"]["input"]["transcription"]
        if settings is None or not work.committed or work.item.id not in self.conversation:
            return
        if text is not None:
            # The item's own events went out before anybody had listened; whoever retrieves it later sees the words.
            work.item.body["content"][0]["transcript"] = text
        for event_type, fields in transcription_events(work.item, text, failure, settings, self.config.get("include")):
            self.emit(event_type, **fields)

    # -- items ---------------------------------------------------------------------------------------------------

    def _add(self, item: Item, after: str | None) -> None:
        previous = self.conversation.insert(item, after)
        self.emit("conversation.item.added", previous_item_id=previous, item=item.copy_of_body())
        self.emit("conversation.item.done", previous_item_id=previous, item=item.copy_of_body())

    def _item_create(self, event: JsonObject) -> None:
        item = from_client(event["item"], self._ids.mint("item"), self._ids.mint("call"))
        audio_format = self.config["audio"]["input"]["format"]["type"]
        if item.audio is not None and item.audio.data is not None:
            item.audio.format = audio_format
            item.audio.duration_ms = len(item.audio.data) / bytes_per_ms(audio_format)
        self._add(item, event.get("previous_item_id"))
        self._kept_audio.keep(item)
        if item.audio is not None and item.audio.data is not None and item.heard is None:
            self.work.append(Listen(item, item.audio.data, audio_format, committed=False))
        self.ledger.add_item(item)

    def _find(self, item_id: str, verb: str, doing: str) -> Item:
        item = self.conversation.get(item_id)
        if item is None:
            raise RefusedError(
                f"Error {doing} item: the item with id '{item_id}' does not exist.",
                code=f"item_{verb}_invalid_item_id",
                param="item_id",
            )
        return item

    def _item_retrieve(self, event: JsonObject) -> None:
        item = self._find(event["item_id"], "retrieve", "retrieving")
        self.emit("conversation.item.retrieved", item=item.with_audio())

    def _item_delete(self, event: JsonObject) -> None:
        item = self._find(event["item_id"], "delete", "deleting")
        self.conversation.remove(item.id)
        self.emit("conversation.item.deleted", item_id=item.id)

    def _item_truncate(self, event: JsonObject) -> None:
        item = self._find(event["item_id"], "truncate", "truncating")
        if item.audio is None or item.body.get("role") != "assistant":
            raise RefusedError("Only model output audio messages can be truncated", code=None, param="item_id")
        if event["content_index"] != 0:
            raise RefusedError(
                f"Invalid value: '{event['content_index']}'. The item has one content part, at index 0.",
                code="invalid_value",
                param="content_index",
            )
        end_ms, duration = event["audio_end_ms"], int(item.audio.duration_ms)
        if end_ms > duration:
            raise RefusedError(
                f"Audio content of {duration}ms is already shorter than {end_ms}ms",
                code="invalid_value",
                param="audio_end_ms",
            )
        item.truncated_ms = end_ms
        for part in item.body["content"]:
            part.pop("transcript", None)
        if item.body["status"] != "in_progress":
            item.cut_audio()
        self.ledger.truncated(item.id, end_ms)
        self.emit("conversation.item.truncated", item_id=item.id, content_index=0, audio_end_ms=end_ms)

    # -- responses -----------------------------------------------------------------------------------------------

    def _response_create(self, event: JsonObject) -> None:
        if self.config["type"] != "realtime":
            raise RefusedError(
                "Responses cannot be created in a transcription session.", code="invalid_value", param="type"
            )
        self._idle_at = math.inf
        self.responder.create(self.config, event.get("response") or {})

    def _response_cancel(self, event: JsonObject) -> None:
        self.responder.cancel(event.get("response_id"), "client_cancelled")

    def _response_ended(self, run: ResponseRun) -> None:
        self._voice_locked = self._voice_locked or run.audio_ms > 0
        for item in run.outputs:
            self.ledger.add_item(item)
            self._kept_audio.keep(item)
        if not run.settings.in_conversation:
            return
        turn_detection = self.config["audio"]["input"]["turn_detection"] or {}
        if turn_detection.get("idle_timeout_ms") is not None and not self._buffer.speaking:
            self._idle_at = self._clock() + (run.audio_ms + turn_detection["idle_timeout_ms"]) / 1000
        if self._turn_waiting:
            self._turn_waiting = False
            self.responder.create(self.config, {})
