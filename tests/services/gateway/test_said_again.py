"""Turns whose sound only their speaker has, where another client of the session comes to its next gateway first."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import quote

import pytest

from services.gateway.clients import TestClient, native
from services.gateway.conftest import Gateways
from support.cutting_proxy import cutting_proxy
from support.simulator import SimulatorHandle, running_simulator
from voicebus_services.model_simulator import tape

SPEECH = tape.record("[[delay: 4s]][[say: heard]]")
SILENCE = bytes(48 * 900)
WORDLESS = ("user", "[audio not transcribed]")


@pytest.fixture
async def simulator() -> AsyncIterator[SimulatorHandle]:
    """Transcriptions come after the answers, so that for a while nobody but the model knows what was said."""
    async with running_simulator(pace=0, simulator_quirks={"reordered": True}) as handle:
        yield handle


async def says(client: TestClient, sound: bytes = SPEECH + SILENCE) -> None:
    for start in range(0, len(sound), 4800):
        await client.socket.send(sound[start : start + 4800])


@asynccontextmanager
async def left(gateways: Gateways, *, by_hand: bool = False) -> AsyncIterator[tuple[str, str]]:
    """A gateway has stopped in the midst of a turn that only its speaker knows; how to come back, and its item."""
    async with AsyncExitStack() as stack:
        async with gateways() as gone:
            first = await stack.enter_async_context(native(gone))
            started = await first.until("session_started")
            await says(first, SPEECH if by_hand else SPEECH + SILENCE)
            if by_hand:
                await first.send("commit", id="pushed")
            added = await first.until("history_added")
        assert await first.closed() == 1012
        yield f"?session={started['session']}&token={started['token']}&seq=1", added["item"]["item_id"]


def holding(item_id: str) -> str:
    return "&turns=" + quote(json.dumps([[item_id, len(SPEECH + SILENCE) // 48], ["", 0]]))


def lines(client: TestClient) -> list[tuple[str, str]]:
    return [(event["role"], event["text"]) for event in client.events("item_recorded")]


def assert_both_are_answered(other: TestClient) -> None:
    """What is not said again, and what was said instead."""
    assert [text for role, text in lines(other) if role == "user"] == ["[audio not transcribed]", "[[say: hello]]"]
    assert len([text for role, text in lines(other) if role == "assistant"]) == 2


async def test_a_turn_that_its_speaker_does_not_come_to_say_again_is_told_as_one_without_words(
    gateways: Gateways,
) -> None:
    async with gateways() as here, left(gateways) as (back, item_id):
        async with cutting_proxy(here.port) as way, native(way, back + holding(item_id)) as speaker:
            assert (await speaker.until("session_resumed"))["resend_turns"] == [item_id]
            await speaker.until("model_reconnected")
            way.cut()
        async with native(here, back) as other:
            await other.send("send_message", text="[[say: hello]]")
            await other.until("item_recorded", text="hello")
        assert_both_are_answered(other)


async def test_a_turn_that_its_speaker_says_again_is_told_once_whoever_came_meanwhile(gateways: Gateways) -> None:
    async with gateways() as here, left(gateways) as (back, item_id):
        async with cutting_proxy(here.port) as way, native(way, back + holding(item_id)) as speaker:
            await speaker.until("session_resumed")
            way.cut()
        async with native(here, back) as other:
            await other.until("session_resumed")  # and says nothing
            async with native(here, back + holding(item_id)) as again:
                assert (await again.until("session_resumed"))["resend_turns"] == [item_id]
                await says(again)
                await again.until("item_recorded", text="heard")
        assert lines(again) == [("user", "[[delay: 4s]][[say: heard]]"), ("assistant", "heard")]


async def test_a_turn_that_was_ended_by_hand_and_is_not_said_again_is_told_as_one_without_words(
    gateways: Gateways,
) -> None:
    async with gateways() as here, left(gateways, by_hand=True) as (back, _):
        async with native(here, back) as other:
            await other.send("send_message", text="[[say: hello]]")
            await other.until("item_recorded", text="hello")
        assert_both_are_answered(other)


@pytest.mark.parametrize("by_hand", [False, True])
async def test_a_turn_that_was_asked_for_by_a_gateway_that_is_lost_as_well_is_not_forgotten(
    gateways: Gateways, by_hand: bool
) -> None:
    async with gateways() as last, left(gateways, by_hand=by_hand) as (back, item_id), AsyncExitStack() as stack:
        way_back = back if by_hand else back + holding(item_id)
        async with gateways() as second:
            speaker = await stack.enter_async_context(native(second, way_back))
            assert (await speaker.until("session_resumed"))["resend_turns"] == ([] if by_hand else [item_id])
            await speaker.until("model_reconnected")
        assert await speaker.closed() == 1012
        async with native(last, back) as other:
            await other.send("send_message", text="[[say: hello]]")
            await other.until("item_recorded", text="hello")
        assert_both_are_answered(other)


async def test_a_turn_that_was_said_again_is_not_told_by_the_gateway_after_that(gateways: Gateways) -> None:
    async with gateways() as last, left(gateways) as (back, item_id), AsyncExitStack() as stack:
        async with gateways() as second:
            speaker = await stack.enter_async_context(native(second, back + holding(item_id)))
            await speaker.until("session_resumed")
            await says(speaker)
            await speaker.until("item_recorded", text="heard")
        assert await speaker.closed() == 1012
        async with native(last, back) as other:
            await other.send("send_message", text="[[say: hello]]")
            await other.until("item_recorded", text="hello")
        assert WORDLESS not in lines(other)
        assert len([text for role, text in lines(other) if role == "assistant"]) == 2


async def test_a_turn_that_was_ended_by_hand_and_is_said_again_is_told_once(gateways: Gateways) -> None:
    async with gateways() as here, left(gateways, by_hand=True) as (back, _):
        async with native(here, back) as speaker:
            await speaker.send("playback", item_id="none", played_ms=0)
            await says(speaker, SPEECH)
            await speaker.send("commit", id="pushed", again=True)
            await speaker.until("item_recorded", text="heard")
            await speaker.send("send_message", text="[[say: hello]]")
            await speaker.until("item_recorded", text="hello")
        assert WORDLESS not in lines(speaker)
        assert lines(speaker)[:2] == [("user", "[[delay: 4s]][[say: heard]]"), ("assistant", "heard")]
