"""Several gateways behind one address: whichever a client reaches, the one that holds its session serves it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as aioredis
import websockets
from websockets.exceptions import ConnectionClosed, InvalidStatus

from services.gateway.clients import TestClient, native, realtime
from services.gateway.conftest import Gateways
from services.gateway.routes.test_events import reading, sse, talked
from support.beating import beating
from support.tls import Authority
from support.waiting import wait_until
from voicebus.contracts.streams import Keys
from voicebus_services.gateway import following
from voicebus_services.gateway.faces.native import NativeFace
from voicebus_services.gateway.remembering import digest
from voicebus_services.gateway.wiring import Gateway


@pytest.fixture
async def other(gateway: Gateway, gateways: Gateways) -> AsyncIterator[Gateway]:
    async with gateways() as running:
        yield running


async def test_a_client_resumes_through_a_gateway_that_does_not_hold_its_session(
    gateway: Gateway, other: Gateway
) -> None:
    async with native(gateway) as first:
        await first.until("history_updated")
        started = first.seen[0]
        await first.socket.close(1001)
    query = f"?session={started['session']}&token={started['token']}&seq=1"
    async with native(other, query) as second:
        await second.send("send_message", text="[[say: hello]]", id="m")
        await second.until("ack", id="m")
        await second.until("turn_ended")
        assert second.types[:2] == ["session_resumed", "history_updated"]
        assert len(second.audio) > 0
        await second.socket.send(b"\0\0" * 2400)
        assert [held.id for held in gateway.sessions] == [started["session"]]
        assert not list(other.sessions)
        # A loss there is a loss here: the session waits for its client.
        second.socket.transport.abort()
        face = gateway.sessions.find(started["session"])
        assert face is not None
        await wait_until(lambda: not face.is_attended, description="the loss to be noticed")
    async with native(other, query) as third:
        await third.send("end")
        assert await third.closed() == 1000
    assert third.types[-1] == "session_ended"


async def test_a_gateway_that_stops_sends_those_whom_it_passes_on_elsewhere(
    gateway: Gateway, gateways: Gateways
) -> None:
    async with native(gateway) as first:
        started = await first.until("session_started")
        await first.socket.close(1001)
    query = f"?session={started['session']}&token={started['token']}&seq=1"
    async with AsyncExitStack() as stack:
        async with gateways() as stopping:
            second = await stack.enter_async_context(native(stopping, query))
            await second.until("session_resumed")
        assert await second.closed() == 1012
        assert second.socket.close_reason == "drained"
    async with native(gateway, query) as third:
        await third.until("session_resumed")


async def test_an_observer_sees_the_session_from_any_gateway(gateway: Gateway, other: Gateway) -> None:
    async with native(gateway) as speaker:
        session = (await speaker.until("session_started"))["session"]
        async with native(other, f"?session={session}&observe=1&audio=binary") as observer:
            await observer.until("session_started")
            await speaker.send("send_message", text="[[say: hello]]")
            await speaker.until("turn_ended")
            await observer.until("turn_ended")
            assert observer.audio == speaker.audio
            await observer.send("end", id="x")
            assert (await observer.until("error", id="x"))["code"] == "read_only"


async def test_events_are_read_from_any_gateway(gateway: Gateway, other: Gateway) -> None:
    async with native(gateway) as client:
        session = (await client.until("session_started"))["session"]
        async with reading(other, session) as response:
            events = sse(response)
            assert (await anext(events))[:2] == (1, "session_started")
            await client.send("send_message", text="[[say: hello]]")
            await client.until("turn_ended")
            await client.send("end")
            rest = [event async for event in events]
    assert [number for number, _, _ in rest] == list(range(2, rest[-1][0] + 1))
    assert rest[-1][1] == "session_ended"


async def test_a_reader_that_has_much_to_catch_up_with_gets_all_of_it_from_any_gateway(
    gateway: Gateway, other: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_MAX_WAITING", 1)
    async with native(gateway) as client:
        session = await talked(client)
        async with reading(other, session) as response:
            events = sse(response)
            first = await anext(events)
            await client.send("end")
            rest = [event async for event in events]
    assert [number for number, _, _ in (first, *rest)] == list(range(1, rest[-1][0] + 1))
    assert rest[-1][1] == "session_ended"


@pytest.mark.parametrize("last", [10_000, 10**40])
async def test_who_claims_to_have_more_than_there_is_gets_what_comes_from_any_gateway(
    gateway: Gateway, other: Gateway, last: int
) -> None:
    async with native(gateway) as client:
        session = (await client.until("session_started"))["session"]
        await client.until("history_updated")
        known = gateway.sessions.find(session)
        assert isinstance(known, NativeFace)
        for asked, observers in ((gateway, 0), (other, 1)):
            async with reading(asked, session, **{"Last-Event-ID": str(last)}) as response:
                await wait_until(lambda: known.observers == observers, description="the other gateway")  # noqa: B023
                events, seen = sse(response), known.recorded.last
                await client.send("send_message", text="[[say: hello]]")
                assert (await anext(events))[0] > seen
                await client.until("turn_ended")


async def test_events_of_a_session_of_the_other_face_are_read_as_they_are_stored(
    gateway: Gateway, other: Gateway
) -> None:
    async with realtime(gateway) as client:
        await client.until("session.created")
        (held,) = gateway.sessions

        async def stored() -> list[Any]:
            async with reading(other, held.id) as response:
                return [event async for event in sse(response)]

        assert [kind for _, kind, _ in await wait_until(stored, description="its first event")] == ["session_started"]


async def test_the_owner_decides_who_is_let_in(gateways: Gateways, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("hotel:front-desk\nbank:teller\n")
    front, teller = ({"Authorization": f"Bearer {key}"} for key in ("front-desk", "teller"))
    async with (
        gateways(api_keys_file=keys) as gateway,
        gateways(api_keys_file=keys) as other,
        native(gateway, additional_headers=front) as speaker,
    ):
        started = await speaker.until("session_started")
        session, token = started["session"], started["token"]
        for query, headers, code in (
            (f"?session={session}&observe=1", teller, 4404),
            (f"?session={session}&observe=1", {}, 1008),
            (f"?session={session}&token=wrong", front, 1008),
            ("?session=01J0000000000000000000000&token=x", front, 4404),
        ):
            async with native(other, query, additional_headers=headers) as refused:
                assert await refused.closed() == code, query
            assert refused.types == ["error"]
        async with native(other, f"?session={session}&observe=1", additional_headers=front) as observer:
            await observer.until("session_started")
        async with native(other, f"?session={session}&token={token}") as taking:
            await taking.until("session_started", "session_resumed")
            assert await speaker.closed() == 4409


async def test_a_gateway_that_is_gone_is_said_and_a_request_is_passed_on_once(
    gateway: Gateway, redis_url: str, stream_prefix: str
) -> None:
    async with aioredis.from_url(redis_url, decode_responses=True) as bus, native(gateway) as client:
        session = (await client.until("session_started"))["session"]
        keys = Keys(stream_prefix)
        lost = "01J00000000000000000000000"
        await bus.hset(keys.session_state(lost), mapping={"owner": "gone-1-abcdef", "status": "active"})
        await bus.expire(keys.session_state(lost), 60)
        async with native(gateway, f"?session={lost}&token=t") as refused:
            assert await refused.closed() == 4404
        assert "its gateway is gone" in refused.seen[0]["message"]
        relayed = {"additional_headers": {"voicebus-relayed-by": "another"}}
        await bus.hset(keys.session_state(lost), mapping={"tenant": "local", "token_hash": digest("t")})
        with pytest.raises(InvalidStatus, match="421"):  # told to the gateway that passed it on: it looks again
            await native(gateway, f"?session={lost}&token=t", **relayed).__aenter__()
        async with native(gateway, f"?session={lost}&token=guessed", **relayed) as stranger:
            assert await stranger.closed() == 1008
        async with native(gateway, f"?session={session}&observe=1", **relayed) as observer:
            await observer.until("history_updated")


async def test_a_gateway_that_lives_and_cannot_be_reached_is_said_and_may_be_tried_again(
    gateway: Gateway, redis_url: str, stream_prefix: str
) -> None:
    keys = Keys(stream_prefix)

    async with aioredis.from_url(redis_url, decode_responses=True) as bus:

        async def refusal(number: int, address: str, **options: Any) -> int | None:
            session, owner = f"01J0000000000000000000000{number}", f"stuck-{number}-abcdef"
            await bus.hset(keys.session_state(session), mapping={"owner": owner, "status": "active"})
            await bus.expire(keys.session_state(session), 60)
            async with (
                beating(redis_url, keys.gateway(owner), address=address),
                native(gateway, f"?session={session}&token=t", **options) as refused,
            ):
                return await refused.closed()

        # Nor may what the client shows keep it waiting.
        odd = {"additional_headers": {"Authorization": "Bearer k\u00e9y"}}
        codes = await asyncio.gather(
            refusal(1, "http://127.0.0.1:1"),
            refusal(2, "http://127.0.0.1:1", **odd),
            refusal(3, "gopher://127.0.0.1:1"),
        )
        assert set(codes) == {1013}


async def test_what_a_client_does_not_read_is_not_read_from_the_owner(gateway: Gateway, other: Gateway) -> None:
    async with native(gateway) as speaker:
        session = (await speaker.until("session_started"))["session"]
        slow = native(other, f"?session={session}&observe=1&audio=binary", max_queue=1)
        observer = await slow.__aenter__()
        await observer.until("history_updated")
        observer.socket.transport.pause_reading()
        for _ in range(20):
            await speaker.send("send_message", text=f"[[say: {'word ' * 400}]]")
            await speaker.until("turn_ended")
        await speaker.send("interrupt", id="i")
        await speaker.until("ack", id="i")
        observer.socket.transport.resume_reading()
        await slow.__aexit__(None, None, None)
    await asyncio.sleep(0)


async def test_gateways_with_one_certificate_pass_clients_on_over_tls_and_trust_no_other(
    gateways: Gateways, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    ours, theirs = authority.issue("ours"), authority.issue("theirs")
    trusted = authority.trusting()

    async def ends(port: int, query: str) -> tuple[int | None, list[str]]:
        address = f"wss://localhost:{port}/v1/sessions/connect{query}"
        async with websockets.connect(address, ssl=trusted) as socket:
            client = TestClient(socket)
            with contextlib.suppress(ConnectionClosed):  # turned away
                await client.send("end")
            return await client.closed(), client.types

    async with (
        gateways(tls_cert=ours.certificate, tls_key=ours.key) as gateway,
        gateways(tls_cert=ours.certificate, tls_key=ours.key) as other,
        gateways(tls_cert=theirs.certificate, tls_key=theirs.key) as stranger,
        websockets.connect(f"wss://localhost:{gateway.port}/v1/sessions/connect", ssl=trusted) as first,
    ):
        started = await TestClient(first).until("session_started")
        query = f"?session={started['session']}&token={started['token']}"
        assert await ends(stranger.port, query) == (1013, ["error"])
        code, types = await ends(other.port, query)
        assert (code, types[0], types[-1]) == (1000, "session_resumed", "session_ended")
