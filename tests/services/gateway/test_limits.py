"""What one client and one session may do, on a real gateway."""

import asyncio
import base64
import contextlib
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import websockets
from prometheus_client import REGISTRY
from websockets.exceptions import ConnectionClosed, InvalidStatus

from services.gateway.clients import TestClient, native, realtime
from services.gateway.conftest import Gateways
from support.simulator import SimulatorHandle
from support.waiting import wait_until
from voicebus.adapters.sockets import CLOSE_LIMIT_S
from voicebus.contracts.envelope import Message
from voicebus.contracts.journal import EventType, ToolEnd, ToolStart, TurnEnded
from voicebus.contracts.tools import Outcome
from voicebus.engine.inputs import End
from voicebus_services.access.keyfile import StoredKey, digest
from voicebus_services.access.principal import Limits
from voicebus_services.gateway.bounds import BoundedFace, Bounds, Spent
from voicebus_services.gateway.wiring import Gateway

SECOND = bytes(48_000)


def reached(limit: str) -> float:
    return REGISTRY.get_sample_value("voicebus_limits_reached_total", {"limit": limit}) or 0.0


async def talk(client: TestClient) -> None:
    await client.send("send_message", text="hello")
    await client.until("turn_ended")


@pytest.mark.parametrize(
    ("settings", "limit"),
    [
        ({"max_session_length": 0.3}, "session_length"),
        ({"max_idle_time": 0.3}, "idle_time"),
        ({"max_session_tokens": 1}, "session_tokens"),
    ],
)
async def test_a_session_beyond_a_limit_is_ended_with_its_reason(
    gateways: Gateways, settings: dict[str, Any], limit: str
) -> None:
    before = reached(limit)
    async with gateways(**settings) as gateway:
        async with native(gateway) as client:
            await client.until("history_updated")
            if limit == "session_tokens":
                await client.send("send_message", text="hello")
            assert (await client.until("error"))["code"] == f"{limit}_exceeded"
            assert (await client.until("session_ended"))["reason"] == limit
            assert await client.closed() == 1000
        async with realtime(gateway) as client:
            await client.until("session.created")
            if limit == "session_tokens":
                await client.send("response.create")
            assert (await client.until("error"))["error"]["code"] == f"{limit}_exceeded"
            assert await client.closed() == 1000
            assert client.socket.close_reason == limit
    assert reached(limit) == before + 2


async def test_turns_keep_a_session_from_being_idle_and_a_client_is_told_of_its_end(
    gateways: Gateways, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voicebus_services.gateway.bounds.WARNING_S", 0.5)
    async with gateways(max_session_length=4, max_idle_time=60) as gateway, native(gateway) as client:
        await client.until("history_updated")
        await talk(client)
        assert (await client.until("session_expiring"))["ends_in_ms"] == 500
        assert (await client.until("session_ended"))["reason"] == "session_length"


@pytest.mark.parametrize("detects", [True, False])
async def test_speech_keeps_a_session_from_being_idle_and_sound_alone_does_not(
    gateways: Gateways, simulator: SimulatorHandle, detects: bool
) -> None:
    detection = {"type": "server_vad"} if detects else None
    silence = base64.b64encode(SECOND[:4800]).decode()
    # Where it is to go on, however slowly the test does: without limit, almost.
    async with gateways(max_idle_time=2 if detects else 600) as gateway, realtime(gateway) as client:
        await client.until("session.created")
        session = {"type": "realtime", "audio": {"input": {"turn_detection": detection}}}
        await client.send("session.update", session=session)
        await client.until("session.updated")
        (held,) = gateway.sessions
        assert held.bounded is not None
        for _ in range(3):
            looked = held.face.signs_of_life()
            await client.send("input_audio_buffer.append", audio=silence)
            if not detects:
                await wait_until(lambda: held.face.signs_of_life() > looked, description="the audio to count")  # noqa: B023
        if detects:
            await client.send("input_audio_buffer.clear")
            assert (await client.until("error"))["error"]["code"] == "idle_time_exceeded"


class Client:
    """A client's face that remembers what was recorded."""

    def __init__(self) -> None:
        self.recorded: list[EventType] = []

    def ready(self) -> None: ...

    def record(self, seq: int, kind: EventType, at_ms: int, data: Message) -> None:
        self.recorded.append(kind)

    def emit(self, kind: str, seq: int, at_ms: int, data: Any) -> None: ...

    def server_event(self, event: Any) -> None: ...

    def audio(self, where: Any, delta: Any, seq: int) -> None: ...

    def close(self, code: int, reason: str) -> None: ...


async def test_what_a_session_has_used_with_another_gateway_counts() -> None:
    fed: list[Any] = []
    bounds = Bounds(length_s=3600, tokens=100)
    lasting = BoundedFace(Client(), bounds, fed.append, spent=Spent(elapsed_s=3599.9))
    lasting.ready()
    await wait_until(lambda: End("session_length") in fed, description="the end of its hour")
    noted: list[int] = []
    talking = BoundedFace(Client(), bounds, fed.append, spent=Spent(tokens=60), note=noted.append)
    talking.record(
        1,
        EventType.TURN_ENDED,
        0,
        TurnEnded(response_id="r", agent="a", status="completed", usage={"total_tokens": 40}),
    )
    assert noted == [100]
    assert fed[-1] == End("session_tokens")
    fed.clear()
    looks = itertools.count()
    watch = BoundedFace(Client(), Bounds(idle_s=0.1), fed.append, lambda: next(looks))
    waiting = BoundedFace(Client(), Bounds(idle_s=0.1), fed.append, spent=Spent(calls=frozenset({"c"})))
    watch.ready()
    waiting.ready()
    await wait_until(lambda: next(looks) > 40, description="many looks")
    assert fed == [], "a call that the former gateway had made runs on"
    watch.stop()
    waiting.stop()


async def test_commands_and_calls_that_run_keep_a_session_from_being_idle() -> None:
    loop = asyncio.get_running_loop()
    fed: list[Any] = []
    commands = itertools.count()
    busy = BoundedFace(Client(), Bounds(idle_s=0.2), fed.append, lambda: next(commands))
    busy.ready()
    calling = BoundedFace(Client(), Bounds(idle_s=0.2), fed.append)
    calling.ready()
    about = {"agent": "a", "tool": "t", "call_id": "c", "item_id": "i", "arguments": "{}", "started_ms": 0}
    calling.record(1, EventType.TOOL_START, 0, ToolStart(**about))
    await wait_until(lambda: next(commands) > 20, description="many looks")
    assert fed == []
    since = loop.time()
    ended = ToolEnd(**about, outcome=Outcome.OK, output="", ended_ms=1)
    calling.record(2, EventType.TOOL_END, 0, ended)
    await wait_until(lambda: fed, description="the call's session to be idle")
    assert loop.time() - since >= 0.2
    assert fed[-1] == End("idle_time")
    busy.stop()


async def test_a_keys_own_limits_come_before_the_installations(gateways: Gateways, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    stored = StoredKey(id="k", tenant="t", sha256=digest("key").hex(), limits=Limits(session_tokens=1, sessions=1))
    file.write_text(f"{stored.line()}\nt:other\n", encoding="utf-8")
    key: dict[str, Any] = {"additional_headers": {"Authorization": "Bearer key"}}
    other: dict[str, Any] = {"additional_headers": {"Authorization": "Bearer other"}}
    async with gateways(api_keys_file=file) as gateway:
        async with native(gateway, **key) as client:
            await client.until("history_updated")
            async with native(gateway, **key) as second:
                assert (await second.until("error"))["code"] == "too_many_sessions"
                assert await second.closed() == 4429
            with pytest.raises(websockets.InvalidStatus) as refused:
                async with realtime(gateway, **key):
                    pass
            assert refused.value.response.status_code == 429
            assert int(refused.value.response.headers["Retry-After"]) > 0
            await client.send("send_message", text="hello")
            assert (await client.until("session_ended"))["reason"] == "session_tokens"
        async with native(gateway, **other) as client:
            await client.until("history_updated")
            await talk(client)


async def test_audio_far_faster_than_it_is_spoken_is_refused_and_the_session_goes_on(gateway: Gateway) -> None:
    before = reached("audio_speed")
    async with native(gateway) as client:
        await client.until("history_updated")
        for _ in range(45):
            await client.socket.send(SECOND)
        assert (await client.until("error"))["code"] == "audio_too_fast"
        await talk(client)
    async with realtime(gateway) as client:
        await client.until("session.created")
        for _ in range(45):
            await client.send("input_audio_buffer.append", audio=base64.b64encode(SECOND).decode())
        assert (await client.until("error"))["error"]["code"] == "audio_too_fast"
        await client.send("input_audio_buffer.clear")
        await client.until("input_audio_buffer.cleared")
    assert reached("audio_speed") >= before + 2


async def test_half_a_minute_of_audio_may_come_at_once(gateway: Gateway) -> None:
    before = reached("audio_speed")
    async with native(gateway) as client:
        await client.until("history_updated")
        for _ in range(29):
            await client.socket.send(SECOND)
        await talk(client)
        assert client.events("error") == []
    assert reached("audio_speed") == before


async def test_messages_that_come_too_fast_are_told_and_read_later_and_none_is_lost(gateways: Gateways) -> None:
    before = reached("message_rate")
    async with gateways(max_messages_per_second=20) as gateway, native(gateway) as client:
        await client.until("history_updated")
        for number in range(230):
            await client.send("mute", id=str(number), muted=False)
        assert (await client.until("error"))["code"] == "rate_limit_exceeded"
        await client.until("ack", id="229")
        assert [event["id"] for event in client.events("ack")] == [str(number) for number in range(230)]
    assert reached("message_rate") > before


@pytest.mark.parametrize("path", ["/v1/realtime", "/v1/sessions/connect"])
async def test_a_message_that_is_too_large_closes_its_own_connection_with_1009(gateways: Gateways, path: str) -> None:
    before = reached("message_bytes")
    async with gateways(max_message_bytes=65_536) as gateway:
        address = f"ws://127.0.0.1:{gateway.port}{path}"
        async with websockets.connect(address) as large, native(gateway) as other:
            await large.send("x" * 65_537)
            await large.wait_closed()
            assert large.close_code == 1009
            await other.until("history_updated")
            await talk(other)
        await wait_until(lambda: reached("message_bytes") > before, description="the limit to be counted")


async def test_a_client_that_does_not_read_is_closed_and_slows_no_other(gateway: Gateway) -> None:
    before = reached("slow_reader")
    text = "x" * 500_000
    async with native(gateway) as good:
        await good.until("history_updated")
        # Once its queue is full, this client takes nothing more from its socket.
        async with websockets.connect(f"ws://127.0.0.1:{gateway.port}/v1/realtime", max_queue=1) as deaf:
            client = TestClient(deaf)
            item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
            with contextlib.suppress(ConnectionClosed):
                while reached("slow_reader") == before:
                    # The model answers each of these with as much again, twice.
                    await client.send("conversation.item.create", item=item)
                    await talk(good)
            await wait_until(
                lambda: gateway.sessions.free == 499,
                description="the deaf client's session to end",
                timeout=CLOSE_LIMIT_S + 20,
            )
            deaf.transport.abort()
        await talk(good)
    assert reached("slow_reader") == before + 1


@pytest.mark.parametrize("path", ["/v1/realtime", "/v1/sessions/connect"])
async def test_a_keys_own_size_of_a_message_counts(gateways: Gateways, tmp_path: Path, path: str) -> None:
    async with gateways(api_keys_file=keys_file(tmp_path, message_bytes=65_536)) as gateway:
        address = f"ws://127.0.0.1:{gateway.port}{path}"
        for key, code in (("small", 1009), ("large", None)):
            async with websockets.connect(address, additional_headers={"Authorization": f"Bearer {key}"}) as client:
                await client.send("x" * 65_537)
                if code is None:
                    while json.loads(await client.recv())["type"] != "error":
                        pass
                else:
                    await client.wait_closed()
                assert client.close_code == code


async def test_a_keys_own_speed_of_audio_counts(gateways: Gateways, tmp_path: Path) -> None:
    async with gateways(api_keys_file=keys_file(tmp_path, audio_speed=1), max_audio_speed=1000) as gateway:
        for key in ("large", "small"):
            headers = {"Authorization": f"Bearer {key}"}
            async with native(gateway, additional_headers=headers) as client:
                await client.until("history_updated")
                for _ in range(2):
                    for _ in range(29):
                        await client.socket.send(SECOND)
                    await talk(client)
                    await refilled()
                assert {error["code"] for error in client.events("error")} <= {"audio_too_fast"}
                assert bool(client.events("error")) is (key == "small")
            async with realtime(gateway, additional_headers=headers) as client:
                await client.until("session.created")
                for _ in range(2):
                    for _ in range(29):
                        await client.send("input_audio_buffer.append", audio=base64.b64encode(SECOND).decode())
                    await client.send("input_audio_buffer.clear")
                    await client.until("input_audio_buffer.cleared")
                    await refilled()
                assert bool(client.events("error")) is (key == "small")


async def test_wrong_credentials_are_refused_unseen_once_there_were_too_many(
    gateways: Gateways, tmp_path: Path
) -> None:
    settings = {"api_keys_file": keys_file(tmp_path), "max_failed_credentials_per_minute": 20}
    wrong = {"Authorization": "Bearer smallest"}
    async with gateways(**settings) as gateway:
        for _ in range(2):
            async with native(gateway, additional_headers=wrong) as client:
                assert (await client.until("error"))["code"] == "credentials"
        async with native(gateway, additional_headers=wrong) as client:
            assert (await client.until("error"))["code"] == "too_many_failures"
            assert await client.closed() == 1008
        with pytest.raises(InvalidStatus) as refused:
            async with realtime(gateway, additional_headers=wrong):
                pass
        assert refused.value.response.status_code == 429
        assert int(refused.value.response.headers["Retry-After"]) >= 1
        async with native(gateway, additional_headers={"Authorization": "Bearer large"}) as client:
            await client.until("history_updated")


async def refilled() -> None:
    """Time in which a limit of 1000 times real time lets all of its 30 s pass again, and one of 1 next to nothing."""
    await asyncio.sleep(0.05)


def keys_file(folder: Path, **limits: Any) -> Path:
    """Two keys: `small` with these limits, `large` with none."""
    small = StoredKey(id="small", tenant="t", sha256=digest("small").hex(), limits=Limits(**limits))
    large = StoredKey(id="large", tenant="t", sha256=digest("large").hex())
    path = folder / "keys"
    path.write_text(f"{small.line()}\n{large.line()}\n", encoding="utf-8")
    return path
