"""Calls that no answer will come to: answered before their deadline, so that nobody waits for them in silence.

Either Redis will not read this gateway's inbox; or the call's workers are all gone. The rule for these: a queue had
workers, and for `GONE_S` none of them has lived, longer than one that is frozen may be gone. A call that was sent to it
that long ago is given up: first in its record, so that a worker that comes later does not start it, then towards the
model. Heartbeats that Redis did not take, or has lost, tell of no death. A queue that no worker has ever read is left
alone, as its first worker may be starting; so is one with a consumer that sends no heartbeats: nobody can tell of it.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from voicebus.adapters.redis.client import RedisConnection, is_final
from voicebus.adapters.redis.dispatch import new_entry
from voicebus.adapters.redis.heartbeat import living, sends_heartbeats
from voicebus.adapters.redis.scripts import CANCEL
from voicebus.adapters.redis.trimming import pairs
from voicebus.contracts.envelope import Entry
from voicebus.contracts.streams import CALL_TTL_S, WORKERS_GROUP, Keys
from voicebus.contracts.tools import TOOL_RESULT, Outcome, ToolFailure, ToolResult
from voicebus.engine.outputs import DispatchTool
from voicebus.errors import BusError, ContractError
from voicebus.ports import Clock, SessionRef
from voicebus.runtime.refusing import Refusal, unreachable
from voicebus.telemetry import metrics
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

LOOK_S: Final = 1.0
GONE_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class _Sent:
    session: SessionRef
    call: DispatchTool
    at: float


class UnservedCalls:
    """Follows the calls that this gateway waits for; run `run` as a task. `answer` brings a session its answer.

    `tells_dead` says of a heartbeat that does not count any more whether its process is dead. Implements
    `FollowsCalls`, and `Refuses` while no answer can come.
    """

    def __init__(
        self,
        bus: RedisConnection,
        keys: Keys,
        clock: Clock,
        answer: Callable[[Entry], object],
        *,
        tells_dead: Callable[[str], Awaitable[bool]],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bus = bus
        self._keys = keys
        self._clock = clock
        self._answer = answer
        self._tells_dead = tells_dead
        self._monotonic = monotonic
        # Until they are answered, cancelled or overdue.
        self._waiting: dict[tuple[str, str], _Sent] = {}
        self._gone_since: dict[str, float] = {}
        self._deaf: str | None = None
        self._became_deaf = asyncio.Event()

    def deaf(self, why: str | None) -> None:
        """No answer comes to this gateway any more, because of `why`; None once they do."""
        self._deaf = why
        self._became_deaf.set()

    def refusal(self, call: DispatchTool) -> Refusal | None:
        """Nothing is sent whose answer would not be heard."""
        return None if self._deaf is None else unreachable(call.tool, self._deaf)

    def sent(self, session: SessionRef, call: DispatchTool) -> None:
        """This call is on its way to its queue."""
        self._waiting[session.id, call.call_id] = _Sent(session, call, self._monotonic())

    def ended(self, session: str, call_id: str) -> DispatchTool | None:
        """Nobody waits for this call any more; returns it, if anybody did."""
        sent = self._waiting.pop((session, call_id), None)
        return None if sent is None else sent.call

    async def run(self) -> None:
        """Look after the calls until cancelled."""
        while True:
            await self._pause()
            try:
                await self.look()
            except BusError as error:
                self._gone_since.clear()  # heartbeats end while Redis is away, and say nothing then
                log.debug("workers not looked for", error=str(error))

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await self._became_deaf.wait()
        self._became_deaf.clear()

    async def look(self) -> None:
        """Look now.

        Raises:
            BusError: Redis cannot be reached.
        """
        now = self._monotonic()
        for key in [key for key, one in self._waiting.items() if now - one.at > one.call.timeout_ms / 1000]:
            del self._waiting[key]
        if self._deaf is not None:
            for one in list(self._waiting.values()):
                await self._give_up(one, "bus_refused", self._deaf)
            return
        queues = {one.call.queue for one in self._waiting.values()}
        for queue in self._gone_since.keys() - queues:
            del self._gone_since[queue]
        horizon = now - GONE_S
        gone = set()
        for queue in queues:
            heartbeats = await self._heartbeats(queue)
            if heartbeats is None or any(await living(self._bus, heartbeats)):
                self._gone_since.pop(queue, None)
                continue
            # Asked behind the answers, which may have come from a server that has just woken up.
            told = all([await self._tells_dead(heartbeat) for heartbeat in heartbeats])
            if told and self._gone_since.setdefault(queue, now) <= horizon:
                gone.add(queue)
        for one in [one for one in self._waiting.values() if one.call.queue in gone and one.at <= horizon]:
            why = f"queue {one.call.queue!r} has had no living worker for {GONE_S:g} s"
            await self._give_up(one, "no_worker", why)

    async def _heartbeats(self, queue: str) -> list[str] | None:
        """Those of the workers of a queue; None where it had none, or one that sends none."""
        try:
            rows = await self._bus.call("XINFO", "CONSUMERS", self._keys.tools(queue), WORKERS_GROUP)
        except BusError as error:
            if "NOGROUP" in str(error) or "no such key" in str(error) or is_final(error):
                return None  # nobody was ever there, or it is no stream
            raise
        names = [pairs(row)["name"] for row in rows]
        return [self._keys.worker(name) for name in names] if all(map(sends_heartbeats, names)) else None

    async def _give_up(self, one: _Sent, kind: str, why: str) -> None:
        session, call = one.session, one.call
        key = self._keys.call(call.queue, session.id, call.call_id)
        runner = await self._bus.script(CANCEL, [key], kind, CALL_TTL_S)
        stored = await self._bus.call("HGET", key, "result")
        if (session.id, call.call_id) not in self._waiting:
            return  # it was answered meanwhile
        self.ended(session.id, call.call_id)
        try:
            result = ToolResult.stored(stored) if stored else _given_up(call, runner, kind, why)
        except ContractError as error:
            log.warning(
                "what a worker has stored is no result", session=session.id, call=call.call_id, error=str(error)
            )
            result = _given_up(call, runner, kind, why)
        log.warning(
            "no answer will come to a call", session=session.id, call=call.call_id, tool=call.tool, queue=call.queue,
            why=why, outcome=result.outcome.value,
        )  # fmt: skip
        metrics.TOOL_REFUSED.labels(tool=call.tool, reason=kind).inc()
        self._answer(new_entry(session, TOOL_RESULT, result, self._clock))


def _given_up(call: DispatchTool, runner: str, kind: str, why: str) -> ToolResult:
    """What is told of a call that `runner` ran, if anybody did."""
    outcome = Outcome.UNKNOWN if runner else Outcome.ERROR
    output = (
        f"The outcome of the tool {call.tool} is unknown: it was interrupted, and may or may not have taken effect."
        if runner
        else unreachable(call.tool, why).output
    )
    return ToolResult(
        call_id=call.call_id, outcome=outcome, output=output, error=ToolFailure(kind=kind, message=why),
        worker=runner or "gateway", duration_ms=0,
    )  # fmt: skip
