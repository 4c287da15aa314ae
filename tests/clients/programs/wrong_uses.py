"""Wrong uses of what programs of openai-agents build: `wrong_uses.py voicebus|agents` prints what each is caught as.

The source is one; only what it imports from differs. What goes wrong by accident there (an AttributeError of None, a
KeyError) is not among them: a program that relies on it relies on a mistake.
"""

import asyncio
import dataclasses
import json
import logging
import sys
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, Final

from pydantic import BaseModel

if sys.argv[1] == "voicebus":
    import voicebus as sdk
    from voicebus import testing
else:
    import agents.realtime.items
    import agents.realtime.model_inputs
    from agents.realtime import testing  # type: ignore[no-redef]
    from agents.tool_context import ToolContext

    import agents
    from agents.mcp import MCPServerStdio

    parts = (agents, agents.realtime.items, agents.realtime.model_inputs, agents.realtime)
    names = {name: value for part in parts for name, value in vars(part).items()}
    sdk = SimpleNamespace(**names | {"MCPServerStdio": MCPServerStdio, "ToolContext": ToolContext})  # type: ignore

# A `websockets` exception, say, or what pydantic has of its own, is another package's.
KINDS: Final = ("UserError", "AgentsException", "ModelBehaviorError", "TypeError", "ValueError", "AssertionError",
                "RealtimeScriptError")  # fmt: skip
OURS: Final = {"VoicebusError": "AgentsException"}


class Reason(BaseModel):
    text: str


def plain(a: int) -> str:
    return str(a)


async def async_plain(a: int) -> str:
    return str(a)


async def invoke(context: Any, arguments: str) -> str:
    return arguments


def misplaced(a: int, context: sdk.RunContextWrapper[Any]) -> str:  # type: ignore[name-defined]
    return str(a)


def open_dictionary(a: dict[str, int]) -> str:
    return str(a)


desk = sdk.RealtimeAgent(name="desk")
tool = sdk.function_tool(async_plain)
loud = sdk.function_tool(plain, failure_error_function=None)
handoff = sdk.realtime_handoff(desk, on_handoff=lambda context, given: None, input_type=Reason)
context = sdk.RunContextWrapper(None)


def made(make: Callable[..., Any], good: Mapping[str, Any], **wrong: tuple[Any, ...]) -> dict[str, Callable[[], Any]]:
    """A call for each wrong value of each argument."""
    return {
        f"{getattr(make, '__name__', make)} {name}={value!r}": lambda name=name, value=value: make(
            **{**good, name: value}
        )
        for name, values in wrong.items()
        for value in values
    }


def decorated(**options: Any) -> Any:
    return sdk.function_tool(**options)(async_plain)


FUNCTION_TOOL: Final = {
    "name": "t", "description": "", "params_json_schema": {"type": "object", "properties": {}},
    "on_invoke_tool": invoke,
}  # fmt: skip
CALL: Final = {"context": None, "tool_name": "t", "tool_call_id": "c", "tool_arguments": "{}"}
NAN: Final = float("nan")


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in CALL.items() if key != name}


USES: Final[dict[str, Callable[[], Any]]] = {
    **made(
        sdk.RealtimeAgent, {"name": "a"}, name=(None, 3), tools=(None, (), "x"), handoffs=(None, (), "x"),
        instructions=(4, []), voices=("ash",), model=("m",),
    ),
    "an agent without a name": sdk.RealtimeAgent,
    "a clone with an unknown field": lambda: desk.clone(colour=1),
    "a runner of nothing": sdk.RealtimeRunner,
    "a runner whose model is given by position": lambda: sdk.RealtimeRunner(desk, None),
    "a session without an agent": sdk.RealtimeSession,
    **made(
        decorated, {}, timeout=(-1, 0, NAN, "x", True, []), timeout_behavior=("x", None, 3),
        timeout_error_function=(3, "x"), nope=(1,),
    ),
    "a timeout of a function that is not async": lambda: sdk.function_tool(timeout=3)(plain),
    "a tool whose context is not its first parameter": lambda: sdk.function_tool(misplaced),
    "a tool with an open dictionary": lambda: sdk.function_tool(open_dictionary),
    **made(
        sdk.FunctionTool, FUNCTION_TOOL, params_json_schema=(None, [], "x"), timeout_seconds=(-1, 0, NAN, "x", True),
        timeout_behavior=("x",), timeout_error_function=(3,), nope=(1,),
    ),
    "a tool of nothing": sdk.FunctionTool,
    "a changed tool with a wrong timeout": lambda: dataclasses.replace(tool, timeout_seconds=-1),
    "a tool that is called": lambda: tool(1),
    "a call's context of nothing": sdk.ToolContext,
    "a call's context without a name": lambda: sdk.ToolContext(**without("tool_name")),
    "a call's context without an id": lambda: sdk.ToolContext(**without("tool_call_id")),
    "a call's context of a session's without a name": lambda: sdk.ToolContext.from_agent_context(context, "c"),
    "a call's context of a session's without an id": lambda: sdk.ToolContext.from_agent_context(context),
    "a handoff to nothing": sdk.realtime_handoff,
    "a handoff with an input that nobody gets": lambda: sdk.realtime_handoff(desk, input_type=Reason),
    **made(
        sdk.realtime_handoff, {"agent": desk},
        on_handoff=("x", lambda: None, lambda context, given: None), nope=(1,), input_filter=(lambda data: data,),
    ),
    **made(
        sdk.realtime_handoff, {"agent": desk, "input_type": Reason}, on_handoff=("x", lambda context: None),
    ),
    "a guardrail of nothing": sdk.OutputGuardrail,
    "a finding of nothing": sdk.GuardrailFunctionOutput,
    "a tool's guardrail of nothing": sdk.ToolInputGuardrail,
    "a rejection without a message": sdk.ToolGuardrailFunctionOutput.reject_content,
    **made(sdk.MCPServerStdio, {"params": {"command": "x"}},
           client_session_timeout_seconds=("x", -1, NAN, True), max_list_pages=(0, "x", True, 1.5),
           retry_backoff_seconds_max=("x", -1, NAN), require_approval=("x", 3), nope=(1,)),
    "a server of nothing": sdk.MCPServerStdio,
    "a script that follows what fails": lambda: testing.ScriptedRealtimeModel(
        connect_events=[sdk.RealtimeModelTurnStartedEvent()], connect_error=OSError()
    ),
    "a script that is not played": lambda: testing.ScriptedRealtimeModel(
        [testing.RealtimeStep(sdk.RealtimeModelSendAudio)]
    ).assert_complete(),
    "a model of no kind": sdk.RealtimeModel,
    "a listener of no kind": sdk.RealtimeModelListener,
    "a text agent whose name is a number": lambda: sdk.Agent(name=3),
    "a text agent whose tools are none": lambda: sdk.Agent(name="x", tools=None),
    "a text agent whose instructions are a number": lambda: sdk.Agent(name="x", instructions=3),
    "a text agent whose model is a number": lambda: sdk.Agent(name="x", model=3),
    "a text agent whose settings are a number": lambda: sdk.Agent(name="x", model_settings=3),
    **{f"an item of {item.__name__}": lambda item=item: item(item_id=3, content=3) for item in (
        sdk.UserMessageItem, sdk.AssistantMessageItem, sdk.SystemMessageItem)},
    **{
        f"{tool.name} is called with {arguments!r}": lambda arguments=arguments: loud.on_invoke_tool(
            sdk.ToolContext(**CALL), arguments
        )
        for arguments in ("{", "[]", "null", "{}", '{"a": "x"}', '{"a": NaN}')
    },
    **{
        f"a handoff gets {arguments!r}": lambda arguments=arguments: handoff.on_invoke_handoff(context, arguments)
        for arguments in ("", "{", "{}", '{"text": 5}')
    },
    "a model that is not connected": lambda: sdk.OpenAIRealtimeWebSocketModel().send_event(
        sdk.RealtimeModelSendAudio(audio=b"xx")
    ),
    "a model without a key": lambda: sdk.OpenAIRealtimeWebSocketModel().connect({}),
    "a call's model without a call": lambda: sdk.OpenAIRealtimeSIPModel().connect({"api_key": "k"}),
    "a call whose model is named": lambda: sdk.OpenAIRealtimeWebSocketModel().connect(
        {"api_key": "k", "call_id": "c", "initial_model_settings": {"model_name": "m"}}
    ),
    "a session that is not open": lambda: sdk.RealtimeSession(
        sdk.OpenAIRealtimeWebSocketModel(), desk, None
    ).send_message("x"),
}  # fmt: skip


async def caught_as(use: Callable[[], Any]) -> list[str] | None:
    """The names that a program could catch it by; None for what is taken."""
    try:
        given = use()
        if asyncio.iscoroutine(given):
            async with asyncio.timeout(10):
                await given
    except Exception as error:  # noqa: BLE001 - whatever it is
        names = [OURS.get(kind.__name__, kind.__name__) for kind in type(error).__mro__]
        return [name for name in KINDS if name in names]
    return None


async def main() -> None:
    logging.disable()
    print(json.dumps({name.split(" at 0x")[0]: await caught_as(use) for name, use in USES.items()}))


asyncio.run(main())
