"""A native client whose connection was lost comes back: to the same session, which went on meanwhile."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as aioredis
from websockets.exceptions import ConnectionClosed

import voicebus
from services.gateway.clients import Listening, TestClient, native, realtime
from services.gateway.conftest import Gateways
from support.callers import calling
from support.cutting_proxy import cutting_proxy
from support.waiting import wait_until
from voicebus.contracts.journal import EventType
from voicebus.contracts.streams import Keys
from voicebus.contracts.tools import ToolCall
from voicebus.errors import RemoteError
from voicebus_services.call.command import CallOptions, run_call
from voicebus_services.gateway.faces import missed
from voicebus_services.gateway.faces.recorded import RecordedLog
from voicebus_services.gateway.wiring import Gateway
from voicebus_services.model_simulator import tape

RECORDED = frozenset(EventType)


def resumed(gateway: Listening, of: TestClient, seq: int, extra: str = "") -> AbstractAsyncContextManager[TestClient]:
    started = of.seen[0]
    return native(gateway, f"?session={started['session']}&token={started['token']}&seq={seq}{extra}")


async def drain(client: TestClient) -> None:
    """Read what is still to be read on a connection that is gone."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            frame = await client.socket.recv()
            client.seen.append(frame if isinstance(frame, bytes) else json.loads(frame))


async def unattended(gateway: Gateway, client: TestClient) -> None:
    face = gateway.sessions.find(client.seen[0]["session"])
    assert face is not None
    await wait_until(lambda: not face.is_attended, description="the loss to be noticed")


@asynccontextmanager
async def lost(gateway: Gateway, text: str, *, after: str = "turn_ended") -> AsyncIterator[TestClient]:
    """A client that has said `text`, and whose connection was cut without a word after an event of that type."""
    async with cutting_proxy(gateway.port) as proxy, native(proxy) as client:
        await client.until("history_updated")
        await client.send("send_message", text=text, id="m")
        await client.until(after)
        proxy.cut()
        await drain(client)
        await unattended(gateway, client)
        yield client


def frames(client: TestClient) -> list[dict[str, Any]]:
    return [frame for frame in client.seen if not isinstance(frame, bytes)]


def records(client: TestClient) -> list[tuple[int, str]]:
    """What was recorded, in the order in which it was told; the greeting aside."""
    greeting, *rest = frames(client)
    told = rest if greeting["type"] == "session_resumed" else [greeting, *rest]
    answers = [frame for frame in told if frame["type"] == "error" and "id" in frame]
    return [(frame["seq"], frame["type"]) for frame in told if frame["type"] in RECORDED and frame not in answers]


@pytest.mark.parametrize("back", [0, 2, 10_000])
async def test_a_lost_client_gets_what_it_has_missed_in_order_and_once_then_what_comes(
    gateway: Gateway, back: int
) -> None:
    async with lost(gateway, "[[say: Good morning]]") as first:
        face = gateway.sessions.find(first.seen[0]["session"])
        assert face is not None
        seq = min(back, face.recorded.last)
        async with resumed(gateway, first, back) as second:
            await second.send("send_message", text="[[say: and again]]", id="m")
            await second.until("item_recorded", text="and again")
    greeting, started = second.seen[0], first.seen[0]
    assert second.types[:2] == ["session_resumed", "history_updated"]
    assert (greeting["session"], greeting["token"], greeting["agent"]) == (
        started["session"],
        started["token"],
        "reception",
    )
    assert greeting["audio"] == started["audio"]
    assert greeting["from_seq"] == seq
    told = records(second)
    assert [number for number, _ in told] == list(range(seq + 1, told[-1][0] + 1))
    assert [kind for _, kind in told].count("session_resumed") == 1
    every = [frame["seq"] for frame in frames(second)]
    assert every == sorted(every)
    assert {"type": "ack", "id": "m"}.items() <= second.events("ack")[0].items()


async def test_the_conversation_goes_on_while_the_client_is_away(gateway: Gateway, tool_worker: list[ToolCall]) -> None:
    message = '[[call: get_weather {"city": "Paris"}]][[next]][[say: It says {outputs}]]'
    async with lost(gateway, message, after="ack") as first:
        await wait_until(lambda: tool_worker, description="the call to be made for a client that is away")
        async with resumed(gateway, first, frames(first)[-1]["seq"]) as second:
            spoken = await second.until("item_recorded", role="assistant")
    assert "get_weather got" in spoken["text"]
    assert spoken["truncated"] is False
    both = [*records(first), *records(second)]
    assert [number for number, _ in both] == list(range(1, both[-1][0] + 1))
    assert [kind for _, kind in both].count("tool_end") == 1


async def test_what_was_said_to_nobody_is_heard_after_the_return(gateway: Gateway) -> None:
    async with native(gateway) as whole:
        await whole.send("send_message", text="[[say: Good morning to you all]]")
        await whole.until("audio_end")
    async with lost(gateway, "[[delay: 300ms]] [[say: Good morning to you all]]", after="ack") as first:
        face = gateway.sessions.find(first.seen[0]["session"])
        assert face is not None
        await wait_until(lambda: b"turn_ended" in face.recorded.newest.frame, description="the end of the turn")
        async with resumed(gateway, first, 2) as second:
            await second.until("audio_end")
    assert first.audio + second.audio == whole.audio
    kinds = second.types
    assert kinds.index("session_resumed", 1) < kinds.index("audio") < kinds.index("<binary>") < kinds.index("audio_end")


async def test_an_answer_to_nobody_that_grows_too_long_is_stopped_at_what_was_heard(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(missed, "MISSED_S", 1)
    async with lost(gateway, f"[[delay: 300ms]] [[say: {'word ' * 60}]]", after="ack") as first:
        face = gateway.sessions.find(first.seen[0]["session"])
        assert face is not None
        await wait_until(lambda: b"turn_ended" in face.recorded.newest.frame, description="the end of the turn")
        async with resumed(gateway, first, 2) as second:
            line = await second.until("item_recorded", role="assistant")
            await second.until("audio_interrupted")
    assert line["truncated"] is True
    assert len(line["heard_text"]) < len(line["text"])
    assert second.audio == b""


async def test_a_call_from_the_terminal_survives_the_loss_of_its_connection(
    gateway: Gateway, tool_worker: list[ToolCall]
) -> None:
    lines: list[str] = []
    async with cutting_proxy(gateway.port) as proxy:
        text = '[[call: get_weather {"city": "Paris"}]][[next]][[say: It is sunny.]]'
        call = run_call(CallOptions(f"http://127.0.0.1:{proxy.port}", text=text), out=lines.append)
        calling = asyncio.create_task(call)
        await wait_until(lambda: tool_worker, description="the call under way")
        proxy.cut()
        await calling
    assert proxy.accepted == 2
    assert [line for line in lines if line.startswith("agent:")] == ["agent: It is sunny."]
    assert lines[-1].endswith("ended ended")


async def test_a_client_that_does_not_come_back_in_time_has_hung_up(gateways: Gateways) -> None:
    async with gateways(resume_grace=0.2) as gateway, lost(gateway, "[[say: hello]]") as first:
        face = gateway.sessions.find(first.seen[0]["session"])
        assert face is not None
        await wait_until(lambda: not list(gateway.sessions), description="the session's end")
    assert json.loads(face.recorded.newest.frame)["reason"] == "hangup"


async def test_without_a_grace_a_lost_client_has_hung_up_at_once(gateways: Gateways) -> None:
    async with gateways(resume_grace=0) as gateway, native(gateway) as client:
        await client.until("history_updated")
        client.socket.transport.abort()
        await wait_until(lambda: not list(gateway.sessions), description="the session's end")


async def test_every_close_code_but_a_hang_up_begins_the_grace(gateway: Gateway) -> None:
    for code in (1001, 1011, 4000):
        async with native(gateway) as first:
            await first.until("history_updated")
            await first.socket.close(code)
        await unattended(gateway, first)
        async with resumed(gateway, first, 1) as second:
            await second.until("history_updated")
            await second.send("end")
            assert await second.closed() == 1000
    await wait_until(lambda: not list(gateway.sessions), description="the sessions' end")


async def test_the_second_connection_takes_over_and_the_first_is_told(gateway: Gateway) -> None:
    async with native(gateway) as first:
        await first.until("history_updated")
        async with resumed(gateway, first, 1) as second:
            await second.until("history_updated")
            assert await first.closed() == 4409
            await second.send("send_message", text="[[say: hello]]")
            await second.until("turn_ended")


async def test_a_client_that_comes_after_the_end_is_told_how_it_came(gateway: Gateway) -> None:
    async with native(gateway) as first:
        await first.until("history_updated")
        await first.send("end")
        await first.closed()
        await wait_until(lambda: not list(gateway.sessions), description="the session's end")
        async with resumed(gateway, first, 1) as second:
            assert await second.closed() == 1000
    assert records(second) == [(2, "session_ended")]


async def test_wrong_credentials_and_sessions_that_are_none_are_refused(gateway: Gateway) -> None:
    async with native(gateway) as client, realtime(gateway) as other:
        session = (await client.until("session_started"))["session"]
        await other.until("session.created")
        openai = next(held.id for held in gateway.sessions if held.id != session)
        for query, close_code, code in (
            (f"?session={session}&token=wrong", 1008, "credentials"),
            (f"?session={session}", 1008, "credentials"),
            (f"?session={session}&token=", 1008, "credentials"),
            (f"?session={session}&observe=1&token=wrong", 1008, "credentials"),
            ("?session=01J0000000000000000000000&token=x", 4404, "unknown_session"),
            (f"?session={openai}&token=x", 4404, "unknown_session"),
            ("?session=&token=", 4404, "unknown_session"),
        ):
            async with native(gateway, query) as refused:
                assert await refused.closed() == close_code, query
            assert [event["code"] for event in refused.events("error")] == [code]
        await client.send("interrupt", id="i")
        await client.until("ack", id="i")


async def test_a_stranger_does_not_learn_whether_there_is_a_session(gateways: Gateways, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("acme:acme-key\nother:other-key\n", encoding="utf-8")
    invented = "01J0000000000000000000000"

    async def told(gateway: Gateway, session: str, **headers: str) -> tuple[int | None, dict[str, Any]]:
        async with native(gateway, f"?session={session}&token=wrong", additional_headers=headers) as client:
            code = await client.closed()
        (error,) = client.events("error")
        return code, {key: value for key, value in error.items() if key != "at"}

    acme, other = ({"Authorization": f"Bearer {key}"} for key in ("acme-key", "other-key"))
    async with (
        gateways(api_keys_file=file) as gateway,
        gateways(api_keys_file=file) as peer,
        native(gateway, additional_headers=acme) as client,
    ):
        session = (await client.until("session_started"))["session"]
        for asked in (gateway, peer):
            for stranger in ({}, {"Authorization": "Bearer guessed"}):
                there, invented_one = [await told(asked, one, **stranger) for one in (session, invented)]
                assert there == invented_one
                assert (there[0], there[1]["code"]) == (1008, "credentials")
            assert (await told(asked, session, **other))[0] == (await told(asked, invented, **other))[0] == 4404
            assert [(await told(asked, one, **acme))[0] for one in (session, invented)] == [1008, 4404]


@pytest.mark.parametrize("trimmed", [False, True])
async def test_what_the_owner_does_not_remember_comes_from_redis(
    gateway: Gateway,
    tool_worker: list[ToolCall],
    redis_url: str,
    stream_prefix: str,
    monkeypatch: pytest.MonkeyPatch,
    trimmed: bool,
) -> None:
    monkeypatch.setattr(RecordedLog.__init__, "__kwdefaults__", {"max_events": 2, "max_bytes": 10_000})
    async with lost(gateway, '[[call: get_weather {"city": "Paris"}]][[next]][[say: so]]', after="tool_end") as first:
        session = first.seen[0]["session"]
        face = gateway.sessions.find(session)
        assert face is not None
        await wait_until(lambda: face.recorded.last >= 6, description="a few more events")
        keys = Keys(stream_prefix)
        async with aioredis.from_url(redis_url, decode_responses=True) as client:
            state = keys.session_state(session)
            await wait_until(
                lambda: _is(client.hget(state, "seq"), str(face.recorded.last)), description="the events in Redis"
            )
            if trimmed:
                await client.xtrim(keys.events(keys.event_shard(session)), maxlen=0)
        async with resumed(gateway, first, 1) as second:
            await second.send("interrupt", id="i")
            await second.until("ack", id="i")
    told = records(second)
    if not trimmed:
        assert [number for number, _ in told] == list(range(2, told[-1][0] + 1))
        same = {number: kind for number, kind in records(first) if number > 1}
        assert same.items() <= dict(told).items()
        return
    # Of a call Redis keeps the last word alone; the rest is a gap that says so.
    assert "transcript_gap" in [kind for _, kind in told]
    covered: list[int] = []
    for frame in frames(second)[1:]:
        if frame["type"] == "transcript_gap":
            covered += range(frame["first"], frame["last"] + 1)
        elif (frame["seq"], frame["type"]) in told:
            covered.append(frame["seq"])
    assert covered == list(range(2, covered[-1] + 1))
    assert "tool_end" in [kind for _, kind in told]


async def _is(asked: Any, wanted: str) -> bool:
    return bool((await asked) == wanted)


async def test_speech_that_was_lost_on_its_way_is_heard_whole_and_once(gateway: Gateway) -> None:
    sound = tape.record("[[say: heard you]]")
    parts = [sound[start : start + 4800] for start in range(0, len(sound), 4800)]
    async with cutting_proxy(gateway.port) as proxy, calling(f"http://127.0.0.1:{proxy.port}") as caller:
        for part in parts[:4]:
            await caller.conversation.send_audio(part)
        await caller.conversation.command("mute", muted=False, id="arrived")
        await caller.until(lambda one: one.of("ack"), "the first part to arrive")
        proxy.freeze()
        for part in parts[4:8]:
            await caller.conversation.send_audio(part)
        proxy.cut()
        proxy.thaw()
        await caller.until(lambda one: one.of("session_resumed"), "the return")
        await caller.conversation.send_audio(b"".join(parts[8:]) + bytes(48 * 900))
        await caller.hears("heard you")
    assert caller.lines()[0] == ("user", "[[say: heard you]]")


async def test_a_gateway_without_room_for_a_session_that_there_is_says_4429(gateways: Gateways) -> None:
    async with AsyncExitStack() as stack:
        async with gateways() as leaving:
            first = await stack.enter_async_context(native(leaving))
            await first.until("history_updated")
            other = await stack.enter_async_context(gateways(max_sessions=1))
        assert await first.closed() == 1012
        async with native(other) as taking:
            await taking.until("history_updated")
            async with resumed(other, first, 1) as refused:
                assert (await refused.until("error"))["code"] == "full"
                assert await refused.closed() == 4429
        await wait_until(lambda: other.sessions.free == 1, description="the slot back")
        async with resumed(other, first, 1) as back:
            await back.until("session_resumed")


async def test_a_client_comes_back_where_there_is_room_and_a_new_one_is_turned_away_for_good(
    gateways: Gateways,
) -> None:
    async with AsyncExitStack() as stack:
        async with gateways() as leaving:
            way = await stack.enter_async_context(cutting_proxy(leaving.port))
            url = f"http://127.0.0.1:{way.port}"
            session = await stack.enter_async_context(voicebus.connect(url))
            other = await stack.enter_async_context(gateways(max_sessions=1))
            way.refuses = True
        way.target = other.port
        async with native(other) as taking:
            await taking.until("history_updated")
            with pytest.raises(RemoteError, match="every session slot"):
                await voicebus.connect(f"http://127.0.0.1:{other.port}").enter()
            way.refuses, before = False, way.accepted
            await wait_until(lambda: way.accepted >= before + 2, description="the client to ask again")
            assert not session.closed
        await session.send_message("[[say: here]]")
        async for event in session:
            if event.type == "agent_end":
                assert event.output == "here"
                break
