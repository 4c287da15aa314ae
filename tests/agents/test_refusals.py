"""Wrong arguments of the public types are refused where they are given, in a sentence that names the argument."""

from collections.abc import Callable
from typing import Any

import pytest

import voicebus
from voicebus import RealtimeAgent, RealtimePlaybackTracker, RealtimeRunner, UserError

ANY: Any = voicebus  # its names without their types: what type checkers refuse must be refused at run time, too
ADA = RealtimeAgent("ada")


def function(*_: Any) -> None: ...


class Untyped: ...


def untyped(thing: Untyped) -> None: ...


def odd(amount: Any) -> None: ...


odd.__annotations__["amount"] = 3


def tool(**arguments: Any) -> Any:
    return ANY.function_tool(**arguments)(function)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: ANY.RealtimeRunner(5), "RealtimeAgent"),
        (lambda: ANY.RealtimeRunner(ADA, model=5), "model"),
        (lambda: ANY.RealtimeRunner(ADA, config=5), "config"),
        (lambda: ANY.RealtimeRunner(ADA, config={"modelSettings": {}}), "modelSettings"),
        (lambda: ANY.RealtimeRunner(ADA, config={"model_settings": 5}), "model_settings"),
        (lambda: ANY.RealtimeRunner(ADA, config={"model_settings": {"voise": "ash"}}), "voise"),
        (lambda: ANY.RealtimeRunner(ADA, config={"output_guardrails": [5]}), "output_guardrails"),
        (lambda: ANY.RealtimeRunner(ADA, config={"tool_error_formatter": 5}), "tool_error_formatter"),
        (
            lambda: ANY.RealtimeRunner(ADA, config={"model_settings": {"vioce": "ash"}}),
            r"vioce \(did you mean voice",
        ),
        (lambda: ANY.ToolWorker(["weather"], redis_url="redis://nowhere"), "function tools, made by @function_tool"),
        (lambda: ANY.ToolWorker([], redis_url="redis://nowhere"), "at least one function tool"),
        (lambda: ANY.function_tool(untyped), r"'untyped': parameter 'thing' has no JSON schema: .*Untyped'>$"),
        (lambda: ANY.function_tool(odd), r"'odd': parameter 'amount' has no JSON schema: 3 is no type$"),
        (lambda: ANY.OutputGuardrail(5), "guardrail_function"),
        (lambda: ANY.OutputGuardrail(function, mode="never"), "mode"),
        (lambda: ANY.InputGuardrail(5), "guardrail_function"),
        (lambda: ANY.InputGuardrail(function, mode="never"), "mode"),
        (lambda: ANY.ToolInputGuardrail(5), "guardrail_function"),
        (lambda: ANY.ToolInputGuardrail(function, name=5), "name"),
        (lambda: ANY.ToolOutputGuardrail(5), "guardrail_function"),
        (lambda: ANY.ToolOutputGuardrail(function, name=5), "name"),
        (lambda: tool(timeout="soon"), "timeout"),
        (lambda: tool(needs_approval=5), "needs_approval"),
        (lambda: tool(is_enabled=5), "is_enabled"),
        (lambda: tool(is_enabled=lambda: True), r"is_enabled must be a bool or a function \(context, agent\)"),
        (lambda: tool(needs_approval=lambda context: True), "needs_approval must be a bool or a function"),
        (lambda: tool(name_override="book a room"), "name must be 1 to 64 letters"),
        (lambda: tool(name_override="x" * 65), "name must be 1 to 64 letters"),
        (lambda: tool(idempotent="yes"), "idempotent must be True or False"),
        (lambda: ANY.FunctionTool("x", "", {"type": "string"}, function), "params_json_schema must be the JSON schema"),
        (lambda: ANY.OutputGuardrail(lambda text: None), "guardrail_function must take the context, the agent and"),
        (lambda: ANY.InputGuardrail(lambda text: None), "guardrail_function must take the context, the agent and"),
        (lambda: ANY.MCPServerStreamableHttp({"url": "ftp://x"}), "url must be an http: or https: address"),
        (
            lambda: ANY.MCPServerStdio({"command": "x"}, tool_filter=ANY.create_static_tool_filter("rate")),
            "allowed_tool_names must be a list of strings",
        ),
        (
            lambda: ANY.MCPServerStdio({"command": "x"}, tool_filter=lambda tool: True),
            r"tool_filter must be an object or",
        ),
        (lambda: tool(tool_input_guardrails=[5]), "tool_input_guardrails"),
        (lambda: ANY.RemoteTool(5), "name"),
        (lambda: ANY.realtime_handoff(ADA, on_handoff=5), "on_handoff"),
        (lambda: ANY.HostedMCPTool({}), "HostedMCPTool"),
        (lambda: ANY.OpenAIRealtimeWebSocketModel(transport_config=5), "transport_config"),
        (lambda: ANY.OpenAIRealtimeWebSocketModel(transport_config={"pings": 5}), "pings"),
        (lambda: ANY.RealtimePlaybackTracker().on_play_bytes("i", 0, "x"), "bytes"),
        (lambda: ANY.RealtimePlaybackTracker().on_play_ms("i", 0, "x"), "ms"),
        (lambda: ANY.RealtimePlaybackTracker().on_play_ms(5, 0, 5.0), "item_id"),
    ],
)
def test_a_wrong_argument_is_refused_by_name(make: Callable[[], Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        make()


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: ANY.RealtimeAgent("ada", tools=None), TypeError),
        (lambda: ANY.RealtimeAgent("ada", tools=[function]), TypeError),
        (lambda: ANY.Agent(3), TypeError),
        (lambda: ANY.FunctionTool("t", "", None, function), TypeError),
        (lambda: ANY.FunctionTool("t", "", {}, function, timeout_behavior="x"), ValueError),
        (lambda: ANY.FunctionTool("t", "", {}, function, timeout_seconds="x"), TypeError),
        (lambda: ANY.FunctionTool("t", "", {}, function, timeout_seconds=0), ValueError),
        (lambda: ANY.FunctionTool("t", "", {}, function, timeout_error_function=3), TypeError),
        (lambda: tool(timeout=3), ValueError),
        (lambda: ANY.ToolContext(None), ValueError),
        (lambda: ANY.ToolContext(None, tool_name="look"), ValueError),
        (lambda: ANY.ToolContext(None, tool_name=3), TypeError),
        (lambda: ANY.realtime_handoff(ADA, on_handoff="x"), TypeError),
        (lambda: ANY.Usage(requests=-1), ValueError),
        (lambda: ANY.Usage(requests="x"), TypeError),
        (lambda: ANY.RealtimeRunner(ADA, config={"model_settings": {"speed": "x"}}), ValueError),
    ],
)
def test_a_wrong_type_is_a_type_error_and_a_wrong_value_a_value_error_as_well(
    make: Callable[[], Any], kind: type[Exception]
) -> None:
    with pytest.raises(UserError) as refused:
        make()
    assert isinstance(refused.value, kind)


@pytest.mark.parametrize("flag", ["convert_schemas_to_strict", "include_server_in_tool_names"])
def test_a_wrong_mcp_config_is_refused_by_its_key(flag: str) -> None:
    with pytest.raises(TypeError, match=f"mcp_config.{flag} must be True or False, not 'maybe'"):
        ANY.RealtimeAgent("ada", mcp_config={flag: "maybe"})
    with pytest.raises(TypeError, match=r"mcp_config.failure_error_function must be a function or None, not 5"):
        ANY.RealtimeAgent("ada", mcp_config={"failure_error_function": 5})


def test_a_long_value_that_is_refused_is_told_in_short() -> None:
    with pytest.raises(TypeError, match="tools must be a list, not ") as refused:
        ANY.RealtimeAgent("ada", tools=(tool(), tool()))
    assert len(str(refused.value)) < 200


async def test_a_model_config_that_is_no_dict_is_refused() -> None:
    wrong: Any = 5
    with pytest.raises(UserError, match="model_config must be a dict"):
        await RealtimeRunner(ADA).run(model_config=wrong)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_samples_may_be_any_bytes(kind: Callable[[bytes], Any]) -> None:
    tracker = RealtimePlaybackTracker()
    tracker.on_play_bytes("i", 0, kind(bytes(480)))
    assert tracker.get_state()["elapsed_ms"] == 10
