"""Function tools in a conversation: what the model is shown, what is run, and what it is told (parity H)."""

import asyncio
import dataclasses
import threading
from typing import Annotated, Any

import pydantic
import pytest

from support.scripts import answering, outputs, sent, session_update
from support.stages import InProcess, Stage
from support.waiting import wait_until
from voicebus import (
    FunctionTool,
    GuardrailFunctionOutput,
    OutputGuardrail,
    RealtimeAgent,
    RealtimeRunner,
    RunContextWrapper,
    ToolContext,
    ToolErrorFormatterArgs,
    ToolGuardrailFunctionOutput,
    ToolOutputGuardrailData,
    Usage,
    UserError,
    function_tool,
    realtime_handoff,
    tool_output_guardrail,
)
from voicebus.testing import ScriptedRealtimeServer, ServerStep, audio_turn, function_call, function_calls
from voicebus.testing.server_steps import Emission


async def told(stage: Stage, tool: Any, arguments: Any = "{}", config: Any = None) -> str:
    """What the model is told after it has called `tool` once."""
    call: Emission = function_call(tool.name, arguments, call_id="c1")
    async with answering(call, audio_turn("Done.")) as server:
        async with stage.conversation(RealtimeAgent("Ada", tools=[tool]), server, config) as talk:
            await talk.say("go")
            await talk.until("agent_end", output="Done.")
        server.assert_complete()
        ((call_id, output),) = outputs(server)
        assert call_id == "c1"
        return output


@dataclasses.dataclass
class Room:
    number: int
    view: str


class Guest(pydantic.BaseModel):
    name: str
    room: int


@function_tool
async def room(number: int) -> Room:
    """Find a room."""
    return Room(number, "sea")


@function_tool
def greet(names: list[str], polite: bool = True) -> str:
    """Greet people.

    Args:
        names: who is there.
        polite: whether to be polite.
    """
    return f"{'Good day' if polite else 'Hi'}, {' and '.join(names)}"


async def test_the_model_is_shown_the_tool_as_signature_and_docstring_say(stage: Stage) -> None:
    @function_tool(name_override="look_up", description_override="Look it up.")
    async def search(what: Annotated[str, "the words"]) -> str:
        """Not this."""
        return what

    async with answering() as server:
        async with stage.conversation(RealtimeAgent("Ada", tools=[greet, search]), server):
            await server.wait_for("session.update")
        shown, other = session_update(server)["tools"]
    assert (shown["type"], shown["name"], shown["description"]) == ("function", "greet", "Greet people.")
    schema = shown["parameters"]
    assert schema["properties"]["names"]["description"] == "who is there."
    assert (schema["required"], schema["additionalProperties"]) == (["names", "polite"], False)
    assert (other["name"], other["description"]) == ("look_up", "Look it up.")
    assert other["parameters"]["properties"]["what"]["description"] == "the words"


async def test_a_tool_made_by_hand_gets_the_models_text(stage: Stage) -> None:
    async def invoke(context: ToolContext[Any], arguments: str) -> str:
        return f"{context.tool_name} got {arguments}"

    schema = {"type": "object", "properties": {"x": {"type": "integer"}}}
    assert await told(stage, FunctionTool("by_hand", "Made by hand.", schema, invoke), '{"x": 5}') == (
        'by_hand got {"x": 5}'
    )


async def test_arguments_are_read_laxly_and_empty_ones_are_an_object(stage: Stage) -> None:
    assert await told(stage, room, '{"number": "5"}') == '{"number": 5, "view": "sea"}'

    @function_tool(strict_mode=False)
    async def ring(times: int = 2) -> str:
        """Ring."""
        return f"rang {times} times"

    assert await told(stage, ring, "") == "rang 2 times"


async def test_arguments_that_are_wrong_tell_the_model_which_field(stage: Stage) -> None:
    output = await told(stage, room, '{"number": "many"}')
    assert output.startswith("An error occurred while parsing tool arguments. Please try again with valid JSON. Error:")
    assert "number" in output
    assert (await told(stage, room, "[1]")).startswith("An error occurred while parsing tool arguments.")


async def test_a_sync_tool_runs_in_a_thread(stage: Stage) -> None:
    @function_tool
    def where() -> str:
        """Say which thread this is."""
        return str(threading.current_thread() is threading.main_thread())

    assert await told(stage, where) == "False"


async def test_what_a_tool_raises_becomes_its_output(stage: Stage) -> None:
    @function_tool
    async def fail() -> str:
        """Fail."""
        raise ValueError("no such room")

    assert await told(stage, fail) == (
        "An error occurred while running the tool. Please try again. Error: no such room"
    )

    def own(_: RunContextWrapper[Any], error: Exception) -> str:
        return f"Sorry: {error}"

    assert await told(stage, dataclasses.replace(fail, failure_error_function=own)) == "Sorry: no such room"


async def test_without_a_failure_function_the_program_gets_an_error_and_the_call_goes_on(stage: Stage) -> None:
    @function_tool(failure_error_function=None)
    async def fail() -> str:
        """Fail."""
        raise ValueError("secret detail")

    async with answering(function_call("fail", "{}"), audio_turn("Sorry.")) as server:
        async with stage.conversation(RealtimeAgent("Ada", tools=[fail]), server) as talk:
            await talk.say("go")
            error = await talk.until("error")
            await talk.until("agent_end", output="Sorry.")
        assert error.get("error", error)["code"] == "tool_failed"
        ((_, output),) = outputs(server)
        assert "secret detail" not in output


async def test_a_tool_past_its_time_is_told_as_a_timeout(stage: Stage) -> None:
    @function_tool(timeout=0.5)
    async def slow() -> str:
        """Take for ever."""
        await asyncio.Event().wait()
        return "never"

    assert await told(stage, slow) == "Tool 'slow' timed out after 0.5 seconds."

    def own(_: RunContextWrapper[Any], error: Exception) -> str:
        return "Too slow."

    assert await told(stage, dataclasses.replace(slow, timeout_error_function=own)) == "Too slow."


async def test_a_timeout_that_raises_is_an_error_event_and_the_call_goes_on(stage: Stage) -> None:
    @function_tool(timeout=0.05, timeout_behavior="raise_exception")
    async def slow() -> str:
        """Take for ever."""
        await asyncio.Event().wait()
        return "never"

    async with answering(function_call("slow", "{}"), audio_turn("Sorry.")) as server:
        async with stage.conversation(RealtimeAgent("Ada", tools=[slow]), server) as talk:
            await talk.say("go")
            await talk.until("error")
            await talk.until("agent_end", output="Sorry.")
    assert talk.of("tool_end")[0]["outcome"] == "timeout"


async def test_a_disabled_tool_is_hidden_and_is_asked_about_again_when_called(stage: Stage) -> None:
    enabled = True

    @function_tool(is_enabled=lambda context, agent: enabled)
    async def vault() -> str:
        """Open the vault."""
        return "open"

    @function_tool(is_enabled=False)
    async def hidden() -> str:
        """Never."""
        return "no"

    async with answering(function_call("vault", "{}"), audio_turn("Done.")) as server:
        async with stage.conversation(RealtimeAgent("Ada", tools=[vault, hidden]), server) as talk:
            await server.wait_for("session.update")
            enabled = False
            await talk.say("open the vault")
            await talk.until("agent_end", output="Done.")
        assert [tool["name"] for tool in session_update(server)["tools"]] == ["vault"]
        assert [output for _, output in outputs(server)] == ["Tool vault not found"]
    assert not talk.of("tool_start")


async def test_a_tool_that_the_agent_lacks_is_answered_and_the_model_goes_on(stage: Stage) -> None:
    async with answering(function_call("nothing", "{}"), audio_turn("Sorry.")) as server:
        async with stage.conversation(RealtimeAgent("Ada"), server) as talk:
            await talk.say("go")
            await talk.until("error")
            await talk.until("agent_end", output="Sorry.")
        assert [output for _, output in outputs(server)] == ["Tool nothing not found"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is", "as it is"),
        (None, "null"),
        ({"city": "Zürich"}, '{"city": "Zürich"}'),
        (Guest(name="Mia", room=4), '{"name": "Mia", "room": 4}'),
        (Room(3, "sea"), '{"number": 3, "view": "sea"}'),
    ],
    ids=["text", "none", "json", "model", "dataclass"],
)
async def test_a_result_is_told_as_text(stage: Stage, value: Any, text: str) -> None:
    @function_tool
    async def give() -> Any:
        """Give."""
        return value

    assert await told(stage, give) == text


async def test_an_output_guardrail_replaces_what_the_model_would_read(stage: Stage) -> None:
    @tool_output_guardrail
    def no_numbers(data: ToolOutputGuardrailData) -> ToolGuardrailFunctionOutput:
        if "4711" in str(data.output):
            return ToolGuardrailFunctionOutput.reject_content("The number is withheld.")
        return ToolGuardrailFunctionOutput.allow()

    @function_tool(tool_output_guardrails=[no_numbers])
    async def account() -> str:
        """Tell the account."""
        return "4711"

    assert await told(stage, account) == "The number is withheld."


async def test_a_tool_finds_its_call_in_its_context(stage: Stage) -> None:
    @function_tool
    async def about(context: ToolContext[Any]) -> dict[str, Any]:
        """Tell of the call."""
        agent = context.agent
        return {
            "name": context.tool_name, "id": context.tool_call_id, "arguments": context.tool_arguments,
            "agent": agent.name if agent else None, "tool_call": context.tool_call, "run_config": context.run_config,
        }  # fmt: skip

    assert await told(stage, about) == (
        '{"name": "about", "id": "c1", "arguments": "{}", "agent": "Ada", "tool_call": null, "run_config": null}'
    )


async def test_every_tool_error_may_be_put_into_the_programs_words(stage: Stage) -> None:
    kinds: list[str] = []

    def words(args: ToolErrorFormatterArgs[Any]) -> str:
        kinds.append(args.kind)
        return f"{args.tool_name} did not work."

    @function_tool
    async def fail() -> str:
        """Fail."""
        raise ValueError("no such room")

    @function_tool(needs_approval=True)
    async def risky() -> str:
        """Be risky."""
        return "done"

    agent = RealtimeAgent("Ada", tools=[fail, risky])
    names = ("nothing", "fail", "risky")
    turns = [function_call(name, "{}", call_id=name) for name in names]
    async with answering(*turns, audio_turn("Sorry.")) as server:
        async with stage.conversation(agent, server, {"tool_error_formatter": words}) as talk:
            await talk.say("go")
            await talk.until("tool_approval_required")
            await talk.reject("risky")
            await talk.until("agent_end", output="Sorry.")
        assert outputs(server) == [(name, f"{name} did not work.") for name in names]
    assert kinds == ["tool_not_found", "tool_exception", "approval_rejected"]


async def test_one_context_is_shared_by_everything_of_a_session() -> None:
    """In process only: a worker has a context of its own (`contract.md`)."""
    context: dict[str, int] = {}
    wrappers: dict[str, RunContextWrapper[Any]] = {}
    usages: list[Usage] = []

    @function_tool
    async def count(wrapper: RunContextWrapper[dict[str, int]]) -> str:
        """Count."""
        wrapper.context["calls"] = wrapper.context.get("calls", 0) + 1
        usages.append(wrapper.usage)
        return "counted"

    def instructions(wrapper: RunContextWrapper[Any], agent: Any) -> str:
        wrappers["instructions"] = wrapper
        return "Count."

    def guardrail(wrapper: RunContextWrapper[Any], agent: Any, text: str) -> GuardrailFunctionOutput:
        wrappers["guardrail"] = wrapper
        return GuardrailFunctionOutput(None, False)

    def on_handoff(wrapper: RunContextWrapper[Any]) -> None:
        wrappers["handoff"] = wrapper

    bob = RealtimeAgent("Bob", output_guardrails=[OutputGuardrail(guardrail)])
    ada = RealtimeAgent(
        "Ada", instructions=instructions, tools=[count], handoffs=[realtime_handoff(bob, on_handoff=on_handoff)]
    )
    calls = (
        function_call("count", "{}", call_id="c1"), function_call("count", "{}", call_id="c2"),
        function_call("transfer_to_bob", "{}", call_id="c3"), audio_turn("Done."),
    )  # fmt: skip
    async with answering(*calls) as server:
        runner = RealtimeRunner(ada)
        async with await runner.run(context=context, model_config={"url": server.url, "api_key": "test"}) as session:
            await session.send_message("go")
            async for event in session:
                if event.type == "agent_end" and event.output:
                    break
            await wait_until(lambda: len(wrappers) == 3, description="the guardrail to judge")
            assert all(wrapper is session.context for wrapper in wrappers.values())
            assert all(usage is session.usage for usage in usages)
            assert session.usage.requests == 4, "what the model has used is counted there"
    assert context == {"calls": 2}


async def test_names_that_clash_are_refused_before_anything_is_dialled(stage: Stage) -> None:
    again = dataclasses.replace(greet, description="Greet again.")
    async with answering() as server:
        if isinstance(stage, InProcess):
            with pytest.raises(UserError, match="greet"):
                async with stage.conversation(RealtimeAgent("Ada", tools=[greet, again]), server):
                    pass
        else:  # where the target is loaded, a two of one name never get into a worker
            with pytest.raises(Exception, match="greet"):
                async with stage.conversation(RealtimeAgent("Ada", tools=[greet, again]), server):
                    pass
        assert server.connections == ()


async def test_the_tools_of_one_response_are_answered_together(stage: Stage) -> None:
    gate = asyncio.Event()

    @function_tool
    async def fast() -> str:
        """Be fast."""
        return "fast"

    @function_tool
    async def slow() -> str:
        """Be slow."""
        await gate.wait()
        return "slow"

    calls = function_calls(("fast", "{}", "c1"), ("slow", "{}", "c2"))
    async with answering(calls, audio_turn("Both.")) as server:
        async with stage.conversation(RealtimeAgent("Ada", tools=[fast, slow]), server) as talk:
            await talk.say("go")
            await talk.until("tool_end", tool="fast")
            assert len(server.received("response.create")) == 1, "the slow one is waited for"
            gate.set()
            await talk.until("agent_end", output="Both.")
        assert outputs(server) == [("c1", "fast"), ("c2", "slow")]
        assert sent(server, "response.create") == ["response.create"] * 2


@pytest.mark.parametrize(("respond", "creates"), [("always", 3), ("never", 1)])
async def test_a_tool_may_say_itself_when_the_model_goes_on(stage: Stage, respond: Any, creates: int) -> None:
    gate = asyncio.Event()

    @function_tool(respond=respond)
    async def first() -> str:
        """Be first."""
        return "first"

    @function_tool(respond=respond)
    async def second() -> str:
        """Be second."""
        await gate.wait()
        return "second"

    calls = function_calls(("first", "{}", "c1"), ("second", "{}", "c2"))
    more = [ServerStep("response.create", audio_turn("Go on.")) for _ in range(creates - 1)]
    async with ScriptedRealtimeServer([ServerStep("response.create", calls), *more]) as server:
        async with stage.conversation(RealtimeAgent("Ada", tools=[first, second]), server) as talk:
            await talk.say("go")
            await talk.until("tool_end", tool="first")
            if respond == "always":
                await talk.until("agent_end", output="Go on.")
            gate.set()
            await talk.until("tool_end", tool="second")
            if respond == "always":
                await talk.until("agent_end", output="Go on.")
        server.assert_complete()
        assert len(server.received("response.create")) == creates
