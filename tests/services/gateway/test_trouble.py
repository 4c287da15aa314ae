"""What goes wrong around a session: Redis, the model, other sessions, silence."""

import asyncio
import contextlib
import gc
import json
from typing import Any

import pytest
import redis.asyncio as aioredis
import websockets

from services.gateway.clients import native, realtime, tool_outcomes
from services.gateway.conftest import Gateways
from support.servers import RedisServer
from support.simulator import running_simulator
from support.waiting import wait_until
from voicebus.adapters.redis import flushing
from voicebus.adapters.sockets import CLOSE_LIMIT_S
from voicebus.adapters.sockets.picows_socket import PicowsSocket
from voicebus.contracts.streams import Keys
from voicebus.runtime.driver import SessionDriver
from voicebus_services.gateway.wiring import Gateway


async def test_what_is_not_written_is_not_acknowledged_so_that_a_dying_gateway_leaves_it_to_be_said_again(
    gateways: Gateways,
) -> None:
    with RedisServer(persistent=True) as server:
        async with gateways(redis_url=server.url) as gateway, native(gateway) as client:
            await client.until("history_updated")
            await client.send("mute", muted=True, id="before")
            await client.until("ack", id="before")
            server.pause()
            await client.send("send_message", text="[[say: still here]]", id="said")
            await client.until("turn_ended")
            await client.send("send_message", text="[[say: still here]]", id="said", again=True)
            await client.send("interrupt", id="now")
            await client.until("ack", id="now")
            await client.send("end", id="end")
            await wait_until(lambda: _is_over(gateway), description="the end")
            assert [ack["id"] for ack in client.events("ack")] == ["before", "now"]
            server.resume()
            assert await client.closed() == 1000
    assert [ack["id"] for ack in client.events("ack")] == ["before", "now", "said", "said", "end"]
    assert client.types[-2:] == ["ack", "session_ended"]
    assert len(client.events("turn_ended")) == 1


async def test_what_is_said_behind_an_end_that_is_not_written_yet_is_answered_too(gateways: Gateways) -> None:
    with RedisServer(persistent=True) as server:
        async with gateways(redis_url=server.url) as gateway, native(gateway) as client:
            await client.until("history_updated")
            server.pause()
            await client.send("end", id="end")
            await wait_until(lambda: _is_over(gateway), description="the end")
            await client.send("send_message", text="[[say: not heard]]", id="late")
            await client.send("end", id="again")
            await client.send("end", id="end", again=True)
            await client.send("dance", id="odd")
            await client.socket.send(b"\x00\x00" * 480)
            await (await client.socket.ping())  # all of it has been read
            server.resume()
            assert await client.closed() == 1000
    answers = [(event["id"], event.get("code")) for event in client.seen if event.get("id")]
    late = [("late", "session_ended"), ("again", "session_ended")]
    assert answers == [("odd", "unknown_command"), *late, ("end", None)]
    assert client.types[-2:] == ["ack", "session_ended"]


def _is_over(gateway: Gateway) -> bool:
    return all(held.face.driver is not None and held.face.driver.ended for held in gateway.sessions)


async def test_a_conversation_goes_on_while_redis_is_away_and_its_records_arrive_later(
    gateways: Gateways, stream_prefix: str
) -> None:
    with RedisServer(persistent=True) as server:
        async with gateways(redis_url=server.url) as gateway, native(gateway) as client:
            await client.until("history_updated")
            server.stop()
            await wait_until(lambda: not gateway.health.ready, description="readiness to go")
            await client.send("send_message", text="[[say: still here]]")
            await client.until("turn_ended")
            async with native(gateway) as refused:
                assert await refused.closed() == 1011
                assert refused.events("error")[0]["code"] == "session_unavailable"
                assert "127.0.0.1" not in json.dumps(refused.seen)
            server.start()
            await wait_until(lambda: gateway.health.ready, description="readiness to come back")
            await client.send("end")
            last = await client.until("session_ended")
            await client.closed()
            await wait_until(lambda: not list(gateway.sessions), description="the session's end")
            async with aioredis.Redis.from_url(server.url, decode_responses=True) as bus:
                keys = Keys(stream_prefix)
                written: Any = await bus.xrange(keys.events(keys.event_shard(last["session"])))
    assert [int(fields["seq"]) for _, fields in written] == list(range(1, last["seq"] + 1))


async def test_a_gateway_that_has_lost_a_session_and_does_not_know_it_yet_sends_none_of_its_calls(
    gateway: Gateway, redis_url: str, stream_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flushing, "FLUSH_WINDOW_S", 1.0)  # the model is quicker
    keys = Keys(stream_prefix)
    async with native(gateway) as client, aioredis.Redis.from_url(redis_url, decode_responses=True) as bus:
        started = await client.until("session_started")
        await client.until("history_updated")
        await bus.hincrby(keys.session_state(started["session"]), "epoch", 1)
        await client.send("send_message", text='[[call: get_weather {"city": "Paris"}]]')
        assert await client.closed() == 4409
        assert await bus.xlen(keys.tools("services")) == 0


async def test_a_tool_that_nobody_answers_ends_at_its_deadline_and_the_model_is_told(gateways: Gateways) -> None:
    counted = tool_outcomes("get_weather", "timeout")
    async with gateways(tool_timeout=0.3) as gateway, native(gateway) as client:
        await client.send("send_message", text="[[call: get_weather {}]][[next]][[say: {outputs}]]")
        end = await client.until("tool_end")
        await client.until("item_recorded", role="assistant")
    assert end["outcome"] == "timeout"
    assert tool_outcomes("get_weather", "timeout") == counted + 1
    assert "get_weather" in client.seen[-1]["text"]


@pytest.mark.parametrize("kind", ["native", "openai"])
async def test_a_model_that_drops_the_link_ends_the_session_with_a_reason(gateway: Gateway, kind: str) -> None:
    connection = native(gateway) if kind == "native" else realtime(gateway)
    text = "[[fault: drop]]"
    async with connection as client:
        if kind == "native":
            await client.send("send_message", text=text)
        else:
            item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
            await client.send("conversation.item.create", item=item)
            await client.send("response.create")
        assert await client.closed() == 1011
    assert client.events("error")


async def test_a_model_that_refuses_the_key_is_said_with_its_own_words(gateways: Gateways) -> None:
    async with (
        running_simulator(simulator_api_key="right") as simulator,
        gateways(model_url=simulator.url, model_api_key="wrong") as gateway,
        native(gateway) as client,
    ):
        assert await client.closed() == 1011
    assert "invalid_api_key" in json.dumps(client.events("error"))
    assert "wrong" not in json.dumps(client.seen)


async def test_a_client_that_does_not_read_is_dropped_and_the_others_hear_everything(
    gateways: Gateways,
) -> None:
    async with gateways(resume_grace=0) as gateway, native(gateway) as good:
        deaf = await websockets.connect(f"ws://127.0.0.1:{gateway.port}/v1/sessions/connect", max_queue=1)
        deaf.transport.pause_reading()
        long = "word " * 400
        await wait_until(lambda: len(list(gateway.sessions)) == 2, description="both sessions")
        # How much of it a model says before the next message depends on the machine: it is asked until there is enough.
        async with asyncio.timeout(CLOSE_LIMIT_S + 30):
            while len(list(gateway.sessions)) == 2:
                with contextlib.suppress(websockets.ConnectionClosed):
                    await deaf.send(json.dumps({"type": "send_message", "text": f"[[say: {long}]]"}))
                await asyncio.sleep(0.05)
        await good.send("send_message", text="[[say: hello]]")
        await good.until("turn_ended")
        deaf.transport.abort()


async def test_one_session_that_fails_leaves_the_others_alone(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with native(gateway) as good, native(gateway) as bad:
        await good.until("history_updated")
        broken = (await bad.until("session_started"))["session"]
        (held,) = [held for held in gateway.sessions if held.id == broken]
        driver = held.face.driver
        assert driver is not None

        def fail(*_: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(driver, "_handle", fail)
        await bad.send("interrupt")
        assert await bad.closed() == 1011
        assert bad.seen[-1]["reason"] == "error"
        await good.send("send_message", text="[[say: hello]]")
        await good.until("turn_ended")


async def test_ended_sessions_leave_nothing_behind(gateways: Gateways) -> None:
    def alive() -> set[int]:
        gc.collect()
        return {id(thing) for thing in gc.get_objects() if isinstance(thing, SessionDriver | PicowsSocket)}

    before = alive()  # what tracebacks of other tests may hold

    async def converse(gateway: Gateway, number: int) -> None:
        async with native(gateway) if number % 2 else realtime(gateway) as client:
            await client.until("history_updated" if number % 2 else "session.created")
            if number % 3 == 0:
                client.socket.transport.abort()

    async with gateways(resume_grace=0.2) as gateway:
        for round_number in range(3):
            await asyncio.gather(*(converse(gateway, number + round_number) for number in range(8)))
        await wait_until(lambda: not list(gateway.sessions), description="the sessions' ends")
        await wait_until(lambda: alive() <= before, description="drivers and sockets to be gone")
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("session-")]
