"""The JavaScript module: its protocol part held by Node against a real gateway, its worklet without a sound device."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
import redis.asyncio as aioredis

from services.gateway.clients import native
from services.gateway.conftest import Gateways
from support.cutting_proxy import CuttingProxy, cutting_proxy
from support.node import run
from support.two_gateways import two_gateways
from support.waiting import wait_until
from voicebus.engine.keeping import WORK, read_work
from voicebus_services.gateway.faces.recorded import RecordedLog
from voicebus_services.gateway.wiring import Gateway
from voicebus_services.model_simulator import tape

pytestmark = pytest.mark.timeout(120)
HERE: Final = Path(__file__).parent
MODULE: Final = str(files("voicebus_services.gateway") / "static" / "voicebus.js")


@pytest.fixture
async def proxy(gateway: Gateway) -> AsyncIterator[CuttingProxy]:
    async with cutting_proxy(gateway.port) as running:
        yield running


async def held(scenario: str, port: int, **options: Any) -> Any:
    return await run(
        HERE / "conversations.mjs", MODULE, scenario, f"http://127.0.0.1:{port}", json.dumps(options), timeout_s=90
    )


def has_turned(log: RecordedLog) -> bool:
    """Whether a turn has ended; what is recorded behind that may have come by now."""
    return any(b"turn_ended" in event.frame for event in log.after(0))


async def test_it_is_served_to_pages_of_any_gateway(gateway: Gateway) -> None:
    async with httpx2.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{gateway.port}/static/voicebus.js")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/javascript")
    assert answer.text == Path(MODULE).read_text()
    # Browsers load no module of another origin without it.
    assert answer.headers["access-control-allow-origin"] == "*"


async def test_a_runtime_without_websockets_is_told_what_it_needs(gateway: Gateway) -> None:
    assert await held("refused", gateway.port, WebSocket=None) == {"code": "no_websocket"}


async def test_a_text_conversation_with_commands_and_their_answers(gateway: Gateway) -> None:
    talk = await held("text", gateway.port)
    assert (talk["agent"], len(talk["id"]), talk["token"] >= 32) == ("reception", 26, True)
    assert (talk["unknown"], talk["noCall"], talk["late"]) == ("unknown_agent", "unknown_call", "session_over")
    assert {"agent_start", "audio", "transcript_delta", "history_added", "session_ended", "closed"} <= {*talk["kinds"]}
    assert talk["bytes"] > 0
    assert talk["roles"] == ["user", "assistant", "user", "assistant"]
    assert talk["end"] == ["closed", "ended", 1000]
    assert talk["looped"] is True
    assert talk["ordered"] is True


async def test_sound_goes_both_ways_and_is_interrupted(gateway: Gateway) -> None:
    talk = await held("audio", gateway.port)
    assert talk["same"] is True
    assert talk["bytes"] > 0
    assert (talk["state"], talk["users"]) == ("closed", 2)
    await wait_until(lambda: not list(gateway.sessions), description="the session's end")


async def test_a_cut_connection_is_opened_again_and_nothing_is_said_twice(
    gateway: Gateway, proxy: CuttingProxy
) -> None:
    talking = asyncio.create_task(held("resume", proxy.port))
    (session,) = await wait_until(lambda: list(gateway.sessions), description="the session")
    log = session.face.recorded
    await wait_until(lambda: has_turned(log), description="the first turn")
    proxy.cut()
    talk = await talking
    assert talk["links"] == ["connection_lost", "connection_resumed"]
    assert (talk["users"], talk["state"], talk["once"]) == (2, "open", True)


async def test_nothing_is_told_twice_where_connections_are_lost_one_after_another(
    gateway: Gateway, proxy: CuttingProxy
) -> None:
    talking = asyncio.create_task(held("flap", proxy.port))
    (session,) = await wait_until(lambda: list(gateway.sessions), description="the session")
    log = session.face.recorded
    await wait_until(lambda: has_turned(log), description="the first turn")
    for _ in range(3):
        met = log.last
        proxy.cut()
        await wait_until(lambda met=met: log.last > met, description="the return")  # type: ignore[misc]
    talk = await talking
    assert talk["once"], talk["recorded"]
    assert sum("session_resumed" in event for event in talk["recorded"]) == 3
    first, *later = talk["asked"]
    assert first == ["agent"]
    assert all(names == ["session", "token", "seq"] for names in later)


async def test_a_session_moves_to_another_gateway_while_its_client_talks(gateways: Gateways) -> None:
    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(gateways())
        async with gateways(drain_timeout=60) as leaving:
            proxy = await stack.enter_async_context(cutting_proxy(leaving.port))
            talking = asyncio.create_task(held("move", proxy.port))
            (session,) = await wait_until(lambda: list(leaving.sessions), description="the session")
            log = session.face.recorded
            await wait_until(lambda: has_turned(log), description="a turn")
            proxy.target = other.port
        talk = await talking
    assert (talk["links"], talk["state"], talk["resend_audio"]) == (0, "open", True)
    assert talk["said"] == ["[[say: before]]", "before", "[[say: after]]", "after"]
    assert talk["recorded"] == sorted(set(talk["recorded"]))


async def test_a_turn_that_was_detected_just_before_its_gateway_died_is_said_again(
    redis_url: str, stream_prefix: str, tmp_path: Path
) -> None:
    words = "[[delay: 4s]][[say: I have thought]]"
    sound = tmp_path / "sound.pcm"
    sound.write_bytes(tape.record(words) + bytes(48 * 900))
    # Transcriptions come after the answers.
    quirks = ("--simulator-quirks", json.dumps({"reordered": True}))
    async with (
        two_gateways(redis_url, stream_prefix, tmp_path, simulator=quirks, tool_workers=0) as gateways,
        aioredis.from_url(redis_url, decode_responses=True) as bus,
    ):
        talking = asyncio.create_task(held("detected", gateways.way.port, sound=str(sound)))

        async def is_there() -> bool:
            states = [key async for key in bus.scan_iter(f"{stream_prefix}:session:*:state")]
            return any([read_work(str(await bus.hget(key, WORK) or "")).get("turns") for key in states])

        await wait_until(is_there, description="the turn to be there")
        await gateways.kill()
        assert await talking == {"words": words, "users": 1}


@pytest.mark.parametrize("when", ["migrate", "session_resumed"])
async def test_a_session_that_is_closed_while_it_moves_ends_once_wherever_it_is(gateways: Gateways, when: str) -> None:
    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(gateways(resume_grace=60))
        async with gateways(drain_timeout=60, resume_grace=60) as leaving:
            proxy = await stack.enter_async_context(cutting_proxy(leaving.port))
            talking = asyncio.create_task(held("close_while_moving", proxy.port, when=when))
            (session,) = await wait_until(lambda: list(leaving.sessions), description="the session")
            log = session.face.recorded
            await wait_until(lambda: has_turned(log), description="a turn")
            proxy.target = other.port
        # Long before the grace of somebody who was lost.
        await wait_until(lambda: not list(other.sessions), description="the session's end", timeout=20)
        talk = await talking
    assert talk["state"] == "closed"
    assert "unnamed" not in talk["ends"]
    # Later the second connection may be the only one, whose closing ends the session.
    assert len(talk["ends"]) == 1 or when == "session_resumed"


async def test_its_caller_may_agree_to_a_recording_and_is_told_where_none_is_made(gateway: Gateway) -> None:
    talk = await held("consent", gateway.port)
    assert (talk["code"], talk["state"], talk["reason"]) == ("not_recorded", "closed", "ended")


async def test_a_gateway_without_room_is_asked_again_for_a_session_that_there_is(gateways: Gateways) -> None:
    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(gateways(max_sessions=1))
        async with gateways() as leaving:
            proxy = await stack.enter_async_context(cutting_proxy(leaving.port))
            talking = asyncio.create_task(held("resume", proxy.port))
            (session,) = await wait_until(lambda: list(leaving.sessions), description="the session")
            log = session.face.recorded
            await wait_until(lambda: has_turned(log), description="a turn")
            proxy.refuses, proxy.target = True, other.port
        async with native(other) as taking:
            await taking.until("history_updated")
            proxy.refuses, before = False, proxy.accepted
            await wait_until(lambda: proxy.accepted >= before + 2, description="the client to ask again")
            assert not talking.done()
        talk = await talking
    assert (talk["links"], talk["users"]) == (["connection_lost", "connection_resumed"], 2)


async def test_a_gateway_that_stays_away_is_given_up(gateway: Gateway, proxy: CuttingProxy) -> None:
    talking = asyncio.create_task(held("given_up", proxy.port))
    (session,) = await wait_until(lambda: list(gateway.sessions), description="the session")
    log = session.face.recorded
    await wait_until(lambda: has_turned(log), description="the first turn")
    proxy.refuses = True
    proxy.cut()
    talk = await talking
    assert (talk["pending"], talk["state"]) == ("connection_lost", "closed")


async def test_an_observer_sees_and_hears_and_commands_nothing(gateway: Gateway) -> None:
    async with native(gateway) as speaker:
        session = (await speaker.until("session_started"))["session"]
        watching = asyncio.create_task(held("observe", gateway.port, session=session, audio="binary"))
        while not watching.done():
            await speaker.send("send_message", text="[[say: hello]]")
            await speaker.until("turn_ended")
        talk = await watching
        await speaker.send("interrupt", id="i")
        await speaker.until("ack", id="i")
    assert (talk["code"], talk["token"]) == ("read_only", "")
    assert talk["bytes"] > 0


async def test_what_is_refused_is_said_by_its_code(gateways: Gateways, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("hotel:front-desk\n")
    async with gateways(api_keys_file=keys) as gateway:
        assert (await held("refused", gateway.port, apiKey="wrong"))["code"] == "credentials"
        assert (await held("refused", gateway.port, apiKey="front-desk", agent="nobody"))["code"] == "unknown_agent"
        assert (await held("refused", gateway.port, apiKey="front-desk"))["code"] is None


async def test_sound_devices_are_closed_once_whether_the_page_or_the_session_ends_first() -> None:
    assert await run(HERE / "devices.mjs", MODULE) == {"closed": 2, "unhandled": 0, "left": [0, 0]}


async def test_the_worklet_cuts_what_is_said_into_frames_and_tells_what_was_played() -> None:
    done = await run(HERE / "worklet.mjs", MODULE)
    assert done["sizes"] == [1200, 1200]
    assert done["clipped"] == 32767
    assert (done["loud"], done["after"], done["silent"]) == (0.5, -0.5, 0)
    assert done["heard"]["a"] == 200
    assert 0 < done["heard"]["b"] < 300
