"""Observers of a session on the native face: they see and hear, and nothing else."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from services.gateway.clients import TestClient, native
from services.gateway.conftest import Gateways
from support.cutting_proxy import cutting_proxy
from support.waiting import wait_until
from voicebus.adapters.sockets import CLOSE_LIMIT_S
from voicebus_services.gateway.faces import outlet
from voicebus_services.gateway.faces.native import MAX_OBSERVERS, NativeFace
from voicebus_services.gateway.wiring import Gateway


@pytest.fixture
async def speaker(gateway: Gateway) -> AsyncIterator[TestClient]:
    async with native(gateway) as client:
        await client.until("history_updated")
        yield client


def watching(of: TestClient, extra: str = "") -> str:
    started = of.seen[0]
    return f"?session={started['session']}&token={started['token']}&observe=1{extra}"


def comparable(client: TestClient, *, above: int) -> list[dict[str, Any]]:
    """The session's events, without what each connection has for itself."""
    own = ("ack", "audio")
    events = [frame for frame in client.seen if not isinstance(frame, bytes)]
    return [event for event in events if event["seq"] > above and event["type"] not in own]


async def test_observers_see_every_event_and_hear_where_they_asked(gateway: Gateway, speaker: TestClient) -> None:
    async with (
        native(gateway, watching(speaker)) as silent,
        native(gateway, watching(speaker, "&audio=binary")) as hearing,
        native(gateway, watching(speaker, "&audio=json")) as reading,
    ):
        observers = (silent, hearing, reading)
        for observer in observers:
            await observer.until("history_updated")
            assert observer.types == ["session_resumed", "history_updated"]
            assert observer.seen[0]["observer"] is True
            assert "token" not in observer.seen[0]
        await speaker.send("send_message", text="[[say: hello]]")
        await speaker.until("turn_ended")
        for observer in observers:
            await observer.until("turn_ended")
            assert comparable(observer, above=1) == comparable(speaker, above=1)
    assert silent.audio == b""
    assert not silent.events("audio")
    assert hearing.audio == speaker.audio
    assert all("data" in event for event in reading.events("audio"))


async def test_an_observer_may_begin_at_any_event_and_never_sees_the_token(
    gateway: Gateway, speaker: TestClient
) -> None:
    await speaker.send("send_message", text="[[say: hello]]")
    await speaker.until("turn_ended")
    async with native(gateway, watching(speaker)) as all_of_it, native(gateway, watching(speaker, "&seq=1")) as some:
        first = await all_of_it.until("session_started")
        await all_of_it.until("turn_ended")
        await some.until("turn_ended")
    assert first["seq"] == 1
    assert "token" not in first
    assert some.seen[2]["seq"] == 2


@pytest.mark.parametrize(
    "frame", ['{"type": "end", "id": "x"}', '{"type": "interrupt", "id": "x"}', '{"type": "dance", "id": "x"}', b"\0\0"]
)
async def test_an_observer_commands_nothing(gateway: Gateway, speaker: TestClient, frame: str | bytes) -> None:
    async with native(gateway, watching(speaker)) as observer:
        await observer.socket.send(frame)
        error = await observer.until("error")
        assert error["code"] == "read_only"
        assert error["id"] == ("x" if isinstance(frame, str) else None)
        await speaker.send("interrupt", id="i")
        await speaker.until("ack", id="i")
    assert not speaker.events("error")


async def test_an_observer_that_leaves_changes_nothing_and_the_end_closes_those_that_are_left(
    gateway: Gateway, speaker: TestClient
) -> None:
    async with native(gateway, watching(speaker)) as one, native(gateway, watching(speaker)) as other:
        await one.until("history_updated")
        await one.socket.close()
        await speaker.send("send_message", text="[[say: hello]]")
        await speaker.until("turn_ended")
        await speaker.send("end")
        assert await other.closed() == 1000
    assert other.types[-1] == "session_ended"


async def test_an_observer_stays_while_the_speaker_is_away_and_sees_the_return(
    gateway: Gateway, speaker: TestClient
) -> None:
    async with native(gateway, watching(speaker)) as observer:
        await observer.until("history_updated")
        await speaker.socket.close(1001)
        started = speaker.seen[0]
        async with native(gateway, f"?session={started['session']}&token={started['token']}&seq=1") as again:
            await again.until("history_updated")
            assert (await observer.until("session_resumed", seq=2))["from_seq"] == 1


async def test_only_so_many_observe_at_once(gateway: Gateway, speaker: TestClient) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(MAX_OBSERVERS):
            observer = await stack.enter_async_context(native(gateway, watching(speaker)))
            await observer.until("history_updated")
        one_more = await stack.enter_async_context(native(gateway, watching(speaker)))
        assert await one_more.closed() == 1013
        assert one_more.seen[-1]["code"] == "too_many_observers"


async def test_a_key_of_the_sessions_tenant_observes_and_others_find_nothing(
    gateways: Gateways, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("hotel:front-desk\nhotel:office\nbank:teller\n")

    def bearing(key: str) -> dict[str, Any]:
        return {"additional_headers": {"Authorization": f"Bearer {key}"}}

    async with gateways(api_keys_file=keys) as gateway, native(gateway, **bearing("front-desk")) as speaker:
        session = (await speaker.until("session_started"))["session"]
        async with native(gateway, f"?session={session}&observe=1", **bearing("office")) as observer:
            await observer.until("session_started")
        async with native(gateway, f"?session={session}&observe=1", **bearing("teller")) as foreign:
            assert await foreign.closed() == 4404
        async with native(gateway, f"?session={session}&observe=1") as nobody:
            assert await nobody.closed() == 1008
        async with native(gateway, f"?session={session}&token=x", **bearing("office")) as taking:
            assert await taking.closed() == 1008
        async with native(gateway, watching(speaker)) as with_token:
            await with_token.until("session_started")
        resuming = f"?session={session}&token={speaker.seen[0]['token']}"
        async with native(gateway, resuming) as again:
            await again.until("session_started")


async def test_an_observer_that_does_not_read_is_dropped_and_slows_nobody(
    gateway: Gateway, speaker: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlet, "MAX_EVENTS", 64 * 1024)
    monkeypatch.setattr(outlet, "STALLED_S", 2.0)
    async with cutting_proxy(gateway.port) as proxy:
        # What the speaker reads is all that was said, in each event: it must not take many until the observer is late.
        proxy.narrow = True
        async with native(proxy, watching(speaker), max_queue=1) as observer:
            await observer.until("history_updated")
            proxy.freeze()
            face = gateway.sessions.find(speaker.seen[0]["session"])
            assert isinstance(face, NativeFace)
            text = "x" * 60_000
            for number in range(20):
                await speaker.send("send_message", text=f"[[say: ok]] {number} {text}")
                await speaker.until("turn_ended")
            await wait_until(
                lambda: face.observers == 0, description="the observer to be dropped", timeout=CLOSE_LIMIT_S + 20
            )
            await speaker.send("interrupt", id="i")
            await speaker.until("ack", id="i")
            proxy.cut()
