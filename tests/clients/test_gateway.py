"""The unmodified `openai` package and `openai-agents` hold conversations through a gateway.

The agent's tools run on the server side and never show; every event on both sides of the gateway is one of the
package's own types.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from clients.seen import ASK, LONG, check_stream, check_wire
from support.callers import calling
from support.real_clients import Served, run_program
from voicebus_services.model_simulator.tape import record

# One cluster serves all of these, so they share its loop; making the environment may take a while.
pytestmark = [
    pytest.mark.clients,
    pytest.mark.timeout(300),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("clients"),
]


async def test_a_text_conversation_with_a_tool_of_the_server(served: Served) -> None:
    talk = await run_program("openai_text", served.base_url, "[[say: Good morning.]]", ASK, "hello")
    assert talk["answers"][0] == "Good morning."
    assert "from process" in talk["answers"][1]
    assert talk["answers"][2].startswith("Hello")
    created = talk["seen"][0]["session"]
    assert (created["model"], created["instructions"], created["tools"]) == ("first", "", [])
    check_stream(talk["seen"])
    await check_wire(served)


async def test_a_spoken_conversation_with_a_tool_of_the_server(served: Served, tmp_path: Path) -> None:
    question = tmp_path / "question.pcm"
    question.write_bytes(record(ASK))
    talk = await run_program("openai_audio", served.base_url, str(question))
    assert (talk["heard"], talk["status"]) == (ASK, "completed")
    assert "from process" in talk["said"]
    assert talk["ms"] > 500
    check_stream(talk["seen"])
    await check_wire(served)


async def test_a_tool_of_the_clients_own_beside_one_of_the_servers(served: Served) -> None:
    text = '[[call: where {"word": "here"}]] [[next]] [[call: open_map {"place": "Rome"}]] [[next]] [[say: {outputs}]]'
    talk = await run_program("openai_own_tool", served.base_url, text)
    assert talk["called"] == [{"name": "open_map", "arguments": {"place": "Rome"}}]
    assert talk["answer"].endswith("the map is open")
    assert talk["tools"] == ["open_map"]
    assert len([event for event in talk["seen"] if event["type"] == "response.created"]) == 2
    check_stream(talk["seen"])
    await check_wire(served)


async def test_a_response_that_calls_a_tool_of_each_side(served: Served) -> None:
    text = '[[call: where {"word": "here"}]] [[call: open_map {"place": "Rome"}]] [[next]] [[say: {outputs}]]'
    talk = await run_program("openai_own_tool", served.base_url, text)
    assert talk["called"] == [{"name": "open_map", "arguments": {"place": "Rome"}}]
    assert "from process" in talk["answer"]
    assert "the map is open" in talk["answer"]
    check_stream(talk["seen"])


async def test_cancelling_and_talking_into_an_answer(served: Served, tmp_path: Path) -> None:
    speech = tmp_path / "speech.pcm"
    speech.write_bytes(record("stop it please"))
    talk = await run_program("openai_interrupt", served.base_url, str(speech), f"[[say: {LONG}]]")
    assert talk["refused"] == "conversation_already_has_active_response"
    assert talk["endings"] == [["cancelled", "client_cancelled"], ["cancelled", "turn_detected"]]
    assert talk["truncated_at"] == 50
    check_stream(talk["seen"])


async def test_manual_turns_and_an_answer_that_is_cut_off_by_hand(served: Served, tmp_path: Path) -> None:
    question = tmp_path / "question.pcm"
    question.write_bytes(record(ASK))
    talk = await run_program("openai_manual", served.base_url, str(question), f"[[say: {LONG}]]")
    for heard, said, status in talk["turns"]:
        assert (heard, status) == (ASK, "completed")
        assert "from process" in said
    assert talk["cut"] == ["cancelled", "client_cancelled"]
    assert talk["truncated_at"] == 20
    assert not [event for event in talk["seen"] if event["type"].startswith("input_audio_buffer.speech")]
    check_stream(talk["seen"])
    await check_wire(served)


async def test_what_a_client_may_not_do_is_refused_and_the_conversation_goes_on(served: Served) -> None:
    talk = await run_program("openai_strict", served.base_url, ASK)
    assert talk["refused"] == [
        ["forbidden_parameter", "session.instructions", "e1"],
        ["forbidden_parameter", "session.reasoning", "e2"],
        ["response_cancel_not_active", None, "e3"],
        ["invalid_value", "type", "e4"],
        ["item_delete_invalid_item_id", "item_id", "e5"],
    ]
    assert talk["instructions"] == ""
    assert talk["aside"] == [None, {"topic": "aside"}, "You said: Yes or no?"]
    assert talk["last"].startswith("Hello")
    check_stream(talk["seen"])
    await check_wire(served)


def said(talk: Mapping[str, Any]) -> list[str]:
    """The agent's lines, in the order of the session's history."""
    return [
        part.get("transcript") or part.get("text")
        for item in talk["history"]
        if item["type"] == "message" and item["role"] == "assistant"
        for part in item["content"]
    ]


async def test_openai_agents_hold_a_conversation_with_a_tool_of_the_server(served: Served) -> None:
    own = '[[call: open_map {"place": "Rome"}]] [[next]] [[say: {outputs}]]'
    both = '[[call: where {"word": "here"}]] [[call: open_map {"place": "Oslo"}]] [[next]] [[say: {outputs}]]'
    talk = await run_program("agents_session", served.socket_url, "", "[[say: Good morning.]]", ASK, own, both)
    first, second, third, fourth = said(talk)
    assert (first, third) == ("Good morning.", "the map shows Rome")
    assert "from process" in second
    assert "from process" in fourth
    assert "the map shows Oslo" in fourth
    assert talk["tools"] == ["open_map", "open_map"]
    assert talk["audio_bytes"] > 48_000
    assert talk["errors"] == []
    assert "session.updated" in talk["raw"]
    await check_wire(served)


async def test_openai_agents_talk_by_voice_into_an_answer_and_in_manual_turns(served: Served, tmp_path: Path) -> None:
    question, speech = tmp_path / "question.pcm", tmp_path / "speech.pcm"
    question.write_bytes(record(ASK))
    speech.write_bytes(record("[[say: All right.]]"))
    talk = await run_program("agents_audio", served.socket_url, str(question), str(speech), f"[[say: {LONG}]]")
    assert [len(said) for said in talk["said"]] == [1, 1]
    assert all("from process" in said for (said,) in talk["said"])
    assert talk["cut"] == ["cancelled", "turn_detected"]
    assert talk["truncated"], "what was not heard is cut off by the client"
    assert talk["errors"] == []
    await check_wire(served)


async def test_openai_agents_with_instructions_of_their_own_talk_to_the_servers_agent(served: Served) -> None:
    talk = await run_program("agents_session", served.socket_url, "You are a pirate.", ASK)
    assert "from process" in said(talk)[0]
    assert {error["param"] for error in talk["errors"]} == {"session.instructions"}
    assert "pirate" not in served.model.lines().decode()


async def test_what_the_gateway_tells_the_model_for_callers_of_the_native_face(served: Served) -> None:
    before = len(served.model.events)
    async with calling(served.base_url.removesuffix("/v1")) as caller:
        await caller.types(ASK)
        await caller.hears("from process")
        await caller.types("[[say: This is forbidden.]] [[next]]")
        await caller.until(lambda each: each.of("guardrail_tripped"), "the guardrail to trip")
        await caller.types("[[call: transfer_to_second]] [[next]] [[say: Second line.]]")
        await caller.hears("Second line.")
        heard = len(caller.audio)
        await caller.types(f"[[say: {LONG}]]")
        await caller.until(lambda each: len(each.audio) > heard + 48_000, "a second of the long answer")
        await caller.conversation.command("interrupt")
        await caller.until(lambda each: each.of("audio_interrupted"), "the interruption")
        await caller.says("[[say: Goodbye.]]")
        await caller.hears("Goodbye.")
        await caller.hangs_up()
    await check_wire(served)
    told = {event["type"] for side, event in served.model.events[before:] if side == "client"}
    assert told == {
        "session.update",
        "input_audio_buffer.append",
        "conversation.item.create",
        "conversation.item.truncate",
        "response.create",
        "response.cancel",
    }
