"""Agents and runners refuse wrong use when they are built."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from voicebus import (
    Agent,
    FunctionTool,
    GuardrailFunctionOutput,
    OutputGuardrail,
    RealtimeAgent,
    RealtimeRunner,
    RemoteTool,
    RunContextWrapper,
    UserError,
    function_tool,
    output_guardrail,
)
from voicebus.agents.config import wire_session
from voicebus.agents.hooks import RealtimeAgentHooks
from voicebus.agents.tools.hosted import HostedMCPTool


def judge(context: Any, agent: Any, text: str) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput(None, False)


class WebSearchTool:
    """A tool of another library that its own servers run."""

    name = "web_search"


@pytest.mark.parametrize(
    "fields",
    [
        {"name": 1},
        {"name": ""},
        {"name": "a", "tools": ("x",)},
        {"name": "a", "tools": ["x"]},
        {"name": "a", "handoffs": {}},
        {"name": "a", "instructions": 7},
        {"name": "a", "output_guardrails": [len]},
        {"name": "a", "output_guardrails": [OutputGuardrail]},
        {"name": "a", "input_guardrails": [OutputGuardrail(judge)]},
        {"name": "a", "input_guardrails": ()},
        {"name": "a", "mcp_servers": [object()]},
        {"name": "a", "mcp_servers": None},
        {"name": "a", "mcp_config": []},
        {"name": "a", "handoffs": ["b"]},
        {"name": "a", "handoff_description": 7},
        {"name": "a", "hooks": object()},
        {"name": "a", "hooks": RealtimeAgentHooks},
        {"name": "a", "model": "m"},
    ],
)
def test_an_agent_with_a_wrong_field_is_a_type_error(fields: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        RealtimeAgent(**fields)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"prompt": {"version": "1"}}, "RealtimeAgent 'a': prompt.id must be a non-empty string"),
        ({"prompt": lambda data: {"id": "p"}}, "RealtimeAgent 'a': prompt must be an object"),
        ({"voice": 7}, "RealtimeAgent 'a': voice must be a non-empty string, not 7"),
        ({"mcp_config": {"strict": True}}, "RealtimeAgent 'a': mcp_config has unknown keys: strict"),
        ({"tools": [WebSearchTool()]}, "RealtimeAgent 'a': tools: a WebSearchTool cannot be honoured"),
    ],
)
def test_a_value_that_cannot_be_honoured_is_refused_by_its_name(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as refused:
        RealtimeAgent("a", **fields)
    assert str(refused.value).startswith(sentence)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"tools": [test_an_agent_with_a_wrong_field_is_a_type_error]}, "; decorate it with @function_tool"),
        (
            {"output_guardrails": [test_an_agent_with_a_wrong_field_is_a_type_error]},
            "which is no OutputGuardrail; decorate it with @output_guardrail",
        ),
        (
            {"input_guardrails": [test_an_agent_with_a_wrong_field_is_a_type_error]},
            "which is no InputGuardrail; decorate it with @input_guardrail",
        ),
        ({"instructions": lambda context: "Be kind."}, "instructions must take the context and the agent, not "),
        (
            {"tools": [RealtimeAgent("b", instructions="x" * 500)]},
            "RealtimeAgent 'a': tools: RealtimeAgent 'b' is no FunctionTool, RemoteTool, RemoteTools or HostedMCPTool; "
            "name it in handoffs",
        ),
        ({"tools": [Agent("b")]}, "RealtimeAgent 'a': tools: Agent 'b' is no FunctionTool"),
        ({"tools": [Agent("b")]}, "; give what its as_tool() makes"),
    ],
)
def test_what_stands_in_the_wrong_place_is_refused_with_what_to_do(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(TypeError) as refused:
        RealtimeAgent("a", **fields)
    assert sentence in str(refused.value)


def test_an_agent_takes_its_fields_by_position_in_the_order_that_programs_know() -> None:
    fields = [field.name for field in dataclasses.fields(RealtimeAgent) if not field.kw_only]
    assert fields == [
        "name", "handoff_description", "tools", "mcp_servers", "mcp_config", "instructions", "prompt", "handoffs",
        "output_guardrails", "hooks",
    ]  # fmt: skip
    ours = [field.name for field in dataclasses.fields(RealtimeAgent) if field.kw_only]
    assert ours == ["input_guardrails", "voice", "client_policy"]


def test_a_clone_shares_its_lists() -> None:
    agent = RealtimeAgent[Any]("a")
    other = agent.clone(name="b")
    assert other.name == "b"
    assert other.tools is agent.tools


@pytest.mark.parametrize("instructions", ["Be kind.", lambda context, agent: "Be kind.", None])
async def test_the_system_prompt_is_text_whatever_makes_it(instructions: Any) -> None:
    prompt = await RealtimeAgent("a", instructions=instructions).get_system_prompt(RunContextWrapper(None))
    assert prompt == (None if instructions is None else "Be kind.")


async def test_all_tools_are_those_that_are_enabled_now() -> None:
    def on() -> str:
        return ""

    agent = RealtimeAgent[Any](
        "a", tools=[function_tool(on), function_tool(name_override="off", is_enabled=False)(on), RemoteTool("far")]
    )
    assert [getattr(tool, "name", None) for tool in await agent.get_all_tools(RunContextWrapper(None))] == ["on", "far"]


async def test_a_tool_of_another_library_is_taken_over() -> None:
    async def run(context: Any, arguments: str) -> str:
        return arguments

    foreign = SimpleNamespace(
        name="look", description="Look.", params_json_schema={"type": "object"}, on_invoke_tool=run, is_enabled=True
    )
    hosted = SimpleNamespace(
        tool_config={"server_label": "crm", "server_url": "https://crm.example"}, name="hosted_mcp"
    )
    agent = RealtimeAgent[Any]("a", tools=[foreign, hosted])  # type: ignore[list-item]
    look, crm = await agent.get_all_tools(RunContextWrapper(None))
    assert isinstance(look, FunctionTool)
    assert (look.name, look.description) == ("look", "Look.")
    assert isinstance(crm, HostedMCPTool)
    assert crm.server_label == "crm"


def test_guardrails_know_their_name_and_refuse_unknown_modes() -> None:
    @output_guardrail
    def polite(_: RunContextWrapper[Any], __: Any, text: str) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(None, "damn" in text)

    assert polite.get_name() == "polite"
    assert polite.mode == "interrupt"
    for wrong in ({"mode": "stop"}, {"on_error": "maybe"}):
        with pytest.raises(UserError):
            OutputGuardrail(polite.guardrail_function, **wrong)  # type: ignore[arg-type]
    with pytest.raises(UserError):
        OutputGuardrail("text")  # type: ignore[arg-type]


def test_a_runner_refuses_what_is_no_agent_and_keys_that_do_not_exist() -> None:
    with pytest.raises(UserError, match="starting_agent must be a RealtimeAgent"):
        RealtimeRunner("agent")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="debounce"):
        RealtimeRunner(RealtimeAgent("a"), config={"debounce": 3})  # type: ignore[arg-type]
    for wrong in ({"debounce": 3}, {"debounce_text_length": "3"}, {"debounce_text_length": -2}):
        with pytest.raises(UserError, match="debounce"):
            RealtimeRunner(RealtimeAgent("a"), config={"guardrails_settings": wrong})  # type: ignore[arg-type]


def test_default_settings_are_those_of_the_programming_model() -> None:
    assert wire_session({}) == {
        "output_modalities": ["audio"],
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": 24000},
                "transcription": {"model": "gpt-4o-mini-transcribe"},
                "turn_detection": {"type": "semantic_vad", "interrupt_response": True},
            },
            "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "ash"},
        },
        "tracing": "auto",
    }
