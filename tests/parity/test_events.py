"""Session events: which there are, what they carry, and their order (parity E, 137, 2.1)."""

import dataclasses
from typing import Any

import pytest

import voicebus
from support.scripts import answering
from support.stages import Conversation, Stage
from voicebus import (
    GuardrailFunctionOutput,
    OutputGuardrail,
    RealtimeAgent,
    RealtimeRunner,
    RealtimeSession,
    RunContextWrapper,
    function_tool,
)
from voicebus.testing import (
    ScriptedRealtimeServer,
    ServerStep,
    audio_turn,
    barge_in,
    function_call,
    open_turn,
    server_error,
    text_turn,
)

SAID = ["agent_start", "history_added", "transcript_delta", "audio_start", "audio", "audio_end", "audio_stopped"]


@function_tool
async def weather(city: str) -> dict[str, str]:
    """Tell the weather."""
    return {"sky": f"clear in {city}"}


async def spoken(talk: Conversation, text: str = "hello") -> None:
    await talk.say(text)
    await talk.until("agent_end")


async def test_a_spoken_turn_has_the_same_order_in_both_modes(stage: Stage, delivery: str) -> None:
    async with answering(audio_turn("Hi.", bytes(960))) as server:
        async with stage.conversation(RealtimeAgent("Ada"), server) as talk:
            await spoken(talk)
    # The protocol leaves open which comes first, sound or words.
    words = [] if delivery == "reordered" else ["transcript_delta"]
    sound = [kind for kind in SAID if kind != "transcript_delta" or words]
    assert talk.kinds("history_updated", *({"transcript_delta"} - {*words})) == ["history_added", *sound, "agent_end"]
    assert len(talk.of("transcript_delta")) == 1
    assert talk.kinds()[0] == "history_updated"
    assert talk.events[0].get("history") == [], "the first event is an empty history"


async def test_each_raw_event_comes_before_what_follows_from_it() -> None:
    """In process only: raw events are objects of the model layer, which a gateway keeps to itself."""
    labels: list[str] = []
    async with (
        answering(audio_turn("Hi.", bytes(960))) as server,
        await RealtimeRunner(RealtimeAgent("Ada")).run(model_config={"url": server.url, "api_key": "test"}) as session,
    ):
        await session.send_message("hello")
        async for event in session:
            if event.type == "raw_model_event":
                data = event.data
                labels.append(f"raw {data.data['type'] if data.type == 'raw_server_event' else data.type}")
            else:
                labels.append(event.type)
            if event.type == "agent_end":
                break
    assert labels[:2] == ["history_updated", "raw session.created"]
    begun = labels.index("raw response.created")
    assert labels[begun : begun + 3] == ["raw response.created", "raw turn_started", "agent_start"]
    causes = {
        "history_added": "raw item_updated", "transcript_delta": "raw transcript_delta", "audio_start": "raw audio",
        "audio": "audio_start", "audio_end": "raw audio_done", "agent_end": "raw turn_ended",
    }  # fmt: skip
    for what, cause in causes.items():
        assert labels[labels.index(what) - 1] == cause, f"{what} in {labels}"
    shown = [label for label in labels if label in ("agent_start", "audio", "agent_end")]
    assert shown == ["agent_start", "audio", "agent_end"]
    assert labels[-3:] == ["raw usage", "raw turn_ended", "agent_end"]


async def test_a_turn_begins_and_ends_with_its_agent_and_a_handoff_begins_none(stage: Stage) -> None:
    desk = RealtimeAgent("desk")
    front = RealtimeAgent("front", handoffs=[desk])
    async with answering(function_call("transfer_to_desk", "{}"), audio_turn("Desk.")) as server:
        async with stage.conversation(front, server) as talk:
            await talk.say("the desk, please")
            await talk.until("agent_end", agent="desk")
    turns = [(event["type"], event["agent"]) for event in talk.events if event["type"] in ("agent_start", "agent_end")]
    assert turns == [("agent_start", "front"), ("agent_end", "front"), ("agent_start", "desk"), ("agent_end", "desk")]
    assert [(event["from_agent"], event["to_agent"]) for event in talk.of("handoff")] == [("front", "desk")]
    assert talk.of("agent_end")[1]["output"] == "Desk."


async def test_a_call_is_told_by_its_start_and_end(stage: Stage) -> None:
    async with answering(function_call("weather", {"city": "Rome"}, call_id="c1"), audio_turn("Clear.")) as server:
        async with stage.conversation(RealtimeAgent("Ada", tools=[weather]), server) as talk:
            await talk.say("weather?")
            await talk.until("agent_end", output="Clear.")
    (start,), (end,) = talk.of("tool_start"), talk.of("tool_end")
    for event in (start, end):
        assert (event["agent"], event["tool"], event["call_id"]) == ("Ada", "weather", "c1")
        assert event["arguments"] == '{"city": "Rome"}'
    assert end["outcome"] == "ok"
    assert end["output"] == '{"sky": "clear in Rome"}'
    assert start["item_id"] == end["item_id"] != ""


async def test_audio_names_its_part_and_ends(stage: Stage) -> None:
    async with answering(audio_turn("Hi.", bytes(9600))) as server:
        async with stage.conversation(RealtimeAgent("Ada"), server) as talk:
            await spoken(talk)
    parts = {(event["item_id"], event["content_index"]) for event in talk.events if event["type"].startswith("audio")}
    assert len(parts) == 1
    heard = sum(event["data"] for event in talk.comparable() if event["type"] == "audio")
    assert heard == 9600
    assert len(talk.of("audio_end")) == 1


async def test_speech_over_audio_interrupts_it_by_its_part(stage: Stage) -> None:
    async with answering(open_turn("A long story.", bytes(48_000))) as server:
        async with stage.conversation(RealtimeAgent("Ada"), server) as talk:
            await talk.say("tell me")
            audio = await talk.until("audio")
            await server.connections[0].emit(barge_in("wait"))
            stopped = await talk.until("audio_interrupted")
    assert (stopped["item_id"], stopped["content_index"]) == (audio["item_id"], 0)


async def test_an_error_of_the_server_is_an_event_and_the_conversation_goes_on(stage: Stage) -> None:
    async with answering(audio_turn("Still here.")) as server:
        async with stage.conversation(RealtimeAgent("Ada"), server) as talk:
            await server.wait_for("session.update")
            await server.connections[0].emit(server_error("odd_thing", "Something odd."))
            error = await talk.until("error")
            assert error.get("error", error)["code"] == "odd_thing"
            await spoken(talk)
            assert talk.of("agent_end")[-1]["output"] == "Still here."


async def test_history_is_told_item_by_item_and_as_a_whole(stage: Stage) -> None:
    async with answering(text_turn("Hi.")) as server, stage.conversation(RealtimeAgent("Ada"), server) as talk:
        await spoken(talk)
    assert [event["item"]["role"] for event in talk.of("history_added")] == ["user", "assistant"]
    whole = talk.of("history_updated")[-1]["history"]
    assert [(item["role"], item["content"][0]["text"]) for item in whole] == [("user", "hello"), ("assistant", "Hi.")]


async def test_a_guardrail_that_trips_is_an_event_with_what_was_said(stage: Stage) -> None:
    def no_prices(_: RunContextWrapper[Any], agent: Any, text: str) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput({"why": "price"}, "100" in text)

    agent = RealtimeAgent("Ada", output_guardrails=[OutputGuardrail(no_prices)])
    async with answering(audio_turn("It costs 100 euros."), audio_turn("Sorry.")) as server:
        async with stage.conversation(agent, server) as talk:
            await talk.say("how much?")
            event = await talk.until("guardrail_tripped")
    assert "100" in event["message"]
    assert next(one for one in talk.comparable() if one["type"] == "guardrail_tripped")


async def test_the_idle_time_out_of_the_users_is_an_event(stage: Stage) -> None:
    async with answering() as server, stage.conversation(RealtimeAgent("Ada"), server) as talk:
        await server.wait_for("session.update")
        await server.connections[0].emit(
            {
                "type": "input_audio_buffer.timeout_triggered",
                "item_id": "item_9",
                "audio_start_ms": 100,
                "audio_end_ms": 6100,
            }
        )
        event = await talk.until("input_audio_timeout_triggered")
    assert event["item_id"] == "item_9"


# What a program constructs and matches: objects of one process, the cluster has their JSON.
FIELDS = {
    "RealtimeAgentStartEvent": ("agent_start", ["agent", "info"]),
    "RealtimeAgentEndEvent": ("agent_end", ["agent", "info"]),
    "RealtimeHandoffEvent": ("handoff", ["from_agent", "to_agent", "info"]),
    "RealtimeToolStart": ("tool_start", ["agent", "tool", "arguments", "info"]),
    "RealtimeToolEnd": ("tool_end", ["agent", "tool", "arguments", "output", "info"]),
    "RealtimeToolApprovalRequired": ("tool_approval_required", ["agent", "tool", "call_id", "arguments", "info"]),
    "RealtimeRawModelEvent": ("raw_model_event", ["data", "info"]),
    "RealtimeAudio": ("audio", ["audio", "item_id", "content_index", "info"]),
    "RealtimeAudioEnd": ("audio_end", ["info", "item_id", "content_index"]),
    "RealtimeAudioInterrupted": ("audio_interrupted", ["info", "item_id", "content_index"]),
    "RealtimeError": ("error", ["error", "info"]),
    "RealtimeHistoryAdded": ("history_added", ["item", "info"]),
    "RealtimeHistoryUpdated": ("history_updated", ["history", "info"]),
    "RealtimeGuardrailTripped": ("guardrail_tripped", ["guardrail_results", "message", "info"]),
    "RealtimeInputAudioTimeoutTriggered": ("input_audio_timeout_triggered", ["info"]),
}


@pytest.mark.parametrize("name", FIELDS)
def test_an_event_has_the_fields_that_programs_know_in_their_order(name: str) -> None:
    event = getattr(voicebus, name)
    kind, fields = FIELDS[name]
    known = dataclasses.fields(event)
    assert [field.name for field in known][: len(fields) + 1] == [*fields, "type"]
    assert next(field.default for field in known if field.name == "type") == kind
    assert all(field.default is not dataclasses.MISSING for field in known[len(fields) :]), "what is ours has defaults"


async def test_every_event_carries_the_programs_context() -> None:
    """In process only: a client of a gateway has no context object."""
    context = {"caller": "Mia"}
    seen: set[str] = set()
    async with answering(audio_turn("Hi.")) as server:
        session: RealtimeSession = await RealtimeRunner(RealtimeAgent("Ada")).run(
            context=context, model_config={"url": server.url, "api_key": "test"}
        )
        async with session:
            await session.send_message("hello")
            async for event in session:
                assert event.info.context.context is context
                seen.add(event.type)
                if event.type == "agent_end":
                    break
    assert {"raw_model_event", "agent_start", "audio", "history_added", "history_updated"} <= seen


async def test_a_turn_that_the_server_begins_by_itself_is_told_as_any_other(stage: Stage) -> None:
    async with ScriptedRealtimeServer([ServerStep(None, audio_turn("Welcome."))]) as server:
        async with stage.conversation(RealtimeAgent("Ada"), server) as talk:
            end = await talk.until("agent_end")
    assert end["output"] == "Welcome."
