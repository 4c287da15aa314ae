"""The model's `error` events: which mean nothing, which cannot be mended, and whose business each one is."""

from collections.abc import Mapping
from typing import Any, Final

from voicebus.engine import wire
from voicebus.engine.clientface import ClientFace
from voicebus.engine.failures import FATAL_CODES, code_of, error_label, text_of
from voicebus.engine.parts import Parts
from voicebus.engine.turns import ALREADY_ACTIVE

Event = Mapping[str, Any]

_TRUNCATE: Final = "conversation.item.truncate"
# Errors that only tell of a race (protocol 10.6), and the event that each is about.
_BENIGN: Final[Mapping[str, str]] = {
    "response_cancel_not_active": "response.cancel",
    ALREADY_ACTIVE: "response.create",
    "item_truncate_invalid_item_id": _TRUNCATE,
    "item_delete_invalid_item_id": "conversation.item.delete",
    "item_retrieve_invalid_item_id": "conversation.item.retrieve",
    "item_create_duplicate_item_id": "conversation.item.create",
}
_BENIGN_TEXTS: Final = ("already shorter than", "Only model output audio")
RACES: Final = frozenset(_BENIGN.values())
"""Events whose refusal tells of nothing but a race, unless the program has sent such a one itself."""


class ModelErrors:
    """Tells each error to whom it concerns.

    `fatal_code` is of the one that connecting again cannot mend, which has been counted; `told` the code of the last
    one that was recorded.
    """

    def __init__(self, parts: Parts) -> None:
        self._p = parts
        self.fatal_code: str | None = None
        self.told: str | None = None

    def arrived(self, event: Event) -> bool:
        """An `error` of the model. False where it refused the session's first configuration: there is no way on."""
        p, error = self._p, wire.mapping(event, "error")
        code, event_id = code_of(error), wire.text(error, "event_id")
        if not event_id or p.out.is_own(event_id) or code in FATAL_CODES:
            # An error that answers a client's own event is the client's mistake, none of the model's.
            p.out.observe("model_error", code=error_label(code))
        if code in FATAL_CODES:
            self.fatal_code = code
        p.rewriter.refused(event_id)
        if code == "input_audio_buffer_commit_empty":
            p.turns.commit_refused(event_id)
            p.inputs.commit_refused(event_id)
            p.commits.refused(event_id)
        # Settings that the next model is to have stay unanswered: it is sent them.
        update = None if p.limits.passes_on(code) else p.settings.refused(error)
        if update is not None and p.settings.send_again(update, error):
            p.out.ignore("settings are sent again without what the model refused of them")
            return True
        if update is not None:
            if update.intent is not None and p.face is not None:
                p.face.refused(error, update.intent.event_id)
                return True
            self.record(error)
            return not update.first
        answered, create = p.turns.refused(error)
        waits = create is not None and not (create.out_of_band or create.interlude)
        wait = p.limits.wait(error) if waits else None
        if create is not None and wait is not None:
            p.turns.try_later(create, wait)
        elif create is not None:
            if p.face is not None:
                p.face.create_refused(create, error)
            if not create.manual or p.face is None:
                self._report(error, lost=create.out_of_band)
        elif answered:
            p.out.ignore(f"response.create will be sent again: {code}")
        elif p.face is not None and self._is_for_client(p.face, error):
            if not event_id and not self._is_benign(error):
                self.record(error)
            p.face.show(event)
        elif self._is_benign(error):
            p.out.ignore(f"benign error: {code or wire.text(error, 'message')[:80]}")
        else:
            self._report(error)
        p.turns.pump()
        return True

    def _report(self, error: Event, *, lost: bool = False) -> None:
        """Record an error; one because of which another model takes over only if what it refused is `lost`."""
        if not lost and self._p.limits.passes_on(code_of(error)):
            self._p.out.ignore(f"another model takes over: {code_of(error)}")
        else:
            self.record(error)

    def record(self, error: Event) -> None:
        self.told = code = code_of(error) or "model_error"
        self._p.out.error(code, text_of(error, "The model reported an error."), "model")

    def _is_for_client(self, face: ClientFace, error: Event) -> bool:
        """Whether a client of the OpenAI face has caused this error, or may have: not all name their event."""
        if not face.is_open or code_of(error) in FATAL_CODES:
            return False
        return not self._p.out.is_own(wire.text(error, "event_id"))

    def _is_benign(self, error: Event) -> bool:
        code, message, event_id = (wire.text(error, name) for name in ("code", "message", "event_id"))
        if code == "input_audio_buffer_commit_empty":
            return self._p.settings.turn_detection is not None
        about = _BENIGN.get(code) or (_TRUNCATE if any(text in message for text in _BENIGN_TEXTS) else None)
        return about is not None and (self._p.out.is_own(event_id) or about not in self._p.asked_raw)
