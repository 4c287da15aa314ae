"""A gateway's start, its HTTP side, its ops port and its heartbeat."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
import redis
import redis.asyncio as aioredis
from websockets.exceptions import ConnectionClosed

from services.gateway.clients import connected, native
from services.gateway.conftest import QUEUE, Gateways
from support.masters import another_is_the_master
from support.servers import RedisServer, free_port
from support.waiting import wait_until
from voicebus.adapters.redis import offers
from voicebus.adapters.redis.contact import Contact
from voicebus.contracts.streams import HEARTBEAT_TTL_S, Keys
from voicebus.contracts.tools import ToolCall, ToolRegistration
from voicebus.errors import BusError, SettingsError, TargetError
from voicebus_services.gateway.wiring import Gateway, serve
from voicebus_services.settings import GatewaySettings

TARGET = "services.gateway.hotel"


async def get(gateway: Gateway, path: str, **options: Any) -> httpx2.Response:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{gateway.port}") as client:
        return await client.get(path, **options)


async def test_the_page_and_the_interface_are_served(gateway: Gateway) -> None:
    page = await get(gateway, "/")
    assert page.status_code == 200
    assert "Voicebus" in page.text
    assert "reception" not in page.text
    assert (await get(gateway, "/docs")).status_code == 200
    assert "/v1/agents" in (await get(gateway, "/openapi.json")).json()["paths"]


async def test_the_agents_are_listed_with_their_tools(gateway: Gateway) -> None:
    listed = (await get(gateway, "/v1/agents")).json()
    assert listed["next_cursor"] is None
    assert listed["data"] == [
        {"name": "reception", "default": True, "tools": ["get_weather"], "handoffs": ["porter"], "guardrails": []},
        {"name": "porter", "default": False, "tools": ["call_taxi"], "handoffs": ["reception"], "guardrails": []},
    ]


async def test_an_upgrade_elsewhere_is_404(gateway: Gateway) -> None:
    answer = await get(
        gateway,
        "/elsewhere",
        headers={
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        },
    )
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_the_heartbeat_tells_address_slots_and_draining_and_goes_with_the_gateway(
    gateways: Gateways, redis_url: str, stream_prefix: str
) -> None:
    async with aioredis.Redis.from_url(redis_url, decode_responses=True) as client:
        async with gateways(max_sessions=7) as gateway:
            key = Keys(stream_prefix).gateway(gateway.id)
            beat: Any = await client.hgetall(key)
            assert 0 < await client.ttl(key) <= 5
            assert gateway.health.ready
        assert not await client.exists(key)
    assert (beat["free"], beat["draining"], beat["address"]) == ("7", "0", f"http://127.0.0.1:{gateway.port}")
    assert int(beat["at"]) > 0


async def test_the_heart_beats_while_the_gateways_loop_is_stuck(
    gateway: Gateway, redis_url: str, stream_prefix: str
) -> None:
    beats_meanwhile(redis_url, Keys(stream_prefix).gateway(gateway.id))


def beats_meanwhile(redis_url: str, key: str) -> None:
    """Wait for the next beat without awaiting: the loop that carries the conversations does not turn."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        first = client.hget(key, "at")
        patience = time.monotonic() + 20
        while client.hget(key, "at") == first and time.monotonic() < patience:
            time.sleep(0.02)
        assert client.hget(key, "at") != first
        assert 0 < client.ttl(key) <= HEARTBEAT_TTL_S


async def test_a_gateway_judges_nobody_for_a_while_once_another_redis_server_is_the_master(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    broke: list[str | None] = []
    monkeypatch.setattr(Contact, "broke", lambda _, server=None: broke.append(server))
    another_is_the_master(monkeypatch)
    await wait_until(lambda: None in broke, description="the change to be noticed")


async def test_a_silent_session_is_known_to_redis_again_that_was_emptied(
    gateway: Gateway, redis_url: str, stream_prefix: str
) -> None:
    keys = Keys(stream_prefix)
    async with aioredis.Redis.from_url(redis_url, decode_responses=True) as client, native(gateway) as caller:
        session = (await caller.until("session_started"))["session"]
        state = keys.session_state(session)

        async def is_recorded() -> bool:
            return await client.hget(state, "seq") == "1"

        await wait_until(is_recorded, description="the session's first event")
        before: Any = await client.hgetall(state)
        # At once, so that no beat of the gateway's lies between its state and its heartbeat.
        every = [key async for key in client.scan_iter(match=f"{stream_prefix}:*", count=1000)]
        await client.unlink(*every)
        await wait_until(is_recorded, description="the session's first event again")
        after: Any = await client.hgetall(state)
        events: Any = await client.xrange(keys.events(keys.event_shard(session)))
    told = ("id", "owner", "epoch", "seq", "status", "tenant", "token_hash", "started_at")
    assert {name: after[name] for name in told} == {name: before[name] for name in told}
    assert [fields["type"] for _, fields in events] == ["session_started"]


async def test_the_session_is_counted_recorded_and_its_token_kept_as_a_hash_only(
    gateways: Gateways, redis_url: str, stream_prefix: str
) -> None:
    ops_port = free_port()
    async with gateways(ops_port=ops_port) as gateway, native(gateway) as client:
        started = await client.until("session_started")
        await client.send("send_message", text="[[say: hello]]")
        await client.until("turn_ended")
        await client.send("end")
        await client.closed()
        await wait_until(lambda: not list(gateway.sessions), description="the session's end")
        async with httpx2.AsyncClient() as http:
            metrics = (await http.get(f"http://127.0.0.1:{ops_port}/metrics")).text
            assert (await http.get(f"http://127.0.0.1:{ops_port}/readyz")).status_code == 200
        keys = Keys(stream_prefix)
        async with aioredis.Redis.from_url(redis_url, decode_responses=True) as bus:
            state: Any = await bus.hgetall(keys.session_state(started["session"]))
            entries: Any = await bus.xrange(keys.events(keys.event_shard(started["session"])))
    samples = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if not line.startswith("#"))
    assert samples["voicebus_sessions_active"] == "0.0"
    for counted in (
        "voicebus_sessions_started_total",
        'voicebus_sessions_ended_total{reason="ended"}',
        "voicebus_session_duration_seconds_count",
        "voicebus_model_connect_seconds_count",
        "voicebus_response_latency_seconds_count",
        "voicebus_session_first_answer_seconds_count",
        'voicebus_model_tokens_total{cached="false",direction="output",modality="audio"}',
    ):
        assert float(samples[counted]) >= 1, counted
    assert started["token"] not in json.dumps([state, entries])
    assert len(state["token_hash"]) == 64
    recorded = [fields["type"] for _, fields in entries]
    assert recorded[0] == "session_started"
    assert recorded[-1] == "session_ended"
    assert [int(fields["seq"]) for _, fields in entries] == list(range(1, len(entries) + 1))
    parents = {fields["traceparent"] for _, fields in entries}
    assert len(parents) == 1


async def test_a_remote_tool_is_known_from_the_registry_that_workers_keep(
    gateway: Gateway, redis_url: str, stream_prefix: str, tool_worker: list[ToolCall], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offers, "EVERY_S", 0.0)  # nothing is remembered
    monkeypatch.setattr(offers, "VANISHED_AFTER_S", 0.0)
    taxi = ToolRegistration(
        name="call_taxi", description="Call a taxi.", parameters={"type": "object"}, queue=QUEUE, timeout_ms=5000,
        workers=["w"], at=time.time_ns() // 1_000_000,
    )  # fmt: skip
    registry = Keys(stream_prefix).registry_tools
    message = "[[call: call_taxi {}]][[next]][[say: {outputs}]]"

    async def outcome() -> str:
        async with native(gateway, "?agent=porter") as client:
            await client.send("send_message", text=message)
            await client.until("turn_ended")
            return str((await client.until("item_recorded", role="assistant"))["text"])

    async with aioredis.Redis.from_url(redis_url) as bus:
        await bus.hset(registry, "call_taxi", taxi.model_dump_json())
        assert await outcome() == "call_taxi got {}"
        await bus.hset(registry, "call_taxi", '{"malformed": true}')
        assert "call_taxi" in await outcome()
        await bus.delete(registry)
    assert [call.tool for call in tool_worker] == ["call_taxi"]


async def test_an_owner_whose_epoch_has_passed_closes_with_4409(
    gateway: Gateway, redis_url: str, stream_prefix: str
) -> None:
    async with native(gateway) as client:
        session = (await client.until("session_started"))["session"]
        await client.until("history_updated")
        async with aioredis.Redis.from_url(redis_url) as bus:
            await bus.hincrby(Keys(stream_prefix).session_state(session), "epoch", 1)
        # Whatever the gateway writes next tells it; that may have been before this.
        with contextlib.suppress(ConnectionClosed):
            await client.send("send_message", text="[[say: hello]]")
        assert await client.closed() == 4409


async def test_a_clients_trace_goes_on(gateway: Gateway, redis_url: str, stream_prefix: str) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    async with connected(gateway, "/v1/sessions/connect", additional_headers=headers) as client:
        started = await client.until("session_started")
        await client.send("end")
        await client.closed()
    keys = Keys(stream_prefix)
    async with aioredis.Redis.from_url(redis_url, decode_responses=True) as bus:

        async def entries() -> Any:
            return await bus.xrange(keys.events(keys.event_shard(started["session"])))

        (_, fields), *_ = await wait_until(entries, description="the records")
    assert fields["traceparent"].split("-")[1] == trace
    assert "b7ad6b7169203331" not in fields["traceparent"]


# --- wrong starts -----------------------------------------------------------------------------------


def settings(redis_url: str, **more: Any) -> GatewaySettings:
    given = {"redis_url": redis_url, "model_url": "ws://127.0.0.1:1/", "http_port": 0, "ops_port": 0}
    return GatewaySettings(**{**given, **more})


async def test_a_target_without_an_agent_is_refused(redis_url: str) -> None:
    with pytest.raises(TargetError, match="nobody"):
        await serve(settings(redis_url), ["services.gateway.nobody"])


async def test_a_real_model_without_a_key_is_refused(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(SettingsError, match="VOICEBUS_MODEL_API_KEY"):
        await serve(settings(redis_url, model_url="wss://api.openai.com/v1/realtime"), [TARGET])


async def test_an_unreachable_redis_is_refused() -> None:
    with pytest.raises(BusError, match="cannot be reached"):
        await serve(settings(f"redis://127.0.0.1:{free_port()}"), [TARGET])


async def test_a_wrong_redis_password_is_refused() -> None:
    with RedisServer(password="right") as server:
        with pytest.raises(BusError, match="password"):
            await serve(settings(f"redis://:wrong@127.0.0.1:{server.port}"), [TARGET])


async def test_a_port_in_use_is_refused(redis_url: str, stream_prefix: str) -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with pytest.raises(SettingsError, match=f"{port} cannot be opened"):
            await serve(settings(redis_url, stream_prefix=stream_prefix, http_port=port), [TARGET])


# --- the process ------------------------------------------------------------------------------------


@dataclass
class Remote:
    port: int


async def test_sigterm_stops_the_process_after_the_sessions_in_hand(
    redis_url: str, stream_prefix: str, simulator: Any
) -> None:
    program = (
        "import asyncio, sys\n"
        "from voicebus.runtime.lifecycle import run\n"
        "from voicebus_services.gateway.wiring import serve\n"
        "from voicebus.telemetry.logging import configure\n"
        "from voicebus_services.settings import GatewaySettings\n"
        "configure(service='gateway')\n"
        f"run(serve(GatewaySettings(), ['{TARGET}'], ready=lambda port: print(port, flush=True)))\n"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": "tests",
        "VOICEBUS_REDIS_URL": redis_url,
        "VOICEBUS_STREAM_PREFIX": stream_prefix,
        "VOICEBUS_MODEL_URL": simulator.url,
        "VOICEBUS_MODEL_API_KEY": "k",
        "VOICEBUS_HTTP_PORT": "0",
        "VOICEBUS_OPS_PORT": "0",
        "VOICEBUS_DRAIN_TIMEOUT": "30",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, env=environment, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        remote = Remote(int(await process.stdout.readline()))
        async with native(remote) as client:
            await client.until("history_updated")
            process.send_signal(signal.SIGTERM)

            async def refused() -> bool:
                async with native(remote) as late:
                    # One that came before the signal was handled is admitted, and hangs up.
                    await late.until("error", "session_started")
                    return late.types == ["error"] and await late.closed() == 4429

            await wait_until(refused, description="new sessions to be refused")
            await client.send("send_message", text="[[say: one more]]")
            await client.until("turn_ended")
            await client.send("end")
            assert await client.closed() == 1000
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
