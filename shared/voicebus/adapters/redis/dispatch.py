"""Tool calls and cancels from a gateway to the workers (contract section 2)."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from ulid_transform import ulid_now

from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.outbox import Outbox
from voicebus.adapters.redis.refusals import FollowsCalls, Refuses
from voicebus.adapters.redis.scripts import CANCEL
from voicebus.contracts.envelope import Entry, Message
from voicebus.contracts.streams import CALL_TTL_S, CONTROL_TTL_S, Keys
from voicebus.contracts.tools import (
    TOOL_CALL,
    TOOL_CANCEL,
    TOOL_RESULT,
    Caller,
    Outcome,
    ToolCall,
    ToolCancel,
    ToolFailure,
    ToolResult,
)
from voicebus.engine.outputs import CancelTool, DispatchTool
from voicebus.errors import BusError
from voicebus.ports import Clock, SessionRef
from voicebus.runtime.refusing import Refusal, unreachable
from voicebus.telemetry import metrics
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

# After this a cancel that Redis did not take is given up: the call's own deadline is near or past.
_CANCEL_ATTEMPTS: Final = 3


def new_entry(session: SessionRef, type_: str, message: Message, clock: Clock, *, deadline: int | None = None) -> Entry:
    """An entry under a new message id, at the server's time now."""
    return Entry(
        id=ulid_now(),
        type=type_,
        session=session.id,
        epoch=session.epoch,
        at=clock.at_ms(),
        deadline=deadline,
        traceparent=session.traceparent,
        data=message.model_dump(mode="json"),
    )


class RedisToolDispatch:
    """Implements `voicebus.ports.ToolDispatch`. Answers come to `reply_to`, the gateway's inbox stream.

    `answer` brings the session the answer to a call that one of `refusing`, or Redis, keeps from being sent. `after`
    has a call sent once the session's state tells of it: so an owner that is none any more, and does not know it yet,
    sends none, and the next owner knows of every call that may have started. `following` hears of what is sent, and
    cancelled.
    """

    def __init__(
        self,
        bus: RedisConnection,
        outbox: Outbox,
        clock: Clock,
        keys: Keys,
        *,
        reply_to: str,
        refusing: Sequence[Refuses] = (),
        answer: Callable[[Entry], None] | None = None,
        after: Callable[[SessionRef, Callable[[], None]], None] | None = None,
        following: FollowsCalls | None = None,
    ) -> None:
        self._after = after
        self._following = following
        self._refusing = refusing
        self._answer = answer
        self._bus = bus
        self._outbox = outbox
        self._clock = clock
        self._keys = keys
        self._reply_to = reply_to
        self._cancelling: set[asyncio.Task[None]] = set()

    def dispatch(self, session: SessionRef, call: DispatchTool) -> None:
        """Send a call to its queue, unless it is refused: then it is answered at once."""
        for one in self._refusing:
            refusal = one.refusal(call)
            if refusal is not None and self._answer is not None:
                self._refuse(session, call, refusal, self._answer)
                return
        message = ToolCall(
            call_id=call.call_id,
            tool=call.tool,
            arguments=call.arguments,
            agent=call.agent,
            reply_to=self._reply_to,
            idempotent=call.idempotent,
            vetted=call.vetted,
            version=call.version,
            context=dict(call.context or {}),
            caller=None if call.caller is None else Caller(tenant=call.caller[0], subject=call.caller[1]),
        )
        deadline = self._clock.at_ms() + call.timeout_ms
        entry = new_entry(session, TOOL_CALL, message, self._clock, deadline=deadline)

        def refused(why: str) -> None:
            if self._following is not None:
                self._following.ended(session.id, call.call_id)
            if self._answer is not None:
                self._refuse(session, call, unreachable(call.tool, why), self._answer)

        def send() -> None:
            dead = self._keys.dead(call.queue)
            self._outbox.send(self._keys.tools(call.queue), entry, dead=dead, refused=refused)
            if self._following is not None:
                self._following.sent(session, call)

        if self._after is None:
            send()
        else:
            self._after(session, send)

    def _refuse(
        self, session: SessionRef, call: DispatchTool, refusal: Refusal, answer: Callable[[Entry], None]
    ) -> None:
        metrics.TOOL_REFUSED.labels(tool=call.tool, reason=refusal.kind).inc()
        log.info("tool call refused", session=session.id, call=call.call_id, tool=call.tool, why=refusal.message)
        failure = ToolFailure(kind=refusal.kind, message=refusal.message)
        result = ToolResult(
            call_id=call.call_id, outcome=Outcome.ERROR, output=refusal.output, error=failure, worker="gateway",
            duration_ms=0,
        )  # fmt: skip
        entry = new_entry(session, TOOL_RESULT, result, self._clock)
        # Not while the session's outputs are being performed: an answer is an input.
        asyncio.get_running_loop().call_soon(answer, entry)

    def cancel(self, session: SessionRef, cancel: CancelTool) -> None:
        """Keep a call from starting, and stop it where it runs."""
        if self._following is not None:
            self._following.ended(session.id, cancel.call_id)
        if cancel.worker is not None:
            self._tell(session, cancel, cancel.worker)
        task = asyncio.create_task(self._mark(session, cancel), name=f"cancel {cancel.call_id}")
        self._cancelling.add(task)
        task.add_done_callback(self._cancelling.discard)

    async def aclose(self, timeout_s: float = 1.0) -> None:
        """See the cancels that are under way to their ends, within `timeout_s`: a call whose session ended last would
        run on for all of its time else. What their workers are to be told is in the outbox then.
        """
        if self._cancelling:
            await asyncio.wait(self._cancelling, timeout=timeout_s)
        for task in self._cancelling:
            task.cancel()
        await asyncio.gather(*self._cancelling, return_exceptions=True)

    async def _mark(self, session: SessionRef, cancel: CancelTool) -> None:
        key = self._keys.call(cancel.queue, session.id, cancel.call_id)
        for attempt in range(1, _CANCEL_ATTEMPTS + 1):
            try:
                runner = await self._bus.script(CANCEL, [key], cancel.reason, CALL_TTL_S)
            except BusError as error:
                if attempt == _CANCEL_ATTEMPTS:
                    log.warning("call not cancelled", call=cancel.call_id, session=session.id, error=str(error))
                    return
                await asyncio.sleep(0.1 * attempt)
            else:
                # It may have started since the session last heard of it.
                if runner and runner != cancel.worker:
                    self._tell(session, cancel, runner)
                return

    def _tell(self, session: SessionRef, cancel: CancelTool, worker: str) -> None:
        message = ToolCancel(call_id=cancel.call_id, reason=cancel.reason)
        entry = new_entry(session, TOOL_CANCEL, message, self._clock)
        self._outbox.send(self._keys.control(worker), entry, ttl_s=CONTROL_TTL_S)
