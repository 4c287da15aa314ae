"""A tool worker, and a gateway's side of its bus: sends entries, collects the answers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from support.tasks import running
from support.waiting import wait_until
from voicebus import ToolWorker
from voicebus.adapters.redis.checking import RedisGuardrailDispatch
from voicebus.adapters.redis.client import RedisConnection, connect
from voicebus.adapters.redis.clock import RedisClock
from voicebus.adapters.redis.dispatch import RedisToolDispatch
from voicebus.adapters.redis.inbox import RedisInbox
from voicebus.adapters.redis.outbox import Outbox
from voicebus.contracts.envelope import Entry
from voicebus.contracts.guardrails import GUARDRAIL_VERDICT, GuardrailVerdict
from voicebus.contracts.streams import Keys
from voicebus.contracts.tools import TOOL_RESULT, TOOL_STARTED, ToolResult, ToolStarted
from voicebus.engine.outputs import CancelTool, DispatchCheck, DispatchTool
from voicebus.ports import SessionRef


@dataclass
class Caller:
    """One session `s1` on a gateway of its own."""

    bus: RedisConnection
    keys: Keys
    clock: RedisClock
    tools: RedisToolDispatch
    checks: RedisGuardrailDispatch
    inbox: RedisInbox
    session: SessionRef = field(default_factory=lambda: SessionRef("s1", 1))
    received: list[Entry] = field(default_factory=list)

    def call(
        self,
        tool: str,
        arguments: str = "{}",
        *,
        call_id: str = "c1",
        queue: str = "default",
        timeout_ms: int = 10_000,
        idempotent: bool = False,
        vetted: bool = False,
        version: str | None = None,
        **along: Any,
    ) -> None:
        self.tools.dispatch(
            self.session,
            DispatchTool(
                call_id,
                tool,
                arguments,
                "greeter",
                queue,
                timeout_ms,
                idempotent,
                vetted=vetted,
                version=version,
                **along,
            ),
        )

    def cancel(self, call_id: str = "c1", *, queue: str = "default", worker: str | None = None) -> None:
        self.tools.cancel(self.session, CancelTool(call_id, queue, worker, "hangup"))

    def check(
        self,
        *guardrails: str,
        text: str = "some text",
        timeout_ms: int = 2000,
        stage: Literal["input", "output"] = "output",
        check_id: str = "k1",
        response_id: str = "r1",
    ) -> None:
        check = DispatchCheck(check_id, response_id, "i1", "greeter", guardrails, text, final=True, stage=stage)
        self.checks.check(self.session, check, timeout_ms=timeout_ms)

    async def started(self, call_id: str = "c1") -> ToolStarted:
        entry = await wait_until(lambda: self._find(TOOL_STARTED, call_id), description=f"the start of {call_id}")
        return ToolStarted.of(entry[0])

    async def result(self, call_id: str = "c1") -> ToolResult:
        entry = await wait_until(
            lambda: self._find(TOOL_RESULT, call_id), description=f"the result of {call_id}", timeout=20
        )
        return ToolResult.of(entry[0])

    async def verdict(self) -> GuardrailVerdict:
        return (await wait_until(lambda: self.verdicts, description="the verdict"))[0]

    @property
    def verdicts(self) -> list[GuardrailVerdict]:
        return [GuardrailVerdict.of(entry) for entry in self.received if entry.type == GUARDRAIL_VERDICT]

    def results(self, call_id: str = "c1") -> list[ToolResult]:
        return [ToolResult.of(entry) for entry in self._find(TOOL_RESULT, call_id)]

    def _find(self, type_: str, call_id: str) -> list[Entry]:
        return [entry for entry in self.received if entry.type == type_ and entry.data["call_id"] == call_id]

    async def stream(self, key: str) -> list[dict[str, Any]]:
        return [fields for _, fields in await self.bus.call("XRANGE", key, "-", "+")]

    async def pending(self, key: str) -> int:
        groups = await self.bus.call("XINFO", "GROUPS", key)
        return sum(dict(zip(group[::2], group[1::2], strict=True))["pending"] for group in groups)


@asynccontextmanager
async def calling(url: str, keys: Keys, gateway: str = "g1") -> AsyncIterator[Caller]:
    async with await connect(url) as bus:
        clock = RedisClock(bus)
        await clock.synchronise()
        outbox, inbox = Outbox(bus, clock, service="gateway"), RedisInbox(bus, keys, gateway)
        tools = RedisToolDispatch(bus, outbox, clock, keys, reply_to=inbox.stream)
        checks = RedisGuardrailDispatch(outbox, clock, keys, reply_to=inbox.stream)
        caller = Caller(bus, keys, clock, tools, checks, inbox)
        inbox.subscribe("s1", caller.received.append)
        async with running(outbox.run(), inbox.run()):
            yield caller
        await tools.aclose()


def worker(url: str, keys: Keys, *tools: Any, **options: Any) -> ToolWorker:
    """A worker of these tools on the same bus, to be entered or run."""
    return ToolWorker(tools, redis_url=url, stream_prefix=keys.prefix, **options)
