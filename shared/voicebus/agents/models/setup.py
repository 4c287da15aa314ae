"""What a model that is used without a session begins with: settings as authors write them, as the engine wants them."""

from collections.abc import Mapping
from typing import Any, Final

from voicebus.agents.handoffs import as_handoffs
from voicebus.agents.tools.function_tool import FunctionTool
from voicebus.agents.tools.hosted import HostedMCPTool
from voicebus.agents.tools.kinds import as_tools
from voicebus.agents.wire_settings import wire_session
from voicebus.engine.config import AgentSpec, HostedToolSpec, ToolSpec
from voicebus.engine.offering import wire_tools
from voicebus.errors import UserError

_NAME: Final = "model"


def agent_of(settings: Mapping[str, Any], *, call_id: bool) -> AgentSpec:
    """The settings as the agent of a session that answers no calls itself; what is absent has its default.

    Tools and handoffs are told to the model as they are listed: their calls are the listeners' business. With
    `call_id` audio formats are left out unless they are given.

    Raises:
        UserError: a key, a value or a tool that cannot be.
    """
    tools, hosted = _tools(settings)
    return AgentSpec(
        name=_NAME,
        instructions=settings.get("instructions"),
        tools=tools,
        session=wire_session(settings, call_id=call_id),
        hosted_tools=hosted,
    )


def settings_patch(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A patch of the wire's session object with what `settings` name, and nothing else.

    Raises:
        UserError: as for `agent_of`.
    """
    patch = wire_session(settings, defaults={})
    if "instructions" in settings:
        patch["instructions"] = settings["instructions"] or ""
    if settings.get("model_name"):
        patch["model"] = settings["model_name"]
    if "tools" in settings or "handoffs" in settings:
        tools, hosted = _tools(settings)
        patch["tools"] = wire_tools(AgentSpec(name=_NAME, tools=tools, hosted_tools=hosted))
    return patch


def _tools(settings: Mapping[str, Any]) -> tuple[tuple[ToolSpec, ...], tuple[HostedToolSpec, ...]]:
    specs: list[ToolSpec] = []
    hosted: list[HostedToolSpec] = []
    try:
        tools = as_tools(settings.get("tools") or ())
    except UserError as error:
        raise type(error)(f"model_settings tools: {error}") from error
    for tool in tools:
        if isinstance(tool, HostedMCPTool):
            hosted.append(HostedToolSpec(tool.server_label, tool.wire))
        elif isinstance(tool, FunctionTool):
            specs.append(_spec(tool.name, tool.description, tool.params_json_schema))
        else:
            raise UserError(f"model_settings tools holds {tool!r}, of which a model alone cannot know the schema")
    specs.extend(
        _spec(handoff.tool_name, handoff.tool_description, handoff.input_json_schema)
        for handoff in as_handoffs(settings.get("handoffs") or ())
    )
    names = [spec.name for spec in specs]
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise UserError(f"model_settings has several tools or handoffs named {', '.join(double)}")
    return tuple(specs), tuple(hosted)


def _spec(name: str, description: str, parameters: Mapping[str, Any]) -> ToolSpec:
    # No queue and no limit: nobody here runs it.
    return ToolSpec(name, description, parameters, queue="", timeout_ms=0)
