"""Which tools the model is offered: the agent's, as the model sees them, and a client's own beside them."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from voicebus.engine import wire
from voicebus.engine.config import AgentSpec, HandoffSpec, ToolSpec

# Before the label of an MCP server, which would else pass for a function's name.
HOSTED: Final = "mcp:"


def wire_tools(agent: AgentSpec) -> list[dict[str, Any]]:
    """The agent's tools, handoffs and hosted servers as the model sees them."""
    tools: list[ToolSpec | HandoffSpec] = [*agent.tools, *agent.handoffs]
    functions = [
        {"type": "function", "name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
        for tool in tools
    ]
    return [*functions, *(dict(server.wire) for server in agent.hosted_tools)]


def own_tools(agent: AgentSpec, tools: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those of `tools` that are not `agent`'s."""
    own = {tool.name for tool in agent.tools} | {handoff.name for handoff in agent.handoffs}
    labels = {server.label for server in agent.hosted_tools}
    return [
        tool for tool in tools if wire.text(tool, "name") not in own and wire.text(tool, "server_label") not in labels
    ]


def offered_tools(
    agent: AgentSpec, own: Sequence[Mapping[str, Any]], listed: Sequence[Mapping[str, Any]] | None = None
) -> list[Mapping[str, Any]]:
    """What the model is offered: the client's `own` tools whose names the agent leaves free, then the agent's.

    The model names a tool that it refuses by its place, so each stands where the client put it: `listed` is the list as
    it came, in which a client that knows the agent's tools may name them among its own.
    """
    return in_order(
        [tool for tool in listed if tool in own or _is_of(agent, tool)] if listed else own, wire_tools(agent)
    )


def in_order(listed: Sequence[Mapping[str, Any]], servers: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """`listed`, with the definitions of `servers` for what it names of them, then all others of `servers`."""
    definitions = {key: tool for tool in servers if (key := tool_key(tool)) is not None}
    ordered = [definitions.get(tool_key(tool) or "", tool) for tool in listed]
    named = {tool_key(tool) for tool in listed}
    return [*ordered, *(tool for tool in servers if tool_key(tool) not in named)]


def _is_of(agent: AgentSpec, tool: Mapping[str, Any]) -> bool:
    return not own_tools(agent, [tool])


def with_tools(agent: AgentSpec, keys: Collection[str]) -> AgentSpec:
    """`agent` with those of its tools, handoffs and hosted servers alone that `keys` name (see `tool_key`)."""
    return dataclasses.replace(
        agent,
        tools=tuple(tool for tool in agent.tools if tool.name in keys),
        handoffs=tuple(handoff for handoff in agent.handoffs if handoff.name in keys),
        hosted_tools=tuple(server for server in agent.hosted_tools if tool_key(server.wire) in keys),
    )


def tool_key(tool: Mapping[str, Any]) -> str | None:
    """A function's name; what identifies an MCP server is its label, which may be a function's name as well."""
    name, label = tool.get("name"), tool.get("server_label")
    if isinstance(name, str):
        return name
    return f"{HOSTED}{label}" if isinstance(label, str) else None
