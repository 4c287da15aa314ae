"""Tools of MCP servers as function tools: their names, schemas and approval, and what a result says to the model."""

import contextlib
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from voicebus.agents.context import ToolContext
from voicebus.agents.tools.function_tool import (
    FailureText,
    FunctionTool,
    NeedsApproval,
    default_tool_error_function,
)
from voicebus.agents.tools.guardrails import ToolInputGuardrail, ToolOutputGuardrail
from voicebus.agents.tools.python_call import parse_arguments
from voicebus.errors import ToolError, UserError

if TYPE_CHECKING:
    from mcp.types import CallToolResult
    from mcp.types import Tool as MCPTool

RequireApproval: TypeAlias = bool | str | Mapping[str, Any] | Callable[..., Any] | None
Call: TypeAlias = "Callable[[str, dict[str, Any]], Awaitable[CallToolResult]]"

# What realtime models take as the name of a function.
_NO_NAME: Final = re.compile(r"[^a-zA-Z0-9_-]")
_NAME_CHARS: Final = 64
_POLICIES: Final = ("always", "never")


class Unset:
    def __repr__(self) -> str:
        return "the agent's"


UNSET: Final = Unset()


@dataclass(frozen=True)
class Making:
    """How the tools of one server become function tools; `strict` and `prefix` are the agent's wishes."""

    server: str
    call: Call
    structured: bool
    require_approval: RequireApproval
    failure_error_function: FailureText | Unset | None
    input_guardrails: list[ToolInputGuardrail[Any]] | None
    output_guardrails: list[ToolOutputGuardrail[Any]] | None

    def tool(self, tool: "MCPTool", agent: Any) -> FunctionTool:
        """`tool` for `agent`, as its `mcp_config` wants it."""
        config: Mapping[str, Any] = getattr(agent, "mcp_config", None) or {}
        failure = self.failure_error_function
        if isinstance(failure, Unset):
            failure = config.get("failure_error_function", default_tool_error_function)

        def make(*, strict: bool) -> FunctionTool:
            return FunctionTool(
                name=self._name(tool.name, prefixed=config.get("include_server_in_tool_names", False)),
                description=tool.description or tool.title or "",
                params_json_schema={"type": "object", "properties": {}, **tool.input_schema},
                on_invoke_tool=MCPCall(self.call, tool.name, structured=self.structured),
                strict_json_schema=strict,
                tool_input_guardrails=self.input_guardrails,
                tool_output_guardrails=self.output_guardrails,
                needs_approval=needs_approval(self.require_approval, tool, agent),
                failure_error_function=failure,
            )

        if config.get("convert_schemas_to_strict", False):
            # An open dictionary cannot be closed: such a schema stays as its server wrote it.
            with contextlib.suppress(UserError):
                return make(strict=True)
        return make(strict=False)

    def _name(self, name: str, *, prefixed: bool) -> str:
        full = f"mcp_{self.server}__{name}" if prefixed else name
        return _NO_NAME.sub("_", full)[:_NAME_CHARS]


class MCPCall:
    """What a tool of an MCP server does when it is invoked."""

    def __init__(self, call: Call, name: str, *, structured: bool) -> None:
        self._call = call
        self._name = name
        self._structured = structured

    async def __call__(self, context: ToolContext[Any], arguments: str) -> str:
        result = await self._call(self._name, parse_arguments(arguments))
        text = result_text(result, structured=self._structured)
        if result.is_error:
            raise ToolError(text or f"the MCP tool {self._name!r} failed and did not say why")
        return text


def result_text(result: "CallToolResult", *, structured: bool) -> str:
    """What the model reads: the structured content where it is asked for or alone, else the parts, one a line.

    A voice model cannot take images and sounds from a tool: they are described.
    """
    if result.structured_content is not None and (structured or not result.content):
        return json.dumps(result.structured_content, ensure_ascii=False)
    return "\n".join(_part(part) for part in result.content)


def _part(part: Any) -> str:
    if part.type == "text":
        return str(part.text)
    if part.type in ("image", "audio"):
        return f"[{part.type}: {part.mime_type}, {len(part.data) * 3 // 4} bytes]"
    if part.type == "resource":
        held = part.resource
        text = getattr(held, "text", None)
        return str(text) if text is not None else f"[resource: {held.uri}, {held.mime_type or 'binary'}]"
    if part.type == "resource_link":
        return f"[resource: {part.name}, {part.uri}]"
    return f"[{part.type}]"


def check_require_approval(setting: RequireApproval, server: str) -> None:
    """Raises:
    UserError: it is none of the forms that `require_approval` has.
    """
    if setting is None or isinstance(setting, bool) or callable(setting) or setting in _POLICIES:
        return
    if isinstance(setting, Mapping):
        if set(setting) <= set(_POLICIES) and all(
            isinstance(entry, Mapping) and set(entry) <= {"tool_names"} for entry in setting.values()
        ):
            return
        if all(isinstance(entry, bool) or entry in _POLICIES for entry in setting.values()):
            return
    raise UserError(
        f"MCP server {server!r}: require_approval must be 'always', 'never', a bool, an object of these by tool, "
        f"{{'always': {{'tool_names': [...]}}}} or a function (context, agent, tool), not {setting!r}"
    )


def needs_approval(setting: RequireApproval, tool: "MCPTool", agent: Any) -> NeedsApproval:
    """Whether calls of `tool` wait for a person."""
    if callable(setting):
        policy = setting

        def ask(context: Any, arguments: dict[str, Any], call_id: str) -> Any:
            return policy(context, agent, tool)

        return ask
    if isinstance(setting, Mapping):
        entry = setting.get(tool.name)
        if isinstance(entry, bool | str):
            return entry in (True, "always")
        always = setting.get("always")
        return isinstance(always, Mapping) and tool.name in (always.get("tool_names") or ())
    return setting in (True, "always")
