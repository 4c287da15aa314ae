"""What guardrails' verdicts lead to: who is stopped, what may be heard, and what the model is told (parity 107-111)."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from voicebus.contracts.guardrails import GuardrailVerdict
from voicebus.engine import wire
from voicebus.engine.config import GuardrailSpec
from voicebus.engine.guarding import Passed, Trip
from voicebus.engine.inputguards import InputTrip
from voicebus.engine.interludes import SAY_EXACTLY, having_said
from voicebus.engine.parts import Parts
from voicebus.engine.responses import Response

FEEDBACK: Final = "guardrail triggered: "

# Answers in a row that a guardrail may stop and have the model give anew.
_FEEDBACKS: Final = 3


def replacement(guardrails: Sequence[GuardrailSpec]) -> str | None:
    """What is said instead of what these have stopped: the line of the first that has one."""
    return next((guardrail.replacement for guardrail in guardrails if guardrail.replacement), None)


def feedback(guardrails: Sequence[GuardrailSpec]) -> str:
    """What the model is told: which guardrails tripped, and what to keep to where they say so."""
    text = FEEDBACK + ", ".join(guardrail.name for guardrail in guardrails)
    hints = dict.fromkeys(guardrail.policy_hint for guardrail in guardrails if guardrail.policy_hint)
    return f"{text}. Policy: {' '.join(hints)}" if hints else text


class Verdicts:
    """Carries verdicts out over the other parts of a session."""

    def __init__(self, parts: Parts) -> None:
        self._p = parts
        parts.holding.found = self._stop
        parts.holding.silence = parts.interruptions.mute

    def arrived(self, verdict: GuardrailVerdict) -> None:
        if self._p.inputs.is_asked(verdict.check_id):
            self._p.inputs.verdict(verdict)
        else:
            self._follow(self._p.guard.verdict(verdict))

    def overdue(self, check_id: str) -> None:
        """Nobody has judged in time what the model said."""
        self._follow(self._p.guard.overdue(check_id))

    def input_overdue(self, check_id: str) -> None:
        """Nobody has judged in time what the user said."""
        self._p.inputs.overdue(check_id)

    def refused(self, check_id: str, why: str) -> None:
        """Nobody judges now."""
        if self._p.inputs.is_asked(check_id):
            self._p.inputs.refused(check_id, why)
        else:
            self._follow(self._p.guard.refused(check_id, why))

    def overflowed(self, response: Response, item_id: str) -> None:
        """The item's text is not kept whole. What is held back has been judged before."""
        if not response.agent.holds:
            self._follow(self._p.guard.overflowed(response, item_id))

    def _follow(self, found: Trip | Passed | None) -> None:
        if isinstance(found, Trip):
            self._stop(found)
        elif found is not None:
            self._p.holding.passed(found)

    def _stop(self, trip: Trip) -> None:
        create = trip.response.create
        before = 0 if create is None else create.replaces
        # What is forbidden again and again, as by a rule that nobody can judge by, must not be asked for without end.
        is_last_word = before >= (_FEEDBACKS if replacement(trip.guardrails) is None else 1)
        if self._p.interruptions.by_guardrail(trip) and trip.guardrails and not is_last_word:
            face, response = self._p.face, trip.response
            # A client that has not seen the end of what was stopped waits for the answer that stands for it.
            awaited = face is not None and (response.active or face.resting is response)
            follows = response if face is not None else None
            self._answer(trip.guardrails, follows=follows, optional=not awaited, replaces=before + 1)

    def settle(self) -> None:
        """Carry out what input guardrails have found by now."""
        inputs = self._p.inputs
        inputs.unsettled = False
        trips, inputs.trips = inputs.trips, []
        for trip in trips:
            self._forbid(trip)
        self._p.turns.pump()

    def begun(self, response: Response) -> None:
        """The model began a response: perhaps the answer to what the user may not say."""
        forbidden, self._p.inputs.answer_forbidden = self._p.inputs.answer_forbidden, False
        withdrawn = response.create is not None and response.create.withdrawn
        if response.out_of_band:
            return
        if forbidden and response.create is None:
            response.unwanted = True
            self._p.interruptions.stop(response)
            self._stands_for(response)
        elif withdrawn:
            self._stands_for(response)

    def _stands_for(self, response: Response) -> None:
        """What will be said instead stands for `response`, which a client of the OpenAI face has been told of."""
        if self._p.face is not None and self._p.turns.replace(response):
            response.tripped = True

    def _forbid(self, trip: InputTrip) -> None:
        """The model forgets what the user said, drops its answer to it, and answers the guardrail instead."""
        p = self._p
        answers = [response for response in p.turns.responses.by_id.values() if response.began >= trip.since]
        for response in answers:
            response.unwanted = True
            p.interruptions.stop(response)
        # The model may have begun an answer by itself of which we have not heard yet.
        p.inputs.answer_forbidden = not answers and p.settings.creates_responses
        is_asked = bool(answers) or p.turns.is_outstanding or (trip.detected and p.settings.creates_responses)
        p.turns.withdraw()
        if trip.item_id:
            p.out.send({"type": "conversation.item.delete", "item_id": trip.item_id})
        if p.face is not None and not is_asked:
            # Whoever takes turns by hand asks for the answer, has asked already or will.
            self._prepare(trip.guardrails)
            return
        self._answer(trip.guardrails)
        for response in answers:
            if response.active and not response.out_of_band:
                self._stands_for(response)

    def _prepare(self, guardrails: Sequence[GuardrailSpec]) -> None:
        """Have what the client asks for next be the answer that stands for what was forbidden."""
        line, create = replacement(guardrails), self._p.turns.next_manual
        if line is None or create is None:
            self._tell(feedback(guardrails) if line is None else SAY_EXACTLY + line)
        else:
            create.response = {**create.response, **self._saying(line)}
        if create is not None:
            create.replaces = 1

    def _answer(
        self,
        guardrails: Sequence[GuardrailSpec],
        *,
        follows: Response | None = None,
        optional: bool = False,
        replaces: int = 1,
    ) -> None:
        """Have the model say what stands for what was stopped; else it is told why, and answers anew."""
        p, line = self._p, replacement(guardrails)
        if line is None or not p.turns.sequences:
            self._tell(feedback(guardrails) if line is None else SAY_EXACTLY + line)
            p.turns.request(follows=follows, optional=optional, replaces=replaces)
        else:
            p.turns.request(follows=follows, optional=optional, instead=self._saying(line), replaces=replaces)

    def _saying(self, line: str) -> Mapping[str, Any]:
        """The parameters of a response that says `line` and nothing else."""
        own = wire.text(self._p.settings.effective, "instructions")
        return {"instructions": having_said(own, SAY_EXACTLY, line), "tool_choice": "none"}

    def _tell(self, text: str) -> None:
        item_id = self._p.out.mint()
        self._p.hide_item(item_id)
        content = [{"type": "input_text", "text": text}]
        item = {"id": item_id, "type": "message", "role": "user", "content": content}
        self._p.out.send({"type": "conversation.item.create", "item": item})
