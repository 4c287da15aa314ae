"""A gateway that stops while its clients talk: another one is ready before it lets go, and nobody misses anything."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis.asyncio as aioredis
from msgspec.structs import replace
from prometheus_client import REGISTRY
from websockets.exceptions import WebSocketException

from services.gateway.clients import Listening, TestClient, native
from services.gateway.conftest import QUEUE, Gateways
from services.gateway.test_resuming import frames, records
from support.callers import calling
from support.cutting_proxy import cutting_proxy
from support.model_server import ModelServer, model_server
from support.simulator import SimulatorHandle
from support.waiting import wait_until
from voicebus.contracts.envelope import Entry
from voicebus.contracts.streams import Keys
from voicebus.contracts.tools import Outcome, ToolCall, ToolResult
from voicebus.engine.keeping import Kept
from voicebus_services.gateway import leaving
from voicebus_services.gateway.faces import native as native_face
from voicebus_services.gateway.held import Held
from voicebus_services.gateway.starting import Starting
from voicebus_services.gateway.wiring import Gateway
from voicebus_services.model_simulator import tape


@dataclass
class Stoppable:
    """A gateway that a test stops; it has a minute for that."""

    gateway: Gateway
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def port(self) -> int:
        return self.gateway.port


@asynccontextmanager
async def stoppable(gateways: Gateways, **settings: Any) -> AsyncIterator[Stoppable]:
    started: asyncio.Future[Stoppable] = asyncio.get_running_loop().create_future()

    async def run() -> None:
        async with gateways(**{"drain_timeout": 60, **settings}) as gateway:
            started.set_result(Stoppable(gateway))
            await started.result().stop.wait()

    running = asyncio.create_task(run(), name="stoppable-gateway")
    try:
        yield await started
    finally:
        (await started).stop.set()
        await running


def held_back(monkeypatch: pytest.MonkeyPatch) -> tuple[asyncio.Event, asyncio.Event]:
    """Have sessions that come here wait before they begin: set once one waits, and to be set for it to go on."""
    reached, goes_on = asyncio.Event(), asyncio.Event()
    at_once = Starting.kept

    async def later(starting: Starting, held: Held) -> Kept:
        reached.set()
        await goes_on.wait()
        return await at_once(starting, held)

    monkeypatch.setattr(Starting, "kept", later)
    return reached, goes_on


def following(client: TestClient) -> str:
    """The query of the second connection, for which the gateway has asked."""
    started, asked = client.seen[0], client.events("migrate")[-1]
    return f"?session={started['session']}&token={asked['token']}&seq={frames(client)[-1]['seq']}"


async def test_the_owner_serves_on_until_the_next_one_has_told_its_model_everything(
    gateways: Gateways, simulator: SimulatorHandle
) -> None:
    async with cutting_proxy(int(simulator.url.rpartition(":")[2].partition("/")[0])) as slow:
        url = f"ws://127.0.0.1:{slow.port}/v1/realtime"
        async with gateways(model_url=url) as other, stoppable(gateways) as owner, native(owner) as first:
            await first.send("send_message", text="[[say: one]]")
            await first.until("turn_ended")
            owner.stop.set()
            await first.until("migrate")
            slow.freeze()
            async with native(other, following(first)) as second:
                await wait_until(lambda: slow.accepted, description="the next one to dial its model")
                await first.send("send_message", text="[[say: meanwhile]]")
                await first.until("turn_ended")
                assert second.seen == []
                slow.thaw()
                await second.until("model_reconnected")
                assert await first.closed() == 1012
                await second.send("send_message", text="[[say: two]]")
                await second.until("turn_ended")
    (told,) = [lines for lines in simulator.ledger() if "two" in str(lines)]
    assert [line["text"] for line in told["lines"]][-2:] == ["[[say: two]]", "two"]
    assert "meanwhile" in [line["text"] for line in told["lines"]]
    (reconnecting,) = second.events("model_reconnecting")
    assert reconnecting["cause"] == "migrate"
    # Each record once, but for those that came before the second connection took over: it asked from there on.
    both = {*records(first), *records(second)}
    assert sorted(seq for seq, _ in both) == list(range(1, max(both)[0] + 1))


async def test_a_call_is_run_whose_id_the_model_has_given_at_the_gateway_before_too(
    gateways: Gateways, tool_worker: list[ToolCall]
) -> None:
    call = {"id": "item_1", "type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": "{}"}

    async def calls_and_answers(model: ModelServer, client: TestClient, outputs: int) -> Any:
        """The same on each socket: `resp_1` makes the call, `resp_2` says nothing of it."""
        begun = {"id": "resp_1", "status": "in_progress"}
        item = {"response_id": "resp_1", "output_index": 0, "item": {**call, "status": "completed"}}
        await model.say(
            {"type": "response.created", "response": begun},
            {"type": "response.output_item.done", **item},
            {"type": "response.done", "response": {**begun, "status": "completed"}},
        )
        end = await client.until("tool_end")
        await model.hears("response.create", outputs)
        await model.say(
            {"type": "response.created", "response": {"id": "resp_2", "status": "in_progress"}},
            {"type": "response.done", "response": {"id": "resp_2", "status": "completed"}},
        )
        return end

    async with (
        model_server() as model,
        gateways(model_url=model.url) as other,
        stoppable(gateways, model_url=model.url) as owner,
        native(owner) as first,
    ):
        await model.hears("session.update")
        told = await calls_and_answers(model, first, 1)
        owner.stop.set()
        await first.until("migrate")
        async with native(other, following(first)) as second:
            await second.until("model_reconnected")
            again = await calls_and_answers(model, second, 2)
    assert [one.call_id for one in tool_worker] == [told["call_id"], again["call_id"]]
    assert told["call_id"] == "call_1" != again["call_id"]
    outputs = [event["item"]["call_id"] for event in model.of_type("conversation.item.create")]
    assert outputs[-1] == "call_1", "its model knows no other id"


async def test_a_session_that_comes_counts_once_however_many_of_its_models_sockets_die(gateways: Gateways) -> None:
    async with model_server() as model, gateways(model_url=model.url) as other:
        async with stoppable(gateways) as owner, native(owner) as first:
            await first.until("history_updated")
            owner.stop.set()
            await first.until("migrate")
            async with native(other, following(first)) as second:
                await second.until("model_reconnected")
                for _ in range(2):  # the one that was told the session before it came, and the next
                    model.cut()
                    await second.until("model_reconnected")
                async with native(other) as third:
                    await third.until("history_updated")
                    model.cut()
                    await third.until("model_reconnected")
                    address = model.url.split("/")[2]
                    assert REGISTRY.get_sample_value("voicebus_model_circuit_open", {"address": address}) == 0


async def test_our_client_follows_from_gateway_to_gateway_and_nothing_shows(gateways: Gateways) -> None:
    async with gateways() as last, stoppable(gateways) as second, stoppable(gateways) as first:
        async with cutting_proxy(first.port) as way, calling(f"http://127.0.0.1:{way.port}") as caller:
            for number, (stops, port) in enumerate(((first, second.port), (second, last.port))):
                await caller.types(f"[[say: turn {number}]]")
                await caller.hears(f"turn {number}")
                await caller.says(f"[[say: ok]] {number}")
                before = way.accepted
                stops.stop.set()
                # At first the address still leads to the one that stops, which sends the second connection away.
                await wait_until(lambda: way.accepted > before, description="the second connection")  # noqa: B023
                way.target = port
                await wait_until(lambda: not list(stops.gateway.sessions), description="the session to move")  # noqa: B023
            await caller.types("[[say: the last]]")
            await caller.hears("the last")
            await caller.until(lambda one: len(one.of("model_reconnected")) == 2, "both moves")
            heard = [text for role, text in caller.lines() if role == "user"]
            moves = [event["cause"] for event in caller.of("model_reconnecting")]
    assert caller.of("connection_lost") == []
    assert moves == ["migrate", "migrate"]
    assert [text for text in heard if "ok" in text] == ["[[say: ok]] 0", "[[say: ok]] 1"]
    told = [event["seq"] for event in caller.events if event["type"] in ("item_recorded", "turn_ended", "agent_end")]
    assert told == sorted(told)
    seqs = [event["seq"] for event in caller.of("item_recorded")]
    assert len(seqs) == len(set(seqs))


async def test_a_gateway_alone_waits_for_the_next_one_and_gives_its_session_to_that(gateways: Gateways) -> None:
    async with stoppable(gateways) as owner, native(owner) as first:
        await first.send("send_message", text="[[say: one]]")
        await first.until("turn_ended")
        owner.stop.set()
        await wait_until(lambda: owner.gateway.health.draining, description="the drain")
        await first.send("send_message", text="[[say: alone]]")
        await first.until("turn_ended")
        assert first.events("migrate") == []
        async with gateways() as other:
            await first.until("migrate")
            async with native(other, following(first)) as second:
                await second.until("model_reconnected")
                assert await first.closed() == 1012
                await second.send("send_message", text="[[say: two]]")
                await second.until("turn_ended")


async def test_a_client_that_does_not_follow_is_sent_away_at_rest(
    gateways: Gateways, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaving, "FOLLOW_S", 0.1)
    async with gateways() as other, stoppable(gateways) as owner, native(owner) as first:
        await first.send("send_message", text="[[say: one]]")
        await first.until("turn_ended")
        owner.stop.set()
        assert await first.closed() == 1012
        async with native(other, following(first)) as second:
            await second.until("model_reconnected")


async def test_a_client_is_asked_for_its_sound_by_each_greeting_until_it_has_said_something(
    gateways: Gateways, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaving, "FOLLOW_S", 0.1)
    async with gateways() as other, stoppable(gateways) as owner, native(owner) as first:
        await first.send("send_message", text="[[say: one]]")
        await first.until("turn_ended")
        owner.stop.set()
        assert await first.closed() == 1012
        for speaks, asked in ((False, True), (True, True), (False, False)):
            async with cutting_proxy(other.port) as way, native(way, following(first)) as client:
                greeting = await client.until("session_resumed")
                assert ("resend_audio" in greeting, "resend_turns" in greeting) == (asked, asked)
                if speaks:
                    await client.send("mute", muted=False, id="m")
                    await client.until("ack", id="m")
                way.cut()


async def test_a_client_that_comes_before_its_session_has_begun_here_listens_once_it_has(
    gateways: Gateways, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaving, "FOLLOW_S", 0.1)
    reached, goes_on = held_back(monkeypatch)
    async with gateways() as other, stoppable(gateways) as owner, native(owner) as first:
        await first.send("send_message", text="[[say: one]]")
        await first.until("turn_ended")
        owner.stop.set()
        assert await first.closed() == 1012
        async with cutting_proxy(other.port) as way:
            # It has given up waiting when the session comes, and asks again.
            impatient = asyncio.create_task(_tries(way, following(first)), name="impatient")
            await reached.wait()
            way.cut()
            await impatient
        async with native(other, following(first)) as second:
            await second.until("history_updated")
            goes_on.set()
            await second.until("model_reconnected")
            await second.send("send_message", text="[[say: here]]")
            await second.until("item_recorded", text="here")
    assert [kind for _, kind in records(second)].count("session_resumed") == 1


async def test_what_a_client_says_in_one_go_before_its_session_has_come_is_heard_and_so_is_what_it_says_then(
    gateways: Gateways, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, goes_on = held_back(monkeypatch)
    async with gateways() as other, stoppable(gateways) as owner, native(owner) as first:
        await first.send("send_message", text="[[say: one]]")
        await first.until("turn_ended")
        owner.stop.set()
        await first.until("migrate")
        async with native(other, following(first)) as second:
            await reached.wait()
            for number in range(6):
                await second.send("interrupt", id=f"early-{number}")
            goes_on.set()
            await second.until("ack", id="early-5")
            await second.send("send_message", text="[[say: two]]")
            await second.until("item_recorded", text="two")


async def _tries(gateway: Listening, query: str) -> None:
    with contextlib.suppress(OSError, WebSocketException, EOFError):
        async with native(gateway, query):
            raise AssertionError("it was let in")


async def test_a_client_that_leaves_the_old_gateway_before_the_new_one_has_greeted_it_has_not_hung_up(
    gateways: Gateways,
) -> None:
    async with gateways() as other, stoppable(gateways) as owner, native(owner) as first:
        await first.until("history_updated")
        owner.stop.set()
        await first.until("migrate")
        await first.socket.close(1000)
        async with native(other, following(first)) as second:
            await second.send("send_message", text="[[say: here]]")
            await second.until("turn_ended")


async def test_a_client_that_hangs_up_instead_of_following_ends_its_session(
    gateways: Gateways, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native_face, "FOLLOWING_S", 0.1)
    async with gateways(), stoppable(gateways) as owner, native(owner) as first:
        await first.until("history_updated")
        (held,) = owner.gateway.sessions
        owner.stop.set()
        await first.until("migrate")
        await first.socket.close(1000)
        await wait_until(lambda: not list(owner.gateway.sessions), description="the session's end")
        assert b'"reason":"hangup"' in held.face.recorded.newest.frame.replace(b": ", b":")


async def test_a_gateway_without_room_takes_no_session_and_its_owner_serves_on(gateways: Gateways) -> None:
    async with gateways(max_sessions=1) as full, gateways() as roomy, stoppable(gateways) as owner:
        async with native(full) as taking, native(owner) as first:
            await taking.until("history_updated")
            await first.until("history_updated")
            owner.stop.set()
            await first.until("migrate")
            async with native(full, following(first)) as refused:
                assert (await refused.until("error"))["code"] == "full"
                assert await refused.closed() == 4429
            async with native(owner, following(first)) as refused:
                assert await refused.closed() == 1012
            await first.send("send_message", text="[[say: still here]]")
            await first.until("turn_ended")
            async with native(roomy, following(first)) as second:
                await second.until("session_resumed")
                assert await first.closed() == 1012


async def test_tokens_and_time_that_were_used_count_with_the_next_gateway(gateways: Gateways) -> None:
    one_turn = 0
    async with gateways() as measuring, native(measuring) as client:
        await client.send("send_message", text="[[say: one]]")
        one_turn = (await client.until("turn_ended"))["usage"]["total_tokens"]
    limits = {"max_session_tokens": one_turn + 1, "max_session_length": "1h"}
    async with gateways(**limits) as other, stoppable(gateways, **limits) as owner, native(owner) as first:
        await first.send("send_message", text="[[say: one]]")
        await first.until("turn_ended")
        owner.stop.set()
        await first.until("migrate")
        async with native(other, following(first)) as second:
            await second.until("session_resumed")
            (held,) = other.sessions
            assert held.bounded is not None
            assert held.inherited is not None
            assert held.inherited.kept.elapsed_s > 0
            await second.send("send_message", text="[[say: one]]")
            assert (await second.until("session_ended"))["reason"] == "session_tokens"


async def test_a_call_that_a_worker_without_claims_runs_is_not_run_again_and_its_answer_is_found(
    gateways: Gateways, redis_url: str, stream_prefix: str
) -> None:
    keys = Keys(stream_prefix)
    queue = keys.tools(QUEUE)
    async with (
        aioredis.from_url(redis_url, decode_responses=True) as bus,
        gateways() as other,
        stoppable(gateways, drain_timeout=0) as owner,
        native(owner) as first,
    ):
        await bus.xgroup_create(queue, "workers", "0", mkstream=True)
        await first.send("send_message", text='[[call: get_weather {"city": "Paris"}]][[next]][[say: It is {outputs}]]')
        await first.until("tool_start")

        async def taken() -> Any:
            return await bus.xreadgroup("workers", "depot-python", {queue: ">"}, count=1)

        ((_, ((entry_id, fields),)),) = await wait_until(taken, description="the worker to have the call")
        owner.stop.set()
        assert await first.closed() == 1012
        started, seq = first.seen[0], frames(first)[-1]["seq"]
        async with native(other, f"?session={started['session']}&token={started['token']}&seq={seq}") as second:
            await second.until("model_reconnected")
            call = Entry.parse(fields)
            result = ToolResult(
                call_id=call.data["call_id"], outcome=Outcome.OK, output="sunny", worker="depot", duration_ms=1
            )
            data = result.model_dump(mode="json")
            reply: Any = replace(call, id="r1", type="tool.result", data=data).fields()
            await bus.xadd(call.data["reply_to"], reply)
            await bus.xack(queue, "workers", entry_id)
            assert (await second.until("tool_end"))["output"] == "sunny"
            await second.until("item_recorded", role="assistant")
            assert await bus.xlen(queue) == 1
        await bus.expire(queue, 60)


async def test_what_the_user_was_saying_is_heard_by_the_next_gateway_whole_and_once(gateways: Gateways) -> None:
    sound = tape.record("what is the weather in Paris")
    half = len(sound) // 4 * 2
    async with gateways() as other, stoppable(gateways, drain_timeout=0) as owner:
        async with cutting_proxy(owner.port) as way, calling(f"http://127.0.0.1:{way.port}") as caller:
            await caller.says("[[say: first]]")  # committed, so it is not said again
            await caller.hears("first")
            for start in range(0, half, 4800):
                await caller.conversation.send_audio(sound[start : min(start + 4800, half)])
            await caller.conversation.command("mute", muted=False, id="behind it")
            await caller.until(lambda one: one.of("ack"), "the speech to arrive")
            way.target = other.port
            owner.stop.set()
            await caller.until(lambda one: one.of("session_resumed"), "the session to go on")
            await caller.conversation.send_audio(sound[half:] + bytes(48 * 900))
            await caller.until(lambda one: len([role for role, _ in one.lines() if role == "user"]) == 2, "the turn")
    said = [text for role, text in caller.lines() if role == "user"]
    assert said == ["[[say: first]]", "what is the weather in Paris"]
