"""When input guardrails judge what the user says, and what their verdicts amount to (parity 0.15; contract section 8).

A turn of the user is a message, or a piece of audio that was committed. It is judged once, whole: a message when it is
sent, speech when its transcript is complete. Speech that has none counts as not judged. Guardrails of mode `hold` have
their budget from the end of the turn on, and until they are decided no response is asked for (`blocks`); the others
judge while the model answers. What a trip undoes is not decided here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final

from voicebus.contracts.guardrails import GuardrailVerdict
from voicebus.contracts.journal import EventType
from voicebus.engine import wire
from voicebus.engine.config import AgentSpec, GuardrailMode, GuardrailSpec
from voicebus.engine.guarding import UNAVAILABLE, observe_failure, read
from voicebus.engine.outbox import Outbox
from voicebus.engine.outputs import DispatchCheck
from voicebus.engine.settings import Settings
from voicebus.engine.transcript import TRANSCRIPT_TIMEOUT

INPUT_TIMER: Final = "input:"

# Turns that may wait for their verdicts; beyond that the oldest counts as not judged.
_MAX_TURNS: Final = 64
_BUDGET_MS: Final = 1500


@dataclass(frozen=True, slots=True)
class InputTrip:
    """`guardrails` forbid the user's item, to which all responses are answers that began at `since` (s) or later.

    `detected`: the model has found the turn in audio by itself, so that nobody asks for its answer.
    """

    item_id: str
    guardrails: tuple[GuardrailSpec, ...]
    since: float
    detected: bool


@dataclass(slots=True, eq=False)
class _Turn:
    """A turn that is not decided yet. `item_id` is "" until the model has named it; `checks` are by id."""

    agent: AgentSpec
    began: float
    item_id: str = ""
    commit: str = ""
    detected: bool = False
    text: str = ""
    checks: "dict[str, _Check]" = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _Check:
    """Guardrails of a turn that are asked together, those that have not answered yet. `budget` in s, None for those
    that hold nothing back.
    """

    id: str
    turn: _Turn
    guardrails: tuple[GuardrailSpec, ...]
    budget: float | None


class InputGuards:
    """Knows the user's turns by item. What trips is kept in `trips` for who carries it out.

    `unsettled`: something was decided since `trips` was read, if only that nothing is held back any more.
    `answer_forbidden`: the next response that the model begins by itself answers what was forbidden.
    """

    def __init__(self, out: Outbox, settings: Settings, timeout: float) -> None:
        self._out = out
        self._settings = settings
        self._timeout = timeout
        self._turns: list[_Turn] = []
        self._checks: dict[str, _Check] = {}
        self.unsettled: bool = False
        self.trips: list[InputTrip] = []
        self.answer_forbidden: bool = False

    @property
    def blocks(self) -> bool:
        """Whether no response may be asked for: a turn is held back."""
        return any(check.budget is not None for check in self._checks.values())

    # --- turns ----------------------------------------------------------------------------------------

    def outgoing(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        """An event is about to go to the model: may begin a turn. Returns it, with an id for the user's item."""
        if not self._settings.agent.input_guardrails:
            return event
        kind, item = wire.text(event, "type"), wire.mapping(event, "item")
        if kind == "input_audio_buffer.commit":
            event = event if wire.text(event, "event_id") else {**event, "event_id": self._out.mint()}
            self._begin(commit=wire.text(event, "event_id"))
        elif kind == "conversation.item.create" and wire.text(item, "role") == "user":
            if not wire.text(item, "id"):
                item = {**item, "id": self._out.mint()}
                event = {**event, "item": item}
            self._judge_message(item)
        return event

    def _judge_message(self, item: Mapping[str, Any]) -> None:
        content = wire.mappings(item, "content")
        texts = [wire.text(part, "text") or wire.text(part, "transcript") for part in content]
        text = " ".join(text for text in texts if text)
        speech = any(wire.text(part, "type") == "input_audio" for part in content)
        if text or speech:
            turn = self._begin(item_id=wire.text(item, "id"))
            self._heard(turn, text or None)

    def committed(self, item_id: str) -> bool:
        """Audio became the user's item; tells whether the session has to ask for the answer in the model's place."""
        agent = self._settings.agent
        if not agent.input_guardrails:
            return False
        self.answer_forbidden = False
        asked = next((turn for turn in self._turns if turn.commit and not turn.item_id), None)
        turn = asked or self._begin()
        turn.item_id, turn.detected = item_id, asked is None
        if not self._settings.transcribes:
            self._heard(turn, None)
        return asked is None and agent.holds_input and self._settings.creates_responses

    def commit_refused(self, event_id: str) -> None:
        """There was nothing to commit, so there is no turn."""
        for turn in self._turns:
            if turn.commit and not turn.item_id and turn.commit == event_id:
                self._forget(turn)
                return

    def heard(self, item_id: str, text: str | None) -> None:
        """The transcript of the user's item is complete, or (None) will not come."""
        turn = next((turn for turn in self._turns if turn.item_id == item_id), None)
        if turn is not None:
            self._heard(turn, text)

    def _begin(self, *, item_id: str = "", commit: str = "") -> _Turn:
        agent = self._settings.agent
        turn = _Turn(agent, self._out.now, item_id, commit)
        for budget, guardrails in groupby(sorted(agent.input_guardrails, key=_budget), key=_budget):
            check = _Check(self._out.mint(), turn, tuple(guardrails), budget or None)
            turn.checks[check.id] = self._checks[check.id] = check
            self._out.set_timer(INPUT_TIMER + check.id, check.budget or TRANSCRIPT_TIMEOUT + self._timeout)
        self._turns.append(turn)
        if len(self._turns) > _MAX_TURNS:
            self._unavailable(self._turns[0], f"more than {_MAX_TURNS} turns wait")
        return turn

    def _heard(self, turn: _Turn, text: str | None) -> None:
        if text is None:
            self._unavailable(turn, "there is no transcript of what was said")
        elif not text.strip():
            self._forget(turn)  # nothing was said
        elif not turn.text:
            turn.text = text
            for check in turn.checks.values():
                self._dispatch(check, text)

    def _dispatch(self, check: _Check, text: str) -> None:
        limit = self._timeout
        if check.budget is None:
            self._out.set_timer(INPUT_TIMER + check.id, limit)
        else:
            limit = max(0.001, check.turn.began + check.budget - self._out.now)
        self._out.add(
            DispatchCheck(
                check_id=check.id,
                response_id="",
                item_id=check.turn.item_id,
                agent=check.turn.agent.name,
                guardrails=tuple(guardrail.name for guardrail in check.guardrails),
                text=text,
                final=True,
                snapshot=check.turn.agent.snapshot,
                stage="input",
                timeout_ms=round(limit * 1000) or 1,
            )
        )

    # --- verdicts -------------------------------------------------------------------------------------

    def is_asked(self, check_id: str) -> bool:
        """Whether a verdict on this check is waited for here."""
        return check_id in self._checks

    def verdict(self, verdict: GuardrailVerdict) -> None:
        """An answer came."""
        check = self._checks[verdict.check_id]
        findings = list(read(verdict, check.guardrails))
        check.guardrails = tuple(each for each in check.guardrails if each.name in verdict.pending)
        for finding in findings:
            if finding.error is not None:
                self._failed(finding.guardrail, finding.code, finding.error)
        self._decide(check, [(finding.guardrail, finding.info) for finding in findings if finding.tripped])

    def overdue(self, check_id: str) -> None:
        """No answer came in time, or no transcript."""
        check = self._checks[check_id]
        limit = self._timeout if check.budget is None else check.budget
        why = "no verdict" if check.turn.text else "no transcript of what was said"
        self._unjudged(check, f"{why} within {limit:g} s")

    def refused(self, check_id: str, why: str) -> None:
        """Nobody answers now."""
        self._unjudged(self._checks[check_id], why)

    def _unavailable(self, turn: _Turn, why: str) -> None:
        for check in list(turn.checks.values()):
            if check.id in self._checks:
                self._unjudged(check, why)

    def _unjudged(self, check: _Check, why: str) -> None:
        late, check.guardrails = check.guardrails, ()
        for guardrail in late:
            self._failed(guardrail, UNAVAILABLE, why)
        self._decide(check, [(guardrail, why) for guardrail in late if guardrail.on_unavailable == "closed"])

    def _failed(self, guardrail: GuardrailSpec, code: str, why: str) -> None:
        self._out.error(code, f"Input guardrail {guardrail.name!r} could not judge: {why}", "guardrail")
        observe_failure(self._out, guardrail, code)

    def _decide(self, check: _Check, findings: Sequence[tuple[GuardrailSpec, Any]]) -> None:
        turn = check.turn
        if not check.guardrails:
            self._drop(check)
        if not turn.checks:
            self._turns.remove(turn)
        if not findings:
            return
        names = [guardrail.name for guardrail, _ in findings]
        info = {guardrail.name: info for guardrail, info in findings}
        self._out.record(
            EventType.GUARDRAIL_TRIPPED,
            response_id="",
            item_id=turn.item_id,
            agent=turn.agent.name,
            guardrails=names,
            info=info,
            message=turn.text,
            at_ms=self._out.ms(),
            stage="input",
        )
        self._out.emit("input_guardrail_tripped", guardrails=names, info=info, message=turn.text, item_id=turn.item_id)
        for name in names:
            self._out.observe("guardrail_trip", rule=name)
        stopping = tuple(guardrail for guardrail, _ in findings if guardrail.mode is not GuardrailMode.OBSERVE)
        if stopping:
            self._forget(turn)
            self.trips.append(InputTrip(turn.item_id, stopping, turn.began, turn.detected))

    def _forget(self, turn: _Turn) -> None:
        for check in list(turn.checks.values()):
            self._drop(check)
        if turn in self._turns:
            self._turns.remove(turn)

    def _drop(self, check: _Check) -> None:
        del check.turn.checks[check.id]
        del self._checks[check.id]
        self._out.cancel_timer(INPUT_TIMER + check.id)
        self.unsettled = True


def _budget(guardrail: GuardrailSpec) -> float:
    """How long a guardrail may hold a turn back (s), 0 where it does not."""
    return (guardrail.budget_ms or _BUDGET_MS) / 1000 if guardrail.mode is GuardrailMode.HOLD else 0.0
