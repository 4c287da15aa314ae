"""When output guardrails judge what is said, and what their verdicts amount to (parity 0.1, J).

Text is judged cumulatively per item: each time it has grown by a guardrail's debounce, and once more when it is final.
Guardrails of one debounce fall due together, and all that are due at one delta go out as one check. Each is heard when
it has judged, whatever the others take, and has its own time limit. What a trip stops is not decided here, nor when
held text is judged (`holding.py`).
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from voicebus.contracts.guardrails import GuardrailResult, GuardrailVerdict
from voicebus.contracts.journal import EventType
from voicebus.engine.bounds import REMEMBERED, trim
from voicebus.engine.config import GuardrailMode, GuardrailSpec
from voicebus.engine.outbox import Outbox
from voicebus.engine.outputs import DispatchCheck
from voicebus.engine.responses import MAX_TEXT, MAX_TEXT_ITEMS, MAX_TEXT_PARTS, Response

CHECK_TIMER: Final = "check:"

FAILED: Final = "guardrail_failed"
UNAVAILABLE: Final = "guardrail_unavailable"
OVERFLOW: Final = "guardrail_overflow"

# Unanswered checks beyond which those go that a newer one covers; what is left of the others ends with its timer.
_MAX_CHECKS: Final = 256


@dataclass(frozen=True, slots=True)
class Trip:
    """`response` is to be stopped: `guardrails` forbid what it says. Without them it is stopped for another reason."""

    response: Response
    item_id: str
    guardrails: tuple[GuardrailSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class Passed:
    """No guardrail that holds forbids `text`, what the item says so far, all of it where `final`."""

    response: Response
    item_id: str
    text: str
    final: bool


@dataclass(frozen=True, slots=True)
class Finding:
    """What one guardrail has found, or `error`, why it could not judge, with its `code`."""

    guardrail: GuardrailSpec
    tripped: bool
    info: Any
    error: str | None = None
    code: str = FAILED


def read(verdict: GuardrailVerdict, guardrails: Iterable[GuardrailSpec]) -> Iterator[Finding]:
    """The findings of those of `guardrails` that have judged, or by their policies where they could not."""
    results = {result.name: result for result in verdict.results}
    missing = "the worker's verdict does not name it"
    for guardrail in guardrails:
        if guardrail.name in verdict.pending:
            continue
        result = results.get(guardrail.name) or GuardrailResult(name=guardrail.name, tripped=False, error=missing)
        if result.error is None:
            yield Finding(guardrail, result.tripped, result.info)
        elif result.timed_out:
            yield Finding(guardrail, guardrail.on_unavailable == "closed", result.error, result.error, UNAVAILABLE)
        else:
            yield Finding(guardrail, guardrail.on_error == "closed", result.error, result.error)


def observe_failure(out: Outbox, guardrail: GuardrailSpec, code: str) -> None:
    """Count a guardrail that could not judge, and what its policy made of that."""
    failed = code == FAILED
    policy = guardrail.on_error if failed else guardrail.on_unavailable
    out.observe("guardrail_unjudged", rule=guardrail.name, cause="error" if failed else "unavailable", policy=policy)


@dataclass(slots=True, eq=False)
class _Watch:
    """An item that is being said. `runs` counts the checks by debounce length; none is due before `due` characters.
    `judged` is the text of its last final check.
    """

    runs: dict[int, int] = field(default_factory=dict)
    due: float = 0
    judged: str = ""


@dataclass(slots=True, eq=False)
class _Check:
    """`waiting`: until when (s) those may answer that have not yet, by name."""

    id: str
    response: Response
    item_id: str
    guardrails: tuple[GuardrailSpec, ...]
    text: str
    asked: float
    waiting: dict[str, float] = field(default_factory=dict)
    final: bool = False

    @property
    def releases(self) -> bool:
        """Whether something that is held may be heard if nothing was found: all that hold have judged it."""
        agent = self.response.agent
        if not agent.holding.isdisjoint(self.waiting):
            return False
        if self.final or agent.hold_window_ms is None:
            return self.final and agent.holds
        return agent.holding <= {guardrail.name for guardrail in self.guardrails}

    def covers(self, older: "_Check") -> bool:
        """Whether who lets this pass has let the older one pass, too."""
        # A rule may judge the last word only where no more will come.
        in_place = older.item_id == self.item_id and (self.final or not older.final)
        return in_place and older is not self and len(older.text) <= len(self.text)


class Guard:
    """Dispatches checks and reads verdicts; `text` and `final` after each change of an item's text.

    What is held says nothing before it was judged, so that of such responses it hears by `held_text` and `held_final`.
    """

    def __init__(self, out: Outbox, timeout: float) -> None:
        self._out = out
        self._timeout = timeout
        self._watched: dict[tuple[str, str], _Watch] = {}
        self._checks: dict[str, _Check] = {}
        # What was recorded of a response and a guardrail, which is done once; those that ended long ago are forgotten.
        self._reported: dict[tuple[str, str, str], None] = {}

    def text(self, response: Response, item_id: str, text: str) -> None:
        """The item's text has grown to `text`."""
        agent = response.agent
        if agent.guardrails and not agent.holds:
            self.held_text(response, item_id, text)

    def held_text(self, response: Response, item_id: str, text: str) -> None:
        """As `text`, before anybody may know it."""
        if not response.agent.guardrails or response.tripped or not text:
            return
        # A call for each delta of text would cost more than the rest of this.
        watch = self._watched.get((response.id, item_id)) or self._watch(response, item_id)
        if len(text) < watch.due:
            return
        watch.due = math.inf
        due = set()
        for debounce in {guardrail.debounce for guardrail in response.agent.guardrails if guardrail.debounce >= 0}:
            runs = watch.runs.get(debounce, 0)
            if len(text) >= (runs + 1) * debounce:
                runs = watch.runs[debounce] = runs + 1
                due.add(debounce)
            watch.due = min(watch.due, (runs + 1) * debounce)
        if due:
            chosen = tuple(guardrail for guardrail in response.agent.guardrails if guardrail.debounce in due)
            self._dispatch(response, item_id, chosen, text, final=False)

    def final(self, response: Response, item_id: str, text: str) -> None:
        """Nothing will be added to the item's text, or to one of its parts. What was told so before is judged once."""
        if not text or response.agent.holds or not response.agent.guardrails:
            return
        watch = self._watch(response, item_id)
        if text not in watch.judged:
            watch.judged = text
            self.held_final(response, item_id, text)

    def held_final(self, response: Response, item_id: str, text: str) -> None:
        """As `final`, before anybody may know it."""
        if response.agent.guardrails and text and not response.tripped:
            self._dispatch(response, item_id, response.agent.guardrails, text, final=True)

    def _watch(self, response: Response, item_id: str) -> _Watch:
        watch = self._watched.get((response.id, item_id))
        if watch is None:
            watch = self._watched[response.id, item_id] = _Watch()
            trim(self._watched, REMEMBERED)
        return watch

    def response_ended(self, response: Response) -> None:
        """The debounce counters of a response end with it (parity 106); its checks may still be answered."""
        for key in [key for key in self._watched if key[0] == response.id]:
            del self._watched[key]

    def verdict(self, verdict: GuardrailVerdict) -> Trip | Passed | None:
        """An answer came; returns what has to be stopped, or what may be heard now."""
        check = self._checks.get(verdict.check_id)
        if check is None:
            self._out.ignore(f"late verdict on check {verdict.check_id}")
            return None
        findings = list(read(verdict, [each for each in check.guardrails if each.name in check.waiting]))
        answered = [each.name for each in check.guardrails if each.name not in verdict.pending]
        self._answered(check, answered)
        # Not by those that judge still: a newer check may stand for this one there, and so on for as long as it talks.
        # Each once: a check that was sent twice is named twice.
        superseded = map(self._checks.get, dict.fromkeys(verdict.supersedes))
        for older in [older for older in superseded if older is not None]:
            self._answered(older, answered)
        # Until they have judged a newer one, older checks keep their limits: an agent that talks on must not put them
        # off for ever.
        judged = [finding.guardrail.name for finding in findings if finding.error is None]
        for older in [older for older in self._checks.values() if check.covers(older)]:
            self._answered(older, judged)
        for finding in findings:
            if finding.error is not None:
                self._failed(check, finding.guardrail, finding.code, finding.error)
        return self._judge(check, [(finding.guardrail, finding.info) for finding in findings if finding.tripped])

    def overdue(self, check_id: str) -> Trip | Passed | None:
        """Of some of its guardrails no answer came in time; their policies for that decide."""
        check = self._checks.get(check_id)
        if check is None:
            return None
        now = max(self._out.now, min(check.waiting.values()))
        late = [each for each in check.guardrails if check.waiting.get(each.name, math.inf) <= now]
        self._answered(check, [each.name for each in late])
        if check.waiting:
            self._set_timer(check)
        return self._unavailable(check, late)

    def refused(self, check_id: str, why: str) -> Trip | Passed | None:
        """As `overdue`, at once: nobody answers now."""
        check = self._checks.get(check_id)
        if check is None:
            return None
        left = [each for each in check.guardrails if each.name in check.waiting]
        self._answered(check, [each.name for each in left])
        return self._unavailable(check, left, why)

    def unjudged(self, response: Response, item_id: str, why: str) -> Trip | None:
        """The item cannot be judged by anybody; each holding guardrail's policy for that decides."""
        holding = tuple(guardrail for guardrail in response.agent.guardrails if guardrail.mode is GuardrailMode.HOLD)
        found = self._unavailable(_Check("", response, item_id, holding, "", self._out.now), holding, why)
        return found if isinstance(found, Trip) else None

    def overflowed(self, response: Response, item_id: str) -> Trip | None:
        """The response says more than is kept to be judged: it is stopped, unless its guardrails only observe."""
        guardrails, key = response.agent.guardrails, (response.id, "", OVERFLOW)
        if not guardrails or response.muted or key in self._reported:
            return None
        self._report(key)
        size = f"{MAX_TEXT} characters, {MAX_TEXT_ITEMS} items, {MAX_TEXT_PARTS} parts of each"
        self._out.error(OVERFLOW, f"An answer says more than guardrails are given to judge ({size}).", "guardrail")
        if all(guardrail.mode is GuardrailMode.OBSERVE for guardrail in guardrails):
            return None
        response.tripped = True
        return Trip(response, item_id)

    def _unavailable(
        self, check: _Check, guardrails: Sequence[GuardrailSpec], why: str | None = None
    ) -> Trip | Passed | None:
        findings: list[tuple[GuardrailSpec, Any]] = []
        for guardrail in guardrails:
            reason = why or f"no verdict within {self._limit(guardrail):g} s"
            self._failed(check, guardrail, UNAVAILABLE, reason)
            if guardrail.on_unavailable == "closed":
                findings.append((guardrail, reason))
        return self._judge(check, findings)

    def _limit(self, guardrail: GuardrailSpec) -> float:
        """How long (s) it may take to judge."""
        return self._timeout if guardrail.budget_ms is None else guardrail.budget_ms / 1000

    def _dispatch(
        self, response: Response, item_id: str, guardrails: tuple[GuardrailSpec, ...], text: str, *, final: bool
    ) -> None:
        now = self._out.now
        limits = {guardrail.name: self._limit(guardrail) for guardrail in guardrails}
        waiting = {name: now + limit for name, limit in limits.items()}
        check = _Check(self._out.mint(), response, item_id, guardrails, text, now, waiting, final)
        if len(self._checks) >= _MAX_CHECKS:
            self._stand_in(check)
        self._checks[check.id] = check
        longest = max(limits.values())
        self._out.add(
            DispatchCheck(
                check_id=check.id,
                response_id=response.id,
                item_id=item_id,
                agent=response.agent.name,
                guardrails=tuple(guardrail.name for guardrail in guardrails),
                text=text,
                final=final,
                snapshot=response.agent.snapshot,
                timeout_ms=None if longest == self._timeout else round(longest * 1000),
            )
        )
        self._set_timer(check)

    def _set_timer(self, check: _Check) -> None:
        self._out.set_timer(CHECK_TIMER + check.id, max(0.0, min(check.waiting.values()) - self._out.now))

    def _stand_in(self, newer: _Check) -> None:
        """Forget the checks that `newer` covers. No verdict does yet, so it has the earliest of their limits."""
        names = newer.waiting.keys()
        covered = [one for one in self._checks.values() if newer.covers(one) and one.waiting.keys() <= names]
        for older in covered:
            for name, due in older.waiting.items():
                newer.waiting[name] = min(newer.waiting[name], due)
        self._forget(covered)

    def _answered(self, check: _Check, names: Iterable[str]) -> None:
        """These of its guardrails are not waited for any more."""
        for name in names:
            check.waiting.pop(name, None)
        if not check.waiting:
            self._forget([check])

    def _forget(self, checks: Iterable[_Check]) -> None:
        """These are not waited for any more."""
        for check in list(checks):
            del self._checks[check.id]
            self._out.cancel_timer(CHECK_TIMER + check.id)

    def _judge(self, check: _Check, findings: list[tuple[GuardrailSpec, Any]]) -> Trip | Passed | None:
        """Record what tripped, each guardrail once per response, and stop a response at most once (parity 110)."""
        response = check.response
        fresh = [
            (guardrail, info)
            for guardrail, info in findings
            if (response.id, guardrail.name, "tripped") not in self._reported
        ]
        stopping = tuple(guardrail for guardrail, _ in fresh if guardrail.mode is not GuardrailMode.OBSERVE)
        passed = None
        if check.releases and not response.tripped and not stopping:
            passed = Passed(response, check.item_id, check.text, check.final)
        if response.tripped or not fresh:
            return passed
        for guardrail, _ in fresh:
            self._report((response.id, guardrail.name, "tripped"))
        self._out.record(
            EventType.GUARDRAIL_TRIPPED,
            response_id=response.id,
            item_id=check.item_id,
            agent=response.agent.name,
            guardrails=[guardrail.name for guardrail, _ in fresh],
            info={guardrail.name: info for guardrail, info in fresh},
            message=check.text,
            at_ms=self._out.ms(),
            withheld=response.agent.holds,
        )
        for guardrail, _ in fresh:
            self._out.observe("guardrail_trip", rule=guardrail.name)
        if not stopping:
            return passed
        self._out.observe("guardrail_reaction", self._out.now - check.asked)
        response.tripped = True
        return Trip(response, check.item_id, stopping)

    def _failed(self, check: _Check, guardrail: GuardrailSpec, code: str, why: str) -> None:
        """Record that a guardrail could not judge, once per response: it will fail at each of the next checks, too."""
        key = (check.response.id, guardrail.name, code)
        if key not in self._reported:
            self._report(key)
            self._out.error(code, f"Guardrail {guardrail.name!r} could not judge: {why}", "guardrail")
            observe_failure(self._out, guardrail, code)

    def _report(self, what: tuple[str, str, str]) -> None:
        self._reported[what] = None
        trim(self._reported, REMEMBERED)
