"""One guardrail check on a worker: every named guardrail in parallel, verdicts to the gateway's inbox as they come.

Judging has no effect, so a check that is delivered twice is simply judged twice; the gateway drops the second verdict.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
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
from voicebus.runtime.processes import ProcessPool
from voicebus.telemetry import metrics
from voicebus.telemetry.delivered import Received
from voicebus.telemetry.logging import get_logger
from voicebus.telemetry.tracing import exemplar, trace_id
from voicebus_services.guardrail_worker.waiting import Waitlist

log = get_logger(__name__)

SERVICE: Final = "guardrail-worker"


class CheckRunner:
    """Handles the entries of the guardrail streams. `budget_s` bounds checks whose deadline is further away.

    `waitlist` has given them their turns. `processes` gives the pool for guardrails of `executor="process"`.
    """

    def __init__(
        self,
        member: Membership,
        targets: Targets,
        *,
        executor: Executor,
        budget_s: float,
        waitlist: Waitlist,
        processes: Callable[[], ProcessPool],
    ) -> None:
        self._waitlist = waitlist
        self._processes = processes
        self._member = member
        self._targets = targets
        self._executor = executor
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
            started = time.monotonic()
            with _received(entry, delivery, check).running() as told:
                judging = {name: self._judge(name, check, budget_s, entry.traceparent) for name in check.guardrails}
                results: list[GuardrailResult] = []
                unsent: list[GuardrailResult] = []
                async with aclosing(side_by_side(judging)) as judged:
                    async for some, pending in judged:
                        results += some
                        unsent += some
                        if pending and check.early:
                            await self._answer(entry, check, unsent, started, pending=pending)
                            unsent = []
                told.ended(_outcome(results), good=not any(result.error for result in results))
            stands_for = [*check.stands_for, *(() if waiting is None else waiting.stands_for)]
            await self._answer(entry, check, unsent, started, supersedes=stands_for)

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
        self, name: str, check: GuardrailCheck, budget_s: float, traceparent: str | None
    ) -> GuardrailResult:
        guardrail = self._targets.guardrails.get(name)
        if guardrail is None:
            return GuardrailResult(name=name, tripped=False, error="this worker's targets have no such guardrail")
        try:
            shared = CallContext(check.context, self._targets.context_models.get(check.agent), None)
        except UserError as error:
            return GuardrailResult(name=name, tripped=False, error=str(error))
        started = time.monotonic()
        result = await judge(
            guardrail,
            RunContextWrapper(shared.value),
            self._targets.agents.get(check.agent),
            check.text,
            final=check.final,
            timeout=budget_s,
            executor=self._executor,
            processes=self._processes,
        )
        metrics.GUARDRAIL_LATENCY.labels(rule=name).observe(time.monotonic() - started, exemplar(traceparent))
        return result


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
