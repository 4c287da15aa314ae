"""Conversations that nobody ends: what is recorded of them, and what becomes of the work in hand."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis.asyncio as aioredis
from prometheus_client import REGISTRY

from services.gateway.clients import TestClient, native, realtime
from services.gateway.conftest import QUEUE, Gateways
from support.waiting import wait_until
from voicebus.contracts.envelope import Entry
from voicebus.contracts.streams import Keys


async def records(redis_url: str, stream_prefix: str, session: str) -> list[Entry]:
    """What the archive will hold of a session, in order."""
    keys = Keys(stream_prefix)
    async with aioredis.Redis.from_url(redis_url, decode_responses=True) as bus:
        written: Any = await bus.xrange(keys.events(keys.event_shard(session)))
    entries = [Entry.parse(fields) for _, fields in written]
    return [entry for entry in entries if entry.session == session]


async def session_state(redis_url: str, stream_prefix: str, session: str) -> dict[str, str]:
    async with aioredis.Redis.from_url(redis_url, decode_responses=True) as bus:
        state: Any = await bus.hgetall(Keys(stream_prefix).session_state(session))
    return dict(state)


async def ask(client: TestClient, kind: str, text: str) -> None:
    if kind == "native":
        await client.send("send_message", text=text)
        return
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
    await client.send("conversation.item.create", item=item)
    await client.send("response.create")


@pytest.mark.parametrize("kind", ["native", "openai"])
async def test_a_socket_that_drops_ends_the_session_as_hung_up_with_its_tools_cancelled(
    gateways: Gateways, redis_url: str, stream_prefix: str, kind: str
) -> None:
    async with (
        gateways(resume_grace=0.1) as gateway,
        native(gateway) if kind == "native" else realtime(gateway) as client,
    ):
        await client.until("history_updated" if kind == "native" else "session.created")
        (held,) = gateway.sessions
        await ask(client, kind, '[[call: get_weather {"city": "Paris"}]]')
        async with aioredis.Redis.from_url(redis_url, decode_responses=True) as bus:
            tools = Keys(stream_prefix).tools(QUEUE)
            await wait_until(lambda: bus.xlen(tools), description="the call on its queue")
            client.socket.transport.abort()  # no closing handshake, no word
            await wait_until(lambda: not list(gateway.sessions), description="the session's end")
            calls: Any = await bus.xrange(tools)
            claim = Keys(stream_prefix).call(QUEUE, held.id, Entry.parse(calls[0][1]).data["call_id"])
            await wait_until(lambda: bus.hexists(claim, "cancelled"), description="the call to be taken back")
    found = await records(redis_url, stream_prefix, held.id)
    assert [entry.seq for entry in found] == list(range(1, len(found) + 1))
    kinds = [entry.type for entry in found]
    assert (kinds[0], kinds[-1]) == ("session_started", "session_ended")
    assert found[-1].data["reason"] == "hangup"
    (ended,) = [entry.data for entry in found if entry.type == "tool_end"]
    assert ended["outcome"] == "cancelled"
    (asked,) = [entry.data for entry in found if entry.type == "item_recorded"]
    assert asked["role"] == "user"
    state = await session_state(redis_url, stream_prefix, held.id)
    assert (state["status"], state["end_reason"]) == ("ended", "hangup")


@asynccontextmanager
async def silent_model() -> AsyncIterator[str]:
    """An address that takes connections and never answers."""
    taken: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: taken.append(writer), "127.0.0.1", 0)
    async with server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/realtime"
        for writer in taken:
            writer.close()
            await writer.wait_closed()


@pytest.mark.parametrize("kind", ["native", "openai"])
async def test_a_session_that_is_still_dialling_when_the_gateway_stops_ends_as_drained(
    gateways: Gateways, redis_url: str, stream_prefix: str, kind: str
) -> None:
    def drained() -> float:
        return REGISTRY.get_sample_value("voicebus_sessions_ended_total", {"reason": "drained"}) or 0.0

    before = drained()
    async with silent_model() as url:
        async with gateways(model_url=url) as gateway:
            connection = native(gateway) if kind == "native" else realtime(gateway)
            client = await connection.__aenter__()
            (held,) = await wait_until(
                lambda: [held for held in gateway.sessions if held.face.driver], description="the dialling"
            )
            closing = asyncio.create_task(client.closed())
        assert await closing == 1012
        await connection.__aexit__(None, None, None)
    found = await records(redis_url, stream_prefix, held.id)
    assert [entry.type for entry in found] == ["session_started", "session_ended"]
    assert found[-1].data["reason"] == "drained"
    assert drained() == before + 1
    if kind == "native":
        assert client.types[-1] == "session_ended"


async def test_a_client_that_leaves_while_the_model_is_dialled_has_hung_up(
    gateways: Gateways, redis_url: str, stream_prefix: str
) -> None:
    async with silent_model() as url, gateways(model_url=url) as gateway:
        async with native(gateway):
            (held,) = await wait_until(
                lambda: [held for held in gateway.sessions if held.face.driver], description="the dialling"
            )
        await wait_until(lambda: not list(gateway.sessions), description="the session's end")
        found = await records(redis_url, stream_prefix, held.id)
    assert found[-1].data["reason"] == "hangup"
