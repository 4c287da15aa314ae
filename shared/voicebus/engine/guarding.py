"""When output guardrails judge what is said, and what their verdicts amount to (parity 0.1, J).

Text is judged cumulatively per item: each time it has grown by a guardrail's debounce, and once more when it is final.
Guardrails of one debounce fall due together, and all that are due at one delta go out as one check. What a trip stops
is not decided here, nor when held text is judged (`holding.py`).
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

from voicebus.contracts.guardrails import GuardrailResult, GuardrailVerdict
from voicebus.contracts.journal import EventType
from voicebus.engine.config import GuardrailMode, GuardrailSpec
from voicebus.engine.outbox import Outbox
from voicebus.engine.outputs import DispatchCheck
from voicebus.engine.responses import Response

CHECK_TIMER: Final = "check:"

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
    """What one guardrail has found, or `error`, why it could not judge."""

    guardrail: GuardrailSpec
    tripped: bool
    info: Any
    error: str | None


def read(verdict: GuardrailVerdict, guardrails: tuple[GuardrailSpec, ...]) -> Iterator[Finding]:
    """The findings of `guardrails`, those that could not judge by their policy `on_error`."""
    results = {result.name: result for result in verdict.results}
    missing = "the worker's verdict does not name it"
    for guardrail in guardrails:
        result = results.get(guardrail.name) or GuardrailResult(name=guardrail.name, tripped=False, error=missing)
        if result.error is None:
            yield Finding(guardrail, result.tripped, result.info, None)
        else:
            yield Finding(guardrail, guardrail.on_error == "closed", result.error, result.error)


def observe_failure(out: Outbox, guardrail: GuardrailSpec, code: str) -> None:
    """Count a guardrail that could not judge, and what its policy made of that."""
    failed = code == "guardrail_failed"
    policy = guardrail.on_error if failed else guardrail.on_unavailable
    out.observe("guardrail_unjudged", rule=guardrail.name, cause="error" if failed else "unavailable", policy=policy)


@dataclass(slots=True, eq=False)
class _Watch:
    """An item that is being said. `runs` counts the checks by debounce length; none is due before `due` characters."""

    runs: dict[int, int] = field(default_factory=dict)
    due: float = 0


@dataclass(frozen=True, slots=True)
class _Check:
    id: str
    response: Response
    item_id: str
    guardrails: tuple[GuardrailSpec, ...]
    text: str
    asked: float
    due: float
    final: bool = False

    @property
    def releases(self) -> bool:
        """Whether something that is held may be heard once it has passed."""
        agent = self.response.agent
        if self.final or agent.hold_window_ms is None:
            return self.final and agent.holds
        return agent.holding <= {guardrail.name for guardrail in self.guardrails}


class Guard:
    """Dispatches checks and reads verdicts; `text` and `final` after each change of an item's text.

    What is held says nothing before it was judged, so that of such responses it hears by `held_text` and `held_final`.
    """

    def __init__(self, out: Outbox, timeout: float) -> None:
        self._out = out
        self._timeout = timeout
        self._watched: dict[tuple[str, str], _Watch] = {}
        self._checks: dict[str, _Check] = {}
        self._reported: set[tuple[str, str, str]] = set()

    def text(self, response: Response, item_id: str, text: str) -> None:
        """The item's text has grown to `text`."""
        if not response.agent.holds:
            self.held_text(response, item_id, text)

    def held_text(self, response: Response, item_id: str, text: str) -> None:
        """As `text`, before anybody may know it."""
        if not response.agent.guardrails or response.tripped:
            return
        watch = self._watched.get((response.id, item_id))
        if watch is None:
            watch = self._watched[response.id, item_id] = _Watch()
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
        """Nothing will be added to the item's text, or to one of its parts."""
        if not response.agent.holds:
            self.held_final(response, item_id, text)

    def held_final(self, response: Response, item_id: str, text: str) -> None:
        """As `final`, before anybody may know it."""
        if response.agent.guardrails and text and not response.tripped:
            self._dispatch(response, item_id, response.agent.guardrails, text, final=True)

    def response_ended(self, response: Response) -> None:
        """The debounce counters of a response end with it (parity 106); its checks may still be answered."""
        for key in [key for key in self._watched if key[0] == response.id]:
            del self._watched[key]

    def verdict(self, verdict: GuardrailVerdict) -> Trip | Passed | None:
        """An answer came; returns what has to be stopped, or what may be heard now."""
        check = self._checks.pop(verdict.check_id, None)
        if check is None:
            self._out.ignore(f"late verdict on check {verdict.check_id}")
            return None
        self._out.cancel_timer(CHECK_TIMER + check.id)
        self._forget(older for older in map(self._checks.get, verdict.supersedes) if older is not None)
        if not any(result.error for result in verdict.results):
            # Until then each older check keeps its time limit: an agent that talks on must not put it off for ever.
            self._forget_covered(check)
        findings = list(read(verdict, check.guardrails))
        for finding in findings:
            if finding.error is not None:
                self._failed(check, finding.guardrail, "guardrail_failed", finding.error)
        return self._judge(check, [(finding.guardrail, finding.info) for finding in findings if finding.tripped])

    def overdue(self, check_id: str) -> Trip | Passed | None:
        """No answer came in time; each guardrail's policy for that decides."""
        check = self._checks.pop(check_id, None)
        return None if check is None else self._unavailable(check, f"no verdict within {self._timeout:g} s")

    def refused(self, check_id: str, why: str) -> Trip | Passed | None:
        """As `overdue`, at once: nobody answers now."""
        check = self._checks.pop(check_id, None)
        if check is None:
            return None
        self._out.cancel_timer(CHECK_TIMER + check_id)
        return self._unavailable(check, why)

    def unjudged(self, response: Response, item_id: str, why: str) -> Trip | None:
        """The item cannot be judged by anybody; each holding guardrail's policy for that decides."""
        holding = tuple(guardrail for guardrail in response.agent.guardrails if guardrail.mode is GuardrailMode.HOLD)
        found = self._unavailable(_Check("", response, item_id, holding, "", self._out.now, self._out.now), why)
        return found if isinstance(found, Trip) else None

    def _unavailable(self, check: _Check, why: str) -> Trip | Passed | None:
        findings: list[tuple[GuardrailSpec, Any]] = []
        for guardrail in check.guardrails:
            self._failed(check, guardrail, "guardrail_unavailable", why)
            if guardrail.on_unavailable == "closed":
                findings.append((guardrail, why))
        return self._judge(check, findings)

    def _dispatch(
        self, response: Response, item_id: str, guardrails: tuple[GuardrailSpec, ...], text: str, *, final: bool
    ) -> None:
        now = self._out.now
        check = _Check(self._out.mint(), response, item_id, guardrails, text, now, now + self._timeout, final)
        if len(self._checks) >= _MAX_CHECKS:
            # No verdict covers them yet, so the newer check stands in for them from the earliest of their limits on.
            check = replace(check, due=min([check.due, *(older.due for older in self._forget_covered(check))]))
        self._checks[check.id] = check
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
            )
        )
        self._out.set_timer(CHECK_TIMER + check.id, max(0.0, check.due - now))

    def _forget_covered(self, newer: _Check) -> list[_Check]:
        """Forget the checks of the same item that `newer` makes needless, as it judges all that they did and more."""
        names = {guardrail.name for guardrail in newer.guardrails}
        return self._forget(
            older
            for older in self._checks.values()
            if older.item_id == newer.item_id
            and len(older.text) <= len(newer.text)
            and {guardrail.name for guardrail in older.guardrails} <= names
            # A rule may judge the last word only where no more will come.
            and (newer.final or not older.final)
        )

    def _forget(self, checks: Iterable[_Check]) -> list[_Check]:
        """These are not waited for any more; returns them."""
        forgotten = list(checks)
        for check in forgotten:
            del self._checks[check.id]
            self._out.cancel_timer(CHECK_TIMER + check.id)
        return forgotten

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
        self._reported.update((response.id, guardrail.name, "tripped") for guardrail, _ in fresh)
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
            self._reported.add(key)
            self._out.error(code, f"Guardrail {guardrail.name!r} could not judge: {why}", "guardrail")
            observe_failure(self._out, guardrail, code)
