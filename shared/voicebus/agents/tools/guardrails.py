"""Guardrails of function tools: what judges a call before its tool runs, and its result before the model reads it.

The owner of a session asks a tool's input guardrails; a worker asks them for calls that come unvetted, and runs the
output guardrails. They fail closed: one that raises, answers with something else or takes too long lets nothing pass.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypedDict, overload

from voicebus.agents import checking
from voicebus.agents.context import TContext, ToolContext
from voicebus.agents.functions import OverLimitError, call_within, is_async_callable, name_of
from voicebus.errors import ToolError, UserError

if TYPE_CHECKING:
    from voicebus.agents.agent import RealtimeAgent
    from voicebus.agents.tools.function_tool import FunctionTool

# For one guardrail of a call, where its caller sets no limit.
GUARDRAIL_TIMEOUT_S: Final = 10.0

_BEHAVIORS: Final = ("allow", "reject_content", "raise_exception")


class AllowBehavior(TypedDict):
    """The call, or its result, passes."""

    type: Literal["allow"]


class RejectContentBehavior(TypedDict):
    """The model reads `message` in place of the result; the conversation goes on."""

    type: Literal["reject_content"]
    message: str


class RaiseExceptionBehavior(TypedDict):
    """The call fails, and the session reports an error; the conversation goes on."""

    type: Literal["raise_exception"]


@dataclass(frozen=True)
class ToolGuardrailFunctionOutput:
    """A tool guardrail's finding. `output_info` is for the program; neither the model nor the caller gets it.

    Raises:
        UserError: `behavior` is none.
    """

    output_info: Any = None
    behavior: AllowBehavior | RejectContentBehavior | RaiseExceptionBehavior = field(
        default_factory=lambda: AllowBehavior(type="allow")
    )

    def __post_init__(self) -> None:
        kind = self.behavior.get("type") if isinstance(self.behavior, Mapping) else None
        if kind not in _BEHAVIORS or (kind == "reject_content" and not isinstance(self.behavior.get("message"), str)):
            rule = f"one of {', '.join(_BEHAVIORS)} (as its `type`, and a message to reject content with)"
            checking.refuse("ToolGuardrailFunctionOutput", "behavior", rule, self.behavior)

    @classmethod
    def allow(cls, output_info: Any = None) -> "ToolGuardrailFunctionOutput":
        """Let it pass."""
        return cls(output_info, AllowBehavior(type="allow"))

    @classmethod
    def reject_content(cls, message: str, output_info: Any = None) -> "ToolGuardrailFunctionOutput":
        """Tell the model `message` instead.

        Raises:
            UserError: `message` is no text.
        """
        if not isinstance(message, str):
            raise UserError(f"reject_content needs message: text for the model, not {message!r}")
        return cls(output_info, RejectContentBehavior(type="reject_content", message=message))

    @classmethod
    def raise_exception(cls, output_info: Any = None) -> "ToolGuardrailFunctionOutput":
        """Fail the call, and report it as an error."""
        return cls(output_info, RaiseExceptionBehavior(type="raise_exception"))


@dataclass(frozen=True)
class ToolInputGuardrailData:
    """What an input guardrail judges: `context.tool_arguments`, the model's JSON text, of a call by `agent`."""

    context: ToolContext[Any]
    agent: "RealtimeAgent[Any] | None"


@dataclass(frozen=True)
class ToolOutputGuardrailData(ToolInputGuardrailData):
    """What an output guardrail judges: `output`, what the tool returned, before it becomes text."""

    output: Any = None


InputFunction = Callable[[ToolInputGuardrailData], ToolGuardrailFunctionOutput | Awaitable[ToolGuardrailFunctionOutput]]
OutputFunction = Callable[
    [ToolOutputGuardrailData], ToolGuardrailFunctionOutput | Awaitable[ToolGuardrailFunctionOutput]
]


@dataclass(frozen=True)
class ToolInputGuardrail(Generic[TContext]):
    """Judges a call before its tool runs: `guardrail_function(data)`, sync (in a thread) or async.

    Raises:
        UserError: `guardrail_function` cannot be called.
    """

    guardrail_function: InputFunction
    name: str | None = None

    def __post_init__(self) -> None:
        _check(self.guardrail_function, self.name)

    def get_name(self) -> str:
        """Its `name`, else its function's."""
        return self.name or name_of(self.guardrail_function)

    async def run(self, data: ToolInputGuardrailData) -> ToolGuardrailFunctionOutput:
        """Its finding on `data`.

        Raises:
            ToolError: it found none: it raised, took too long, or answered with something else.
        """
        return await _find(self.guardrail_function, self.get_name(), data, GUARDRAIL_TIMEOUT_S, None)


@dataclass(frozen=True)
class ToolOutputGuardrail(Generic[TContext]):
    """Judges what a tool returned before the model reads it: `guardrail_function(data)`, sync (in a thread) or async.

    Raises:
        UserError: `guardrail_function` cannot be called.
    """

    guardrail_function: OutputFunction
    name: str | None = None

    def __post_init__(self) -> None:
        _check(self.guardrail_function, self.name)

    def get_name(self) -> str:
        """Its `name`, else its function's."""
        return self.name or name_of(self.guardrail_function)

    async def run(self, data: ToolOutputGuardrailData) -> ToolGuardrailFunctionOutput:
        """Its finding on `data`.

        Raises:
            ToolError: it found none: it raised, took too long, or answered with something else.
        """
        return await _find(self.guardrail_function, self.get_name(), data, GUARDRAIL_TIMEOUT_S, None)


class ToolInputGuardrailTripwireTriggered(ToolError):  # noqa: N818 - the name that programs know
    """An input guardrail answered `raise_exception`."""

    def __init__(self, guardrail: ToolInputGuardrail[Any], output: ToolGuardrailFunctionOutput) -> None:
        super().__init__(f"Tool input guardrail {guardrail.get_name()} triggered tripwire")
        self.guardrail = guardrail
        self.output = output


class ToolOutputGuardrailTripwireTriggered(ToolError):  # noqa: N818 - the name that programs know
    """An output guardrail answered `raise_exception`."""

    def __init__(self, guardrail: ToolOutputGuardrail[Any], output: ToolGuardrailFunctionOutput) -> None:
        super().__init__(f"Tool output guardrail {guardrail.get_name()} triggered tripwire")
        self.guardrail = guardrail
        self.output = output


async def ask_input_guardrails(
    tool: "FunctionTool",
    context: ToolContext[Any],
    *,
    timeout: float = GUARDRAIL_TIMEOUT_S,  # noqa: ASYNC109 - of one guardrail
    executor: Executor | None = None,
) -> str | None:
    """Ask the input guardrails of `tool`, in order; what the model is to read instead of a result, or None: run it.

    Raises:
        ToolInputGuardrailTripwireTriggered: one answered `raise_exception`.
        ToolError: one failed, or took longer than `timeout` s; the call must not run.
    """
    for guardrail in tool.tool_input_guardrails or ():
        data = ToolInputGuardrailData(context, context.agent)
        # A class of the author's may have a `run` of its own.
        is_own = type(guardrail).run is not ToolInputGuardrail.run
        function = guardrail.run if is_own else guardrail.guardrail_function
        found = await _find(function, guardrail.get_name(), data, timeout, executor)
        if found.behavior["type"] == "reject_content":
            return found.behavior["message"]
        if found.behavior["type"] == "raise_exception":
            raise ToolInputGuardrailTripwireTriggered(guardrail, found)
    return None


async def ask_output_guardrails(
    guardrails: Sequence[ToolOutputGuardrail[Any]],
    context: ToolContext[Any],
    output: Any,
    *,
    timeout: float = GUARDRAIL_TIMEOUT_S,  # noqa: ASYNC109 - of one guardrail
    executor: Executor | None = None,
) -> str | None:
    """Ask about `output`, what the tool returned; what the model is to read instead, or None: it may read it.

    Raises:
        ToolOutputGuardrailTripwireTriggered: one answered `raise_exception`.
        ToolError: one failed, or took longer than `timeout` s; the model must not read the output.
    """
    for guardrail in guardrails:
        data = ToolOutputGuardrailData(context, context.agent, output)
        # A class of the author's may have a `run` of its own.
        is_own = type(guardrail).run is not ToolOutputGuardrail.run
        function = guardrail.run if is_own else guardrail.guardrail_function
        found = await _find(function, guardrail.get_name(), data, timeout, executor)
        if found.behavior["type"] == "reject_content":
            return found.behavior["message"]
        if found.behavior["type"] == "raise_exception":
            raise ToolOutputGuardrailTripwireTriggered(guardrail, found)
    return None


async def _find(
    function: Callable[..., Any], name: str, data: Any, seconds: float, executor: Executor | None
) -> ToolGuardrailFunctionOutput:
    try:
        found = await call_within(
            seconds, function, (data,),
            is_async=is_async_callable(function), executor=executor, what=f"tool guardrail {name}",
        )  # fmt: skip
    except OverLimitError as error:
        raise ToolError(f"{error}") from None
    except Exception as error:  # an author's function may raise anything
        raise ToolError(f"the tool guardrail {name} failed: {type(error).__name__}: {error}") from error
    return _checked(found, name)


def _checked(found: Any, name: str) -> ToolGuardrailFunctionOutput:
    # By its shape, as guardrails of adopted tools answer with a class of their own.
    behavior = getattr(found, "behavior", None)
    kind = behavior.get("type") if isinstance(behavior, dict) else None
    if kind == "allow":
        return ToolGuardrailFunctionOutput.allow(found.output_info)
    if kind == "raise_exception":
        return ToolGuardrailFunctionOutput.raise_exception(found.output_info)
    if kind == "reject_content" and isinstance(behavior, dict) and isinstance(behavior.get("message"), str):
        return ToolGuardrailFunctionOutput.reject_content(behavior["message"], found.output_info)
    raise ToolError(f"the tool guardrail {name} returned {type(found).__name__}, not ToolGuardrailFunctionOutput")


@overload
def tool_input_guardrail(func: InputFunction) -> ToolInputGuardrail[Any]: ...


@overload
def tool_input_guardrail(*, name: str | None = None) -> Callable[[InputFunction], ToolInputGuardrail[Any]]: ...


def tool_input_guardrail(
    func: InputFunction | None = None, *, name: str | None = None
) -> ToolInputGuardrail[Any] | Callable[[InputFunction], ToolInputGuardrail[Any]]:
    """Make a function an input guardrail of tools: `@tool_input_guardrail` or `@tool_input_guardrail(name=...)`.

    Raises:
        UserError: it is no function.
    """

    def make(function: InputFunction) -> ToolInputGuardrail[Any]:
        return ToolInputGuardrail(function, name_of(function) if name is None else name)

    return make if func is None else make(func)


@overload
def tool_output_guardrail(func: OutputFunction) -> ToolOutputGuardrail[Any]: ...


@overload
def tool_output_guardrail(*, name: str | None = None) -> Callable[[OutputFunction], ToolOutputGuardrail[Any]]: ...


def tool_output_guardrail(
    func: OutputFunction | None = None, *, name: str | None = None
) -> ToolOutputGuardrail[Any] | Callable[[OutputFunction], ToolOutputGuardrail[Any]]:
    """Make a function an output guardrail of tools: `@tool_output_guardrail` or `@tool_output_guardrail(name=...)`.

    Raises:
        UserError: it is no function.
    """

    def make(function: OutputFunction) -> ToolOutputGuardrail[Any]:
        return ToolOutputGuardrail(function, name_of(function) if name is None else name)

    return make if func is None else make(func)


def _check(function: Any, name: Any) -> None:
    if not callable(function):
        raise UserError(f"guardrail_function must be a function, not {function!r}")
    if name is not None and not isinstance(name, str):
        raise UserError(f"name of a tool guardrail must be text or None, not {name!r}")
