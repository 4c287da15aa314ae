"""Tools made by other libraries, as tools of ours: whatever has the four attributes that a function tool needs."""

import inspect
import sys
from typing import Any

from voicebus.agents.context import ToolContext
from voicebus.agents.tools.function_tool import FunctionTool
from voicebus.agents.tools.guardrails import ToolInputGuardrail, ToolOutputGuardrail
from voicebus.errors import UserError

_NEEDED = ("name", "description", "params_json_schema", "on_invoke_tool")


def can_adopt(tool: object) -> bool:
    """Whether `adopt_tool` takes it."""
    return not isinstance(tool, type) and all(hasattr(tool, name) for name in _NEEDED)


def adopt_tool(tool: Any) -> FunctionTool:
    """A tool of another library as one of ours; ours are given back as they are.

    It needs `name`, `description`, `params_json_schema` and `on_invoke_tool(context, arguments)`. Where they are
    there, `strict_json_schema`, `is_enabled`, `needs_approval`, the guardrails and the timeout are kept.

    Raises:
        UserError: it is no such tool, or asks for what a realtime session cannot honour.
    """
    if isinstance(tool, FunctionTool):
        return tool
    if not can_adopt(tool):
        raise UserError(f"{tool!r} is no function tool: it needs {', '.join(_NEEDED)}")
    return FunctionTool(
        tool.name,
        tool.description or "",
        tool.params_json_schema,
        _AdoptedCall(tool),
        getattr(tool, "strict_json_schema", False),
        getattr(tool, "is_enabled", True),
        [ToolInputGuardrail(entry.guardrail_function, entry.name) for entry in _listed(tool, "tool_input_guardrails")],
        [
            ToolOutputGuardrail(entry.guardrail_function, entry.name)
            for entry in _listed(tool, "tool_output_guardrails")
        ],
        getattr(tool, "needs_approval", False),
        getattr(tool, "timeout_seconds", None),
        getattr(tool, "timeout_behavior", "error_as_result"),
        getattr(tool, "timeout_error_function", None),
        getattr(tool, "defer_loading", False),
        custom_data_extractor=getattr(tool, "custom_data_extractor", None),
        allowed_callers=getattr(tool, "allowed_callers", None),
    )


class _AdoptedCall:
    """Invokes a tool of another library, with a context of that library's own class where it has one."""

    def __init__(self, tool: Any) -> None:
        self._tool = tool
        # The author's function, whose module says where the tool comes from and which queue its calls go to.
        self.__wrapped__ = getattr(tool, "__wrapped__", tool.on_invoke_tool)

    def __eq__(self, other: object) -> bool:
        # Adopted anew wherever it is listed, it is still the same tool.
        return isinstance(other, _AdoptedCall) and self._tool is other._tool

    def __hash__(self) -> int:
        return id(self._tool)

    async def __call__(self, context: ToolContext[Any], arguments: str) -> Any:
        returned = self._tool.on_invoke_tool(self._its_own(context), arguments)
        return await returned if inspect.isawaitable(returned) else returned

    def _its_own(self, context: ToolContext[Any]) -> Any:
        # openai-agents has it here, and its tools look for more in a context than is public.
        library = type(self._tool).__module__.partition(".")[0]
        kind = getattr(sys.modules.get(f"{library}.tool_context"), "ToolContext", None)
        if kind is None:
            return context
        return kind(
            context.context,
            usage=context.usage,
            tool_name=context.tool_name,
            tool_call_id=context.tool_call_id,
            tool_arguments=context.tool_arguments,
            tool_input=context.tool_input,
        )


def _listed(tool: Any, name: str) -> list[Any]:
    return list(getattr(tool, name, None) or ())
