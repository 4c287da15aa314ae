"""Function tools: `@function_tool` and the `FunctionTool` that it makes."""

import functools
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal, overload

from voicebus.agents.context import RunContextWrapper
from voicebus.agents.tools.schema import DocstringStyle, FunctionSchema, function_schema
from voicebus.contracts.streams import RESERVED_QUEUES
from voicebus.errors import ToolTimeoutError, UserError

FailureText = Callable[[RunContextWrapper[Any], Exception], str | Awaitable[str]]
TimeoutText = Callable[[RunContextWrapper[Any], ToolTimeoutError], str | Awaitable[str]]
Respond = Literal["when_all_done", "always", "never"]


def default_tool_error_function(_: RunContextWrapper[Any], error: Exception) -> str:
    """What the model is told when a tool raised."""
    return f"An error occurred while running the tool. Please try again. Error: {error}"


@dataclass(frozen=True, kw_only=True)
class FunctionTool:
    """A Python function that a model may call. Made by `function_tool`; `voicebus.agents.tools.invoke` runs it.

    `timeout` is in s; None leaves it to `VOICEBUS_TOOL_TIMEOUT`. `queue` None means: the worker's `--queue`, else the
    top-level package of the function's module. `idempotent` tools may be started again when their worker dies;
    others are then reported as "outcome unknown". `respond` says when the model goes on: once every call of this
    one's response has answered (`when_all_done`), at this answer already (`always`), or not for it (`never`).
    """

    name: str
    description: str
    params_json_schema: dict[str, Any]
    function: Callable[..., Any]
    schema: FunctionSchema
    is_async: bool
    is_enabled: bool | Callable[[RunContextWrapper[Any], Any], bool | Awaitable[bool]] = True
    failure_error_function: FailureText | None = default_tool_error_function
    timeout: float | None = None
    timeout_error_function: TimeoutText | None = None
    queue: str | None = None
    idempotent: bool = False
    respond: Respond = "when_all_done"
    strict_json_schema: bool = True
    __wrapped__: Callable[..., Any] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "__wrapped__", self.function)

    @property
    def own_queue(self) -> str:
        """The queue that this tool names, or the top-level package of its module; `default` for plain files."""
        if self.queue is not None:
            return self.queue
        package = inspect.unwrap(self.function).__globals__.get("__package__") if self._has_globals else None
        return str(package).partition(".")[0] if package else "default"

    @property
    def _has_globals(self) -> bool:
        return hasattr(inspect.unwrap(self.function), "__globals__")

    @property
    def origin(self) -> str:
        """`module.function`, for messages."""
        function = inspect.unwrap(self.function)
        return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', type(function).__name__)}"


@overload
def function_tool(func: Callable[..., Any], /) -> FunctionTool: ...


@overload
def function_tool(
    *,
    name_override: str | None = None,
    description_override: str | None = None,
    docstring_style: DocstringStyle | None = None,
    use_docstring_info: bool = True,
    failure_error_function: FailureText | None = default_tool_error_function,
    strict_mode: bool = True,
    is_enabled: bool | Callable[[RunContextWrapper[Any], Any], bool | Awaitable[bool]] = True,
    timeout: float | None = None,
    timeout_error_function: TimeoutText | None = None,
    queue: str | None = None,
    idempotent: bool = False,
    respond: Respond = "when_all_done",
) -> Callable[[Callable[..., Any]], FunctionTool]: ...


def function_tool(
    func: Callable[..., Any] | None = None,
    /,
    *,
    name_override: str | None = None,
    description_override: str | None = None,
    docstring_style: DocstringStyle | None = None,
    use_docstring_info: bool = True,
    failure_error_function: FailureText | None = default_tool_error_function,
    strict_mode: bool = True,
    is_enabled: bool | Callable[[RunContextWrapper[Any], Any], bool | Awaitable[bool]] = True,
    timeout: float | None = None,
    timeout_error_function: TimeoutText | None = None,
    queue: str | None = None,
    idempotent: bool = False,
    respond: Respond = "when_all_done",
) -> FunctionTool | Callable[[Callable[..., Any]], FunctionTool]:
    """Make a function a tool: `@function_tool` or `@function_tool(...)`.

    The signature becomes the JSON schema of the arguments, the docstring (Google, NumPy or Sphinx style) the
    descriptions. A first parameter typed `RunContextWrapper` or `ToolContext` receives the context. Functions that
    are not async run in a thread. `timeout` is in s and for async functions only, as a thread cannot be stopped.

    Raises:
        UserError: no plain function, a parameter without a JSON schema, a reserved queue.
        ValueError: `timeout` on a function that is not async.
    """

    def make(function: Callable[..., Any]) -> FunctionTool:
        if isinstance(function, functools.partial) or inspect.isclass(function) or not callable(function):
            raise UserError(f"function_tool needs a function, not {function!r}")
        called = function if inspect.isroutine(function) else function.__call__  # type: ignore[operator]
        is_async = inspect.iscoroutinefunction(called)
        schema = function_schema(
            function,
            name=name_override,
            description=description_override,
            docstring_style=docstring_style,
            use_docstring_info=use_docstring_info,
            strict=strict_mode,
        )
        if timeout is not None and not is_async:
            raise ValueError(
                f"tool {schema.name!r}: timeout={timeout:g} needs an async function; threads cannot be stopped"
            )
        if timeout is not None and timeout <= 0:
            raise ValueError(f"tool {schema.name!r}: timeout={timeout:g} must be above 0")
        if queue is not None and queue in RESERVED_QUEUES:
            raise UserError(f"tool {schema.name!r}: queue {queue!r} is reserved; choose another name")
        return FunctionTool(
            name=schema.name,
            description=schema.description,
            params_json_schema=schema.json_schema,
            function=function,
            schema=schema,
            is_async=is_async,
            is_enabled=is_enabled,
            failure_error_function=failure_error_function,
            timeout=timeout,
            timeout_error_function=timeout_error_function,
            queue=queue,
            idempotent=idempotent,
            respond=respond,
            strict_json_schema=strict_mode,
        )

    return make if func is None else make(func)
