"""What is said and told while tools run on workers: progress and hold phrases."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.gateway import travel
from services.gateway.clients import native, realtime
from services.gateway.conftest import Gateways
from services.gateway.services import working
from services.gateway.test_judged import say
from voicebus.agents.targets import load_targets
from voicebus_services.gateway.wiring import Gateway

TRAVEL = "services.gateway.travel"
PHRASE = "One moment, I am looking."


@pytest.fixture
async def desk(
    gateways: Gateways, redis_url: str, stream_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Gateway]:
    """A gateway with the agent of `travel.py`, and real workers."""
    monkeypatch.setattr(travel, "GO", asyncio.Event())
    targets = load_targets([TRAVEL])
    async with working(targets, redis_url=redis_url, stream_prefix=stream_prefix), gateways(TRAVEL) as running_one:
        yield running_one


async def test_a_workers_progress_is_told_and_said_and_the_answer_follows(desk: Gateway) -> None:
    async with native(desk) as client:
        await client.send("send_message", text="[[call: search {}]]")
        progress = await client.until("tool_progress")
        said = await client.until("item_recorded", role="assistant")
        assert client.events("tool_end") == []
        travel.GO.set()
        answer = await client.until("item_recorded", role="assistant")
        await client.send("end")
        await client.closed()
    assert (progress["tool"], progress["text"]) == ("search", "3 of 7 airlines asked")
    assert said["text"] == "3 of 7 airlines asked"
    assert answer["text"] == "The result is: 90 euros"


async def test_a_background_result_is_told_while_the_conversation_goes_on(desk: Gateway) -> None:
    async with native(desk) as client:
        await client.send("send_message", text="[[call: compare {}]][[next]][[say: I have begun]]")
        begun = await client.until("item_recorded", role="assistant")
        await client.send("send_message", text="[[say: Meanwhile]][[next]][[say: {outputs}]]")
        meanwhile = await client.until("item_recorded", role="assistant")
        assert client.events("tool_end") == []
        travel.GO.set()
        end = await client.until("tool_end")
        told = await client.until("item_recorded", role="assistant")
        await client.send("end")
        await client.closed()
    assert (begun["text"], meanwhile["text"]) == ("I have begun", "Meanwhile")
    assert (end["tool"], end["output"]) == ("compare", "LH 400 is best")
    assert told["text"] == "LH 400 is best"


async def test_a_client_of_the_protocol_hears_the_phrase_and_the_answer_in_one_response(desk: Gateway) -> None:
    async with realtime(desk) as client:
        await client.until("session.created")
        await say(client, "[[call: look_up {}]]")
        await client.until("response.output_text.done", text=PHRASE)
        travel.GO.set()
        done = await client.until("response.done")
    assert len(client.events("response.created")) == 1
    assert done["response"]["id"] == client.events("response.created")[0]["response"]["id"]
    texts = [part["text"] for item in done["response"]["output"] for part in item["content"]]
    assert texts == [PHRASE, "The result is: LH 400"]
