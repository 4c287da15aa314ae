"""A gateway, a model-simulator and a small tool worker in the test's own process, on a real Redis."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import msgspec
import pytest
import redis.asyncio as aioredis

from services.gateway.services import working
from support.simulator import SimulatorHandle, running_simulator
from support.tasks import running
from voicebus.agents.targets import load_targets
from voicebus.contracts.envelope import Entry
from voicebus.contracts.streams import INBOX_TTL_S, Keys
from voicebus.contracts.tools import Outcome, ToolCall, ToolResult
from voicebus_services.gateway.wiring import Gateway, running_gateway
from voicebus_services.settings import GatewaySettings

QUEUE = "services"
BANK = "services.gateway.bank"
Gateways = Callable[..., AbstractAsyncContextManager[Gateway]]


@pytest.fixture
async def simulator() -> AsyncIterator[SimulatorHandle]:
    async with running_simulator() as handle:
        yield handle


@pytest.fixture
def gateways(redis_url: str, stream_prefix: str, simulator: SimulatorHandle) -> Gateways:
    """Run a gateway with these settings, serving `target`; its model is the simulator."""

    @asynccontextmanager
    async def start(target: str = "services.gateway.hotel", **settings: Any) -> AsyncIterator[Gateway]:
        given = {
            "redis_url": redis_url,
            "stream_prefix": stream_prefix,
            "model_url": simulator.url,
            "model_api_key": "test",
            "http_port": 0,
            "ops_port": 0,
            "drain_timeout": 0,
            **settings,
        }
        async with running_gateway(GatewaySettings(**given), load_targets([target])) as gateway:
            yield gateway

    return start


@pytest.fixture
async def gateway(gateways: Gateways) -> AsyncIterator[Gateway]:
    async with gateways() as running_one:
        yield running_one


@pytest.fixture
async def bank(gateways: Gateways, redis_url: str, stream_prefix: str) -> AsyncIterator[Gateway]:
    """A gateway with the agents of `bank.py`, and real workers for their tools and guardrails."""
    targets = load_targets([BANK])
    async with working(targets, redis_url=redis_url, stream_prefix=stream_prefix), gateways(BANK) as running_one:
        yield running_one


@pytest.fixture
async def tool_worker(redis_url: str, stream_prefix: str) -> AsyncIterator[list[ToolCall]]:
    """Answers each call on the agents' queue with `TOOL got ARGUMENTS`; yields the calls that it saw."""
    keys = Keys(stream_prefix)
    calls: list[ToolCall] = []

    async def work() -> None:
        async with aioredis.Redis.from_url(redis_url, decode_responses=True, socket_timeout=None) as client:
            last = "0"
            while True:
                reply: Any = await client.xread({keys.tools(QUEUE): last}, block=200)
                for _, entries in reply or ():
                    for entry_id, fields in entries:
                        last = entry_id
                        await answer(client, Entry.parse(fields))

    async def answer(client: Any, entry: Entry) -> None:
        call = ToolCall.model_validate(entry.data)
        calls.append(call)
        result = ToolResult(
            call_id=call.call_id,
            outcome=Outcome.OK,
            output=f"{call.tool} got {call.arguments}",
            worker="w",
            duration_ms=1,
        )
        reply = msgspec.structs.replace(
            entry, id=f"r{entry.id}", type="tool.result", data=result.model_dump(mode="json")
        )
        await client.xadd(call.reply_to, reply.fields())
        await client.expire(call.reply_to, INBOX_TTL_S)

    async with running(work()):
        await asyncio.sleep(0)
        yield calls
