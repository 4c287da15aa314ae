"""Which kinds of tools an agent can have: functions, functions of other services, servers that the model reaches."""

import inspect
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from voicebus.agents.tools.adopt import adopt_tool, can_adopt
from voicebus.agents.tools.function_tool import FunctionTool
from voicebus.agents.tools.hosted import HostedMCPTool
from voicebus.agents.tools.remote import RemoteTool, RemoteTools
from voicebus.errors import UserError, WrongTypeError

Tool: TypeAlias = FunctionTool | RemoteTool | HostedMCPTool
"""What the model can call."""

ToolEntry: TypeAlias = Tool | RemoteTools
"""What may stand among an agent's `tools`."""


def as_tools(entries: Iterable[Any]) -> list[ToolEntry]:
    """The entries of an agent's `tools` as our own kinds; function tools and hosted MCP tools of others are adopted.

    Raises:
        WrongTypeError: an entry is no tool at all.
        UserError: it is a tool that a realtime session cannot honour.
    """
    return [_as_tool(entry) for entry in entries]


def _as_tool(entry: Any) -> ToolEntry:
    if isinstance(entry, ToolEntry):
        return entry
    if can_adopt(entry):
        return adopt_tool(entry)
    if isinstance(getattr(entry, "tool_config", None), Mapping):
        return HostedMCPTool(entry.tool_config, getattr(entry, "on_approval_request", None))
    kind = type(entry).__name__
    if kind.endswith("Tool") and hasattr(entry, "name"):
        raise UserError(f"a {kind} cannot be honoured in a realtime session; function tools and HostedMCPTool can")
    shown, hint = reprlib.repr(entry), ""
    if inspect.isroutine(entry):
        shown, hint = repr(entry), "; decorate it with @function_tool"
    elif not inspect.isclass(entry) and callable(getattr(entry, "as_tool", None)):
        shown, hint = f"{kind} {getattr(entry, 'name', None)!r}", "; give what its as_tool() makes"
    elif not inspect.isclass(entry) and callable(getattr(entry, "get_system_prompt", None)):
        shown, hint = (
            f"{kind} {getattr(entry, 'name', None)!r}",
            "; name it in handoffs",
        )
    raise WrongTypeError(f"{shown} is no FunctionTool, RemoteTool, RemoteTools or HostedMCPTool{hint}")


def tool_queue(tool: FunctionTool, default_queue: str | None) -> str:
    """The queue of a tool's calls: its own `queue=`, else the worker's `--queue`, else its top-level package."""
    return tool.queue or default_queue or tool.own_queue
