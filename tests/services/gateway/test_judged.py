"""Guardrails of agents, users and tools, through real workers: what they hold back is known to nobody."""

import json
from typing import Any

import pytest
import redis.asyncio as aioredis

from services.gateway.clients import TestClient, native, realtime
from support.waiting import wait_until
from voicebus.contracts.streams import Keys
from voicebus_services.gateway.wiring import Gateway

SECRET = "[[say: The secret is in the cellar]][[next]][[say: Ask for the manager]]"
SAID = "[[say: Good morning]]"


async def say(client: TestClient, text: str) -> None:
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
    await client.send("conversation.item.create", item=item)
    await client.send("response.create")


def shown(client: TestClient) -> str:
    """Everything that a client was shown, without what its own user said."""
    reports = ("guardrail_tripped", "input_guardrail_tripped")  # of its own user's words, too
    frames = [frame for frame in client.seen if not isinstance(frame, bytes) and frame["type"] not in reports]
    return json.dumps(without_user(frames))


def without_user(value: Any) -> Any:
    if isinstance(value, dict):
        return {} if value.get("role") == "user" else {name: without_user(inner) for name, inner in value.items()}
    return [without_user(inner) for inner in value] if isinstance(value, list) else value


async def test_what_a_holding_guardrail_forbids_reaches_no_client_not_even_raw(
    bank: Gateway, redis_url: str, stream_prefix: str
) -> None:
    async with native(bank, "?agent=discreet&raw=1") as client:
        await client.send("send_message", text=SECRET)
        tripped = await client.until("guardrail_tripped")
        spoken = await client.until("item_recorded", role="assistant")
        await client.send("end")
        await client.closed()
    assert tripped["guardrails"] == ["discretion"]
    assert (tripped["message"], tripped["info"]) == ("", {})
    assert "cellar" not in shown(client)
    assert "raw_model_event" in client.types
    assert "cellar" not in spoken["text"]
    keys = Keys(stream_prefix)
    async with aioredis.Redis.from_url(redis_url, decode_responses=True) as bus:

        async def recorded() -> list[Any]:
            entries: Any = await bus.xrange(keys.events(keys.event_shard(tripped["session"])))
            return [json.loads(fields["data"]) for _, fields in entries if fields["type"] == "guardrail_tripped"]

        (record,) = await wait_until(recorded, description="the trip in the session's record")
    assert record["withheld"] is True
    assert "cellar" in record["message"]


async def test_what_a_holding_guardrail_lets_pass_is_heard_whole(bank: Gateway) -> None:
    async with native(bank, "?agent=discreet&raw=1") as client:
        await client.send("send_message", text=SAID)
        spoken = await client.until("item_recorded", role="assistant")
    assert spoken["text"] == "Good morning"
    assert len(client.audio) > 0
    assert any(event["event"]["type"] == "response.done" for event in client.events("raw_model_event"))


async def test_a_client_of_the_openai_protocol_hears_what_passes_and_nothing_else(bank: Gateway) -> None:
    async with realtime(bank, "?agent=discreet") as client:
        await client.until("session.created")
        await say(client, SAID)
        done = await client.until("response.done")
        assert done["response"]["output"][0]["content"][0]["transcript"] == "Good morning"
        assert client.events("response.output_audio.delta")
        await say(client, "[[say: The secret is in the cellar]]")
        done = await client.until("response.done")
        assert done["response"]["status"] == "completed"
        assert [item["status"] for item in done["response"]["output"]] == ["incomplete", "completed"]
        await say(client, SAID)
        await client.until("response.done", "error")
    assert client.events("error") == []
    assert len(client.events("response.created")) == len(client.events("response.done")) == 3
    assert "cellar" not in shown(client)


async def test_what_a_user_may_not_say_is_not_answered(bank: Gateway) -> None:
    async with native(bank, "?agent=guarded") as client:
        await client.send("send_message", text="hands up [[say: Here is the money]]")
        tripped = await client.until("input_guardrail_tripped")
        assert tripped["guardrails"] == ["no_threats"]
        await client.send("send_message", text=SAID)
        await client.until("item_recorded", role="assistant", text="Good morning")
    assert "Here is the money" not in shown(client)
    recorded = client.events("guardrail_tripped")[0]
    assert (recorded["stage"], recorded["response_id"], recorded["guardrails"]) == ("input", "", ["no_threats"])


async def test_a_client_of_the_openai_protocol_keeps_its_own_create_response(bank: Gateway) -> None:
    async with realtime(bank, "?agent=guarded") as client:
        created = await client.until("session.created")
        assert created["session"]["audio"]["input"]["turn_detection"]["create_response"] is True
        for text in ("hands up [[say: Here is the money]]", SAID):
            await say(client, text)
            await client.until("response.done", "error")
        await client.send("input_audio_buffer.clear")
        await client.until("input_audio_buffer.cleared")
    assert client.events("error") == []
    assert len(client.events("response.created")) == 2, "one answer for each that was asked for"
    assert "Here is the money" not in shown(client)


@pytest.mark.parametrize(
    ("whose", "output", "starts"),
    [
        ("mine", "the account of mine", True),
        ("theirs", "Only the caller's own account.", False),
        ("number", "The number is withheld.", True),
    ],
)
async def test_guardrails_of_a_tool_judge_its_call_and_its_output(
    bank: Gateway, whose: str, output: str, starts: bool
) -> None:
    async with native(bank) as client:
        text = f'[[call: account {{"whose": "{whose}"}}]][[next]][[say: {{outputs}}]]'
        await client.send("send_message", text=text)
        end = await client.until("tool_end")
        spoken = await client.until("item_recorded", role="assistant")
    assert end["output"] == output
    assert spoken["text"] == output
    assert ("tool_start" in client.types) is starts


async def test_the_worker_asks_the_guardrails_of_a_tool_that_the_gateway_knows_by_name_only(bank: Gateway) -> None:
    async with native(bank, "?agent=branch") as client:
        await client.send("send_message", text='[[call: account {"whose": "theirs"}]][[next]][[say: {outputs}]]')
        end = await client.until("tool_end")
    assert end["output"] == "Only the caller's own account."


async def test_a_result_in_the_background_is_read_and_not_answered(bank: Gateway) -> None:
    async with native(bank) as client:
        await client.send("send_message", text='[[call: note {"text": "milk"}]][[next]][[say: never said]]')
        end = await client.until("tool_end")
        await client.send("send_message", text=SAID)
        spoken = await client.until("item_recorded", role="assistant")
    assert end["output"] == "noted milk"
    assert spoken["text"] == "Good morning"
    assert "never said" not in shown(client)


async def test_a_tool_knows_the_agent_that_calls_it(bank: Gateway) -> None:
    async with native(bank) as client:
        await client.send("send_message", text="[[call: who_asks {}]][[next]][[say: {outputs}]]")
        end = await client.until("tool_end")
    assert end["output"] == "teller: You stand at the counter."
