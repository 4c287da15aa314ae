"""One delivery of a tool call, and everything that a worker writes about it: claim, signs of life, result, answer."""

import time
from collections.abc import Callable
from typing import Any, Final

from voicebus.adapters.redis.dispatch import new_entry
from voicebus.adapters.redis.heartbeat import living
from voicebus.adapters.redis.membership import Membership
from voicebus.adapters.redis.scripts import CLAIM, FINISH, RENEW
from voicebus.agents.tools.invoke import ToolOutcome
from voicebus.contracts.envelope import Entry
from voicebus.contracts.streams import CALL_TTL_S, INBOX_TTL_S, INLINE_RESULT_BYTES, WORKERS_GROUP
from voicebus.contracts.tools import (
    TOOL_PROGRESS,
    TOOL_RESULT,
    TOOL_STARTED,
    Outcome,
    ToolCall,
    ToolFailure,
    ToolProgress,
    ToolResult,
    ToolStarted,
)
from voicebus.errors import BusError
from voicebus.ports import Delivery, SessionRef
from voicebus.runtime.consumer import until_reached
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

# A claim whose answer took longer is asked for again: a worker that was frozen meanwhile counted as dead.
_STALE_CLAIM_S: Final = 1.5


class CallHandling:
    """One delivery of `call`, the `deliveries`-th, whose queue is `queue`; `queued_ms` is how long it lay there."""

    def __init__(self, member: Membership, entry: Entry, delivery: Delivery, call: ToolCall, queue: str) -> None:
        self.entry = entry
        self.call = call
        self.queue = queue
        self._member = member
        self._delivery = delivery
        self._key = member.keys.call(queue, entry.session, call.call_id)
        # Who waits for the call now: its session's owner may be another by its end.
        self._owner = call.reply_to, entry.epoch
        self.deliveries: int = delivery.deliveries
        self.queued_ms: int = max(0, self.waited_ms())

    @property
    def is_redelivered(self) -> bool:
        """Whether somebody was given this call before."""
        return self.deliveries > 1 or self.call.attempt > 1

    @property
    def taken_over(self) -> str | None:
        """Why this delivery was taken from another consumer; None for one that was not."""
        return self._delivery.cause

    def waited_ms(self) -> int:
        """How long the entry lay in its stream."""
        return self._member.clock.at_ms() - int(self._delivery.entry_id.partition("-")[0])

    def seconds_left(self, default: float) -> float:
        if self.entry.deadline is None:
            return default
        return max(0.0, (self.entry.deadline - self._member.clock.at_ms()) / 1000)

    async def claim(self) -> tuple[str, str]:
        """What may be done with this call, as the script `claim` says, once it is known whether its runner lives."""
        lost = {"dead": self._delivery.previous or "", "idle": "*", None: ""}[self._delivery.cause]
        deadline = "" if self.entry.deadline is None else str(self.entry.deadline)
        while True:
            arguments = (
                self._member.id, self.entry.epoch, self.call.reply_to, deadline, int(self.call.idempotent),
                CALL_TTL_S, lost,
            )  # fmt: skip
            asked = time.monotonic()
            status, detail = await self._script(CLAIM, [self._key], *arguments)
            if status == "start" and time.monotonic() - asked > _STALE_CLAIM_S:
                continue
            if status == "start" and not self.call.idempotent and not await self._is_durable():
                return "not_durable", ""
            if status != "running":
                return status, detail
            runner = self._member.keys.worker(detail)
            (alive,) = await until_reached(lambda: living(self._member.bus, [runner]))  # noqa: B023 - awaited here
            if alive:
                return status, detail
            lost = detail

    async def _is_durable(self) -> bool:
        """Whether the start of this call would be remembered through a fail-over."""
        return await until_reached(lambda: self._member.replicas.have(self._key))

    async def again(self, attempt: int) -> int | None:
        """Claim the call for a further attempt; its number, None where it may not start once more."""
        status, detail = await self.claim()
        if status != "start":
            return None
        attempt = max(attempt, int(detail or 1))
        self.say_started(attempt)
        return attempt

    async def starts(self) -> list[dict[str, str | int]]:
        """Who started this call, and when (ms), as its record tells."""
        history = await until_reached(lambda: self._member.bus.call("HGET", self._key, "history")) or ""
        lines = (line.rpartition(" ") for line in history.splitlines())
        return [{"worker": worker, "at": int(at)} for worker, _, at in lines]

    def say_started(self, attempt: int) -> None:
        started = ToolStarted(call_id=self.call.call_id, worker=self._member.id, attempt=attempt)
        self._member.outbox.send(self.call.reply_to, self._reply(TOOL_STARTED, started), ttl_s=INBOX_TTL_S)

    def say_progress(self, text: str) -> None:
        progress = ToolProgress(call_id=self.call.call_id, text=text)
        reply_to, epoch = self._owner
        self._member.outbox.send(reply_to, self._reply(TOOL_PROGRESS, progress, epoch), ttl_s=INBOX_TTL_S)

    def follow(self, again: "CallHandling") -> None:
        """The call, which runs, was published once more, by whoever owns its session now."""
        if again.entry.epoch >= self._owner[1]:
            self._owner = again.call.reply_to, again.entry.epoch

    async def renew(self) -> None:
        try:
            await self._member.bus.script(
                RENEW, [self._key, self._delivery.stream], self._member.id, WORKERS_GROUP,
                self._delivery.entry_id, CALL_TTL_S,
            )  # fmt: skip
        except BusError as error:
            log.debug("call not renewed", error=str(error))

    async def finish(self, result: ToolResult) -> None:
        """Store the result, then answer with what is stored: an earlier one, if this call had come to an end before."""
        # The entry is acknowledged only after the answer is on its way, so that a crash here loses nothing.
        status, stored, reply_to, epoch = await self._script(
            FINISH, [self._key, self._delivery.stream],
            self._member.id, result.model_dump_json(), CALL_TTL_S, WORKERS_GROUP, "",
        )  # fmt: skip
        if status != "stored":
            result = ToolResult.model_validate_json(stored)
        await self.answer(result, int(epoch or self.entry.epoch), reply_to or self.call.reply_to)

    async def answer(self, result: ToolResult, epoch: int, reply_to: str) -> None:
        # Hardly any output has to be encoded to know that it is short enough.
        if len(result.output) > INLINE_RESULT_BYTES // 4 and len(result.output.encode()) > INLINE_RESULT_BYTES:
            result = result.model_copy(update={"output": "", "reference": self._key})
        await self._member.outbox.deliver(reply_to, self._reply(TOOL_RESULT, result, epoch), ttl_s=INBOX_TTL_S)

    def _reply(self, type_: str, message: ToolStarted | ToolProgress | ToolResult, epoch: int | None = None) -> Entry:
        session = SessionRef(self.entry.session, self.entry.epoch if epoch is None else epoch, self.entry.traceparent)
        return new_entry(session, type_, message, self._member.clock)

    async def _script(self, *arguments: Any) -> Any:
        attempt: Callable[[], Any] = lambda: self._member.bus.script(*arguments)  # noqa: E731
        return await until_reached(attempt)


def unknown_tool(call: ToolCall, queue: str) -> ToolOutcome:
    """What comes of a call of a tool that nobody has."""
    of_version = "" if call.version is None else f" of version {call.version} or newer"
    why = f"no worker of queue {queue!r} has a tool named {call.tool!r}{of_version}"
    return ToolOutcome(
        Outcome.ERROR, f"The tool {call.tool} is not available.", ToolFailure(kind="unknown_tool", message=why)
    )


def not_started(status: str, detail: str, tool: str) -> ToolOutcome:
    """What comes of a call that is not started, by the `status` and `detail` of its claim."""
    if status == "cancelled":
        return ToolOutcome(Outcome.CANCELLED, "The call was cancelled.")
    if status == "not_durable":
        failure = ToolFailure(kind="bus_not_durable", message="no replica confirmed in time that the call starts")
        return ToolOutcome(Outcome.ERROR, f"The tool {tool} was not run: it cannot be run safely just now.", failure)
    if status == "expired":
        failure = ToolFailure(kind="expired", message="the call's deadline passed before a worker could start it")
        return ToolOutcome(Outcome.EXPIRED, f"The tool {tool} was not started in time.", failure)
    failure = ToolFailure(kind="outcome_unknown", message=f"the worker that ran it is gone: {detail or 'no claim'}")
    text = f"The outcome of the tool {tool} is unknown: it was interrupted, and may or may not have taken effect."
    return ToolOutcome(Outcome.UNKNOWN, text, failure)
