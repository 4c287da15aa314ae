"""What each server event of the model means to a session. One method per event; the table at the end lists them.

Events that are not listed mean nothing here; a client of the OpenAI face may still see them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from voicebus.contracts.journal import EventType
from voicebus.engine import wire
from voicebus.engine.bounds import trim
from voicebus.engine.config import Recovering, Transport
from voicebus.engine.dialects import names_too_long
from voicebus.engine.failures import code_of, error_label, is_fatal, text_of
from voicebus.engine.finals import Finals
from voicebus.engine.outputs import CutSound
from voicebus.engine.parts import Parts
from voicebus.engine.responses import Response
from voicebus.engine.tokens import observe_tokens
from voicebus.engine.verdicts import Verdicts

Event = Mapping[str, Any]

# Partial user transcripts kept at once (one is usual), and of each (characters).
_MAX_PARTIALS: Final = 16
_MAX_PARTIAL: Final = 50_000


@dataclass(frozen=True, slots=True, eq=False)
class _Saying:
    """The part that is being said, by the fields of its last delta: one with the same fields only says more of it."""

    response: Response
    audio: bool
    type: str
    response_id: str
    item_id: str
    place: Any
    index: int


class ModelSide:
    """Applies the model's events, in the order in which they come.

    `fatal_code` is of a response that failed of what no other response will mend.
    """

    def __init__(self, parts: Parts, verdicts: Verdicts) -> None:
        self._p = parts
        # Whether items come as a server of the protocol tells of them, several times and in several events.
        self._is_server = parts.config.transport is Transport.WIRE
        self._verdicts = verdicts
        self._finals = Finals(parts.guard, verdicts.overflowed)
        self._partials: dict[str, str] = {}
        self.fatal_code: str | None = None
        self._saying: _Saying | None = None
        # Whoever is shown events as they came is shown every one of them.
        self._shows_all = parts.config.raw_events

    def say_on(self, kind: object, response_id: object, item_id: object, place: object, delta: object) -> bool:
        """Apply an event that only says more of the part that is being said, as nearly all do; False for any other."""
        saying, face = self._saying, self._p.face
        if (
            saying is None
            or item_id != saying.item_id
            or kind != saying.type
            or place != saying.place
            or response_id != saying.response_id
            or type(delta) is not str
            or not saying.response.active
            or not (face is None or face.shows_on(saying.response))
        ):
            return False
        saying.response.last_event = self._p.out.now
        self._say(saying, delta)
        if face is not None:
            face.show_on(delta)
        return True

    def apply(self, kind: str, event: Event) -> None:
        """An event of this type."""
        if names_too_long(event):
            self._p.out.ignore(f"{kind[:80]} with an id that is too long")
            return
        self._p.unfinished.heard(kind, event)
        handler = self._HANDLERS.get(kind)
        if handler is not None:
            handler(self, event)
        elif kind.startswith("response."):
            self._p.turns.responses.heard_of(wire.text(event, "response_id"))

    # --- responses ------------------------------------------------------------------------------------

    def _response_created(self, event: Event) -> None:
        response = self._p.turns.created(wire.mapping(event, "response"))
        if response is None:
            self._p.out.ignore("response.created again")
            return
        self._announce(response)
        self._p.overruling.began(response, wire.mapping(event, "response"))
        if self._p.face is not None:
            self._p.face.response_began(response)

    def _announce(self, response: Response) -> None:
        if not response.announced:
            response.announced = True
            self._p.out.emit("agent_start", agent=response.agent.name, response_id=response.id)
            self._verdicts.begun(response)

    def touch(self, response_id: str) -> Response | None:
        """The response that something said belongs to, None where it is late: the response has ended.

        A model of transport EVENTS may end its turn before its sound or its words have come: theirs is never late.
        """
        response = self._p.turns.responses.spoken_in(response_id)
        if response is None or (self._is_server and not response.active):
            self._p.out.ignore("late event of a response")
            return None
        self._announce(response)
        return response

    def _response_done(self, event: Event) -> None:
        payload = wire.mapping(event, "response")
        response = self._p.turns.done(payload)
        if response is None:
            self._p.out.ignore("response.done again")
            return
        self._announce(response)
        status = wire.text(payload, "status") or "completed"
        items = wire.mappings(payload, "output")
        for item in items:
            self._p.transcript.finished(item)
            if self._p.config.recovering is Recovering.ATTACH and wire.is_made_call(item):
                self._p.calls.begin(response, item)  # unless it was told of before, as it was if somebody was attached
        self._finals.response(response, items)
        self._p.untold.ended(response)
        self._p.guard.response_ended(response)
        wait = None
        if status == "failed":
            wait = self._failed(payload, response)
        elif status == "completed":
            self._p.limits.answered()
        self.turn_ended(response, status, wire.mapping(payload, "usage"))
        output = response.said or " ".join(filter(None, map(wire.said, items)))
        self._p.out.emit("agent_end", agent=response.agent.name, response_id=response.id, output=output)
        if self._p.face is not None:
            self._p.face.response_ended(response, status)
        self._p.calls.batches.response_ended(response)
        if self._is_server:  # more may come of others
            response.forget_texts()
        if wait is not None:
            if self._p.face is not None:
                self._p.face.will_continue(response)
            self._p.turns.again(response)
            self._p.turns.rest(wait)
        self._p.overruling.ended(response, payload)
        self._p.turns.pump()

    def give_up(self, response: Response) -> Event:
        """End a response of which nothing more comes; returns the `response.done` that the model owes."""
        self._p.turns.cancel(response)
        message = (
            f"The model sent nothing of its response for {self._p.turns.responses.stall_timeout:g} s; it was given up."
        )
        error = {"type": "server_error", "code": "response_stalled", "message": message}
        details = {"type": "failed", "error": error}
        done = {"type": "response.done", "response": {"id": response.id, "status": "failed", "status_details": details}}
        self.apply("response.done", done)
        response.muted = response.unwanted = True
        return done

    def _failed(self, payload: Event, response: Response) -> float | None:
        """A response failed: how long to wait before it is asked for again (s), None where it is not."""
        details = wire.mapping(payload, "status_details")
        error = wire.mapping(details, "error")
        code = code_of(error) or "response_failed"
        self._p.out.observe("model_error", code=error_label(code))
        done_with = response.out_of_band or response.cancelling or response.muted or response.interlude_in is not None
        wait = None if done_with or self._p.calls.batches.has(response) else self._p.limits.wait(error)
        if is_fatal(code):
            self.fatal_code = code
        # An answer apart is asked of no other model.
        if wait is None and (response.out_of_band or not self._p.limits.passes_on(code)):
            self._p.out.error(code, text_of(error, "The model's response failed."), "model")
        return wait

    def turn_ended(self, response: Response, status: str, usage: Event) -> None:
        """Record one response's end."""
        since = response.reference
        latencies = {"total": round((self._p.out.now - since) * 1000, 1)}
        for name, moment in (("first_audio", response.first_audio), ("first_text", response.first_text)):
            if moment is not None:
                latencies[name] = round((moment - since) * 1000, 1)
        observe_tokens(self._p.out, usage)
        self._p.out.record(
            EventType.TURN_ENDED,
            response_id=response.id,
            agent=response.agent.name,
            status=status,
            latencies=latencies,
            usage=dict(usage) or None,
        )

    # --- what a response says -------------------------------------------------------------------------

    def _text_delta(self, event: Event) -> None:
        self._saying = None
        response = self.touch(wire.text(event, "response_id"))
        if response is None:
            return
        kind, item_id, place = wire.text(event, "type"), wire.text(event, "item_id"), event.get("content_index")
        audio, index = "transcript" in kind, wire.index(event, "content_index")
        saying = _Saying(response, audio, kind, response.model_id, item_id, place, index)
        response.spoken = response.spoken or audio
        self._p.untold.begun(response, item_id, spoken=audio)
        if response.first_text is None:
            self._p.turns.responses.worded(response)
        self._say(saying, wire.text(event, "delta"))
        self._saying = None if self._shows_all or response.agent.holds else saying

    def _say(self, saying: _Saying, delta: str) -> None:
        response, item_id = saying.response, saying.item_id
        text = response.say(item_id, saying.index, delta)
        if response.overflows:
            self._verdicts.overflowed(response, item_id)
        self._p.history.append(item_id, saying.index, "audio" if saying.audio else "text", delta)
        if not response.muted:
            self._p.out.emit("transcript_delta", item_id=item_id, role="assistant", delta=delta, text=text)
        if response.active:
            self._p.guard.text(response, item_id, text)
        else:  # it may have been the last
            self._p.guard.final(response, item_id, text)
            self._p.untold.ended(response)

    def _part_says(self, event: Event, content: Event) -> None:
        response = self.touch(wire.text(event, "response_id"))
        if response is not None:
            self._finals.part(response, wire.text(event, "item_id"), wire.index(event, "content_index"), content)

    def _audio_done(self, event: Event) -> None:
        response = self.touch(wire.text(event, "response_id"))
        # Who has heard of an answer also hears of the end of its sound, where it was interrupted as well.
        if response is not None and (not response.muted or response.first_audio is not None):
            item_id, index = wire.text(event, "item_id"), wire.index(event, "content_index")
            self._p.out.emit("audio_end", item_id=item_id, content_index=index)
            part = self._p.playback.parts.get((item_id, index))
            if part is not None:
                self._p.interruptions.audio_stopped(part)

    def _output_item_added(self, event: Event) -> None:
        response = self.touch(wire.text(event, "response_id"))
        if response is not None and not response.out_of_band:
            self._take(wire.mapping(event, "item"), None, response)

    def _output_item_done(self, event: Event) -> None:
        # Not by `touch`: a call that was finished counts also where its response has been told to end before.
        response = self._p.turns.responses.touched(wire.text(event, "response_id"))
        item = wire.mapping(event, "item")
        if response is None:
            self._p.out.ignore("output item of no response")
            return
        made = wire.is_made_call(item)
        if response.active:
            self._finals.item(response, item)
        if not response.out_of_band:
            if self._is_server:  # others tell of their items apart from what they do
                self._take(item, None, response, made=made)
            self._p.transcript.finished(item)
        if made:
            self._p.calls.begin(response, item)
        self._p.hosted.finished(item, response)

    # --- items of the conversation --------------------------------------------------------------------

    def _item_added(self, event: Event) -> None:
        item = wire.mapping(event, "item")
        self._take(item, wire.text(event, "previous_item_id") or None, None)
        if self._p.transcript.is_open(wire.text(item, "id")) and wire.text(item, "role") != "assistant":
            self._p.transcript.said(item, transcribes=self._p.settings.transcribes)

    def _item_done(self, event: Event) -> None:
        item = wire.mapping(event, "item")
        item_id = wire.text(item, "id")
        known = self._p.history.item(item_id) is not None
        self._finals.known(self._p.turns.responses.active, item)
        if not self._is_server:
            self._take(item, wire.text(event, "previous_item_id") or None, None)
        elif not known or wire.text(item, "role") != "assistant":  # else `response.output_item.done` tells of it
            self._take(item, wire.text(event, "previous_item_id") or None, None, repeats=False)
        if self._p.transcript.is_open(item_id):
            self._p.transcript.said(item, transcribes=self._p.settings.transcribes)
            self._p.transcript.finished(item)
        self._p.hosted.finished(item, self._p.turns.responses.active)

    def _take(
        self, item: Event, previous: str | None, response: Response | None, *, made: bool = False, repeats: bool = True
    ) -> None:
        """An item is there, or known better than before; with `repeats` one of a response is told of in any case.

        A call is an item of the history from when the model has `made` it, with its arguments (parity 2.2).
        """
        item_id, kind = wire.text(item, "id"), wire.text(item, "type")
        if kind == "function_call" and not made and self._is_server:
            return
        if kind == "function_call_output":
            self._p.history.answered(wire.text(item, "call_id"), item_id)
        if self._p.history.is_hidden(item_id):
            return
        added = self._p.history.put(item, previous)
        if kind == "message":
            self._p.transcript.open(item, previous, self._p.settings.agent.name, response)
        if added is None and repeats and self._p.history.item(item_id) is not None:
            # Not where it is the echo of an item that the session has created.
            added = None if self._is_server and self._p.turns.responses.active is None else False
        self._p.history_changed(item_id, added)

    def _item_deleted(self, event: Event) -> None:
        item_id = wire.text(event, "item_id")
        if self._p.rewriter.is_anew(item_id):
            return
        self._p.transcript.deleted(item_id)
        if self._p.history.remove(item_id):
            self._p.history.publish(self._p.out)

    def _item_truncated(self, event: Event) -> None:
        """Somebody else's truncation, or the echo of ours, which finds nothing to do."""
        item_id = wire.text(event, "item_id")
        part = self._p.playback.parts.get((item_id, wire.index(event, "content_index")))
        if part is not None:
            end_ms, received_ms = wire.number(event, "audio_end_ms"), self._p.playback.received_ms(part)
            self._p.transcript.cut(item_id, end_ms, received_ms)
            self._p.out.sound(CutSound(item_id, part.content_index, end_ms))
            self._p.playback.forget(item_id)
        else:
            self._p.transcript.cut_elsewhere(item_id, wire.number(event, "audio_end_ms"))

    # --- the user's speech ----------------------------------------------------------------------------

    def _speech_started(self, event: Event) -> None:
        self._p.turns.speaking = True
        self._p.transcript.speech_started(wire.text(event, "item_id"))
        self._p.detected.started(wire.text(event, "item_id"), wire.number(event, "audio_start_ms"))
        if self._p.face is None:
            self._p.interruptions.by_speech()
            self._p.calls.interrupted()
        else:
            # A client of the protocol stops its own playback and truncates by itself.
            if self._p.playback.is_playing(self._p.out.now):
                self._p.out.observe("barge_in")
            self._p.face.speech_started()

    def _speech_stopped(self, event: Event) -> None:
        self._p.turns.speaking = False
        self._p.transcript.speech_stopped(wire.text(event, "item_id"))
        self._p.detected.stopped(wire.text(event, "item_id"), wire.number(event, "audio_end_ms"))
        self._p.turns.responses.user_turn_ended()

    def _committed(self, event: Event) -> None:
        self._p.turns.speaking = False
        self._p.commits.committed(wire.text(event, "item_id"))
        if not self._p.out.uplink.was_asked:
            self._p.detected.committed(wire.text(event, "item_id"))
            if self._p.settings.answers_by_itself:
                self._p.turns.awaited = True
        if self._p.inputs.committed(wire.text(event, "item_id")):
            self._p.turns.request()

    def _timeout_triggered(self, event: Event) -> None:
        self._p.turns.responses.user_turn_ended()
        times = {key: wire.number(event, key) for key in ("audio_start_ms", "audio_end_ms")}
        self._p.out.emit("input_audio_timeout_triggered", item_id=wire.text(event, "item_id"), **times)

    def _transcription_delta(self, event: Event) -> None:
        item_id, delta = wire.text(event, "item_id"), wire.text(event, "delta")
        self._heard_so_far(item_id, self._partials.get(item_id, "") + delta, delta)

    def _transcription_updated(self, event: Event) -> None:
        """As the delta of other servers, but with all of the text so far (protocol 1.9)."""
        item_id = wire.text(event, "item_id")
        text = wire.text(event, "transcript") or wire.text(event, "text")
        before = self._partials.get(item_id, "")
        if text != before:
            self._heard_so_far(item_id, text, text.removeprefix(before))

    def _heard_so_far(self, item_id: str, text: str, delta: str) -> None:
        text = text[:_MAX_PARTIAL]
        self._partials[item_id] = text
        trim(self._partials, _MAX_PARTIALS)
        self._p.out.emit("transcript_delta", item_id=item_id, role="user", delta=delta, text=text)

    def _transcription_completed(self, event: Event) -> None:
        item_id, transcript = wire.text(event, "item_id"), wire.text(event, "transcript")
        self._partials.pop(item_id, None)
        if not item_id or self._p.history.is_hidden(item_id):
            return
        added = self._p.history.transcribe(item_id, transcript)
        if added:
            # Its item was never announced: take the transcript for the item (parity 116).
            item = {"id": item_id, "role": "user", "content": [{"type": "input_text", "text": transcript}]}
            self._p.transcript.open(item, None, self._p.settings.agent.name)
            self._p.transcript.said(item, transcribes=False)
        self._p.transcript.transcribed(item_id, transcript)
        self._p.history_changed(item_id, added)
        self._p.inputs.heard(item_id, transcript)

    def _transcription_failed(self, event: Event) -> None:
        item_id, error = wire.text(event, "item_id"), wire.mapping(event, "error")
        self._partials.pop(item_id, None)
        self._p.transcript.transcribed(item_id, "")
        message = wire.text(error, "message") or "The user's speech could not be transcribed."
        self._p.out.error("transcription_failed", message, "model")
        self._p.inputs.heard(item_id, None)

    _HANDLERS: ClassVar[Mapping[str, Callable[[Any, Event], None]]] = {
        "response.created": _response_created,
        "response.done": _response_done,
        "response.output_item.added": _output_item_added,
        "response.output_item.done": _output_item_done,
        "response.output_text.delta": _text_delta,
        "response.output_text.done": lambda self, event: self._part_says(event, event),
        "response.output_audio_transcript.delta": _text_delta,
        "response.output_audio_transcript.done": lambda self, event: self._part_says(event, event),
        "response.content_part.done": lambda self, event: self._part_says(event, wire.mapping(event, "part")),
        "response.output_audio.done": _audio_done,
        "conversation.item.added": _item_added,
        "conversation.item.done": _item_done,
        "conversation.item.retrieved": lambda self, event: self._take(wire.mapping(event, "item"), None, None),
        "conversation.item.deleted": _item_deleted,
        "conversation.item.truncated": _item_truncated,
        "output_audio_buffer.started": lambda self, event: self._p.transcript.plays(wire.text(event, "response_id")),
        "output_audio_buffer.stopped": lambda self, _: self._p.transcript.plays(""),
        "conversation.item.input_audio_transcription.delta": _transcription_delta,
        "conversation.item.input_audio_transcription.updated": _transcription_updated,
        "conversation.item.input_audio_transcription.completed": _transcription_completed,
        "conversation.item.input_audio_transcription.failed": _transcription_failed,
        "rate_limits.updated": lambda self, event: self._p.limits.announced(event),
        "input_audio_buffer.committed": _committed,
        "input_audio_buffer.speech_started": _speech_started,
        "input_audio_buffer.speech_stopped": _speech_stopped,
        "input_audio_buffer.timeout_triggered": _timeout_triggered,
    }
