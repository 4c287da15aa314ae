"""What the program, or a client of the native face, wants of a session. One method per input.

A client of the OpenAI face asks by events of the protocol instead: those are `clientface.py`'s.
"""

from collections.abc import Mapping
from typing import Any

from voicebus.contracts.journal import EventType
from voicebus.engine import wire
from voicebus.engine.config import Transport
from voicebus.engine.inputs import (
    AudioInterrupted,
    ChangeSettings,
    CommitAudio,
    Interrupt,
    ListenerBack,
    Playback,
    ReplaceHistory,
    SendMessage,
    SendRaw,
)
from voicebus.engine.modelerrors import RACES
from voicebus.engine.outputs import HoldSound
from voicebus.engine.parts import Parts


class ProgramSide:
    """Carries out what the program wants, over the other parts of a session."""

    def __init__(self, parts: Parts) -> None:
        self._p = parts

    def send_message(self, item: SendMessage) -> None:
        p = self._p
        content = [dict(part) for part in item.content]
        message = {"id": p.out.mint(), "type": "message", "role": "user", "content": content}
        p.turns.responses.user_turn_ended()
        p.out.send(p.inputs.outgoing({**item.extra, "type": "conversation.item.create", "item": message}))
        if item.respond:
            p.turns.request()

    def commit_audio(self, item: CommitAudio) -> None:
        p = self._p
        p.turns.responses.user_turn_ended()
        event_id = p.out.mint()
        if item.given is not None:
            p.commits.sent(event_id, item.given)
        p.out.send(p.inputs.outgoing({"type": "input_audio_buffer.commit", "event_id": event_id}))
        if item.respond:
            p.turns.request(commit=event_id)

    def interrupt(self, item: Interrupt) -> None:
        self._p.interruptions.by_client(item)
        if item.cancel:
            self._p.calls.interrupted()

    def audio_interrupted(self, item: AudioInterrupted) -> None:
        self._p.interruptions.by_model(item.item_id, item.content_index)
        self._p.calls.interrupted()

    def playback(self, item: Playback) -> None:
        if not self._p.playback.report(item.item_id, item.content_index, item.played_ms):
            self._p.out.ignore(f"playback of {item.item_id}, which is not being played")

    def listener_left(self) -> None:
        self._p.playback.leave(self._p.out.now)
        self._p.out.add(HoldSound(held=True))

    def listener_back(self, item: ListenerBack) -> None:
        p = self._p
        p.playback.come_back(p.out.now)
        p.out.add(HoldSound(held=False))
        if item.from_seq is not None:
            p.out.record(EventType.SESSION_RESUMED, agent=p.settings.agent.name, from_seq=item.from_seq)

    def change_settings(self, item: ChangeSettings) -> None:
        self._p.settings.patch(item.patch)
        self._p.settings_sent()

    def replace_history(self, item: ReplaceHistory) -> None:
        self._p.rewriter.replace(item.items)

    def send_raw(self, item: SendRaw) -> None:
        """The program's own event, kept in the books where the session keeps some (parity 70)."""
        p, event = self._p, item.event
        match wire.text(event, "type"):
            case "session.update" if isinstance(event.get("session"), Mapping):
                p.settings.patch(event["session"], event)
                p.settings_sent()
            case "response.create" if p.config.transport is Transport.WIRE:
                if not p.turns.request_raw(event):
                    message = "Too many responses are waiting to be created; wait until one is done."
                    p.out.error("too_many_pending_responses", message, "client")
            case kind:
                if kind in RACES:
                    p.asked_raw.add(kind)
                self._note(kind, event)
                p.out.pass_on(p.inputs.outgoing(event))

    def _note(self, kind: str, event: Mapping[str, Any]) -> None:
        """What the session has to know of an event that goes to the model as it is."""
        p = self._p
        match kind:
            case "response.cancel":
                p.turns.cancelled(wire.text(event, "response_id"))
            case "conversation.item.truncate":
                p.interruptions.by_raw(wire.text(event, "item_id"), wire.number(event, "audio_end_ms"))
            case "input_audio_buffer.commit":
                p.turns.responses.user_turn_ended()
            case "conversation.item.create" if wire.text(wire.mapping(event, "item"), "role") == "user":
                p.turns.responses.user_turn_ended()
            case _:
                pass
