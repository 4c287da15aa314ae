"""Every public type and method refuses what cannot be, by the name of the argument: one table over all of them."""

import asyncio
import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, FrozenInstanceError, dataclass, field, fields
from typing import Any, Final

import pytest

import voicebus
import voicebus.testing
from voicebus import (
    GuardrailFunctionOutput,
    RealtimeAgent,
    RealtimeModelListener,
    RealtimeModelToolCallEvent,
    RunContextWrapper,
    ToolContext,
    UserError,
)

ANY: Any = voicebus  # its names without their types: what type checkers refuse must be refused at run time, too
TESTING: Any = voicebus.testing

TEXT: Final[tuple[Any, ...]] = (5, b"x", ["x"])
SOME_TEXT: Final[tuple[Any, ...]] = (*TEXT, "")
FLAG: Final[tuple[Any, ...]] = ("maybe", 1, [])
NUMBER: Final[tuple[Any, ...]] = ("hot", True, float("nan"), 10**400, [])
WHOLE: Final[tuple[Any, ...]] = ("many", 1.5, True, -1)
FUNCTION: Final[tuple[Any, ...]] = (5, "function", [])
OBJECT: Final[tuple[Any, ...]] = (5, "text", [], object())
LISTED: Final[tuple[Any, ...]] = (5, "text", ["text"], {})
NAMES: Final[tuple[Any, ...]] = (5, "voice", ["shoe size"])
MAPPING: Final[tuple[Any, ...]] = (5, "text", ["text"])
CHOICE: Final[tuple[Any, ...]] = (5, "no such word")

ADA = RealtimeAgent("ada")
CONTEXT: Final = RunContextWrapper[Any](None)
CALL: Final = RealtimeModelToolCallEvent("look", "c1", "{}")
MCP: Final = {"url": "http://127.0.0.1:1/mcp"}


def judge(context: Any, agent: Any, text: str) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput(None, False)


def judge_call(data: Any) -> Any: ...


async def look(place: str) -> str:
    """Look somewhere."""
    return place


async def invoke(context: Any, arguments: str) -> str:
    return arguments


class Listener(RealtimeModelListener):
    async def on_event(self, event: Any) -> None: ...


@dataclass(frozen=True)
class Row:
    """What is called, with what it takes, and per argument what it must refuse. `free` takes whatever there is."""

    make: Callable[..., Any]
    good: Mapping[str, Any]
    wrong: Mapping[str, tuple[Any, ...]]
    free: frozenset[str] = field(default_factory=frozenset)


def row(make: Callable[..., Any], good: Mapping[str, Any], **wrong: Any) -> Row:
    free = frozenset(wrong.pop("free", "").split())
    return Row(make, good, wrong, free)


def decorated(decorator: Any, function: Any) -> Callable[..., Any]:
    """A decorator with its arguments, applied: some are only wrong for a function."""

    def make(**arguments: Any) -> Any:
        return decorator(**arguments)(function)

    signature = inspect.signature(decorator)
    kept = [parameter for name, parameter in signature.parameters.items() if name != "func"]
    make.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
    return make


GUARDRAIL: Final[dict[str, tuple[Any, ...]]] = {
    "name": SOME_TEXT, "mode": CHOICE, "on_error": CHOICE, "on_unavailable": CHOICE, "policy_hint": SOME_TEXT,
    "replacement": SOME_TEXT, "executor": CHOICE,
}  # fmt: skip
TOOL: Final[dict[str, tuple[Any, ...]]] = {
    "is_enabled": FUNCTION, "needs_approval": FUNCTION, "tool_input_guardrails": LISTED,
    "tool_output_guardrails": LISTED, "timeout_behavior": CHOICE, "timeout_error_function": FUNCTION,
    "failure_error_function": FUNCTION, "defer_loading": (True,), "custom_data_extractor": (print,),
    "allowed_callers": (["direct"],), "output_json_schema": ({"type": "object"},),
}  # fmt: skip
OURS: Final[dict[str, tuple[Any, ...]]] = {
    "queue": SOME_TEXT, "idempotent": FLAG, "respond": CHOICE, "approval_timeout": NUMBER, "retry": OBJECT,
    "background": FLAG, "speak_progress": FLAG, "hold_phrase": (5, [5]), "hold_after": NUMBER, "hold_every": NUMBER,
    "executor": CHOICE, "memory_limit": ([], "much"), "cancel_on_interrupt": FLAG, "concurrency": WHOLE,
    "circuit_breaker": OBJECT, "rate_limit": (5, "often"), "version": (5, "new"),
}  # fmt: skip
MCP_SERVER: Final[dict[str, tuple[Any, ...]]] = {
    "params": MAPPING, "cache_tools_list": FLAG, "name": TEXT, "client_session_timeout_seconds": NUMBER,
    "tool_filter": (5, "rate"), "use_structured_content": FLAG, "max_retry_attempts": ("1", 1.5, True, -2),
    "retry_backoff_seconds_base": NUMBER, "message_handler": FUNCTION, "require_approval": (5, "sometimes"),
    "failure_error_function": FUNCTION, "tool_meta_resolver": (print,), "custom_data_extractor": (print,),
    "retry_backoff_seconds_max": NUMBER, "tool_input_guardrails": LISTED, "tool_output_guardrails": LISTED,
    "max_list_pages": WHOLE, "connect_timeout_seconds": NUMBER,
}  # fmt: skip

TABLE: Final[dict[str, Row]] = {
    "Agent": row(
        ANY.Agent, {"name": "ada"}, name=SOME_TEXT, instructions=(5, [], lambda: ""), handoff_description=TEXT,
        tools=LISTED, mcp_servers=LISTED, mcp_config=MAPPING, model=SOME_TEXT, model_settings=OBJECT,
        output_type=(5,), client=OBJECT,
    ),
    "Agent.as_tool": row(
        ANY.Agent("ada").as_tool, {}, tool_name=TEXT, tool_description=TEXT, custom_output_extractor=FUNCTION,
        is_enabled=FUNCTION, max_turns=WHOLE, failure_error_function=FUNCTION, needs_approval=FUNCTION,
        timeout_seconds=NUMBER,
    ),
    "Agent.run": row(ANY.Agent("ada").run, {"input": "hi"}, input=TEXT, max_turns=WHOLE, free="context"),
    "Cancellation.wait": row(ANY.Cancellation().wait, {"seconds": 0}, seconds=NUMBER),
    "CircuitBreaker": row(ANY.CircuitBreaker, {}, failures=WHOLE, recovery=NUMBER),
    "ClientPolicy": row(ANY.ClientPolicy, {}, allow=NAMES, refuse=NAMES, ignore=NAMES, show=NAMES),
    "FunctionTool": row(
        ANY.FunctionTool,
        {"name": "look", "description": "Look.", "params_json_schema": {}, "on_invoke_tool": invoke},
        name=SOME_TEXT, description=TEXT, params_json_schema=MAPPING, on_invoke_tool=FUNCTION,
        strict_json_schema=FLAG, timeout_seconds=("soon", True, []), **TOOL, **OURS,
    ),
    "function_tool": row(
        decorated(ANY.function_tool, look), {}, name_override=TEXT, description_override=TEXT,
        docstring_style=CHOICE, use_docstring_info=FLAG, strict_mode=FLAG, timeout=("soon", True, []),
        output_type=(5,), **TOOL,
    ),
    "prompt_with_handoff_instructions": row(ANY.prompt_with_handoff_instructions, {"prompt": ""}, prompt=TEXT),
    "tool": row(
        decorated(ANY.tool, look), {}, name_override=TEXT, description_override=TEXT, docstring_style=CHOICE,
        use_docstring_info=FLAG, strict_mode=FLAG, timeout=("soon", True, []), output_type=(5,), **TOOL,
    ),
    "GuardrailFunctionOutput": row(
        ANY.GuardrailFunctionOutput, {"output_info": None, "tripwire_triggered": False},
        tripwire_triggered=(*FLAG, None), free="output_info",
    ),
    "Handoff": row(
        ANY.Handoff,
        {"tool_name": "go", "tool_description": "", "input_json_schema": {}, "on_invoke_handoff": invoke,
         "agent_name": "ada"},
        tool_name=SOME_TEXT, tool_description=TEXT, input_json_schema=MAPPING, on_invoke_handoff=FUNCTION,
        agent_name=SOME_TEXT, input_filter=(print,), nest_handoff_history=(True,), strict_json_schema=FLAG,
        is_enabled=FUNCTION, free="agent",
    ),
    "HostedMCPTool": row(
        ANY.HostedMCPTool, {"tool_config": {"type": "mcp", "server_label": "x", "server_url": "https://x"}},
        tool_config=(*MAPPING, {}), on_approval_request=FUNCTION,
    ),
    "InputGuardrail": row(
        ANY.InputGuardrail, {"guardrail_function": judge}, guardrail_function=(*FUNCTION, lambda text: None),
        budget_ms=WHOLE, **GUARDRAIL,
    ),
    "OutputGuardrail": row(
        ANY.OutputGuardrail, {"guardrail_function": judge}, guardrail_function=(*FUNCTION, lambda text: None),
        hold_window_ms=WHOLE, budget_ms=WHOLE, **GUARDRAIL,
    ),
    "input_guardrail": row(decorated(ANY.input_guardrail, judge), {}, budget_ms=WHOLE, **GUARDRAIL),
    "output_guardrail": row(
        decorated(ANY.output_guardrail, judge), {}, hold_window_ms=WHOLE, budget_ms=WHOLE, **GUARDRAIL
    ),
    "InputTokensDetails": row(
        ANY.InputTokensDetails, {}, cached_tokens=WHOLE, text_tokens=WHOLE, audio_tokens=WHOLE, image_tokens=WHOLE
    ),
    "OutputTokensDetails": row(
        ANY.OutputTokensDetails, {}, reasoning_tokens=WHOLE, text_tokens=WHOLE, audio_tokens=WHOLE
    ),
    "RequestUsage": row(
        ANY.RequestUsage,
        {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2, "input_tokens_details": ANY.InputTokensDetails(),
         "output_tokens_details": ANY.OutputTokensDetails()},
        input_tokens=WHOLE, output_tokens=WHOLE, total_tokens=WHOLE, input_tokens_details=OBJECT,
        output_tokens_details=OBJECT,
    ),
    "Usage": row(
        ANY.Usage, {}, requests=WHOLE, input_tokens=WHOLE, output_tokens=WHOLE, total_tokens=WHOLE,
        input_tokens_details=OBJECT, output_tokens_details=OBJECT, request_usage_entries=LISTED,
    ),
    "MCPServerStdio": row(ANY.MCPServerStdio, {"params": {"command": "x"}}, **MCP_SERVER),
    "MCPServerSse": row(ANY.MCPServerSse, {"params": MCP}, **MCP_SERVER),
    "MCPServerStreamableHttp": row(ANY.MCPServerStreamableHttp, {"params": MCP}, **MCP_SERVER),
    "ModelSettings": row(
        ANY.ModelSettings, {}, temperature=(*NUMBER, -1), top_p=(*NUMBER, 2), frequency_penalty=(*NUMBER, 3),
        presence_penalty=(*NUMBER, -3), tool_choice=SOME_TEXT, parallel_tool_calls=FLAG, max_tokens=(*WHOLE, 0),
        extra_body=MAPPING,
    ),
    "OpenAIRealtimeWebSocketModel": row(
        ANY.OpenAIRealtimeWebSocketModel, {},
        transport_config=(*MAPPING, {"pings": 1}, {"ping_interval": "x"}, {"max_size": 1.5}),
    ),
    "OpenAIRealtimeSIPModel": row(ANY.OpenAIRealtimeSIPModel, {}, transport_config=(*MAPPING, {"pings": 1})),
    "OpenAIRealtimeWebSocketModel.add_listener": row(
        ANY.OpenAIRealtimeWebSocketModel().add_listener, {"listener": Listener()}, listener=(*OBJECT, 3, Listener)
    ),
    "OpenAIRealtimeWebSocketModel.remove_listener": row(
        ANY.OpenAIRealtimeWebSocketModel().remove_listener, {"listener": Listener()}, listener=(*OBJECT, 3, Listener)
    ),
    "OpenAIRealtimeSIPModel.build_initial_session_payload": row(
        ANY.OpenAIRealtimeSIPModel.build_initial_session_payload, {"agent": ADA}, agent=OBJECT,
        model_config=(*MAPPING, {"api_kee": "k"}), run_config=(*MAPPING, {"modelSettings": {}}),
        overrides=(*MAPPING, {"vioce": "ash"}), free="context",
    ),
    "RealtimeAgent": row(
        ANY.RealtimeAgent, {"name": "ada"}, name=SOME_TEXT, handoff_description=TEXT, tools=LISTED,
        mcp_servers=LISTED, mcp_config=MAPPING, instructions=(5, [], lambda: ""), prompt=MAPPING, handoffs=LISTED,
        output_guardrails=LISTED, hooks=OBJECT, input_guardrails=LISTED, voice=SOME_TEXT, client_policy=OBJECT,
    ),
    "RealtimeModelSendAudio": row(ANY.RealtimeModelSendAudio, {"audio": b""}, audio=OBJECT, commit=FLAG),
    "RealtimeModelSendInterrupt": row(
        ANY.RealtimeModelSendInterrupt, {}, force_response_cancel=FLAG, response_id=TEXT, cancel_response_only=FLAG,
        playback_only=FLAG,
    ),
    "RealtimeModelSendRawMessage": row(ANY.RealtimeModelSendRawMessage, {"message": {}}, message=MAPPING),
    "RealtimeModelSendSessionUpdate": row(
        ANY.RealtimeModelSendSessionUpdate, {"session_settings": {}}, session_settings=MAPPING
    ),
    "RealtimeModelSendToolOutput": row(
        ANY.RealtimeModelSendToolOutput, {"tool_call": CALL, "output": "", "start_response": True},
        tool_call=OBJECT, output=TEXT, start_response=FLAG,
    ),
    "RealtimeModelSendUserInput": row(ANY.RealtimeModelSendUserInput, {"user_input": ""}, user_input=TEXT),
    "RealtimePlaybackTracker.on_play_bytes": row(
        ANY.RealtimePlaybackTracker().on_play_bytes, {"item_id": "i", "item_content_index": 0, "bytes": b""},
        item_id=TEXT, item_content_index=WHOLE, bytes=OBJECT,
    ),
    "RealtimePlaybackTracker.on_play_ms": row(
        ANY.RealtimePlaybackTracker().on_play_ms, {"item_id": "i", "item_content_index": 0, "ms": 1},
        item_id=TEXT, item_content_index=WHOLE, ms=NUMBER,
    ),
    "RealtimePlaybackTracker.set_audio_format": row(
        ANY.RealtimePlaybackTracker().set_audio_format, {"format": "pcm16"}, format=(5, [])
    ),
    "RealtimeRunner": row(
        ANY.RealtimeRunner, {"starting_agent": ADA}, starting_agent=OBJECT, model=OBJECT,
        config=(*MAPPING, {"modelSettings": {}}), context_model=(5, [], "Guest", int),
    ),
    "RealtimeRunner.run": row(
        ANY.RealtimeRunner(ADA).run, {}, model_config=(*MAPPING, {"api_kee": "k"}), history=LISTED, free="context"
    ),
    "RealtimeSession": row(
        ANY.RealtimeSession, {"model": ANY.OpenAIRealtimeWebSocketModel(), "agent": ADA}, model=OBJECT, agent=OBJECT,
        model_config=(*MAPPING, {"api_kee": "k"}), run_config=(*MAPPING, {"modelSettings": {}}), history=LISTED,
        free="context",
    ),
    "RemoteTool": row(ANY.RemoteTool, {"name": "look"}, name=SOME_TEXT),
    "RemoteTools": row(ANY.RemoteTools, {"queue": "tools"}, queue=SOME_TEXT),
    "RetryPolicy": row(
        ANY.RetryPolicy, {}, attempts=(*WHOLE, 0), backoff=NUMBER, factor=NUMBER, max_backoff=NUMBER, jitter=NUMBER,
        on=OBJECT,
    ),
    "RunContextWrapper": row(ANY.RunContextWrapper, {"context": None}, usage=OBJECT, free="context tool_input"),
    "ToolContext": row(
        ANY.ToolContext, {"context": None, "tool_name": "look", "tool_call_id": "c1"}, usage=OBJECT,
        tool_name=SOME_TEXT, tool_call_id=SOME_TEXT, tool_arguments=TEXT, session=TEXT, deadline_s=NUMBER,
        state=MAPPING, attempt=(*WHOLE, 0), cancellation=OBJECT, reports=FUNCTION, caller=OBJECT,
        free="context tool_input tool_call agent run_config",
    ),
    "ToolContext.from_agent_context": row(
        ANY.ToolContext.from_agent_context, {"context": CONTEXT, "tool_call_id": "c1", "tool_name": "look"},
        context=OBJECT, tool_call_id=SOME_TEXT, tool_name=SOME_TEXT, tool_arguments=TEXT, session=TEXT,
        deadline_s=NUMBER, state=MAPPING, reports=FUNCTION, free="tool_call agent run_config",
    ),
    "ToolContext.progress": row(
        ToolContext[Any](None, tool_name="look", tool_call_id="c1").progress, {"text": ""}, text=TEXT
    ),
    "ToolGuardrailFunctionOutput": row(
        ANY.ToolGuardrailFunctionOutput, {}, behavior=(*MAPPING, {}, {"type": "reject_content"}), free="output_info"
    ),
    "ToolGuardrailFunctionOutput.reject_content": row(
        ANY.ToolGuardrailFunctionOutput.reject_content, {"message": ""}, message=TEXT, free="output_info"
    ),
    "ToolInputGuardrail": row(
        ANY.ToolInputGuardrail, {"guardrail_function": judge_call}, guardrail_function=FUNCTION, name=TEXT
    ),
    "ToolOutputGuardrail": row(
        ANY.ToolOutputGuardrail, {"guardrail_function": judge_call}, guardrail_function=FUNCTION, name=TEXT
    ),
    "tool_input_guardrail": row(decorated(ANY.tool_input_guardrail, judge_call), {}, name=TEXT),
    "tool_output_guardrail": row(decorated(ANY.tool_output_guardrail, judge_call), {}, name=TEXT),
    "ToolWorker": row(
        ANY.ToolWorker, {"tools": [ANY.function_tool(look)], "redis_url": "redis://nowhere"}, tools=(5, "look"),
        redis_url=(5, "nowhere"), queue=SOME_TEXT, concurrency=WHOLE, tool_timeout=("soon", True), processes=WHOLE,
        drain_timeout=("soon", True), max_deliveries=WHOLE, max_result=WHOLE, stream_prefix=SOME_TEXT,
        event_shards=WHOLE, guardrail_shards=WHOLE, wait_for_redis=("maybe", []), agents=LISTED,
        context_models=MAPPING, on_reachable=FUNCTION, free="context",
    ),
    "connect": row(
        ANY.connect, {"url": "http://127.0.0.1:1"}, url=SOME_TEXT, agent=SOME_TEXT, api_key=SOME_TEXT,
        history=LISTED, session=SOME_TEXT, token=SOME_TEXT, headers=MAPPING, tls=OBJECT, ca_file=(5, []),
        playback_tracker=OBJECT, resume_for=NUMBER, seq=WHOLE, observe=FLAG, audio=CHOICE, record=FLAG,
        free="context",
    ),
    "create_static_tool_filter": row(
        ANY.create_static_tool_filter, {}, allowed_tool_names=(5, "rate", [5]), blocked_tool_names=(5, "rate", [5])
    ),
    "get_api_key": row(ANY.get_api_key, {"key": "k"}, key=(5, b"k", [])),
    "personal_data": row(ANY.personal_data, {}, kinds=(5, "email", ["shoe size"]), region=SOME_TEXT),
    "realtime_handoff": row(
        ANY.realtime_handoff, {"agent": ADA}, agent=OBJECT, tool_name_override=TEXT, tool_description_override=TEXT,
        on_handoff=(*FUNCTION, lambda: None), input_type=(dict,), is_enabled=FUNCTION,
    ),
    "Drop": row(TESTING.Drop, {}, code=(*WHOLE, 7), reason=TEXT),
    "RealtimeStep": row(
        TESTING.RealtimeStep, {"expect": Listener}, emit=(5, "x"), error=(5, ValueError), free="expect"
    ),
    "ScriptedRealtimeModel": row(
        TESTING.ScriptedRealtimeModel, {}, steps=LISTED, connect_events=(5, "x"), connect_error=(5, ValueError),
        close_error=(5, ValueError), strict=FLAG,
    ),
    "ScriptedRealtimeModel.add_listener": row(
        TESTING.ScriptedRealtimeModel().add_listener, {"listener": Listener()}, listener=(*OBJECT, Listener)
    ),
    "ServerStep": row(TESTING.ServerStep, {"expect": None}, expect=(5, []), emit=(5, "x", [5])),
    "mock_tools": row(TESTING.mock_tools, {"of": ADA, "stand_ins": {}}, stand_ins=MAPPING, free="of"),
}  # fmt: skip

# What takes a context hands it on as it is, to functions of the author's, who may have made it up for a test.
PASSES_ON: Final = "it hands on what it is given, to the author's own function"
MADE_BY_US: Final = "sessions make it, and it is frozen or only read"
PYDANTIC: Final = "a pydantic model: its own error names the field"

EXEMPT: Final[dict[str, str]] = {
    **dict.fromkeys(
        ("BackgroundResult", "background_result", "default_tool_error_function"), "it takes any value, by design"
    ),
    **dict.fromkeys(
        ("InputGuardrailResult", "OutputGuardrailResult", "MCPApprovalRequest", "MCPToolApprovalRequest", "RunResult",
         "ToolErrorFormatterArgs", "ToolFilterContext", "ToolInputGuardrailData", "ToolOutputGuardrailData",
         "RealtimeErrorDetails", "RealtimeModelErrorDetails", "GatewaySession", "RealtimeEventInfo"),
        MADE_BY_US,
    ),
    **dict.fromkeys(
        ("forbidden_patterns", "forbidden_words", "only_languages", "prompt_leak"), "tests/agents/test_rules.py"
    ),
    **dict.fromkeys(
        ("AssistantAudio", "AssistantMessageItem", "AssistantText", "InputAudio", "InputImage", "InputText",
         "RealtimeResponse", "RealtimeToolCallItem", "SystemMessageItem", "UserMessageItem",
         "RealtimeSessionCreateRequest", "ToolOutputFileContent", "ToolOutputImage", "ToolOutputText"),
        PYDANTIC,
    ),
    "MCPServer": "a protocol",
}  # fmt: skip


def wrong_arguments() -> list[Any]:
    return [
        pytest.param(each, argument, value, id=f"{name}-{argument}-{value!r:.20}")
        for name, each in TABLE.items()
        for argument, values in each.wrong.items()
        for value in values
    ]


async def called(make: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    made = make(**arguments)
    if inspect.isawaitable(made):
        async with asyncio.timeout(10):
            await made


@pytest.mark.parametrize(("each", "argument", "value"), wrong_arguments())
async def test_what_cannot_be_is_refused_by_the_name_of_its_argument(each: Row, argument: str, value: Any) -> None:
    with pytest.raises(UserError) as refused:
        await called(each.make, {**each.good, argument: value})
    text = str(refused.value)
    # Configs are told by what they are, which reads as their name.
    assert argument.removesuffix("_override").replace("_", " ") in text.replace("_", " "), text
    assert "\n" not in text


@pytest.mark.parametrize("name", [name for name in TABLE if name != "Agent.run"])  # it would ask a model
async def test_what_the_rows_begin_with_is_taken(name: str) -> None:
    await called(TABLE[name].make, TABLE[name].good)


@pytest.mark.parametrize("name", TABLE)
def test_every_argument_of_a_row_is_in_it(name: str) -> None:
    each = TABLE[name]
    taken = {
        parameter.name
        for parameter in inspect.signature(each.make).parameters.values()
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    }
    assert set(each.wrong) | each.free >= taken
    assert not set(each.wrong) & each.free


def test_every_exported_type_and_function_with_arguments_has_its_row() -> None:
    def is_event(exported: Any) -> bool:
        return exported in (*ANY.RealtimeSessionEvent.__args__, *ANY.RealtimeModelEvent.__args__)

    lacking = []
    for name in voicebus.__all__:
        exported: Any = getattr(voicebus, name)
        plain = inspect.isclass(exported) or inspect.isfunction(exported)
        if not plain or name in TABLE or name in EXEMPT or is_event(exported) or hasattr(exported, "__required_keys__"):
            continue
        if inspect.isclass(exported) and (issubclass(exported, BaseException) or inspect.isabstract(exported)):
            continue
        if inspect.signature(exported).parameters and not name.endswith("TokensDetails"):
            lacking.append(name)
    assert lacking == []


@pytest.mark.parametrize("kind", [bool, type("bool_", (str,), {})])
def test_what_an_array_library_compares_to_counts_as_a_bool(kind: Any) -> None:
    assert GuardrailFunctionOutput(None, kind("yes")).tripwire_triggered is True


EVENTS: Final = (*ANY.RealtimeSessionEvent.__args__, *ANY.RealtimeModelEvent.__args__)
SENDS: Final = ANY.RealtimeModelSendEvent.__args__


@pytest.mark.parametrize("kind", [*EVENTS, *SENDS])
def test_events_are_frozen(kind: Any) -> None:
    assert kind.__dataclass_params__.frozen


@pytest.mark.parametrize("kind", EVENTS)
def test_nothing_of_an_event_can_be_changed_once_it_was_made(kind: Any) -> None:
    names = list(inspect.signature(kind).parameters)
    event = kind(**dict.fromkeys(names, "given"))
    for name in names:
        with pytest.raises(FrozenInstanceError):
            setattr(event, name, "other")
        with pytest.raises(FrozenInstanceError):
            delattr(event, name)
    assert [getattr(event, name) for name in names] == ["given"] * len(names)


@pytest.mark.parametrize("kind", [*EVENTS, *SENDS])
def test_an_event_refuses_what_it_has_no_field_for_and_a_field_left_out(kind: Any) -> None:
    entries = fields(kind)
    with pytest.raises(TypeError, match="no_such_field"):
        kind(**{entry.name: None for entry in entries}, no_such_field=1)
    for entry in entries:
        if entry.default is MISSING and entry.default_factory is MISSING:
            with pytest.raises(TypeError, match=entry.name):
                kind(**{other.name: None for other in entries if other is not entry})
