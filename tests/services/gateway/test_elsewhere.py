"""Sessions that ended while their client was away, and whose gateway is gone by then: how they ended is still told."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

import pytest
import redis.asyncio as aioredis

import voicebus
from services.gateway.clients import TestClient, native
from services.gateway.conftest import BANK, QUEUE, Gateways
from services.gateway.routes.test_events import reading, sse
from services.gateway.test_resuming import lost, records
from support.cutting_proxy import cutting_proxy
from support.waiting import wait_until
from voicebus.adapters.redis.client import connect
from voicebus.adapters.redis.clock import RedisClock
from voicebus.adapters.redis.takeover import Left, RedisTakeover, Standing
from voicebus.contracts.streams import HEARTBEAT_TTL_S, Keys
from voicebus.contracts.tools import MAX_RESULT, Outcome, ToolResult
from voicebus.engine.inputs import End
from voicebus.errors import BusError
from voicebus_services.gateway.faces.native import NativeFace
from voicebus_services.gateway.takeover import Takeover
from voicebus_services.gateway.wiring import Gateway


@pytest.fixture
async def bus(redis_url: str) -> Any:
    async with aioredis.from_url(redis_url, decode_responses=True) as connection:
        yield connection


async def ended(gateway: Gateway, session: str) -> None:
    """Have a session end whose client is away."""
    face = gateway.sessions.find(session)
    assert face is not None
    face.live().feed(End("ended"))
    await wait_until(lambda: not list(gateway.sessions), description="the session's end")


async def told(gateway: Gateway, first: TestClient, seq: int, token: str | None = None) -> TestClient:
    started = first.seen[0]
    query = f"?session={started['session']}&token={token or started['token']}&seq={seq}"
    async with native(gateway, query) as client:
        client.seen.append({"type": "closed", "code": await client.closed()})
    return client


@pytest.mark.parametrize("trimmed", [False, True])
async def test_who_comes_after_the_end_of_session_and_gateway_hears_the_rest_and_the_end(
    gateways: Gateways, bus: Any, stream_prefix: str, trimmed: bool
) -> None:
    keys = Keys(stream_prefix)
    async with gateways() as other:
        async with gateways() as gone, lost(gone, "[[say: Good morning]]") as first:
            session = first.seen[0]["session"]
            await ended(gone, session)
        if trimmed:
            await bus.delete(keys.events(keys.event_shard(session)))
        client = await told(other, first, 2)
        end = client.seen[-2]
        assert client.types[:2] == ["session_resumed", "history_updated"]
        assert client.seen[0]["from_seq"] == 2
        assert [item["role"] for item in client.seen[1]["history"]] == ["user", "assistant"]
        assert ("item_recorded" in client.types, "transcript_gap" in client.types) == (True, trimmed)
        assert (end["type"], end["reason"], client.seen[-1]["code"]) == ("session_ended", "ended", 1000)
        assert end["duration_ms"] > 0
        if not trimmed:
            assert [seq for seq, _ in records(client)] == list(range(3, end["seq"] + 1))
        # Who has read more than the dead gateway wrote hears of the end as well.
        late = await told(other, first, end["seq"] + 9)
        assert (late.seen[0]["from_seq"], late.seen[-2]["type"]) == (end["seq"] - 1, "session_ended")
        assert (await told(other, first, end["seq"])).types[:-1] == ["session_resumed", "history_updated"]
        # Neither the wrong token nor the right one too late.
        assert (await told(other, first, 2, token="guessed")).seen[-1]["code"] == 1008
        state = keys.session_state(session)
        await bus.hset(state, "ended_at", int(await bus.hget(state, "ended_at")) - 61_000)
        assert (await told(other, first, 2)).seen[-1]["code"] == 4404


async def test_a_client_of_ours_reads_how_its_session_ended_meanwhile(gateways: Gateways) -> None:
    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(gateways())
        async with gateways() as gone:
            way = await stack.enter_async_context(cutting_proxy(gone.port))
            session = await stack.enter_async_context(voicebus.connect(f"http://127.0.0.1:{way.port}"))
            way.refuses = True
            way.cut()
            await ended(gone, session.id)
        way.target, way.refuses = other.port, False
        kinds = [event.type async for event in session]
        assert session.end_reason == "ended"
        assert kinds[0] == "history_updated"


async def test_a_gateway_that_cannot_go_on_with_a_session_leaves_it_to_those_that_can(gateways: Gateways) -> None:
    async with gateways(BANK) as unable, gateways() as able, AsyncExitStack() as stack:
        async with gateways() as gone:
            first = await stack.enter_async_context(native(gone))
            await first.until("history_updated")
        assert await first.closed() == 1012
        refused = await told(unable, first, 1)
        assert [frame.get("code") for frame in refused.seen[-2:]] == ["session_unavailable", 1013], refused.seen
        started = first.seen[0]
        query = f"?session={started['session']}&token={started['token']}&seq=1"
        async with native(able, query) as second:
            await second.send("send_message", text="[[say: here]]")
            await second.until("turn_ended")


async def left_behind(gateways: Gateways) -> TestClient:
    """A client whose gateway has stopped, and which has its session still to find."""
    async with AsyncExitStack() as stack:
        async with gateways() as gone:
            client = await stack.enter_async_context(native(gone))
            await client.until("history_updated")
        assert await client.closed() == 1012
        return client


def coming_back(client: TestClient) -> str:
    started = client.seen[0]
    return f"?session={started['session']}&token={started['token']}&seq=1"


async def test_who_has_read_more_than_a_dead_gateway_wrote_gets_all_that_is_recorded_instead(
    gateways: Gateways, bus: Any, stream_prefix: str
) -> None:
    async with gateways() as here:
        first = await left_behind(gateways)
        session = first.seen[0]["session"]
        written = int(await bus.hget(Keys(stream_prefix).session_state(session), "seq"))
        ahead = coming_back(first).replace("&seq=1", f"&seq={written + 3}")
        async with native(here, ahead) as cut_off:
            # Greeted, and lost before its client has read anything.
            await cut_off.until("model_reconnected")
            cut_off.socket.transport.abort()
        async with native(here, ahead) as speaker, native(here, f"{ahead}&observe=1") as observer:
            for client in (speaker, observer):
                await client.until("model_reconnected")
                assert client.seen[0]["from_seq"] == written
                told = [seq for seq, _ in records(client)]
                assert told == list(range(written + 1, told[-1] + 1))
            async with reading(here, session, **{"Last-Event-ID": str(written + 3)}) as response:
                async for seq, _, _ in sse(response):
                    assert seq == written + 1
                    break
            # Once it has said something it has read here, and is given nothing twice.
            await speaker.send("mute", muted=False, id="m")
            await speaker.until("ack", id="m")
            seq = records(speaker)[-1][0]
            async with native(here, coming_back(first).replace("&seq=1", f"&seq={seq}")) as again:
                await again.until("session_resumed", seq=seq + 1)
                assert again.seen[0]["from_seq"] == seq


async def test_a_stored_result_that_is_too_large_for_a_session_comes_as_an_error_here_too(
    gateways: Gateways, bus: Any, stream_prefix: str
) -> None:
    keys = Keys(stream_prefix)
    async with gateways() as here, AsyncExitStack() as stack:
        async with gateways() as gone:
            first = await stack.enter_async_context(native(gone))
            await first.send("send_message", text='[[call: get_weather {"city": "Paris"}]][[next]][[say: so]]')
            call = (await first.until("tool_start"))["call_id"]
        assert await first.closed() == 1012
        # Its worker has ended it while nobody had the session.
        result = ToolResult(
            call_id=call, outcome=Outcome.OK, output="x" * (MAX_RESULT + 1), worker="depot", duration_ms=1
        )
        record = keys.call(QUEUE, first.seen[0]["session"], call)
        await bus.hset(record, mapping={"state": "finished", "result": result.model_dump_json()})
        await bus.expire(record, 60)
        async with native(here, coming_back(first)) as second:
            ended = await second.until("tool_end", call_id=call)
            assert ended["outcome"] == Outcome.ERROR
            assert str(MAX_RESULT) in ended["output"]


async def just_died(bus: Any, keys: Keys, client: TestClient, address: str) -> None:
    """As if the session's gateway had been killed this moment, and this were where it was reached."""
    state = keys.session_state(client.seen[0]["session"])
    await bus.hdel(state, "released")
    heartbeat = keys.gateway(await bus.hget(state, "owner"))
    await bus.hset(heartbeat, mapping={"address": address})
    await bus.expire(heartbeat, HEARTBEAT_TTL_S)


async def test_a_gateway_that_is_started_where_the_dead_one_was_takes_its_sessions(
    gateways: Gateways, bus: Any, stream_prefix: str
) -> None:
    async with gateways() as here:
        first = await left_behind(gateways)
        await just_died(bus, Keys(stream_prefix), first, f"http://127.0.0.1:{here.port}")
        async with native(here, coming_back(first)) as second:
            assert (await second.until("session_resumed", "error"))["type"] == "session_resumed"
            await second.send("send_message", text="[[say: here]]")
            await second.until("turn_ended")


async def test_a_session_whose_dead_gateway_has_left_its_address_to_another_one_goes_on(
    gateways: Gateways, bus: Any, stream_prefix: str
) -> None:
    async with gateways() as here, gateways() as another:
        first = await left_behind(gateways)
        await just_died(bus, Keys(stream_prefix), first, f"http://127.0.0.1:{another.port}")
        session = first.seen[0]["session"]
        async with native(here, f"?session={session}&observe=1") as observer:
            assert await observer.closed() == 1013
        assert observer.seen[0]["code"] == "owner_gone"
        await just_died(bus, Keys(stream_prefix), first, f"http://127.0.0.1:{another.port}")
        async with native(here, coming_back(first)) as second:
            assert (await second.until("session_resumed", "error"))["type"] == "session_resumed"
        assert [held.id for held in here.sessions] == [session]


async def test_a_takeover_that_failed_ends_no_session_that_was_taken_after_it(
    gateways: Gateways, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces: list[NativeFace] = []
    made, read = Takeover.face, RedisTakeover.results

    def noted(takeover: Takeover, left: Left, token: str) -> NativeFace:
        faces.append(made(takeover, left, token))
        return faces[-1]

    async def fails_once(bus: RedisTakeover, session: str, work: Mapping[str, Any]) -> list[ToolResult]:
        if len(faces) == 1:
            raise BusError("Redis is away")
        return await read(bus, session, work)

    monkeypatch.setattr(Takeover, "face", noted)
    monkeypatch.setattr(RedisTakeover, "results", fails_once)
    async with gateways() as here:
        first = await left_behind(gateways)
        assert (await told(here, first, 1)).seen[-1]["code"] == 1013
        async with native(here, coming_back(first)) as second:
            await second.until("session_resumed")
            # As once its client has not come within the grace.
            faces[0]._hang_up()
            await second.send("send_message", text="[[say: here]]")
            await second.until("turn_ended")


async def test_a_client_that_is_passed_on_to_a_gateway_which_takes_its_session_just_then_finds_it_there(
    gateways: Gateways, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    goes_on = asyncio.Event()
    take, read = Takeover.take, RedisTakeover.results

    async def noted(takeover: Takeover, standing: Any, token: str, **more: Any) -> NativeFace | None:
        asked.append(standing.session)
        return await take(takeover, standing, token, **more)

    async def later(bus: RedisTakeover, session: str, work: Mapping[str, Any]) -> list[ToolResult]:
        await goes_on.wait()
        return await read(bus, session, work)

    monkeypatch.setattr(Takeover, "take", noted)
    monkeypatch.setattr(RedisTakeover, "results", later)
    async with gateways() as taking, gateways() as other:
        first = await left_behind(gateways)

        async def comes(gateway: Gateway) -> int | None:
            async with native(gateway, coming_back(first)) as client:
                await client.until("session_resumed")
                return await client.closed()

        async def stays() -> None:
            async with native(other, coming_back(first)) as client:
                await client.send("send_message", text="[[say: here]]")
                await client.until("turn_ended")

        impatient = asyncio.create_task(comes(taking), name="impatient")
        await wait_until(lambda: len(asked) == 1, description="the session to be taken")
        again = asyncio.create_task(stays(), name="again")
        await wait_until(lambda: len(asked) == 2 or again.done(), description="the client to be passed on")
        goes_on.set()
        await again
        assert await impatient == 4409


async def test_a_client_finds_its_session_where_it_is_while_the_gateway_that_lost_it_still_cleans_up(
    gateways: Gateways, redis_url: str, stream_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cleaning, done = asyncio.Event(), asyncio.Event()
    closed = NativeFace.wait_closed

    async def later(face: NativeFace) -> None:
        if face.is_lost:
            cleaning.set()
            await done.wait()
        await closed(face)

    monkeypatch.setattr(NativeFace, "wait_closed", later)
    keys = Keys(stream_prefix)
    async with gateways() as slept, gateways() as other, await connect(redis_url) as bus:
        clock = RedisClock(bus)
        await clock.synchronise()
        async with native(slept) as first:
            await first.until("history_updated")
            # As while this gateway was frozen: the other one has taken the session, and has not begun with it.
            taking = RedisTakeover(bus, keys, clock, other.id)

            async def recorded() -> Standing | None:
                found = await taking.look(first.seen[0]["session"])
                return found if found is not None and found.seq else None

            standing = await wait_until(recorded, description="the session's first events in Redis")
            assert standing is not None
            await taking.take(standing.session, standing.epoch)
            await first.send("send_message", text="[[say: nobody's]]")
            assert await first.closed() == 4409
        await cleaning.wait()
        async with native(slept, coming_back(first)) as second:
            await second.send("send_message", text="[[say: here]]")
            await second.until("item_recorded", text="here")
        assert [held.id for held in other.sessions] == [standing.session]
        done.set()
        await wait_until(lambda: not list(slept.sessions), description="the end of the clean-up")
