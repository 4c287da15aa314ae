"""When output guardrails judge what is said, and what their verdicts amount to (parity 0.1, J).

Text is judged cumulatively per item: each time it has grown by a guardrail's debounce, and once more when it is final.
Guardrails of one debounce fall due together, and all that are due at one delta go out as one check. What a trip stops
is not decided here.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any, Final

from voicebus.contracts.guardrails import GuardrailResult, GuardrailVerdict
from voicebus.contracts.journal import EventType
from voicebus.engine.config import GuardrailMode, GuardrailSpec
from voicebus.engine.outbox import Outbox
from voicebus.engine.outputs import DispatchCheck
from voicebus.engine.turns import Response

CHECK_TIMER: Final = "check:"

# Unanswered checks beyond which those go that a newer one covers; what is left of the others ends with its timer.
_MAX_CHECKS: Final = 256


@dataclass(frozen=True, slots=True)
class Trip:
    """Guardrails of mode `interrupt` forbid what `response` says."""

    response: Response
    item_id: str
    names: tuple[str, ...]


@dataclass(slots=True, eq=False)
class _Watch:
    """An item that is being said. `runs` counts the checks by debounce length."""

    runs: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Check:
    id: str
    response: Response
    item_id: str
    guardrails: tuple[GuardrailSpec, ...]
    text: str
    due: float


class Guard:
    """Dispatches checks and reads verdicts; `text` and `final` after each change of an item's text."""

    def __init__(self, out: Outbox, timeout: float) -> None:
        self._out = out
        self._timeout = timeout
        self._watched: dict[tuple[str, str], _Watch] = {}
        self._checks: dict[str, _Check] = {}
        self._reported: set[tuple[str, str, str]] = set()

    def text(self, response: Response, item_id: str, text: str) -> None:
        """The item's text has grown to `text`."""
        if not response.agent.guardrails or response.tripped:
            return
        watch = self._watched.setdefault((response.id, item_id), _Watch())
        due = set()
        for debounce in {guardrail.debounce for guardrail in response.agent.guardrails}:
            runs = watch.runs.get(debounce, 0)
            if debounce >= 0 and len(text) >= (runs + 1) * debounce:
                watch.runs[debounce] = runs + 1
                due.add(debounce)
        if due:
            chosen = tuple(guardrail for guardrail in response.agent.guardrails if guardrail.debounce in due)
            self._dispatch(response, item_id, chosen, text, final=False)

    def final(self, response: Response, item_id: str, text: str) -> None:
        """Nothing will be added to the item's text, or to one of its parts."""
        if response.agent.guardrails and text and not response.tripped:
            self._dispatch(response, item_id, response.agent.guardrails, text, final=True)

    def response_ended(self, response: Response) -> None:
        """The debounce counters of a response end with it (parity 106); its checks may still be answered."""
        for key in [key for key in self._watched if key[0] == response.id]:
            del self._watched[key]

    def verdict(self, verdict: GuardrailVerdict) -> Trip | None:
        """An answer came; returns what has to be stopped."""
        check = self._checks.pop(verdict.check_id, None)
        if check is None:
            self._out.ignore(f"late verdict on check {verdict.check_id}")
            return None
        self._out.cancel_timer(CHECK_TIMER + check.id)
        if not any(result.error for result in verdict.results):
            # Until then each older check keeps its time limit: an agent that talks on must not put it off for ever.
            self._forget_covered(check)
        results = {result.name: result for result in verdict.results}
        missing = "the worker's verdict does not name it"
        findings = []
        for guardrail in check.guardrails:
            result = results.get(guardrail.name) or GuardrailResult(name=guardrail.name, tripped=False, error=missing)
            tripped, info = result.tripped, result.info
            if result.error is not None:
                self._failed(check, guardrail, "guardrail_failed", result.error)
                tripped, info = guardrail.on_error == "closed", result.error
            if tripped:
                findings.append((guardrail, info))
        return self._judge(check, findings)

    def overdue(self, check_id: str) -> Trip | None:
        """No answer came in time; each guardrail's policy for that decides."""
        check = self._checks.pop(check_id, None)
        if check is None:
            return None
        findings: list[tuple[GuardrailSpec, Any]] = []
        for guardrail in check.guardrails:
            why = f"no verdict within {self._timeout:g} s"
            self._failed(check, guardrail, "guardrail_unavailable", why)
            if guardrail.on_unavailable == "closed":
                findings.append((guardrail, why))
        return self._judge(check, findings)

    def _dispatch(
        self, response: Response, item_id: str, guardrails: tuple[GuardrailSpec, ...], text: str, *, final: bool
    ) -> None:
        check = _Check(self._out.mint(), response, item_id, guardrails, text, self._out.now + self._timeout)
        if len(self._checks) >= _MAX_CHECKS:
            # No verdict covers them yet, so the newer check stands in for them from the earliest of their limits on.
            check = replace(check, due=min(check.due, self._forget_covered(check)))
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
            )
        )
        self._out.set_timer(CHECK_TIMER + check.id, max(0.0, check.due - self._out.now))

    def _forget_covered(self, newer: _Check) -> float:
        """Forget the checks of the same item that `newer` makes needless, as it judges all that they did and more.

        Returns when the first of them was due (s); infinity where there is none.
        """
        due = math.inf
        names = {guardrail.name for guardrail in newer.guardrails}
        for older in list(self._checks.values()):
            covered = older.item_id == newer.item_id and len(older.text) <= len(newer.text)
            if covered and {guardrail.name for guardrail in older.guardrails} <= names:
                due = min(due, older.due)
                del self._checks[older.id]
                self._out.cancel_timer(CHECK_TIMER + older.id)
        return due

    def _judge(self, check: _Check, findings: list[tuple[GuardrailSpec, Any]]) -> Trip | None:
        """Record what tripped, each guardrail once per response, and stop a response at most once (parity 110)."""
        response = check.response
        fresh = [
            (guardrail, info)
            for guardrail, info in findings
            if (response.id, guardrail.name, "tripped") not in self._reported
        ]
        stopping = [guardrail.name for guardrail, _ in fresh if guardrail.mode is not GuardrailMode.OBSERVE]
        if response.tripped or not fresh:
            return None
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
        )
        for guardrail, _ in fresh:
            self._out.observe("guardrail_trip", rule=guardrail.name)
        if not stopping:
            return None
        response.tripped = True
        return Trip(response, check.item_id, tuple(stopping))

    def _failed(self, check: _Check, guardrail: GuardrailSpec, code: str, why: str) -> None:
        """Record that a guardrail could not judge, once per response: it will fail at each of the next checks, too."""
        key = (check.response.id, guardrail.name, code)
        if key not in self._reported:
            self._reported.add(key)
            self._out.error(code, f"Guardrail {guardrail.name!r} could not judge: {why}", "guardrail")
