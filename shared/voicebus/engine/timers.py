"""What is done when a timer of the session has run out. The one that ends the session is `session.py`'s."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from voicebus.engine.approvals import CALL_TIMER
from voicebus.engine.attaching import ATTACH_TIMER
from voicebus.engine.background import BACKGROUND_TIMER
from voicebus.engine.clientface import error_event
from voicebus.engine.commits import COMMIT_TIMER
from voicebus.engine.guarding import CHECK_TIMER
from voicebus.engine.inputguards import INPUT_TIMER
from voicebus.engine.interludes import INTERLUDE_TIMER
from voicebus.engine.linking import Linking
from voicebus.engine.modelside import ModelSide
from voicebus.engine.parts import Parts
from voicebus.engine.renewal import RENEW_TIMER, SWITCH_TIMER
from voicebus.engine.responding import STALL_TIMER
from voicebus.engine.state import CONFIRM_TIMER
from voicebus.engine.transcript import HEARD_TIMER, TRANSCRIPT_TIMER
from voicebus.engine.turns import CREATE_TIMER, RETRY_TIMER
from voicebus.engine.verdicts import Verdicts


class Timers:
    """Acts on timers by their kind, which is their key up to its colon; the rest names whom it is about."""

    def __init__(self, parts: Parts, model: ModelSide, verdicts: Verdicts, linking: Linking) -> None:
        self._p = parts
        self._renewal, self._attaching = linking.renewal, linking.attaching
        self._model = model
        self._verdicts = verdicts

    def fired(self, key: str) -> None:
        kind, _, subject = key.partition(":")
        self._TIMERS[kind + ":" if subject else kind](self, subject)

    def _confirm_overdue(self, _: str) -> None:
        self._p.out.ignore("the model does not confirm its settings; the conversation begins without")

    def _create_overdue(self, _: str) -> None:
        create = self._p.turns.overdue()
        if create is not None:
            code = "response_create_timeout"
            message = f"The model did not answer response.create within {self._p.config.create_timeout_ms / 1000:g} s."
            self._p.out.observe("model_error", code=code)
            self._p.out.error(code, message, "model")
            if self._p.face is not None:
                self._p.face.create_refused(create, error_event(code, message)["error"])
        self._p.turns.pump()

    def _retry_due(self, _: str) -> None:
        self._p.turns.retry_due()
        self._p.turns.pump()

    def _response_stalled(self, _: str) -> None:
        p = self._p
        response = p.turns.responses.stalled(lambda one: p.calls.is_running_for(one) or p.holding.is_over(one))
        if response is None:
            return
        p.interruptions.mute(response)
        done = self._model.give_up(response)
        if self._p.face is not None:
            self._p.face.show(done)

    def _call_overdue(self, call_id: str) -> None:
        self._p.calls.overdue(call_id)

    def _check_overdue(self, check_id: str) -> None:
        self._verdicts.overdue(check_id)

    def _input_overdue(self, check_id: str) -> None:
        self._verdicts.input_overdue(check_id)

    def _transcript_overdue(self, item_id: str) -> None:
        instead = self._p.transcript.transcript_overdue(item_id)
        if instead is not None:
            self._p.history.transcribe(item_id, instead)
            self._p.history_changed(item_id, added=False)

    def _renew(self, _: str) -> None:
        self._renewal.due()

    def _switch(self, _: str) -> None:
        self._renewal.force()

    def _heard(self, _: str) -> None:
        self._p.transcript.heard_timer_fired()

    def _interlude_due(self, _: str) -> None:
        self._p.interludes.fired()

    def _background_due(self, _: str) -> None:
        self._p.background.fired()

    def _attach_overdue(self, _: str) -> None:
        self._attaching.overdue()

    def _commit_overdue(self, event_id: str) -> None:
        self._p.commits.overdue(event_id)

    _TIMERS: ClassVar[Mapping[str, Callable[[Any, str], None]]] = {
        CONFIRM_TIMER: _confirm_overdue,
        CREATE_TIMER: _create_overdue,
        COMMIT_TIMER: _commit_overdue,
        RETRY_TIMER: _retry_due,
        STALL_TIMER: _response_stalled,
        CALL_TIMER: _call_overdue,
        CHECK_TIMER: _check_overdue,
        INPUT_TIMER: _input_overdue,
        TRANSCRIPT_TIMER: _transcript_overdue,
        HEARD_TIMER: _heard,
        RENEW_TIMER: _renew,
        SWITCH_TIMER: _switch,
        INTERLUDE_TIMER: _interlude_due,
        BACKGROUND_TIMER: _background_due,
        ATTACH_TIMER: _attach_overdue,
    }
