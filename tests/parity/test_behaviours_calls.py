"""What is easy to get wrong about calls and responses (parity 2.2-2.13)."""

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel

from support.scripts import answering, outputs, sent
from support.stages import IN_PROCESS, Stage
from support.waiting import wait_until
from voicebus import (
    CircuitBreaker,
    RealtimeAgent,
    RealtimeRunner,
    ToolGuardrailFunctionOutput,
    ToolOutputGuardrailData,
    function_tool,
    realtime_handoff,
    tool_output_guardrail,
)
from voicebus.testing import (
    ScriptedRealtimeServer,
    ServerStep,
    audio_turn,
    end_turn,
    function_call,
    open_turn,
    server_error,
    text_turn,
)


@function_tool
async def weather(city: str) -> str:
    """Tell the weather."""
    return f"clear in {city}"


class Given(BaseModel):
    card: str


def ada(*tools: Any) -> RealtimeAgent[Any]:
    return RealtimeAgent("Ada", tools=list(tools))


async def test_the_order_of_a_call_is_the_same_in_both_modes(stage: Stage) -> None:
    async with (
        answering(function_call("weather", {"city": "Rome"}, call_id="c1"), audio_turn("Clear.")) as server,
        stage.conversation(ada(weather), server) as talk,
    ):
        await talk.say("weather?")
        await talk.until("agent_end", output="Clear.")
        assert outputs(server) == [("c1", "clear in Rome")]
    kinds = talk.kinds("agent_end")  # the response may end at any point after the call
    begun = kinds.index("tool_start")
    assert kinds[begun - 1 : begun + 3] == ["history_added", "tool_start", "history_updated", "tool_end"]
    call = talk.of("history_added")[1]["item"]
    assert (call["type"], call["status"], call["arguments"]) == ("function_call", "in_progress", '{"city": "Rome"}')


async def test_the_raw_order_of_a_call_is_the_one_that_programs_know() -> None:
    """In process only: raw events are the model layer's."""
    labels: list[str] = []
    async with answering(function_call("weather", {"city": "Rome"}), audio_turn("Clear.")) as server:
        runner = RealtimeRunner(ada(weather))
        async with await runner.run(model_config={"url": server.url, "api_key": "test"}) as session:
            await session.send_message("weather?")
            async for event in session:
                label: str = event.type
                if event.type == "raw_model_event":
                    if event.data.type == "raw_server_event":
                        continue
                    label = f"raw {event.data.type}"
                labels.append(label)
                if event.type == "tool_end":
                    break
    turn = labels[labels.index("agent_start") + 1 :]
    without_end = [label for label in turn if label not in ("raw usage", "raw turn_ended", "agent_end")]
    assert without_end == [
        "raw item_updated",
        "history_added",
        "raw function_call",
        "tool_start",
        "raw item_updated",
        "history_updated",
        "tool_end",
    ]


async def test_a_call_that_was_cut_off_starts_nothing(stage: Stage) -> None:
    ran: list[str] = []

    @function_tool
    async def act() -> str:
        """Act."""
        ran.append("act")
        return "acted"

    cut = {
        "type": "response.output_item.done",
        "response_id": "resp_1",
        "output_index": 0,
        "item": {
            "id": "item_cut",
            "type": "function_call",
            "name": "act",
            "call_id": "c_cut",
            "status": "incomplete",
            "arguments": "{",
        },
    }
    async with (
        answering(open_turn("Well", bytes(960)), audio_turn("Next.")) as server,
        stage.conversation(ada(act), server) as talk,
    ):
        await talk.say("go")
        await talk.until("audio")
        await server.connections[0].emit(cut, end_turn())
        await talk.until("agent_end")
        await talk.say("again")
        await talk.until("agent_end", output="Next.")
        assert outputs(server) == []
    assert ran == []
    assert not talk.of("tool_start")


async def test_a_tool_starts_while_its_response_is_still_active(stage: Stage) -> None:
    def call_in(conversation: Any) -> Any:
        return conversation.call("weather", '{"city": "Rome"}', "c1")

    async with (
        ScriptedRealtimeServer(
            [
                ServerStep("response.create", (lambda one: one.begin_response(), call_in)),
                ServerStep("response.create", audio_turn("Clear.")),
            ]
        ) as server,
        stage.conversation(ada(weather), server) as talk,
    ):
        await talk.say("weather?")
        await talk.until("tool_end")
        await wait_until(lambda: outputs(server) == [("c1", "clear in Rome")], description="the output, at once")
        assert len(server.received("response.create")) == 1, "the next response waits for the end of this one"
        await server.connections[0].emit(lambda one: one.end_response())
        await talk.until("agent_end", output="Clear.")


async def test_inputs_during_a_response_are_answered_by_one_more(stage: Stage) -> None:
    async with (
        answering(open_turn("One", kind="text"), text_turn("Two.")) as server,
        stage.conversation(ada(), server) as talk,
    ):
        await talk.say("first")
        await talk.until("transcript_delta")
        await talk.say("second")
        await talk.say("third")
        await server.wait_for("conversation.item.create", 3)
        assert sent(server, "response.create") == ["response.create"], "no second one beside the first"
        await server.connections[0].emit(end_turn())
        await talk.until("agent_end", output="Two.")
        await talk.say("fourth")  # the third create comes for this one, not for an earlier message
        await server.wait_for("response.create", 3)
        order = sent(server, "conversation.item.create", "response.create")
    message, create = "conversation.item.create", "response.create"
    assert order == [message, create, message, message, create, message, create]


async def test_only_the_error_about_our_create_releases_it(stage: Stage) -> None:
    def refuse(conversation: Any) -> Any:
        return [conversation.error("bad_response_create", "no", cause=server.received("response.create")[-1])]

    async with (
        ScriptedRealtimeServer(
            [
                ServerStep("response.create", server_error("odd_thing", "unrelated")),
                ServerStep("response.create", audio_turn("Two.")),
            ]
        ) as server,
        stage.conversation(ada(), server) as talk,
    ):
        await talk.say("first")
        await talk.until("error")
        await talk.say("second")
        await server.wait_for("conversation.item.create", 2)
        assert len(server.received("response.create")) == 1, "the first may still be answered"
        await server.connections[0].emit(refuse)
        await talk.until("agent_end", output="Two.")
        server.assert_complete()


async def test_the_late_end_of_an_older_response_ends_nothing(stage: Stage) -> None:
    stale = {"type": "response.done", "response": {"id": "resp_old", "status": "completed", "output": []}}
    async with (
        answering(open_turn("One", kind="text"), text_turn("Two.")) as server,
        stage.conversation(ada(), server) as talk,
    ):
        await talk.say("first")
        await talk.until("transcript_delta")
        await talk.say("second")
        await server.connections[0].emit(stale)
        await server.connections[0].emit(server_error("fence", "all before this was heard"))
        await talk.until("error")
        assert len(server.received("response.create")) == 1
        await server.connections[0].emit(end_turn())
        await talk.until("agent_end", output="Two.")


async def test_a_response_is_cancelled_once(stage: Stage) -> None:
    async with (
        answering(open_turn("A long story.", bytes(48_000)), text_turn("Yes?")) as server,
        stage.conversation(ada(), server) as talk,
    ):
        await talk.say("tell me")
        await talk.until("audio")
        await talk.interrupt()
        await talk.interrupt()
        await talk.until("agent_end")
        await talk.say("hello")
        await talk.until("agent_end", output="Yes?")
        assert len(server.received("response.cancel")) == 1


async def test_the_same_call_again_is_not_made_again_and_another_of_its_id_is_an_error(stage: Stage) -> None:
    ran: list[str] = []

    @function_tool
    async def note(text: str) -> str:
        """Note something."""
        ran.append(text)
        return "noted"

    async with (
        answering(function_call("note", '{"text": "a"}', call_id="c1"), audio_turn("Noted.")) as server,
        stage.conversation(ada(note), server) as talk,
    ):
        await talk.say("note a")
        await talk.until("agent_end", output="Noted.")
        await server.connections[0].emit(function_call("note", '{ "text" : "a" }', call_id="c1"))
        await talk.until("agent_end")
        assert not talk.of("error")
        await server.connections[0].emit(function_call("note", '{"text": "b"}', call_id="c1"))
        error = await talk.until("error")
        assert outputs(server) == [("c1", "noted")]
    assert "unique call ID" in str(error.get("error", error)["message"])
    assert ran == ["a"]


async def test_a_call_goes_to_the_tool_of_the_agent_that_was_asked(stage: Stage) -> None:
    gate = asyncio.Event()

    @function_tool(name_override="act")
    async def before() -> str:
        """Act."""
        await gate.wait()
        return "by the old agent"

    @function_tool(name_override="act")
    async def after() -> str:
        """Act."""
        return "by the new agent"

    old, new = ada(before), RealtimeAgent("Bob", tools=[after])
    if stage.name != IN_PROCESS:
        # Workers know a tool by its name: agents of one target share it, so the snapshot shows in who is named.
        new = RealtimeAgent("Bob", tools=[before])
    async with (
        answering(function_call("act", "{}", call_id="c1"), audio_turn("Done.")) as server,
        stage.conversation(old, server, more=[new]) as talk,
    ):
        await talk.say("act")
        await talk.until("tool_start")
        await talk.update_agent(new)
        gate.set()
        await talk.until("tool_end")
        await wait_until(lambda: outputs(server) == [("c1", "by the old agent")], description="the output there")
    assert talk.of("tool_end")[0]["agent"] == "Ada"


async def test_an_approval_resumes_with_the_agent_of_the_request(stage: Stage) -> None:
    @function_tool(needs_approval=True)
    async def act() -> str:
        """Act."""
        return "acted"

    async with (
        answering(function_call("act", "{}", call_id="c1"), audio_turn("Done.")) as server,
        stage.conversation(ada(act), server, more=[RealtimeAgent("Bob")]) as talk,
    ):
        await talk.say("act")
        await talk.until("tool_approval_required")
        await talk.update_agent(RealtimeAgent("Bob"))
        await talk.approve("c1")
        await talk.until("tool_end")
        await wait_until(lambda: outputs(server) == [("c1", "acted")], description="the output at the server")
    assert talk.of("tool_start")[0]["agent"] == "Ada"


async def test_a_tool_that_ends_after_the_session_sends_nothing(stage: Stage) -> None:
    started, gate = asyncio.Event(), asyncio.Event()

    @function_tool
    async def slow() -> str:
        """Be slow."""
        started.set()
        await gate.wait()
        return "late"

    async with answering(function_call("slow", "{}", call_id="c1")) as server:
        async with stage.conversation(ada(slow), server) as talk:
            await talk.say("go")
            await talk.until("tool_start")
            await asyncio.wait_for(started.wait(), 10)
        gate.set()
        assert outputs(server) == []


async def test_what_a_call_was_about_is_in_no_log_and_no_exception(
    stage: Stage, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    @function_tool(failure_error_function=None)
    async def pay(card: str) -> str:
        """Pay."""
        raise ValueError("the bank is closed")

    @function_tool
    async def balance(card: str) -> str:
        """Tell the balance."""
        return "SECRET-BALANCE"

    @function_tool(circuit_breaker=CircuitBreaker(failures=1))
    def limit(card: str) -> int:
        """Tell the limit."""
        known: dict[str, int] = {}
        return known[card]

    def worded(context: object, error: Exception) -> str:
        raise error

    @function_tool(failure_error_function=worded)
    def block(card: str) -> str:
        """Block a card."""
        raise KeyError(card)

    @tool_output_guardrail
    def guarded(data: ToolOutputGuardrailData) -> ToolGuardrailFunctionOutput:
        raise KeyError(data.output)

    @function_tool(tool_output_guardrails=[guarded])
    def owner(card: str) -> str:
        """Tell whose a card is."""
        return f"SECRET-OWNER of {card}"

    async def taken_over(context: object, given: Given) -> None:
        raise KeyError(given.card)

    bank = realtime_handoff(RealtimeAgent("Bank"), on_handoff=taken_over, input_type=Given)
    turns = [
        function_call("pay", {"card": "SECRET-CARD"}),
        function_call("balance", {"card": "SECRET-CARD"}),
        function_call("balance", '{"card": ["SECRET-CARD"]}'),
        function_call("limit", {"card": "SECRET-CARD"}),
        function_call("block", {"card": "SECRET-CARD"}),
        function_call("owner", {"card": "SECRET-CARD"}),
        function_call("transfer_to_bank", {"card": "SECRET-CARD"}),
        audio_turn("Done."),
    ]
    agent = ada(pay, balance, limit, block, owner)
    agent.handoffs = [bank]
    async with answering(*turns) as server, stage.conversation(agent, server) as talk:
        await talk.say("pay")
        error = await talk.until("error")
        await talk.until("agent_end", output="Done.")
    assert "SECRET" not in str(error)
    captured = capfd.readouterr()
    told = caplog.text + captured.out + captured.err
    for line in ("tool raised", "tool rests", "error function failed", "tool stopped by a guardrail", "handoff failed"):
        assert line in told
    assert "SECRET" not in told
