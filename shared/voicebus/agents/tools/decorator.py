"""`@function_tool`, which makes a function a `FunctionTool`."""

from collections.abc import Callable, Sequence
from typing import Any, get_args, overload

from pydantic import TypeAdapter
from typing_extensions import Unpack

from voicebus.agents import checking
from voicebus.agents.tools.docstrings import DocstringStyle
from voicebus.agents.tools.function_tool import (
    Enabled,
    FailureText,
    FunctionTool,
    NeedsApproval,
    TimeoutBehavior,
    TimeoutText,
    ToolOptions,
    default_tool_error_function,
    one_of,
)
from voicebus.agents.tools.guardrails import ToolInputGuardrail, ToolOutputGuardrail
from voicebus.agents.tools.python_call import PythonCall
from voicebus.agents.tools.schema import callable_of, function_schema
from voicebus.errors import UserError


@overload
def function_tool(
    func: Callable[..., Any],
    *,
    name_override: str | None = None,
    description_override: str | None = None,
    docstring_style: DocstringStyle | None = None,
    use_docstring_info: bool = True,
    failure_error_function: FailureText | None = default_tool_error_function,
    strict_mode: bool = True,
    is_enabled: Enabled = True,
    needs_approval: NeedsApproval = False,
    tool_input_guardrails: list[ToolInputGuardrail[Any]] | None = None,
    tool_output_guardrails: list[ToolOutputGuardrail[Any]] | None = None,
    timeout: float | None = None,
    timeout_behavior: TimeoutBehavior = "error_as_result",
    timeout_error_function: TimeoutText | None = None,
    defer_loading: bool = False,
    custom_data_extractor: Any = None,
    allowed_callers: Sequence[str] | None = None,
    output_type: Any = None,
    output_json_schema: dict[str, Any] | None = None,
    **options: Unpack[ToolOptions],
) -> FunctionTool: ...


@overload
def function_tool(
    func: None = None,
    *,
    name_override: str | None = None,
    description_override: str | None = None,
    docstring_style: DocstringStyle | None = None,
    use_docstring_info: bool = True,
    failure_error_function: FailureText | None = default_tool_error_function,
    strict_mode: bool = True,
    is_enabled: Enabled = True,
    needs_approval: NeedsApproval = False,
    tool_input_guardrails: list[ToolInputGuardrail[Any]] | None = None,
    tool_output_guardrails: list[ToolOutputGuardrail[Any]] | None = None,
    timeout: float | None = None,
    timeout_behavior: TimeoutBehavior = "error_as_result",
    timeout_error_function: TimeoutText | None = None,
    defer_loading: bool = False,
    custom_data_extractor: Any = None,
    allowed_callers: Sequence[str] | None = None,
    output_type: Any = None,
    output_json_schema: dict[str, Any] | None = None,
    **options: Unpack[ToolOptions],
) -> Callable[[Callable[..., Any]], FunctionTool]: ...


def function_tool(
    func: Callable[..., Any] | None = None,
    *,
    name_override: str | None = None,
    description_override: str | None = None,
    docstring_style: DocstringStyle | None = None,
    use_docstring_info: bool = True,
    failure_error_function: FailureText | None = default_tool_error_function,
    strict_mode: bool = True,
    is_enabled: Enabled = True,
    needs_approval: NeedsApproval = False,
    tool_input_guardrails: list[ToolInputGuardrail[Any]] | None = None,
    tool_output_guardrails: list[ToolOutputGuardrail[Any]] | None = None,
    timeout: float | None = None,
    timeout_behavior: TimeoutBehavior = "error_as_result",
    timeout_error_function: TimeoutText | None = None,
    defer_loading: bool = False,
    custom_data_extractor: Any = None,
    allowed_callers: Sequence[str] | None = None,
    output_type: Any = None,
    output_json_schema: dict[str, Any] | None = None,
    **options: Unpack[ToolOptions],
) -> FunctionTool | Callable[[Callable[..., Any]], FunctionTool]:
    """Make a function a tool: `@function_tool` or `@function_tool(...)`.

    The signature becomes the JSON schema of the arguments, the docstring (Google, NumPy or Sphinx style) the
    descriptions. A first parameter typed `RunContextWrapper` or `ToolContext` receives the context. Functions that
    are not async run in a thread. `timeout` is in s, for async functions and in processes: a thread cannot be stopped.
    With `output_type` the result is validated and written as that type. `FunctionTool` says what the others do.

    Raises:
        UserError: no plain function, a parameter without a JSON schema, an argument that is wrong or that a realtime
            session cannot honour.
        ValueError: a `timeout` that is not above 0, or on a function that is not async.
    """

    where = "function_tool"
    checking.text(where, "name_override", name_override, optional=True)
    checking.text(where, "description_override", description_override, optional=True)
    checking.flag(where, "use_docstring_info", use_docstring_info)
    checking.flag(where, "strict_mode", strict_mode)

    def make(function: Callable[..., Any]) -> FunctionTool:
        plain = function.__func__ if isinstance(function, staticmethod) else function
        callable_of(plain)
        if docstring_style not in (None, *get_args(DocstringStyle)):
            raise UserError(f"docstring_style must be {one_of(DocstringStyle)} or None, not {docstring_style!r}")
        schema = function_schema(
            plain,
            name=name_override,
            description=description_override,
            docstring_style=docstring_style,
            use_docstring_info=use_docstring_info,
            strict=strict_mode,
        )
        return FunctionTool(
            schema.name,
            schema.description,
            schema.json_schema,
            PythonCall(plain, schema, _adapter(output_type, schema.name)),
            strict_mode,
            is_enabled,
            tool_input_guardrails,
            tool_output_guardrails,
            needs_approval,
            timeout,
            timeout_behavior,
            timeout_error_function,
            defer_loading,
            custom_data_extractor=custom_data_extractor,
            allowed_callers=allowed_callers,
            output_json_schema=output_json_schema,
            failure_error_function=failure_error_function,
            **options,
        )

    return make if func is None else make(func)


tool = function_tool
"""The same under the name that programs which come from openai-agents may know it by."""


def _adapter(output_type: Any, tool: str) -> TypeAdapter[Any] | None:
    if output_type is None:
        return None
    try:
        return TypeAdapter(output_type)
    except Exception as error:  # as for parameters: pydantic raises many things
        why = str(error).partition("\n")[0]
        raise UserError(f"tool {tool!r}: output_type {output_type!r} cannot be validated: {why}") from error
