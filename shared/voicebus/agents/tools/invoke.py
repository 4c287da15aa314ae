"""The one place that runs a function tool, for workers and in-process sessions alike.

Whatever a tool does, the answer is a `ToolOutcome`; only cancellation from outside leaves as an exception.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import force_setattr

from voicebus.agents.context import ToolContext
from voicebus.agents.functions import OverLimitError, call_within, is_async_callable
from voicebus.agents.tools.function_tool import FunctionTool, default_tool_error_function
from voicebus.agents.tools.guardrails import ask_input_guardrails, ask_output_guardrails
from voicebus.agents.tools.isolated import run_isolated
from voicebus.agents.tools.python_call import PythonCall
from voicebus.agents.tools.results import BackgroundResult, serialise
from voicebus.agents.tools.retry import attempted
from voicebus.contracts.tools import ContextChange, Outcome, ToolFailure
from voicebus.errors import ModelBehaviorError, ToolError, ToolProcessError, ToolTimeoutError
from voicebus.runtime.processes import ProcessPool
from voicebus.telemetry.logging import get_logger, raised
from voicebus.utf8 import sendable_text

log: Final = get_logger(__name__)

# A model takes less than that in, and every listener of the session gets it too.
MAX_OUTPUT_CHARS: Final = 262_144

# More of a model is no call any more. Checked before it is read, as reading costs many times its size.
MAX_ARGUMENTS_CHARS: Final = 262_144

# Of what an error says, in events and logs.
MAX_FAILURE_CHARS: Final = 2_000

# For the author's functions that put an error into words.
FORMATTER_TIMEOUT_S: Final = 5.0


class ToolOutcome(Struct, frozen=True):
    """`output` is what the model is told, also for failures. Always text that can travel as UTF-8.

    `value` is what the tool returned, for listeners in the same process; None where it did not. `background`: the
    model need not go on because of it. `context` is what the tool has changed in the session's context, where it ran
    elsewhere.
    """

    outcome: Outcome
    output: str
    error: ToolFailure | None = None
    value: Any = None
    background: bool = False
    context: dict[str, ContextChange] = {}

    def __post_init__(self) -> None:
        # A file name that is no UTF-8 comes as lone surrogates, which no JSON may carry.
        if not self.output.isascii():
            force_setattr(self, "output", sendable_text(self.output))
        if self.error is not None:
            sendable = self.error.model_copy(update={"message": sendable_text(self.error.message)})
            force_setattr(self, "error", sendable)


async def invoke(
    tool: FunctionTool,
    context: ToolContext[Any],
    arguments: str,
    *,
    timeout: float,  # noqa: ASYNC109 - becomes an outcome, not an exception
    executor: Executor | None = None,
    vetted: bool = True,
    again: Callable[[int], Awaitable[int | None]] | None = None,
    max_chars: int = MAX_OUTPUT_CHARS,
    processes: Callable[[], ProcessPool] | None = None,
) -> ToolOutcome:
    """Run `tool` on the model's JSON text `arguments`; `timeout` in s covers the run and the tool's guardrails.

    What it says is bounded by `max_chars`: more is an error that names the limit. `vetted`: the session's
    owner has asked the input guardrails already. `again` is asked before each further attempt that the tool's retry
    policy makes (`retry.attempted`).

    A function that is not async runs in `executor` (None: the loop's default one); after the timeout its thread is
    left to end on its own and its result is dropped. One of `executor="process"` runs in the pool that `processes`
    gives, and is killed. `context.cancellation` tells it that it is not wanted any more.
    """
    try:
        run = _Run(tool, context, timeout, executor, again, max_chars, processes)
        return await run.outcome(arguments, vetted=vetted)
    except asyncio.CancelledError as error:
        # Before the tool's own cancellation is raised in it: what it looks at then tells why.
        context.cancellation.cancel(str(error.args[0]) if error.args else "cancelled")
        raise


class _Run:
    """One run of a tool. `seconds` are what is left for it."""

    def __init__(
        self,
        tool: FunctionTool,
        context: ToolContext[Any],
        seconds: float,
        executor: Executor | None,
        again: Callable[[int], Awaitable[int | None]] | None,
        max_chars: int,
        processes: Callable[[], ProcessPool] | None,
    ) -> None:
        self._tool = tool
        self._context = context
        self._executor = executor
        self._again = again
        self._max_chars = max_chars
        self._processes = processes
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    async def outcome(self, arguments: str, *, vetted: bool) -> ToolOutcome:
        try:
            if not vetted and self._tool.tool_input_guardrails:
                refused = await ask_input_guardrails(
                    self._tool, self._context, timeout=self._left(), executor=self._executor
                )
                if refused is not None:
                    return ToolOutcome(Outcome.OK, refused, value=refused)
        except ToolError as error:
            return self._guarded(error)
        try:
            policy = self._tool.retry
            if policy is None:
                returned = await self._returned(arguments)
            else:
                returned = await attempted(
                    lambda: self._returned(arguments), policy, self._context, left=self._left, again=self._again
                )
            background = isinstance(returned, BackgroundResult)
            value = returned.content if isinstance(returned, BackgroundResult) else returned
            call = self._tool.on_invoke_tool
            text = serialise(call.plain(value) if isinstance(call, PythonCall) else value)
        except OverLimitError:
            self._context.cancellation.cancel("timeout")
            return await self._timed_out()
        except Exception as error:  # noqa: BLE001 - a tool may raise anything; the model is told
            return await self._raised(error)
        if len(text) > self._max_chars:
            return self._too_large(len(text))
        if self._tool.tool_output_guardrails:
            try:
                instead = await ask_output_guardrails(
                    self._tool.tool_output_guardrails, self._context, value,
                    timeout=self._left(), executor=self._executor,
                )  # fmt: skip
            except ToolError as error:
                return self._guarded(error)
            if instead is not None:
                return ToolOutcome(Outcome.OK, instead, value=instead, background=background)
        return ToolOutcome(Outcome.OK, text, value=value, background=background)

    def _left(self) -> float:
        return max(0.0, self._end - time.monotonic())

    @property
    def _limit(self) -> float:
        own = self._tool.timeout_seconds
        return self._seconds if own is None else min(self._seconds, own)

    async def _returned(self, arguments: str) -> Any:
        if len(arguments) > MAX_ARGUMENTS_CHARS:
            raise ModelBehaviorError(
                f"the arguments have {len(arguments)} characters, more than the {MAX_ARGUMENTS_CHARS} that are allowed"
            )
        call = self._tool.on_invoke_tool
        function = self._tool.function
        named: dict[str, Any] = {}
        positional: list[Any] = [self._context, arguments if arguments.strip() else "{}"]
        if isinstance(call, PythonCall):
            positional, named = call.bind(self._context, arguments)
        if self._tool.executor == "process":
            if self._processes is None:
                raise ToolProcessError("no_processes", "there are no processes here to run it in")
            isolated = [self._processes(), function, self._context, positional, named, self._tool.memory]
            return await call_within(
                min(self._left(), self._limit), run_isolated, isolated, is_async=True, executor=None, what="tool"
            )
        return await call_within(
            min(self._left(), self._limit), function, positional, named,
            is_async=self._tool.is_async, executor=self._executor, what="tool",
        )  # fmt: skip

    async def _timed_out(self) -> ToolOutcome:
        # By the limit that the author gave it, even where some of that had passed before a worker took the call.
        error = ToolTimeoutError(self._tool.name, self._tool.timeout_seconds or self._seconds)
        text, second = await self._worded(self._tool.timeout_error_function, error, fallback=str(error))
        reported = second is not None or self._tool.timeout_behavior == "raise_exception"
        kind = "timeout_raised" if reported else "timeout"
        return ToolOutcome(Outcome.TIMEOUT, text, ToolFailure(kind=kind, message=second or str(error)))

    async def _raised(self, error: Exception) -> ToolOutcome:
        # Not its text, which may be of what the call was about (parity 2.42); `tool_end` has that.
        log.warning("tool raised", tool=self._tool.name, **raised(error))
        why = str(error)[:MAX_FAILURE_CHARS] or type(error).__name__
        if self._tool.failure_error_function is not None:
            fallback = f"An error occurred while running the tool {self._tool.name}."
            text, second = await self._worded(self._tool.failure_error_function, error, fallback=fallback)
            if second is not None:
                return ToolOutcome(Outcome.ERROR, text, ToolFailure(kind="raised_unhandled", message=second))
            kind = "invalid_arguments" if isinstance(error, ModelBehaviorError) else "raised"
            kind = error.kind if isinstance(error, ToolProcessError) else kind
            return ToolOutcome(Outcome.ERROR, text, ToolFailure(kind=kind, message=why))
        detail = f"{type(error).__name__}: {error}"[:MAX_FAILURE_CHARS]
        if isinstance(error, ModelBehaviorError):
            # Its own mistake, which only the model can put right.
            text = default_tool_error_function(self._context, error)[: self._max_chars]
            return ToolOutcome(Outcome.ERROR, text, ToolFailure(kind="raised_unhandled", message=detail))
        return self._failed("the tool failed", "raised_unhandled", detail)

    def _guarded(self, error: ToolError) -> ToolOutcome:
        log.warning("tool stopped by a guardrail", tool=self._tool.name)
        return self._failed("a guardrail stopped it", "guardrail_raised", str(error))

    def _too_large(self, characters: int) -> ToolOutcome:
        log.warning("tool output too large", tool=self._tool.name, characters=characters)
        why = f"its result has {characters} characters, more than the {self._max_chars} that a conversation can take"
        return self._failed(why, "output_too_large")

    def _failed(self, why: str, kind: str, detail: str | None = None) -> ToolOutcome:
        return ToolOutcome(
            Outcome.ERROR,
            f"An error occurred while running the tool {self._tool.name}: {why}.",
            ToolFailure(kind=kind, message=detail or why),
        )

    async def _worded(
        self, author: Callable[..., Any] | None, error: Exception, *, fallback: str
    ) -> tuple[str, str | None]:
        """What the author's function makes of `error`; `fallback` where there is none, or none that answers with text.
        With it, for the program, what the function raised instead, None where it did not.

        It is given `FORMATTER_TIMEOUT_S`: the call's own time may be over, and its slot must come free.
        """
        if author is None:
            return fallback, None
        if author is default_tool_error_function:  # ours, and quick: no thread for it
            return default_tool_error_function(self._context, error)[: self._max_chars], None
        try:
            text = await call_within(
                FORMATTER_TIMEOUT_S, author, (self._context, error),
                is_async=is_async_callable(author), executor=self._executor, what="error function",
            )  # fmt: skip
        except Exception as second:  # noqa: BLE001 - an author's function may raise anything
            log.warning("error function failed", tool=self._tool.name, **raised(second))
            return fallback, f"its error function failed: {type(second).__name__}: {second}"[:MAX_FAILURE_CHARS]
        return (text[: self._max_chars] if isinstance(text, str) else fallback), None
