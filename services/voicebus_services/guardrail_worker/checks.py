"""One guardrail check on a worker: every named guardrail in parallel, verdicts to the gateway's inbox as they come.

Judging has no effect, so a check that is delivered twice is simply judged twice; the gateway drops the second verdict.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Final

import structlog

from voicebus.adapters.redis.dispatch import new_entry
from voicebus.adapters.redis.membership import Membership
from voicebus.agents.context import RunContextWrapper
from voicebus.agents.judge import judge, side_by_side
from voicebus.agents.shared_context import CallContext
from voicebus.agents.targets import Targets
from voicebus.contracts.envelope import Entry
from voicebus.contracts.guardrails import (
    GUARDRAIL_CHECK,
    GUARDRAIL_VERDICT,
    GuardrailCheck,
    GuardrailResult,
    GuardrailVerdict,
)
from voicebus.contracts.streams import INBOX_TTL_S
from voicebus.errors import ContractError, UserError
from voicebus.ports import Delivery, SessionRef
from voicebus.telemetry import metrics
from voicebus.telemetry.delivered import Received, WorkSpan
from voicebus.telemetry.logging import get_logger
from voicebus.telemetry.tracing import exemplar, trace_id
from voicebus_services.guardrail_worker.handing import Handing
from voicebus_services.guardrail_worker.lanes import Lanes, Text
from voicebus_services.guardrail_worker.waiting import Waitlist

log = get_logger(__name__)

SERVICE: Final = "guardrail-worker"

SLOW_S: Final = 0.05
"""How long a check keeps others from starting (s): what takes longer waits, mostly for somebody else."""


class CheckRunner:
    """Handles the entries of the guardrail streams. `budget_s` bounds checks whose deadline is further away.

    `waitlist` has given them their turns. One that has gone on for `SLOW_S` gives its slot to the next: `aside` hears
    of that, and what its guardrails may still take is bounded by their `lanes`.
    """

    def __init__(
        self,
        member: Membership,
        targets: Targets,
        *,
        lanes: Lanes,
        budget_s: float,
        waitlist: Waitlist,
        aside: Callable[[Delivery], None],
    ) -> None:
        self._waitlist = waitlist
        self._lanes = lanes
        self._aside = aside
        self._member = member
        self._handing = Handing(member)
        self._targets = targets
        self._budget_s = budget_s

    async def handle(self, entry: Entry, delivery: Delivery) -> None:
        """Judge, and answer.

        Raises:
            ContractError: the entry is no check, or is to be answered where no answer belongs.
        """
        if entry.type != GUARDRAIL_CHECK:
            raise ContractError(
                f"a guardrail stream holds guardrail.check, not {entry.type!r}", reason="unexpected_type"
            )
        waiting = self._waitlist.of(delivery)
        if waiting is not None and waiting.superseded:
            return
        check = GuardrailCheck.of(entry) if waiting is None else waiting.check
        self._member.keys.require_reply_to(check.reply_to)
        bound = {
            "session": entry.session,
            "tenant": check.tenant,
            "agent": check.agent,
            "trace": trace_id(entry.traceparent),
        }
        with structlog.contextvars.bound_contextvars(**bound):
            budget_s = self._budget_s
            if entry.deadline is not None:
                budget_s = min(budget_s, (entry.deadline - self._member.clock.at_ms()) / 1000)
            if budget_s <= 0:  # the gateway has decided without us, by the guardrail's declared policy
                log.warning("check came too late", check=check.check_id, stream=delivery.stream)
                return
            stood_for = () if waiting is None else waiting.stands_for
            lacks = any(self._lanes.get(name) is None for name in check.guardrails)
            if lacks and await self._handing.back(entry, delivery, check, stood_for):
                return
            started = time.monotonic()
            aside = asyncio.get_running_loop().call_later(SLOW_S, self._set_aside, delivery)
            try:
                with _received(entry, delivery, check).running() as told:
                    text = _text(entry, check, [check.check_id, *check.stands_for, *stood_for])
                    unsent, left = await self._judge_all(entry, check, text, budget_s, started, told)
            finally:
                aside.cancel()
            if unsent or not left:  # else the newer check's verdict says all
                await self._answer(entry, check, unsent, started, supersedes=text.checks[1:], pending=left)

    def _set_aside(self, delivery: Delivery) -> None:
        self._waitlist.set_aside(delivery)
        self._aside(delivery)

    async def _judge_all(
        self, entry: Entry, check: GuardrailCheck, text: Text, budget_s: float, started: float, told: WorkSpan
    ) -> tuple[list[GuardrailResult], list[str]]:
        """The results that are not told yet, and the names of those that leave it to a newer check."""
        judging = {name: self._judge(name, entry, check, text, budget_s) for name in check.guardrails}
        results: list[GuardrailResult] = []
        unsent: list[GuardrailResult] = []
        async with aclosing(side_by_side(judging)) as judged:
            async for some, pending in judged:
                found = [result for result in some if result is not None]
                results += found
                unsent += found
                if pending and check.early and unsent:
                    known = {result.name for result in results}
                    others = [name for name in check.guardrails if name not in known]
                    await self._answer(entry, check, unsent, started, pending=others)
                    unsent = []
        known = {result.name for result in results}
        left = [name for name in check.guardrails if name not in known]
        outcome = "superseded" if left and not results else _outcome(results)
        told.ended(outcome, good=not any(result.error for result in results))
        return unsent, left

    async def _answer(
        self, entry: Entry, check: GuardrailCheck, results: Sequence[GuardrailResult], started: float, **more: list[str]
    ) -> None:
        verdict = GuardrailVerdict(
            check_id=check.check_id,
            response_id=check.response_id,
            results=list(results),
            worker=self._member.id,
            duration_ms=round((time.monotonic() - started) * 1000),
            **more,
        )
        session = SessionRef(entry.session, entry.epoch, entry.traceparent)
        reply = new_entry(session, GUARDRAIL_VERDICT, verdict, self._member.clock)
        await self._member.outbox.deliver(check.reply_to, reply, ttl_s=INBOX_TTL_S)

    async def _judge(
        self, name: str, entry: Entry, check: GuardrailCheck, text: Text, budget_s: float
    ) -> GuardrailResult | None:
        """None where a newer check of the answer stands for this one."""
        lane = self._lanes.get(name)
        if lane is None:
            return GuardrailResult(name=name, tripped=False, error="this worker's targets have no such guardrail")
        try:
            shared = CallContext(check.context, self._targets.context_models.get(check.agent), None)
        except UserError as error:
            return GuardrailResult(name=name, tripped=False, error=str(error))

        async def run(seconds: float) -> GuardrailResult:
            started = time.monotonic()
            result = await judge(
                lane.guardrail,
                RunContextWrapper(shared.value),
                self._targets.agents.get(check.agent),
                check.text,
                final=check.final,
                timeout=seconds,
                executor=lane.executor,
                processes=lambda: lane.processes,
            )
            metrics.GUARDRAIL_LATENCY.labels(rule=name).observe(time.monotonic() - started, exemplar(entry.traceparent))
            return result

        return await lane.judge(text, budget_s, run)


def _text(entry: Entry, check: GuardrailCheck, checks: list[str]) -> Text:
    # Of a gateway that takes no verdict on some, each check has one on all.
    answer = (entry.session, check.response_id, check.item_id) if check.early else object()
    return Text(answer, len(check.text), check.final, frozenset(check.guardrails), checks)


def _received(entry: Entry, delivery: Delivery, check: GuardrailCheck) -> Received:
    """The span of the check's wait, and below it that of its run."""
    return Received(
        "guardrail check",
        entry.traceparent,
        queued_at_ms=int(delivery.entry_id.partition("-")[0]),
        redelivered=delivery.deliveries > 1,
        attributes={
            "voicebus.guardrails": ",".join(check.guardrails),
            "voicebus.stage": check.stage,
            "voicebus.tenant": check.tenant or "",
        },
    )


def _outcome(results: Sequence[GuardrailResult]) -> str:
    if any(result.tripped for result in results):
        return "tripped"
    return "error" if any(result.error is not None for result in results) else "passed"
