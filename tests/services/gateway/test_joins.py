"""Three hundred callers at once for two hundred slots of two gateways."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest
import websockets
from websockets.exceptions import InvalidStatus

from services.gateway.clients import TestClient
from services.gateway.conftest import Gateways
from support.waiting import wait_until
from voicebus_services.gateway.wiring import Gateway


@pytest.fixture
async def two(gateways: Gateways) -> Any:
    async with gateways(max_sessions=100) as one, gateways(max_sessions=100) as other:
        yield one, other


async def join(stack: AsyncExitStack, gateway: Gateway, path: str, first: str) -> str:
    try:
        socket = await stack.enter_async_context(
            websockets.connect(f"ws://127.0.0.1:{gateway.port}{path}", open_timeout=60)
        )
    except InvalidStatus as refusal:
        answer = refusal.response
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.body is not None
        assert b'"code":"full"' in answer.body
        return str(answer.status_code)
    client = TestClient(socket)
    event = await client.until(first, "error")
    if event["type"] == first:
        return "session"
    assert event["code"] == "full"
    return str(await client.closed())


@pytest.mark.parametrize(
    ("path", "first", "refused"),
    [("/v1/realtime", "session.created", "503"), ("/v1/sessions/connect", "session_started", "4429")],
)
@pytest.mark.timeout(180)
async def test_as_many_sessions_begin_as_there_are_slots_and_the_others_are_told(
    two: tuple[Gateway, Gateway], path: str, first: str, refused: str
) -> None:
    async with AsyncExitStack() as stack:
        outcomes = await asyncio.gather(*(join(stack, two[n % 2], path, first) for n in range(300)))
        assert Counter(outcomes) == {"session": 200, refused: 100}
        assert [(gateway.sessions.free, gateway.health.ready) for gateway in two] == [(0, False), (0, False)]
        async with httpx2.AsyncClient() as client:  # what is no session is still answered
            assert (await client.get(f"http://127.0.0.1:{two[0].port}/v1/agents")).status_code == 200
    await wait_until(lambda: all(gateway.sessions.free == 100 for gateway in two), description="the slots back")
    assert [gateway.health.ready for gateway in two] == [True, True]
