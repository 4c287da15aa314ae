"""One delivery of a tool call, and everything that a worker writes about it: claim, signs of life, result, answer."""

import asyncio
import time
from typing import Annotated, Final

import msgspec
from msgspec.structs import replace
from ulid_transform import ulid_now

from voicebus.adapters.redis.client import is_cross_slot
from voicebus.adapters.redis.heartbeat import living
from voicebus.adapters.redis.membership import Membership
from voicebus.adapters.redis.scripts import CLAIM, CONCLUDE, FINISH, RELEASE, RENEW
from voicebus.agents.tools.starts import Starts
from voicebus.contracts.envelope import Entry, Sealed
from voicebus.contracts.streams import CALL_TTL_S, CONTROL_TTL_S, INBOX_TTL_S, INLINE_RESULT_BYTES, WORKERS_GROUP
from voicebus.contracts.tools import (
    TOOL_FOLLOW,
    TOOL_PROGRESS,
    TOOL_RESULT,
    TOOL_STARTED,
    Outcome,
    ToolCall,
    ToolFailure,
    ToolFollow,
    ToolProgress,
    ToolResult,
    ToolStarted,
)
from voicebus.errors import BusError, ContractError
from voicebus.ports import Delivery
from voicebus.runtime.consumer import until_reached
from voicebus.telemetry.delivered import Received
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

# A claim whose answer took longer is asked for again: a worker that was frozen meanwhile counted as dead.
OLD_CLAIM_S: Final = 1.5

# How soon a runner of which nothing is heard is asked about again.
_AGAIN_S: Final = 0.25

# The field of a call's record that names the span of the attempt that runs.
_TRACE: Final = "trace"

# So many characters of a result as JSON are short enough, whatever they are; hardly any has more.
_SURELY_INLINE: Final = INLINE_RESULT_BYTES // 4


class Ending(msgspec.Struct, frozen=True, gc=False):
    """How a call ended, and where that belongs: `text` is its `ToolResult` as JSON, kept in `record`.

    It came as the entry `entry_id` of `stream`, which is '' where that is not to be acknowledged with the answer.
    """

    record: str
    stream: str
    session: str
    epoch: int
    traceparent: str | None
    reply_to: str
    text: str
    entry_id: str = ""


class _Readable(msgspec.Struct):
    """What of a call's `data` says where its answer belongs."""

    reply_to: Annotated[str, msgspec.Meta(min_length=1)]
    call_id: str


_READABLE: Final = msgspec.json.Decoder(_Readable)


class CallHandling:
    """One delivery of `call`, the `deliveries`-th, whose queue is `queue`; `queued_ms` is how long it lay there."""

    def __init__(
        self, member: Membership, starts: Starts, entry: Entry, delivery: Delivery, call: ToolCall, queue: str
    ) -> None:
        self.entry = entry
        self.call = call
        self.queue = queue
        self._member = member
        self._delivery = delivery
        self._key = member.keys.call(queue, entry.session, call.call_id)
        # Who waits for the call now: its session's owner may be another by its end.
        self._owner = call.reply_to, entry.epoch
        self._starts = starts
        self._attempt = 1
        self._queued_at_ms = int(delivery.entry_id.partition("-")[0])
        # Since when the call is claimed, where it was as it was delivered; None once that has been asked.
        self._claimed_at = delivery.claimed_at
        # Done once what it last told of its progress is sent.
        self._progress: asyncio.Future[None] | None = None
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
        return self._member.clock.at_ms() - self._queued_at_ms

    def seconds_left(self, default: float) -> float:
        if self.entry.deadline is None:
            return default
        return max(0.0, (self.entry.deadline - self._member.clock.at_ms()) / 1000)

    async def claim(self) -> tuple[str, str]:
        """What may be done with this call, as the script `claim` says, once it is known whether its runner lives."""
        if await self._is_claimed():
            return await self._durably("1")
        cause = self._delivery.cause
        lost = "" if cause is None else "*" if cause == "idle" else self._delivery.previous or ""
        deadline = "" if self.entry.deadline is None else str(self.entry.deadline)
        while True:
            arguments = (
                self._member.id, self.entry.epoch, self.call.reply_to, deadline, int(self.call.idempotent),
                CALL_TTL_S, lost,
            )  # fmt: skip
            asked = time.monotonic()
            status, detail = await until_reached(self._member.bus.script, CLAIM, [self._key], *arguments)
            if status == "start" and time.monotonic() - asked > OLD_CLAIM_S:
                continue
            if status == "start":
                return await self._durably(detail)
            if status != "running":
                return status, detail
            runner = self._member.keys.worker(detail)
            (alive,) = await until_reached(living, self._member.bus, [runner])
            if alive:
                return status, detail
            if await until_reached(self._member.tells_dead, runner):
                lost = detail
            else:  # it may be Redis that stood still: then it is heard of soon
                await asyncio.sleep(_AGAIN_S)

    async def _is_claimed(self) -> bool:
        """Whether the call was claimed as it was delivered, just now; once, as a further attempt is another start."""
        claimed_at = await self._claimed_since()
        return claimed_at is not None and abs(self._member.clock.at_ms() - claimed_at) < OLD_CLAIM_S * 1000

    async def _claimed_since(self) -> int | None:
        claimed_at, self._claimed_at = self._claimed_at, None
        return None if claimed_at is None else await claimed_at

    async def _durably(self, attempt: str) -> tuple[str, str]:
        """The call may start, for the n-th time, unless its start would not be remembered through a fail-over."""
        if not self.call.idempotent and not await until_reached(self._member.replicas.have, self._key):
            return "not_durable", ""
        return "start", attempt

    async def release(self) -> None:
        """The call is for another worker: no claim of ours is to keep that one from it."""
        if await self._claimed_since() is not None:
            await until_reached(self._member.bus.script, RELEASE, [self._key], self._member.id)

    async def again(self, attempt: int) -> int | None:
        """Claim the call for a further attempt; its number, None where it may not start once more."""
        status, detail = await self.claim()
        if status != "start":
            return None
        self._tell_now()
        self._attempt = max(attempt, int(detail or 1))
        self._tell_started()
        return self._attempt

    async def received(self, attempt: int) -> Received:
        """The span of the wait that is over now. The call's record names it, for an attempt after this one to link to;
        where that cannot be written, or read, the call runs all the same.
        """
        bus = self._member.bus

        async def named(*command: str) -> str | None:
            try:
                answer: str | None = await bus.call(*command)
            except BusError as error:
                log.debug("the call's record does not name its span", error=str(error))
                return None
            return answer

        received = Received(
            f"tool {self.call.tool}",
            self.entry.traceparent,
            queued_at_ms=self._queued_at_ms,
            redelivered=self.is_redelivered,
            earlier=await named("HGET", self._key, _TRACE) if self.is_redelivered else None,
            attributes={
                "voicebus.tool": self.call.tool,
                "voicebus.queue": self.queue,
                "voicebus.call": self.call.call_id,
                "voicebus.attempt": attempt,
            },
        )
        if received.traceparent is not None:
            await named("HSET", self._key, _TRACE, received.traceparent)
        return received

    async def starts(self) -> list[dict[str, str | int]]:
        """Who started this call, and when (ms), as its record tells."""
        history = await until_reached(self._member.bus.call, "HGET", self._key, "history") or ""
        lines = (line.rpartition(" ") for line in history.splitlines())
        return [{"worker": worker, "at": int(at)} for worker, _, at in lines]

    def say_started(self, attempt: int) -> None:
        """Tell the call's owner soon that it runs here, unless it ends before."""
        self._attempt = attempt
        self._starts.begun(self._tell_started)

    def _tell_started(self) -> None:
        started = ToolStarted(call_id=self.call.call_id, worker=self._member.id, attempt=self._attempt)
        self._member.outbox.send(self.call.reply_to, self._reply(TOOL_STARTED, started), ttl_s=INBOX_TTL_S)

    def _tell_now(self) -> None:
        """What was to be told soon comes before anything else that is told of the call."""
        if self._starts.ended(self._tell_started):
            self._tell_started()

    def ended(self) -> None:
        """The call runs no more: that it does is told no more."""
        self._starts.ended(self._tell_started)

    def say_progress(self, text: str) -> None:
        self._tell_now()
        progress = ToolProgress(call_id=self.call.call_id, text=text)
        reply_to, epoch = self._owner
        reply = self._reply(TOOL_PROGRESS, progress, epoch)
        self._progress = self._member.outbox.deliver(reply_to, reply, ttl_s=INBOX_TTL_S)

    def follow(self, reply_to: str, epoch: int) -> None:
        """The call, which runs, was published once more, by whoever owns its session now."""
        if epoch >= self._owner[1]:
            self._owner = reply_to, epoch

    async def tell(self, runner: str) -> None:
        """Tell the worker that runs the call who owns its session now."""
        bus, keys = self._member.bus, self._member.keys
        if await until_reached(bus.call, "HGET", keys.worker(runner), "follow"):
            told = self._reply(TOOL_FOLLOW, ToolFollow(call_id=self.call.call_id, reply_to=self.call.reply_to))
            await self._member.outbox.deliver(keys.control(runner), told, ttl_s=CONTROL_TTL_S)

    async def renew(self) -> None:
        try:
            await self._member.bus.script(
                RENEW, [self._key, self._delivery.stream], self._member.id, WORKERS_GROUP,
                self._delivery.entry_id, CALL_TTL_S,
            )  # fmt: skip
        except BusError as error:
            log.debug("call not renewed", error=str(error))

    async def finish(self, result: ToolResult, *, acknowledging: bool = True) -> tuple[Ending, bool]:
        """Store the result, then answer with what is stored: an earlier one, if this call had come to an end before.

        Returns what `finished` does that once more with, and whether the entry is acknowledged by now.
        """
        if self._progress is not None:
            await self._progress  # it comes before the result, which goes another way
        ending = self._ending(result)
        entry_id = self._delivery.entry_id if acknowledging else ""
        return ending, await finished(self._member, replace(ending, entry_id=entry_id))

    async def answer(self, text: str) -> None:
        """Answer with the result that was stored before, as JSON `text`."""
        await answered(self._member, self._ending(ToolResult.model_validate_json(text)))

    def _ending(self, result: ToolResult) -> Ending:
        return Ending(
            self._key, self._delivery.stream, self.entry.session, self.entry.epoch, self.entry.traceparent,
            self.call.reply_to, result.model_dump_json(),
        )  # fmt: skip

    def _reply(self, type_: str, message: ToolStarted | ToolProgress | ToolFollow, epoch: int | None = None) -> Sealed:
        epoch = self.entry.epoch if epoch is None else epoch
        data, now = message.model_dump_json(), self._member.clock.at_ms()
        return Sealed(
            ulid_now(), type_, self.entry.session, epoch, now, data, traceparent=self.entry.traceparent
        )  # fmt: skip


async def finished(member: Membership, ending: Ending) -> bool:
    """Store how a call ended, then answer with what is stored; whether its entry was acknowledged in the same step."""
    # The entry is acknowledged only after the answer is on its way, so that a crash here loses nothing.
    if member.bus.joins_tags and len(ending.text) <= _SURELY_INLINE:
        status, stored, reply_to, epoch = await until_reached(_conclude, member, ending)
        if status == "answered":
            return ending.entry_id != ""
    else:
        status, stored, reply_to, epoch = await until_reached(_store, member, ending)
    text = ToolResult.model_validate_json(stored).model_dump_json() if status == "duplicate" else ending.text
    owned = {"reply_to": reply_to or ending.reply_to, "epoch": int(epoch or ending.epoch)}
    await answered(member, replace(ending, text=text, **owned))
    return False


async def _conclude(member: Membership, ending: Ending) -> list[str]:
    """Store and answer in one step, where Redis is one server: half the time that both take behind each other."""
    arguments = (
        member.id, ending.text, CALL_TTL_S, WORKERS_GROUP, ending.entry_id, ending.reply_to, ending.epoch, INBOX_TTL_S,
        ulid_now(), ending.session, member.clock.at_ms(), ending.traceparent or "",
    )  # fmt: skip
    try:
        replies: list[str] = await member.bus.script(
            CONCLUDE, [ending.record, ending.stream, ending.reply_to], *arguments
        )
    except BusError as error:
        if not is_cross_slot(error):
            raise
        member.bus.joins_tags = False  # it is a cluster behind one address
        return await _store(member, ending)
    return replies


async def _store(member: Membership, ending: Ending) -> list[str]:
    replies: list[str] = await member.bus.script(
        FINISH, [ending.record, ending.stream], member.id, ending.text, CALL_TTL_S, WORKERS_GROUP, ""
    )
    return replies


async def answered(member: Membership, ending: Ending) -> None:
    """Tell whoever waits for the call how it ended."""
    text = ending.text
    if len(text) > _SURELY_INLINE:
        result = ToolResult.model_validate_json(text)
        if len(result.output.encode()) > INLINE_RESULT_BYTES:
            text = result.model_copy(update={"output": "", "reference": ending.record}).model_dump_json()
    reply = Sealed(
        ulid_now(), TOOL_RESULT, ending.session, ending.epoch, member.clock.at_ms(), text,
        traceparent=ending.traceparent,
    )  # fmt: skip
    await member.outbox.deliver(ending.reply_to, reply, ttl_s=INBOX_TTL_S)


async def refuse(member: Membership, delivery: Delivery, why: str) -> None:
    """Answer what cannot be read as a call, if at least who waits for which call can be; once, and kept nowhere."""
    fields = delivery.fields
    try:
        asked = _READABLE.decode(fields.get("data", ""))
        member.keys.require_reply_to(asked.reply_to)
    except (msgspec.MsgspecError, RecursionError, ContractError):
        return
    epoch = fields.get("epoch", "")
    result = ToolResult(
        call_id=asked.call_id, outcome=Outcome.ERROR, output="The tool was not run: the call could not be read.",
        error=ToolFailure(kind="malformed", message=why), worker=member.id, duration_ms=0,
    )  # fmt: skip
    ending = Ending(
        "", delivery.stream, fields.get("session", ""), int(epoch) if epoch.isascii() and epoch.isdigit() else 0,
        None, asked.reply_to, result.model_dump_json(),
    )  # fmt: skip
    await answered(member, ending)
