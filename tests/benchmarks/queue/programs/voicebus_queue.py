"""Ours, with every guarantee on: the tool worker as it is deployed, and a gateway's own way to it and back."""

import asyncio
import uuid

from measuring import arguments, at_once, one_by_one, run

from voicebus import function_tool
from voicebus.adapters.redis.client import connect
from voicebus.adapters.redis.clock import RedisClock
from voicebus.adapters.redis.dispatch import RedisToolDispatch
from voicebus.adapters.redis.inbox import RedisInbox
from voicebus.adapters.redis.outbox import Outbox
from voicebus.contracts.envelope import Entry
from voicebus.contracts.streams import Keys
from voicebus.contracts.tools import TOOL_RESULT
from voicebus.engine.outputs import DispatchTool
from voicebus.ports import SessionRef

QUEUE = "bench"


@function_tool(queue=QUEUE)
async def no_op() -> str:
    """Do nothing."""
    return "ok"


class Gateway:
    """The half of a gateway that sends calls and hears of their results."""

    def __init__(self, dispatch: RedisToolDispatch, outbox: Outbox) -> None:
        self._dispatch = dispatch
        self._outbox = outbox
        self._session = SessionRef(uuid.uuid4().hex, 1)
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._wanted = 0
        self._all = asyncio.Event()

    @property
    def session(self) -> str:
        return self._session.id

    def send(self, number: int, timeout_ms: int = 600_000) -> None:
        call = DispatchTool(
            call_id=f"call_{number}", tool="no_op", arguments="{}", agent="bench", queue=QUEUE, timeout_ms=timeout_ms,
            idempotent=False, vetted=True,
        )  # fmt: skip
        self._dispatch.dispatch(self._session, call)

    async def call(self, number: int) -> None:
        answer = self._waiting[f"call_{number}"] = asyncio.get_running_loop().create_future()
        self.send(number)
        await answer

    async def send_all(self, count: int) -> None:
        for number in range(count):
            self.send(number)
            if number % 1000 == 999:
                await self._outbox.drain(60)

    async def answered(self, count: int) -> None:
        self._wanted += count
        if self._wanted > 0:
            await self._all.wait()

    def deliver(self, entry: Entry) -> None:
        if entry.type != TOOL_RESULT:
            return
        assert entry.data["outcome"] == "ok", entry.data
        waiting = self._waiting.pop(entry.data["call_id"], None)
        if waiting is not None:
            waiting.set_result(None)
            return
        self._wanted -= 1
        if self._wanted == 0:
            self._all.set()


async def drive(role: str, url: str, count: int) -> None:
    keys = Keys()
    async with await connect(url) as bus, asyncio.TaskGroup() as group:
        clock = RedisClock(bus)
        await clock.synchronise()
        outbox = Outbox(bus, clock, service="gateway")
        inbox = RedisInbox(bus, keys, f"bench-{uuid.uuid4().hex[:6]}")
        gateway = Gateway(RedisToolDispatch(bus, outbox, clock, keys, reply_to=inbox.stream), outbox)
        inbox.subscribe(gateway.session, gateway.deliver)
        background = [group.create_task(outbox.run()), group.create_task(inbox.run())]
        if role == "low":
            await one_by_one(gateway.call, count)
        else:
            await at_once(lambda: gateway.send_all(count), lambda: gateway.answered(count), count)
        for task in background:
            task.cancel()


if __name__ == "__main__":
    given = arguments()
    run(drive(given.role, given.url, given.count))
