"""`FunctionTool`: what a function tool is. `@function_tool` makes one (`decorator.py`); it can also be made by hand."""

import inspect
import re
import reprlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import KW_ONLY, InitVar, dataclass, field, replace
from functools import cached_property
from itertools import count
from typing import Any, Literal, TypedDict, get_args

from voicebus.agents import checking
from voicebus.agents.context import RunContextWrapper, ToolContext
from voicebus.agents.functions import is_async_callable, takes
from voicebus.agents.tools.circuit import DEFAULT_BREAKER, CircuitBreaker
from voicebus.agents.tools.guardrails import ToolInputGuardrail, ToolOutputGuardrail
from voicebus.agents.tools.hold import Hold, HoldPhrase, read_hold
from voicebus.agents.tools.isolated import check_isolated, read_memory
from voicebus.agents.tools.python_call import PythonCall
from voicebus.agents.tools.rate import Rate
from voicebus.agents.tools.retry import RetryPolicy
from voicebus.agents.tools.schema import LOOSE, FunctionSchema, strict_schema
from voicebus.contracts.streams import QUEUE_NAME, RESERVED_QUEUES
from voicebus.contracts.tools import TOOL_NAME, is_version
from voicebus.errors import ModelBehaviorError, ToolTimeoutError, UserError, WrongTypeError, WrongValueError

FailureText = Callable[[RunContextWrapper[Any], Exception], str | Awaitable[str]]
TimeoutText = Callable[[RunContextWrapper[Any], ToolTimeoutError], str | Awaitable[str]]
Enabled = bool | Callable[[RunContextWrapper[Any], Any], bool | Awaitable[bool]]
NeedsApproval = bool | Callable[[RunContextWrapper[Any], dict[str, Any], str], bool | Awaitable[bool]]
Respond = Literal["when_all_done", "always", "never"]
ToolExecutor = Literal["auto", "process"]
TimeoutBehavior = Literal["error_as_result", "raise_exception"]

_OURS = "voicebus"

_SERIALS = count(1)


def default_tool_error_function(ctx: RunContextWrapper[Any], error: Exception) -> str:
    """What the model is told when a tool raised, or was called with arguments that do not fit."""
    if isinstance(error, ModelBehaviorError):
        return f"An error occurred while parsing tool arguments. Please try again with valid JSON. Error: {error}"
    # A time-out, and many an error of a network, has no text of its own.
    why = str(error) or type(error).__name__
    return f"An error occurred while running the tool. Please try again. Error: {why}"


class ToolOptions(TypedDict, total=False):
    """What `function_tool` takes beside what the SDK's knows, as `FunctionTool` has it."""

    queue: str | None
    idempotent: bool
    respond: Respond
    approval_timeout: float | None
    version: str
    retry: RetryPolicy | None
    cancel_on_interrupt: bool
    concurrency: int | None
    circuit_breaker: CircuitBreaker | None
    rate_limit: str | None
    background: bool
    speak_progress: bool
    hold_phrase: HoldPhrase | None
    hold_after: float | None
    hold_every: float | None
    executor: ToolExecutor
    memory_limit: int | str | None


@dataclass(frozen=True)
class FunctionTool:
    """A function that a model may call. Made by `function_tool`, or by hand around any `on_invoke_tool`.

    `on_invoke_tool(context, arguments)` gets the model's JSON text (`{}` where it sent none) and returns, or is
    awaited for, what the model is to read. `dataclasses.replace` makes a changed copy.

    Args:
        name: what the model calls it; unique within an agent.
        description: what the model chooses it by.
        params_json_schema: the arguments' JSON schema, an object.
        on_invoke_tool: what runs.
        strict_json_schema: make the schema strict: every object closed, every property required.
        is_enabled: whether the model sees it: a bool, or `(context, agent)`, asked when an agent takes over and when
            the tool is called.
        tool_input_guardrails: judge a call before it runs, in order.
        tool_output_guardrails: judge the result before the model reads it, in order.
        needs_approval: whether a person has to approve a call: a bool, or `(context, arguments, call_id)`, asked about
            the arguments as the model gave them and, where validation changes them, as the function gets them.
        timeout_seconds: s; None leaves it to `VOICEBUS_TOOL_TIMEOUT` (30 s), and is 10 minutes in process.
        timeout_behavior: `error_as_result` tells the model only; `raise_exception` also reports an error.
        timeout_error_function: words a timeout for the model.
        failure_error_function: words what the tool raised for the model; None: it is told that the tool failed, and
            the session reports the error.
        queue: where workers take its calls; None means the worker's `--queue`, else the top-level package of the
            function's module.
        idempotent: it may be started again when its worker dies; the outcome of others is then unknown.
        retry: when it is run again after it raised; for idempotent tools only.
        cancel_on_interrupt: its running calls are cancelled when the user speaks, or the client interrupts.
        concurrency: how many of its calls run at once on one worker; None for as many as the worker runs.
        circuit_breaker: when it rests because it failed too often in a row; None for never.
        rate_limit: how many of its calls start in a time on one worker: `10/s`, `100/m`, `5/10s`, `1000/h`.
        approval_timeout: s that a person may take to decide about a call, which is refused then; None leaves it to
            `VOICEBUS_APPROVAL_TIMEOUT` of a gateway, and in process to the length of the session.
        version: of its schema, as numbers (`"2"`, `"2.1"`): workers of a newer version may run beside those of an older
            one while they are exchanged; two schemas under one version are refused.
        respond: when the model goes on: once every call of this one's response has answered (`when_all_done`), at
            this answer already (`always`), or not for it (`never`).
        background: the conversation goes on at once; the result is told later, at a quiet moment.
        speak_progress: the model says what the tool tells of its progress.
        hold_phrase: what the model says where the tool takes its time, in silence only: a text, or several in turn; ""
            for none. None leaves it, as the next two do, to the run config.
        hold_after: s of silence before the first (1.5).
        hold_every: s of silence before each further one; None says one for each call.
        executor: where it runs: on the event loop if it is async, else in a thread (`auto`), or in a process of its own
            (`process`), for what takes long to compute or may crash; its function must be one of a module.
        memory_limit: what a run in a process may take beside what Python takes: bytes, or "512MB". On Linux.
        defer_loading, custom_data_extractor, allowed_callers, output_json_schema: realtime models have no use for
            these; they are there to be refused.

    Raises:
        UserError: an argument is wrong, or cannot be honoured; a timeout, say, that is not above 0, or on a function
            that runs in a thread, which cannot be stopped.
    """

    name: str
    description: str
    params_json_schema: dict[str, Any]
    on_invoke_tool: Callable[[ToolContext[Any], str], Any]
    strict_json_schema: bool = True
    is_enabled: Enabled = True
    tool_input_guardrails: list[ToolInputGuardrail[Any]] | None = None
    tool_output_guardrails: list[ToolOutputGuardrail[Any]] | None = None
    needs_approval: NeedsApproval = False
    timeout_seconds: float | None = None
    timeout_behavior: TimeoutBehavior = "error_as_result"
    timeout_error_function: TimeoutText | None = None
    defer_loading: InitVar[bool] = False
    _: KW_ONLY
    custom_data_extractor: InitVar[Any] = None
    allowed_callers: InitVar[Sequence[str] | None] = None
    output_json_schema: InitVar[dict[str, Any] | None] = None
    failure_error_function: FailureText | None = default_tool_error_function
    queue: str | None = None
    idempotent: bool = False
    respond: Respond = "when_all_done"
    approval_timeout: float | None = None
    retry: RetryPolicy | None = None
    background: bool = False
    speak_progress: bool = False
    hold_phrase: HoldPhrase | None = None
    hold_after: float | None = None
    hold_every: float | None = None
    executor: ToolExecutor = "auto"
    memory_limit: int | str | None = None
    cancel_on_interrupt: bool = False
    concurrency: int | None = None
    circuit_breaker: CircuitBreaker | None = DEFAULT_BREAKER
    rate_limit: str | None = None
    version: str = "1"
    __wrapped__: Callable[..., Any] = field(init=False, repr=False, compare=False)

    def __post_init__(
        self, defer_loading: bool, custom_data_extractor: Any, allowed_callers: Any, output_json_schema: Any
    ) -> None:
        for name, given in (
            ("defer_loading", defer_loading),
            ("custom_data_extractor", custom_data_extractor),
            ("allowed_callers", allowed_callers),
            ("output_json_schema", output_json_schema),
        ):
            if given is not None and given is not False:
                raise UserError(f"tool {self.name!r}: {name} cannot be honoured in a realtime session; leave it out")
        self._check()
        self._check_timeout()
        if self.hold.phrases and self.background:
            raise UserError(f"tool {self.name!r}: nobody waits for a background tool; leave hold_phrase out")
        # Frozen for others: this is still construction.
        if self.strict_json_schema:
            schema = self.params_json_schema or {"type": "object"}
            object.__setattr__(
                self, "params_json_schema", strict_schema(schema, where=f"tool {self.name!r}", otherwise=LOOSE)
            )
        if isinstance(self.on_invoke_tool, PythonCall):
            call = replace(self.on_invoke_tool, failure_error_function=self.failure_error_function)
            object.__setattr__(self, "on_invoke_tool", call)
        object.__setattr__(self, "__wrapped__", self.function)

    def _check(self) -> None:
        def require(name: str, holds: bool, needed: str, kind: type[UserError] = WrongTypeError) -> None:
            if not holds:
                raise kind(f"tool {self.name!r}: {name} must be {needed}, not {getattr(self, name)!r}")

        usable = isinstance(self.name, str) and re.fullmatch(TOOL_NAME, self.name) is not None
        require("name", usable, "1 to 64 letters (a to z), digits, _ and -, as models take no other")
        require("description", isinstance(self.description, str), "a string")
        schema = self.params_json_schema
        is_object = isinstance(schema, dict) and schema.get("type", "object") == "object"
        require("params_json_schema", is_object, "the JSON schema of an object (a dict)")
        require("on_invoke_tool", callable(self.on_invoke_tool), "a function (context, arguments)")
        for name in ("background", "speak_progress", "cancel_on_interrupt", "idempotent", "strict_json_schema"):
            require(name, isinstance(getattr(self, name), bool), "True or False")
        require("circuit_breaker", isinstance(self.circuit_breaker, CircuitBreaker | None), "a CircuitBreaker or None")
        room = self.concurrency
        whole = isinstance(room, int) and not isinstance(room, bool) and room >= 1
        require("concurrency", room is None or whole, "a whole number, 1 or more, or None")
        require(
            "rate_limit",
            self.rate_limit is None or Rate.parse(self.rate_limit) is not None,
            "such as '10/s', '100/m', '5/10s' or '1000/h', or None",
        )
        for name, given in (("is_enabled", "(context, agent)"), ("needs_approval", "(context, arguments, call_id)")):
            value = getattr(self, name)
            holds = isinstance(value, bool) or (callable(value) and takes(value, given.count(",") + 1))
            require(name, holds, f"a bool or a function {given}")
        for name, kind in (
            ("tool_input_guardrails", ToolInputGuardrail),
            ("tool_output_guardrails", ToolOutputGuardrail),
        ):
            entries = getattr(self, name)
            holds = entries is None or (isinstance(entries, list) and all(isinstance(entry, kind) for entry in entries))
            require(name, holds, f"a list of {kind.__name__}")
        for name in ("timeout_error_function", "failure_error_function"):
            value = getattr(self, name)
            holds = value is None or (callable(value) and takes(value, 2))
            require(name, holds, "a function (context, error) or None")
        for name, kinds in (("timeout_behavior", TimeoutBehavior), ("executor", ToolExecutor), ("respond", Respond)):
            require(name, getattr(self, name) in get_args(kinds), one_of(kinds), WrongValueError)
        limit = self.approval_timeout
        holds = limit is None or (checking.is_number(limit) and limit > 0)
        require("approval_timeout", holds, "a number of seconds above 0 or None")
        holds = isinstance(self.version, str) and is_version(self.version)
        require("version", holds, "a string of numbers such as '2' or '2.1'")
        if self.executor == "process":
            check_isolated(self.name, self.function)
        elif self.memory_limit is not None:
            raise UserError(f"tool {self.name!r}: memory_limit needs executor='process'; a thread's cannot be limited")
        read_memory(self.name, self.memory_limit)
        require("retry", self.retry is None or isinstance(self.retry, RetryPolicy), "a RetryPolicy or None")
        if self.retry is not None and not self.idempotent:
            raise UserError(
                f"tool {self.name!r}: retry starts it more than once, which only an idempotent tool may be; "
                "add idempotent=True, and use ToolContext.idempotency_key to make its effect once"
            )
        queue = self.queue
        named = isinstance(queue, str) and re.fullmatch(QUEUE_NAME, queue) is not None
        require("queue", queue is None or named, "a name of 1 to 64 letters, digits and _ . -, or None")
        if queue in RESERVED_QUEUES:
            raise UserError(f"tool {self.name!r}: queue {queue!r} is reserved; choose another name")

    def _check_timeout(self) -> None:
        limit = self.timeout_seconds
        if limit is None:
            return
        if isinstance(limit, bool) or not isinstance(limit, int | float):
            raise WrongTypeError(f"tool {self.name!r}: timeout_seconds must be a number, not {limit!r}")
        if not (checking.is_number(limit) and limit > 0):
            raise WrongValueError(f"tool {self.name!r}: timeout={reprlib.repr(limit)} must be finite and above 0")
        if self.executor == "process":
            return
        if isinstance(self.on_invoke_tool, PythonCall) and not self.on_invoke_tool.is_async:
            raise WrongValueError(
                f"tool {self.name!r}: timeout={limit:g} needs an async function, or executor='process'; "
                "threads cannot be stopped"
            )

    @property
    def qualified_name(self) -> str:
        """`name`: a realtime session knows no namespaces of tools."""
        return self.name

    @property
    def timeout(self) -> float | None:
        """`timeout_seconds`."""
        return self.timeout_seconds

    @property
    def memory(self) -> int | None:
        """`memory_limit` in bytes."""
        return read_memory(self.name, self.memory_limit)

    @property
    def hold(self) -> Hold:
        """What this tool says of its hold phrases."""
        return read_hold(f"tool {self.name!r}", self.hold_phrase, self.hold_after, self.hold_every)

    @property
    def context_type(self) -> Any:
        """What the function's annotation says of the session's context, None where it says nothing."""
        return self.on_invoke_tool.schema.context_type if isinstance(self.on_invoke_tool, PythonCall) else None

    @property
    def function(self) -> Callable[..., Any]:
        """The author's function: what was decorated, else `on_invoke_tool`."""
        return self.on_invoke_tool.function if isinstance(self.on_invoke_tool, PythonCall) else self.on_invoke_tool

    @property
    def schema(self) -> FunctionSchema | None:
        """How the arguments become the function's; None for a tool made by hand."""
        return self.on_invoke_tool.schema if isinstance(self.on_invoke_tool, PythonCall) else None

    def received(self, arguments: str) -> dict[str, Any] | None:
        """The model's JSON text as the function gets it, as JSON values; None where it is not called with them, and for
        a tool made by hand, which gets the text itself.
        """
        return self.on_invoke_tool.received(arguments) if isinstance(self.on_invoke_tool, PythonCall) else None

    @cached_property
    def is_async(self) -> bool:
        """Whether it runs on the event loop; otherwise in a thread."""
        return is_async_callable(self.function)

    @property
    def own_queue(self) -> str:
        """The queue that this tool names, or the top-level package of its module; `default` for plain files, and where
        the package has a name that no queue may have (`events`, `guardrails`, `inbox`).
        """
        if self.queue is not None:
            return self.queue
        package = str(getattr(inspect.unwrap(self.function), "__globals__", {}).get("__package__") or "")
        top = package.partition(".")[0]
        # What Voicebus itself wraps (an agent as a tool, a tool of an MCP server) belongs to no package of the author.
        return top if top and top != _OURS and top not in RESERVED_QUEUES else "default"

    @property
    def origin(self) -> str:
        """`module.function`, for messages."""
        function = inspect.unwrap(self.function)
        return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', type(function).__name__)}"

    @cached_property
    def serial(self) -> int:
        """Its number among the tools of this process: agents that share it have the same tool."""
        return next(_SERIALS)


def one_of(literal: Any) -> str:
    """The values of a `Literal`, for sentences."""
    return " or ".join(repr(value) for value in get_args(literal))
