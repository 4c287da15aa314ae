"""Handoffs: what the model is offered, what happens in which order, and what fails (parity I, 2.19-2.21)."""

from contextlib import nullcontext
from typing import Any

import pydantic
import pytest

from support.scripts import answering, outputs, sent, session_update
from support.stages import IN_PROCESS, Stage
from voicebus import Handoff, RealtimeAgent, RunContextWrapper, ToolContext, UserError, function_tool, realtime_handoff
from voicebus.testing import audio_turn, function_call, function_calls

SOUNDS: Any = {
    "voice": "marin",
    "input_audio_format": "g711_ulaw",
    "output_audio_format": "g711_ulaw",
    "turn_detection": {"type": "server_vad", "silence_duration_ms": 300},
}


class Reason(pydantic.BaseModel):
    urgency: int


@function_tool
async def book(day: str) -> str:
    """Book a room."""
    return f"booked {day}"


async def test_a_handoff_is_offered_under_the_agents_name(stage: Stage) -> None:
    desk = RealtimeAgent("Front Desk-1", handoff_description="Knows rooms.")
    other = RealtimeAgent("other")
    front = RealtimeAgent(
        "front",
        handoffs=[desk, realtime_handoff(other, tool_name_override="go_on", tool_description_override="Go on.")],
    )
    async with answering() as server:
        async with stage.conversation(front, server):
            await server.wait_for("session.update")
        first, second = session_update(server)["tools"]
    assert first["name"] == "transfer_to_front_desk_1"
    assert first["description"] == "Handoff to the Front Desk-1 agent to handle the request. Knows rooms."
    assert first["parameters"]["additionalProperties"] is False
    assert first["parameters"]["properties"] == {}
    assert (second["name"], second["description"]) == ("go_on", "Go on.")


async def test_the_order_is_event_settings_output_response(stage: Stage) -> None:
    desk = RealtimeAgent("desk", instructions="You book.", tools=[book])
    front = RealtimeAgent("front", handoffs=[desk])
    turns = [
        function_call("transfer_to_desk", "{}", call_id="h1"),
        function_call("book", {"day": "Monday"}, call_id="c1"),
    ]
    async with (
        answering(*turns, audio_turn("Booked.")) as server,
        stage.conversation(front, server) as talk,
    ):
        await talk.say("a room, please")
        await talk.until("agent_end", output="Booked.")
        assert outputs(server) == [("h1", '{"assistant": "desk"}'), ("c1", "booked Monday")]
        assert [tool["name"] for tool in session_update(server)["tools"]] == ["book"]
        assert session_update(server)["instructions"] == "You book."
        order = sent(server, "session.update", "conversation.item.create", "response.create")
        assert order[-5:-2] == ["session.update", "conversation.item.create", "response.create"]
    assert talk.of("tool_start")[0]["agent"] == "desk"
    # A handoff is a call in the history, and has no tool events.
    assert [event["tool"] for event in talk.of("tool_end")] == ["book"]
    calls = [item for item in talk.of("history_updated")[-1]["history"] if item["type"] == "function_call"]
    assert [(item["name"], item["output"]) for item in calls] == [
        ("transfer_to_desk", '{"assistant": "desk"}'),
        ("book", "booked Monday"),
    ]


async def test_agents_may_hand_back_and_forth_within_one_conversation(stage: Stage) -> None:
    desk: RealtimeAgent[Any] = RealtimeAgent("desk")
    front: RealtimeAgent[Any] = RealtimeAgent("front", handoffs=[desk])
    desk.handoffs.append(front)
    turns = [function_call("transfer_to_desk", "{}"), function_call("transfer_to_front", "{}"), audio_turn("Back.")]
    async with answering(*turns) as server, stage.conversation(front, server) as talk:
        await talk.say("to the desk and back")
        end = await talk.until("agent_end", output="Back.")
        assert len(server.connections) == 1, "the model keeps the whole conversation"
    assert end["agent"] == "front"
    assert [event["to_agent"] for event in talk.of("handoff")] == ["desk", "front"]


async def test_a_callback_gets_the_sessions_context_and_the_models_input(stage: Stage) -> None:
    given: list[Any] = []

    async def on_handoff(context: RunContextWrapper[Any], reason: Reason) -> None:
        given.extend((context, reason))

    desk = RealtimeAgent("desk")
    front = RealtimeAgent("front", handoffs=[realtime_handoff(desk, on_handoff=on_handoff, input_type=Reason)])
    turns = [function_call("transfer_to_desk", {"urgency": 3}), audio_turn("Desk.")]
    async with answering(*turns) as server, stage.conversation(front, server) as talk:
        await talk.say("quick")
        await talk.until("agent_end", agent="desk")
        assert "urgency" in session_update(server, 0)["tools"][0]["parameters"]["properties"]
    context, reason = given
    assert isinstance(context, RunContextWrapper)
    assert not isinstance(context, ToolContext)
    assert reason == Reason(urgency=3)


async def test_an_input_that_does_not_fit_strictly_keeps_the_agent(stage: Stage) -> None:
    called: list[Any] = []

    async def on_handoff(context: RunContextWrapper[Any], reason: Reason) -> None:
        called.append(reason)

    desk = RealtimeAgent("desk")
    front = RealtimeAgent("front", handoffs=[realtime_handoff(desk, on_handoff=on_handoff, input_type=Reason)])
    turns = [function_call("transfer_to_desk", {"urgency": "3"}), audio_turn("Still me.")]
    async with answering(*turns) as server, stage.conversation(front, server) as talk:
        await talk.say("quick")
        end = await talk.until("agent_end", output="Still me.")
        ((_, output),) = outputs(server)
    assert "urgency" in output
    assert end["agent"] == "front"
    assert called == []
    assert not talk.of("handoff")


async def test_a_callback_that_raises_keeps_the_agent_and_is_an_error(stage: Stage) -> None:
    async def on_handoff(context: RunContextWrapper[Any]) -> None:
        raise ValueError("closed")

    front = RealtimeAgent("front", handoffs=[realtime_handoff(RealtimeAgent("desk"), on_handoff=on_handoff)])
    turns = [function_call("transfer_to_desk", "{}", call_id="h1"), audio_turn("Still me.")]
    async with answering(*turns) as server, stage.conversation(front, server) as talk:
        await talk.say("the desk")
        await talk.until("error")
        end = await talk.until("agent_end", output="Still me.")
        assert [call_id for call_id, _ in outputs(server)] == ["h1"]
        # The same call again is not made again.
        await server.connections[0].emit(function_call("transfer_to_desk", "{}", call_id="h1"))
        await talk.until("agent_end")
        assert [call_id for call_id, _ in outputs(server)] == ["h1"]
    assert end["agent"] == "front"
    assert len(talk.of("error")) == 1


async def test_settings_of_an_agent_that_cannot_be_keep_the_old_one(stage: Stage) -> None:
    asked: list[str] = []

    def instructions(context: RunContextWrapper[Any], agent: Any) -> str:
        asked.append(agent.name)
        raise ValueError("no instructions")

    front = RealtimeAgent("front", handoffs=[RealtimeAgent("desk", instructions=instructions)])
    turns = [function_call("transfer_to_desk", "{}"), audio_turn("Still me.")]
    async with answering(*turns) as server, stage.conversation(front, server) as talk:
        await talk.say("the desk")
        end = await talk.until("agent_end", output="Still me.")
        assert session_update(server)["instructions"] == ""
    assert end["agent"] == "front"
    assert not talk.of("handoff")
    assert asked == ["desk"]


async def test_formats_voice_and_turn_detection_survive_a_handoff(stage: Stage) -> None:
    front = RealtimeAgent("front", handoffs=[RealtimeAgent("desk")])
    turns = [function_call("transfer_to_desk", "{}"), audio_turn("Desk.")]
    async with (
        answering(*turns) as server,
        stage.conversation(front, server, {"model_settings": SOUNDS}) as talk,
    ):
        await talk.say("the desk")
        await talk.until("agent_end", agent="desk")
        before, after = session_update(server, 0), session_update(server)
    assert before["tools"] != after["tools"]
    assert before["audio"] == after["audio"], "each update carries the whole audio block"
    assert after["audio"]["output"] == {"format": {"type": "audio/pcmu"}, "voice": "marin"}
    assert after["audio"]["input"]["turn_detection"]["silence_duration_ms"] == 300
    assert after["model"] == before["model"]


async def test_the_voice_stays_once_it_was_heard(stage: Stage) -> None:
    """A server refuses another voice after the first speech: the old one is sent again (row 101)."""
    desk = RealtimeAgent("desk", voice="cedar")
    front = RealtimeAgent("front", handoffs=[desk], voice="marin")
    turns = [audio_turn("Welcome."), function_call("transfer_to_desk", "{}"), audio_turn("Desk.")]
    async with answering(*turns) as server, stage.conversation(front, server) as talk:
        await talk.say("hello")
        await talk.until("agent_end", output="Welcome.")
        await talk.say("the desk")
        await talk.until("agent_end", agent="desk")
        voices = [session_update(server, number)["audio"]["output"]["voice"] for number in (0, -1)]
    assert voices == ["marin", "marin"]


async def test_updating_the_agent_changes_settings_and_is_no_handoff(stage: Stage) -> None:
    desk = RealtimeAgent("desk", instructions="You book.", tools=[book])
    async with (
        answering(audio_turn("One."), audio_turn("Two.")) as server,
        stage.conversation(RealtimeAgent("front"), server, {"model_settings": SOUNDS}, more=[desk]) as talk,
    ):
        await talk.say("hello")
        await talk.until("agent_end", output="One.")
        await talk.update_agent(desk)
        await talk.say("and now?")
        end = await talk.until("agent_end", output="Two.")
        assert session_update(server)["instructions"] == "You book."
        assert session_update(server)["audio"] == session_update(server, 0)["audio"]
    assert end["agent"] == "desk"
    assert not talk.of("handoff")


def test_a_callback_of_the_wrong_arity_is_refused_when_it_is_built() -> None:
    def without(context: Any) -> None: ...

    build: Any = realtime_handoff
    with pytest.raises(UserError):
        build(RealtimeAgent("desk"), on_handoff=without, input_type=Reason)
    with pytest.raises(UserError):
        build(RealtimeAgent("desk"), on_handoff=lambda: None)
    with pytest.raises(UserError):
        build(RealtimeAgent("desk"), input_type=Reason)


async def test_a_tool_and_a_handoff_of_one_response_are_both_carried_out(stage: Stage) -> None:
    front = RealtimeAgent("front", tools=[book], handoffs=[RealtimeAgent("desk")])
    calls = function_calls(("book", {"day": "Monday"}, "c1"), ("transfer_to_desk", "{}", "h1"))
    async with answering(calls, audio_turn("Desk.")) as server, stage.conversation(front, server) as talk:
        await talk.say("book and go on")
        end = await talk.until("agent_end", output="Desk.")
        assert dict(outputs(server)) == {"c1": "booked Monday", "h1": '{"assistant": "desk"}'}
        assert len(server.received("response.create")) == 2
    assert end["agent"] == "desk"
    assert talk.of("tool_end")[0]["agent"] == "front"


async def test_of_two_handoffs_in_one_response_the_first_is_made(stage: Stage) -> None:
    front = RealtimeAgent("front", handoffs=[RealtimeAgent("desk"), RealtimeAgent("bar")])
    calls = function_calls(("transfer_to_desk", "{}", "h1"), ("transfer_to_bar", "{}", "h2"))
    async with answering(calls, audio_turn("Desk.")) as server, stage.conversation(front, server) as talk:
        await talk.say("both")
        end = await talk.until("agent_end", output="Desk.")
        assert dict(outputs(server)).keys() == {"h1", "h2"}
    assert end["agent"] == "desk"
    assert len(talk.of("handoff")) == 1


async def test_a_handoff_may_be_disabled(stage: Stage) -> None:
    async def closed(context: RunContextWrapper[Any], agent: Any) -> bool:
        return False

    front = RealtimeAgent("front", handoffs=[realtime_handoff(RealtimeAgent("desk"), is_enabled=closed)])
    turns = [function_call("transfer_to_desk", "{}", call_id="h1"), audio_turn("Still me.")]
    async with answering(*turns) as server, stage.conversation(front, server) as talk:
        await talk.say("the desk")
        end = await talk.until("agent_end", output="Still me.")
        assert session_update(server)["tools"] == []
        assert [call_id for call_id, _ in outputs(server)] == ["h1"]
    assert end["agent"] == "front"


class Words:
    """Instructions as a callable object."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, context: RunContextWrapper[Any], agent: Any) -> str:
        self.asked.append(agent.name)
        return f"You are {agent.name}."


async def test_instructions_are_asked_for_when_an_agent_takes_over_and_never_per_turn(stage: Stage) -> None:
    words = Words()
    front = RealtimeAgent("front", instructions=words, handoffs=[RealtimeAgent("desk", instructions=words)])
    turns = [audio_turn("One."), audio_turn("Two."), function_call("transfer_to_desk", "{}"), audio_turn("Desk.")]
    async with answering(*turns) as server, stage.conversation(front, server) as talk:
        for text in ("One.", "Two.", "Desk."):
            await talk.say("go on")
            await talk.until("agent_end", output=text)
        assert [session_update(server, number)["instructions"] for number in (0, -1)] == [
            "You are front.",
            "You are desk.",
        ]
    assert words.asked == ["front", "desk"]


async def test_an_agent_that_cannot_take_over_leaves_the_old_one_in_charge(stage: Stage) -> None:
    def broken(context: RunContextWrapper[Any], agent: Any) -> str:
        raise ValueError("no instructions")

    bad = RealtimeAgent("bad", instructions=broken)
    async with (
        answering(audio_turn("Still me.")) as server,
        stage.conversation(RealtimeAgent("front"), server, more=[bad]) as talk,
    ):
        # In process this raises; a client of a gateway gets an error for an answer.
        with pytest.raises(ValueError, match="no instructions") if stage.name == IN_PROCESS else nullcontext():
            await talk.update_agent(bad)
        await talk.say("hello")
        end = await talk.until("agent_end")
        assert len([one for one in server.received("session.update") if "tools" in one["session"]]) == 1
    assert end["agent"] == "front"


async def test_a_handoff_that_gives_no_agent_keeps_the_old_one_and_says_so(stage: Stage) -> None:
    async def invoke(context: RunContextWrapper[Any], arguments: str) -> Any:
        return "the desk"

    odd = Handoff("go", "Go on.", {"type": "object", "properties": {}}, invoke, "desk", agent=RealtimeAgent("desk"))
    turns = [function_call("go", "{}"), audio_turn("Still me.")]
    async with (
        answering(*turns) as server,
        stage.conversation(RealtimeAgent("front", handoffs=[odd]), server) as talk,
    ):
        await talk.say("go")
        error = await talk.until("error", within=10)
        end = await talk.until("agent_end", output="Still me.")
    assert error.get("error", error)["message"] == "handoff 'go' returned str, not a RealtimeAgent"
    assert end["agent"] == "front"
