"""The context of a session is one for gateway, tool workers and guardrail workers, whoever changes it."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import redis.asyncio as aioredis

from services.gateway.clients import native, realtime
from services.gateway.conftest import Gateways
from services.gateway.services import working
from support.waiting import wait_until
from voicebus.agents.targets import load_targets
from voicebus.contracts.streams import Keys
from voicebus_services.gateway.wiring import Gateway

HOSTEL = "services.gateway.hostel"


@pytest.fixture
async def hostel(gateways: Gateways, redis_url: str, stream_prefix: str) -> AsyncIterator[Gateway]:
    targets = load_targets([HOSTEL])
    async with working(targets, redis_url=redis_url, stream_prefix=stream_prefix), gateways(HOSTEL) as running_one:
        yield running_one


async def create(gateway: Gateway, context: Any) -> Any:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{gateway.port}") as client:
        return (await client.post("/v1/sessions", json={"context": context})).json()


async def test_what_a_tool_changes_is_known_to_the_next_call_a_handoff_a_guardrail_and_the_sessions_state(
    hostel: Gateway, redis_url: str, stream_prefix: str
) -> None:
    made = await create(hostel, {"name": "Ann", "nights": 2, "token": "s3cret"})
    async with native(hostel, f"?session={made['id']}&token={made['token']}") as client:
        await client.send("send_message", text='[[call: extend {"nights": 3}]]')
        assert (await client.until("tool_end"))["output"] == "Ann stays 5 nights"
        await client.until("agent_end", output="The result is: Ann stays 5 nights")
        await client.send("send_message", text="[[say: She boasts of it]]")
        assert (await client.until("guardrail_tripped"))["info"] == {"few_nights": 5}
        await client.send("send_message", text="[[call: transfer_to_bar {}]]")
        await client.until("handoff")
        await client.send("send_message", text="[[call: tell {}]]")
        told = await client.until("tool_end")
    assert told["output"] == "Guest(name='Ann', nights=15, token=None) local"
    keys = Keys(stream_prefix)
    async with aioredis.Redis.from_url(redis_url, decode_responses=True) as bus:
        state = keys.session_state(made["id"])

        async def saved() -> bool:
            found: Any = await bus.hget(state, "context")
            return bool(json.loads(found or "{}") == {"name": "Ann", "nights": 15})

        await wait_until(saved, description="the context in the session's state")


async def test_a_context_that_does_not_fit_is_refused_where_it_is_given(hostel: Gateway) -> None:
    refused = await create(hostel, {"nights": 2})
    assert (refused["status"], refused["code"]) == (422, "invalid_context")
    assert refused["detail"] == "the context is no Guest: name: Field required"


async def test_a_client_without_the_context_that_its_agent_needs_is_told(hostel: Gateway) -> None:
    async with native(hostel) as client:
        error = await client.until("error")
        assert await client.closed() == 1008
    assert (error["code"], error["message"]) == ("invalid_context", "the context is no Guest: name: Field required")
    async with realtime(hostel) as client:
        error = (await client.until("error"))["error"]
        assert await client.closed() == 1008
    assert error["code"] == "invalid_context"
