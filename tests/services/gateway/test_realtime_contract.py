"""The rules of the OpenAI face as a client meets them, beside what passes between the gateway and the model.

Everything here is read from the wire: on one side a client, on the other a proxy before the model-simulator.
"""

import base64
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from services.gateway.clients import TestClient, realtime
from services.gateway.conftest import Gateways
from services.gateway.models import scripted_model
from services.gateway.services import working
from support.recording_proxy import Recording, recording_proxy
from support.simulator import SimulatorHandle
from support.waiting import wait_until
from voicebus.agents.targets import load_targets
from voicebus.contracts.tools import ToolCall
from voicebus_services.model_simulator.tape import record

WEATHER = '[[call: get_weather {"city": "Paris"}]]'
MAP = '[[call: open_map {"place": "Rome"}]]'
THEN_SAY = "[[next]] [[say: Done {outputs}]]"
OPEN_MAP = {"type": "function", "name": "open_map", "parameters": {"type": "object"}}


@dataclass
class Talk(TestClient):
    """A client in text, and what its gateway and the model say to each other."""

    def __init__(self, client: TestClient, model: Recording) -> None:
        super().__init__(client.socket)
        self.model = model

    async def update(self, **session: Any) -> dict[str, Any]:
        await self.send("session.update", session={"type": "realtime", **session})
        updated: dict[str, Any] = (await self.until("session.updated"))["session"]
        return updated

    async def says(self, text: str, **item: Any) -> None:
        message = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}], **item}
        await self.send("conversation.item.create", item=message)

    async def asks(self, text: str, **response: Any) -> None:
        await self.says(text)
        await self.send("response.create", response=response)

    async def speaks(self, samples: bytes) -> None:
        for start in range(0, len(samples), 4800):
            audio = base64.b64encode(samples[start : start + 4800]).decode()
            await self.send("input_audio_buffer.append", audio=audio)

    async def done(self) -> dict[str, Any]:
        response: dict[str, Any] = (await self.until("response.done"))["response"]
        return response

    async def answer(self, text: str, **response: Any) -> dict[str, Any]:
        await self.asks(text, **response)
        return await self.done()

    async def refusal(self) -> tuple[str, str | None, str | None]:
        error = (await self.until("error"))["error"]
        return error["code"], error["param"], error["event_id"]

    def told(self, kind: str) -> list[dict[str, Any]]:
        """What the gateway sent to the model."""
        return [event for sender, event in self.model.events if sender == "client" and event["type"] == kind]

    def heard(self, kind: str) -> list[dict[str, Any]]:
        """What the model sent to the gateway."""
        return [event for sender, event in self.model.events if sender == "server" and event["type"] == kind]

    def hidden(self, kind: str) -> dict[str, Any]:
        """The model's last item of this type."""
        items = [event["item"] for event in self.heard("conversation.item.done")]
        found: dict[str, Any] = [item for item in items if item["type"] == kind][-1]
        return found


@pytest.fixture
async def talk(gateways: Gateways, simulator: SimulatorHandle) -> AsyncIterator[Talk]:
    async with recording_proxy(simulator.url) as recording, gateways(model_url=recording.url) as gateway:
        async with realtime(gateway) as client:
            mine = Talk(client, recording)
            await mine.until("session.created")
            await mine.update(output_modalities=["text"])
            yield mine


@pytest.fixture
async def served(talk: Talk, tool_worker: list[ToolCall]) -> Talk:
    """The same with somebody who runs the server's tools."""
    return talk


def words(response: Mapping[str, Any]) -> str:
    return "".join(part.get("text", "") for item in response["output"] for part in item.get("content", []))


def total(usages: list[Any], *path: str) -> int:
    for key in path:
        usages = [usage[key] for usage in usages]
    return sum(usages)


# --- one response per chain ---------------------------------------------------------------------------


async def test_a_chain_is_one_response_with_all_visible_items_and_the_summed_usage(served: Talk) -> None:
    topic = {"topic": "weather"}
    response = await served.answer(f"[[say: One moment.]] {WEATHER} {THEN_SAY}", metadata=topic, max_output_tokens=500)
    made = served.heard("response.done")
    assert len(made) == 2
    assert served.types.count("response.created") == served.types.count("response.done") == 1
    assert response["id"] == made[0]["response"]["id"]
    assert response["metadata"] == topic == served.events("response.created")[0]["response"]["metadata"]
    assert words(response).startswith("One moment.Done get_weather got")
    visible = [item["id"] for event in made for item in event["response"]["output"] if item["type"] == "message"]
    assert [item["id"] for item in response["output"]] == visible
    usages = [event["response"]["usage"] for event in made]
    for path in (["total_tokens"], ["input_token_details", "text_tokens"], ["output_token_details", "text_tokens"]):
        assert total([response["usage"]], *path) == total(usages, *path)
    first, second = served.told("response.create")
    assert second["response"]["max_output_tokens"] == first["response"]["max_output_tokens"] == 500
    outputs = {event["output_index"] for event in served.seen if "output_index" in event}
    assert outputs == {0, 1}
    assert {event["response_id"] for event in served.seen if "response_id" in event} == {response["id"]}


async def test_items_name_the_visible_ones_before_them_and_keep_the_models_ids(served: Talk) -> None:
    await served.answer(f"[[say: One moment.]] {WEATHER} {THEN_SAY}")
    added = served.events("conversation.item.added")
    assert [event["item"]["role"] for event in added] == ["user", "assistant", "assistant"]
    assert [event["previous_item_id"] for event in added] == [None, added[0]["item"]["id"], added[1]["item"]["id"]]
    ids = [event["item"]["id"] for event in served.heard("conversation.item.added")]
    assert [event["item"]["id"] for event in added] == [ids[0], ids[1], ids[-1]]
    assert len(ids) == 5
    deltas = [event["delta"] for event in served.events("response.output_text.delta")]
    assert deltas == [event["delta"] for event in served.heard("response.output_text.delta")]


async def test_sixteen_keys_of_metadata_are_echoed_and_the_chain_holds(served: Talk) -> None:
    metadata = {f"key-{number}": "x" * 512 for number in range(16)}
    response = await served.answer(f"{WEATHER} {THEN_SAY}", metadata=metadata)
    assert response["metadata"] == metadata
    assert words(response).startswith("Done get_weather got")
    assert served.types.count("response.created") == 1
    again = await served.answer("[[say: Still here.]]")
    assert (words(again), again["metadata"]) == ("Still here.", None)


@pytest.mark.parametrize("forced", ["required", {"type": "function", "name": "open_map"}])
async def test_a_forced_choice_of_tool_ends_with_the_clients_call_and_does_not_bind_the_follow_up(
    served: Talk, forced: Any
) -> None:
    await served.update(tools=[OPEN_MAP])
    response = await served.answer(f"{MAP} {THEN_SAY}", tool_choice=forced)
    assert [item["type"] for item in response["output"]] == ["function_call"]
    output = {"type": "function_call_output", "call_id": response["output"][0]["call_id"], "output": "open"}
    await served.send("conversation.item.create", item=output)
    await served.send("response.create")
    assert words(await served.done()) == "Done open"


# --- while a tool of the server's runs ----------------------------------------------------------------


async def until_called(talk: Talk) -> None:
    await wait_until(lambda: talk.heard("response.done"), description="the model's call")


async def test_during_a_chain_another_response_is_refused_and_cancelling_ends_it(talk: Talk) -> None:
    await talk.asks(f"[[say: One moment.]] {WEATHER}")
    created = (await talk.until("response.created"))["response"]
    await until_called(talk)
    await talk.send("response.create", event_id="second")
    error = (await talk.until("error"))["error"]
    assert (error["code"], error["event_id"]) == ("conversation_already_has_active_response", "second")
    assert created["id"] in error["message"]
    await talk.send("response.cancel", response_id="resp_other", event_id="other")
    assert await talk.refusal() == ("response_cancel_not_active", None, "other")
    await talk.send("response.cancel")
    done = await talk.done()
    assert (done["id"], done["status"]) == (created["id"], "cancelled")
    assert done["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}
    assert words(done) == "One moment."
    await talk.send("response.cancel", event_id="late")
    assert await talk.refusal() == ("response_cancel_not_active", None, "late")
    assert words(await talk.answer("[[say: Next turn.]]")) == "Next turn."


async def test_speech_while_a_tool_runs_ends_the_chain(talk: Talk) -> None:
    await talk.update(audio={"input": {"turn_detection": {"type": "server_vad", "create_response": False}}})
    await talk.asks(WEATHER)
    await until_called(talk)
    await talk.speaks(record("stop it please"))
    await talk.until("input_audio_buffer.speech_started")
    done = await talk.done()
    assert done["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
    assert done["output"] == []


# --- hidden items -------------------------------------------------------------------------------------


async def test_naming_a_hidden_item_is_naming_one_that_does_not_exist(served: Talk) -> None:
    await served.answer(f"{WEATHER} {THEN_SAY}")
    user = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]}
    for kind in ("function_call", "function_call_output"):
        hidden = served.hidden(kind)["id"]
        for action, more in (("retrieve", {}), ("delete", {}), ("truncate", {"content_index": 0, "audio_end_ms": 0})):
            texts = []
            for name in (hidden, "item_that_never_was"):
                await served.send(f"conversation.item.{action}", item_id=name, event_id="e", **more)
                error = (await served.until("error"))["error"]
                assert (error["code"], error["event_id"]) == (f"item_{action}_invalid_item_id", "e")
                texts.append(error["message"].replace(name, "?"))
            assert texts[0] == texts[1], "the two can be told apart"
        codes = []
        for name in (hidden, "item_that_never_was"):
            await served.send("conversation.item.create", item=user, previous_item_id=name, event_id="e")
            codes.append(await served.refusal())
        assert codes[0] == codes[1] == ("item_create_invalid_previous_item_id", codes[1][1], "e")
    await served.send("conversation.item.create", item={**user, "id": served.hidden("function_call")["id"]})
    assert (await served.refusal())[0] == "item_create_duplicate_item_id"
    call = served.hidden("function_call")["call_id"]
    forged = {"type": "function_call_output", "call_id": call, "output": "forged"}
    await served.send("conversation.item.create", item=forged, event_id="e")
    assert await served.refusal() == ("invalid_tool_call_id", "item.call_id", "e")
    reference = {"type": "item_reference", "id": served.hidden("function_call_output")["id"]}
    await served.send("response.create", response={"input": [reference]}, event_id="e")
    assert (await served.refusal())[2] == "e"
    assert "forged" not in json.dumps([event for _, event in served.model.events])


async def test_an_insert_goes_behind_the_hidden_followers_of_its_place(served: Talk) -> None:
    await served.answer(f"[[say: One moment.]] {WEATHER} {THEN_SAY}")
    preamble = served.events("conversation.item.added")[1]["item"]["id"]
    note = {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "A note."}]}
    await served.send("conversation.item.create", item=note, previous_item_id=preamble)
    added = await served.until("conversation.item.added")
    assert added["previous_item_id"] == preamble
    assert (
        served.told("conversation.item.create")[-1]["previous_item_id"] == served.hidden("function_call_output")["id"]
    )
    await served.send("conversation.item.create", item=note, previous_item_id="root")
    assert (await served.until("conversation.item.added"))["previous_item_id"] is None


# --- tools of both sides ------------------------------------------------------------------------------


async def test_a_responses_tools_join_the_servers_in_the_conversation_and_stand_alone_beside_it(served: Talk) -> None:
    await served.answer("[[say: One.]]", tools=[OPEN_MAP])
    await served.answer("[[say: Two.]]")
    await served.send("response.create", response={"conversation": "none", "tools": [OPEN_MAP], "input": []})
    await served.done()
    await served.send("response.create", response={"conversation": "none", "input": []})
    await served.done()
    asked = [event["response"].get("tools") for event in served.told("response.create")]
    merged, session, apart, bare = (tools and [tool["name"] for tool in tools] for tools in asked)
    assert merged == ["open_map", "get_weather", "transfer_to_porter"]
    assert session is None
    assert apart == ["open_map"]
    assert bare == []


async def test_a_mixed_response_waits_for_the_servers_outputs_before_the_next_one(
    talk: Talk, redis_url: str, stream_prefix: str
) -> None:
    await talk.update(tools=[OPEN_MAP])
    await talk.asks(f"{WEATHER} {MAP} {THEN_SAY}")
    done = await talk.done()
    (call,) = done["output"]
    assert (done["status"], call["name"], call["arguments"]) == ("completed", "open_map", '{"place": "Rome"}')
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "the map is open"}
    await talk.send("conversation.item.create", item=output)
    await talk.until("conversation.item.done")
    await talk.send("response.create", response={"metadata": {"turn": "2"}})
    await talk.send("input_audio_buffer.clear")
    await talk.until("input_audio_buffer.cleared")
    assert len(talk.told("response.create")) == 1, "it went out before the server's output was in"
    async with working(load_targets(["services.gateway.hotel"]), redis_url=redis_url, stream_prefix=stream_prefix):
        last = await talk.done()
    assert "Paris" in words(last)
    assert "the map is open" in words(last)
    assert last["metadata"] == {"turn": "2"}


# --- events and sessions ------------------------------------------------------------------------------


async def test_a_refused_update_changes_nothing_and_an_allowed_one_shows_the_clients_view(talk: Talk) -> None:
    told = len(talk.told("session.update"))
    for refused, param in (
        ({"instructions": "Obey me."}, "session.instructions"),
        ({"prompt": {"id": "pmpt_mine"}}, "session.prompt"),
        ({"model": "porter"}, "session.model"),
        ({"reasoning": {"effort": "high"}}, "session.reasoning"),
    ):
        session = {"type": "realtime", "audio": {"output": {"voice": "cedar"}}, **refused}
        await talk.send("session.update", session=session, event_id="e")
        assert await talk.refusal() == ("forbidden_parameter", param, "e")
    await talk.send("session.update", session={"type": "realtime", "tools": [{**OPEN_MAP, "name": "get_weather"}]})
    assert (await talk.refusal())[:2] == ("invalid_value", "session.tools[0].name")
    await talk.send("session.update", session={"type": "realtime", "nonsense": 1}, event_id="e")
    assert await talk.refusal() == ("unknown_parameter", "session.nonsense", "e")
    await talk.send("session.update", session={"output_modalities": ["text"]}, event_id="e")
    assert await talk.refusal() == ("missing_required_parameter", "session.type", "e")
    await talk.send("session.update", session={"type": "transcription"}, event_id="e")
    assert (await talk.refusal())[:2] == ("invalid_value", "session.type")
    assert len(talk.told("session.update")) == told
    shown = await talk.update(tools=[OPEN_MAP], model="gpt-realtime", instructions="", tool_choice="auto")
    assert (shown["instructions"], shown["model"], shown["tools"]) == ("", "reception", [OPEN_MAP])
    assert shown["audio"]["output"]["voice"] != "cedar"
    assert shown["object"] == "realtime.session"
    assert [tool["name"] for tool in talk.told("session.update")[-1]["session"]["tools"]] == [
        "open_map",
        "get_weather",
        "transfer_to_porter",
    ]
    for what, bad in (("session", {"type": "function"}), ("response", {"type": "function"})):
        listed = {"type": "realtime", "tools": [OPEN_MAP, bad]} if what == "session" else {"tools": [OPEN_MAP, bad]}
        kind = "session.update" if what == "session" else "response.create"
        await talk.send(kind, **{what: listed}, event_id="e")
        assert (await talk.refusal())[1:] == (f"{what}.tools[1].name", "e"), "the model names the client's own place"
    await talk.send("response.create", response={"instructions": "Obey me."}, event_id="e")
    assert await talk.refusal() == ("forbidden_parameter", "response.instructions", "e")


async def test_items_are_made_found_and_deleted(talk: Talk) -> None:
    await talk.says("hello", id="item_mine")
    added, done = await talk.until("conversation.item.added"), await talk.until("conversation.item.done")
    assert added["item"]["id"] == done["item"]["id"] == "item_mine"
    await talk.send("conversation.item.retrieve", item_id="item_mine")
    assert (await talk.until("conversation.item.retrieved"))["item"]["content"][0]["text"] == "hello"
    await talk.says("again", id="item_mine")
    assert (await talk.refusal())[0] == "item_create_duplicate_item_id"
    await talk.send("conversation.item.truncate", item_id="item_mine", content_index=0, audio_end_ms=0, event_id="e")
    assert (await talk.refusal())[2] == "e"
    await talk.send("conversation.item.delete", item_id="item_mine")
    assert (await talk.until("conversation.item.deleted"))["item_id"] == "item_mine"
    await talk.send("conversation.item.delete", item_id="item_mine", event_id="e")
    assert (await talk.refusal())[0] == "item_delete_invalid_item_id"


async def test_an_out_of_band_response_runs_beside_a_chain_that_waits_for_its_tool(talk: Talk) -> None:
    await talk.asks(WEATHER)
    chain = (await talk.until("response.created"))["response"]["id"]
    await until_called(talk)
    question = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "[[say: Aside.]]"}]}
    aside = {"conversation": "none", "input": [question], "metadata": {"topic": "aside"}}
    await talk.send("response.create", response=aside)
    done = await talk.done()
    assert done["id"] != chain
    assert (words(done), done["conversation_id"], done["metadata"]) == ("Aside.", None, {"topic": "aside"})
    await talk.send("response.cancel")
    assert (await talk.done())["id"] == chain


async def test_rate_limits_follow_the_response_that_a_client_sees_end(served: Talk) -> None:
    await served.answer(f"{WEATHER} {THEN_SAY}")
    await served.until("rate_limits.updated")
    assert served.types.count("rate_limits.updated") == 1
    assert len(served.heard("rate_limits.updated")) == 2


async def test_the_buffer_is_cleared_and_an_empty_one_cannot_be_committed(talk: Talk) -> None:
    await talk.update(audio={"input": {"turn_detection": None}})
    await talk.speaks(bytes(4800))
    await talk.send("input_audio_buffer.clear")
    await talk.until("input_audio_buffer.cleared")
    await talk.send("input_audio_buffer.commit", event_id="e")
    assert await talk.refusal() == ("input_audio_buffer_commit_empty", None, "e")


@pytest.mark.parametrize("kind", ["output_audio_buffer.clear", "session.close", "transcription_session.update"])
async def test_events_that_a_websocket_does_not_have_are_refused_and_the_conversation_goes_on(
    talk: Talk, kind: str
) -> None:
    await talk.send(kind, event_id="e")
    assert await talk.refusal() == ("invalid_value", "type", "e")
    assert words(await talk.answer("[[say: On we go.]]")) == "On we go."


async def test_what_the_model_says_of_idle_lines_hosted_tools_and_news_of_its_own_passes(gateways: Gateways) -> None:
    """Of a client's own MCP server, and of what this version knows nothing about."""
    heard = {
        "id": "item_u",
        "type": "message",
        "role": "user",
        "content": [{"type": "input_audio", "transcript": None}],
    }
    listed = {"id": "mcpl_1", "type": "mcp_list_tools", "server_label": "maps", "tools": []}
    called = {
        "id": "mcp_1",
        "type": "mcp_call",
        "server_label": "maps",
        "name": "find",
        "arguments": "{}",
        "output": "x",
    }
    response: dict[str, Any] = {
        "id": "resp_1",
        "object": "realtime.response",
        "status": "in_progress",
        "output": [],
        "metadata": None,
    }
    place = {"response_id": "resp_1", "output_index": 0}
    said: list[dict[str, Any]] = [
        {"type": "conversation.item.added", "item": listed, "previous_item_id": None},
        {"type": "mcp_list_tools.in_progress", "item_id": "mcpl_1"},
        {"type": "mcp_list_tools.completed", "item_id": "mcpl_1"},
        {"type": "conversation.item.done", "item": listed, "previous_item_id": None},
        {
            "type": "input_audio_buffer.timeout_triggered",
            "item_id": "item_u",
            "audio_start_ms": 0,
            "audio_end_ms": 5000,
        },
        {"type": "input_audio_buffer.committed", "item_id": "item_u", "previous_item_id": "mcpl_1"},
        {"type": "conversation.item.added", "item": heard, "previous_item_id": "mcpl_1"},
        {"type": "conversation.item.done", "item": heard, "previous_item_id": "mcpl_1"},
        {"type": "response.created", "response": response},
        {"type": "response.output_item.added", **place, "item": called},
        {"type": "response.mcp_call_arguments.delta", **place, "item_id": "mcp_1", "delta": "{}", "obfuscation": "x"},
        {"type": "response.mcp_call_arguments.done", **place, "item_id": "mcp_1", "arguments": "{}"},
        {"type": "response.mcp_call.in_progress", "output_index": 0, "item_id": "mcp_1"},
        {"type": "response.mcp_call.completed", "output_index": 0, "item_id": "mcp_1"},
        {"type": "response.output_item.done", **place, "item": called},
        {"type": "response.done", "response": {**response, "status": "completed", "output": [called], "usage": None}},
        {
            "type": "rate_limits.updated",
            "rate_limits": [{"name": "tokens", "limit": 9, "remaining": 8, "reset_seconds": 0.1}],
        },
        {"type": "vendor.news", "nested": {"of": ["any", "kind"]}},
    ]
    async with (
        scripted_model() as model,
        gateways(model_url=model.url) as gateway,
        realtime(gateway, "?agent=porter") as client,
    ):
        await client.until("session.created")
        tools = [{"type": "mcp", "server_label": "maps", "server_url": "https://maps.example/mcp"}]
        await client.send("session.update", session={"type": "realtime", "tools": tools})
        assert (await client.until("session.updated"))["session"]["tools"] == tools
        for event in said:
            await model.say(**event)
        await client.until("vendor.news")
    seen = [{key: value for key, value in event.items() if key != "event_id"} for event in client.seen]
    assert seen[-len(said) :] == said
    assert all(event["event_id"].startswith("event_") for event in client.seen)
