"""The one place that runs a function tool, for workers and in-process sessions alike.

Whatever a tool does, the answer is a `ToolOutcome`; only cancellation from outside leaves as an exception.
"""

import asyncio
import dataclasses
import inspect
import json
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from voicebus.agents.context import ToolContext
from voicebus.agents.functions import call_function
from voicebus.agents.tools.function_tool import FunctionTool
from voicebus.contracts.tools import Outcome, ToolFailure
from voicebus.errors import ToolTimeoutError
from voicebus.telemetry.logging import get_logger

log = get_logger(__name__)

# A model takes less than that in, and every listener of the session gets it too.
MAX_OUTPUT_CHARS: Final = 262_144

# For the author's functions that put an error into words.
FORMATTER_TIMEOUT_S: Final = 5.0


@dataclasses.dataclass(frozen=True, slots=True)
class ToolOutcome:
    """`output` is what the model is told, also for failures. Always text that can travel as UTF-8."""

    outcome: Outcome
    output: str
    error: ToolFailure | None = None

    def __post_init__(self) -> None:
        # A file name that is no UTF-8 comes as lone surrogates, which no JSON may carry.
        object.__setattr__(self, "output", _sendable(self.output))
        if self.error is not None:
            object.__setattr__(self, "error", self.error.model_copy(update={"message": _sendable(self.error.message)}))


async def invoke(
    tool: FunctionTool,
    context: ToolContext[Any],
    arguments: str,
    *,
    timeout: float,  # noqa: ASYNC109 - becomes an outcome, not an exception
    executor: Executor | None = None,
) -> ToolOutcome:
    """Run `tool` on the model's JSON text `arguments`; `timeout` in s covers the run.

    What it says is bounded by `MAX_OUTPUT_CHARS`: more is an error that names the limit.

    A function that is not async runs in `executor` (None: the loop's default one); after the timeout its thread is
    left to end on its own and its result is dropped.
    """
    limit = timeout if tool.timeout is None else min(timeout, tool.timeout)
    try:
        parsed = tool.schema.arguments.model_validate(_parse(arguments))
    except (ValueError, TypeError) as error:  # pydantic's ValidationError is a ValueError
        reason = _explain(error)
        return ToolOutcome(
            Outcome.ERROR,
            f"An error occurred while parsing tool arguments. Please try again with valid JSON. Error: {reason}",
            ToolFailure(kind="invalid_arguments", message=reason),
        )
    positional, named = tool.schema.bind(parsed)
    if tool.schema.takes_context:
        positional.insert(0, context)
    call = call_function(tool.function, positional, named, is_async=tool.is_async, executor=executor, what="tool")
    running = asyncio.create_task(call, name=f"tool {tool.name}")
    try:
        done, _ = await asyncio.wait({running}, timeout=limit)
        if not done:
            return await _timed_out(tool, context, limit)
        return _bounded(tool, serialise(running.result()))
    except asyncio.CancelledError:
        if asyncio.current_task() is not None and asyncio.current_task().cancelling():  # type: ignore[union-attr]
            raise
        # the tool cancelled itself: its own failure, not ours
        return _failed(tool, "the tool was cancelled", "raised")
    except Exception as error:  # noqa: BLE001 - a tool may raise anything; the model is told
        return await _raised(tool, context, error)
    finally:
        if not running.done():
            running.cancel()


def serialise(value: Any) -> str:
    """A tool's return value as the text that the model reads."""
    if isinstance(value, str):
        return value
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return str(value)


def _bounded(tool: FunctionTool, output: str) -> ToolOutcome:
    if len(output) <= MAX_OUTPUT_CHARS:
        return ToolOutcome(Outcome.OK, output)
    why = f"its result has {len(output)} characters, more than the {MAX_OUTPUT_CHARS} that a conversation can take"
    log.warning("tool output too large", tool=tool.name, characters=len(output))
    return _failed(tool, why, "output_too_large")


def _sendable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _parse(arguments: str) -> dict[str, Any]:
    try:
        parsed = json.loads(arguments) if arguments.strip() else {}
    except RecursionError as error:
        raise ValueError("the arguments are nested too deeply") from error
    if not isinstance(parsed, dict):
        raise TypeError(f"the arguments must be a JSON object, not {type(parsed).__name__}")
    return parsed


def _explain(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(
            f"{'.'.join(str(part) for part in report['loc'])}: {report['msg']}"
            for report in error.errors(include_url=False, include_input=False)
        )
    return str(error)


async def _timed_out(tool: FunctionTool, context: ToolContext[Any], limit: float) -> ToolOutcome:
    error = ToolTimeoutError(tool.name, limit)
    text = await _told(tool, tool.timeout_error_function, context, error, fallback=str(error))
    return ToolOutcome(Outcome.TIMEOUT, text, ToolFailure(kind="timeout", message=str(error)))


async def _raised(tool: FunctionTool, context: ToolContext[Any], error: Exception) -> ToolOutcome:
    log.warning("tool raised", tool=tool.name, error=repr(error))
    if tool.failure_error_function is None:
        return _failed(tool, "the tool failed", "raised")
    fallback = f"An error occurred while running the tool {tool.name}."
    text = await _told(tool, tool.failure_error_function, context, error, fallback=fallback)
    return ToolOutcome(Outcome.ERROR, text, ToolFailure(kind="raised", message=str(error) or type(error).__name__))


async def _told(
    tool: FunctionTool, author: Callable[..., Any] | None, context: ToolContext[Any], error: Exception, *, fallback: str
) -> str:
    """What the author's function makes of `error`; `fallback` where there is none, or none that answers with text.

    It is given `FORMATTER_TIMEOUT_S`: the call's own time may be over, and its slot must come free.
    """
    if author is None:
        return fallback
    try:
        produced = author(context, error)
        text = await _within(produced, FORMATTER_TIMEOUT_S) if inspect.isawaitable(produced) else produced
    except Exception as second:  # noqa: BLE001 - an author's function may raise anything
        log.warning("error function failed", tool=tool.name, error=repr(second))
        return fallback
    return text if isinstance(text, str) else fallback


async def _within(awaitable: Awaitable[Any], seconds: float) -> Any:
    # Not under `asyncio.timeout`, which waits for one that takes no notice of its cancellation.
    running = asyncio.ensure_future(awaitable)
    try:
        done, _ = await asyncio.wait({running}, timeout=seconds)
    finally:
        running.cancel()
    if not done:
        raise TimeoutError(f"no text within {seconds:g} s")
    if running.cancelled():
        raise RuntimeError("it cancelled itself")
    return running.result()


def _failed(tool: FunctionTool, why: str, kind: str) -> ToolOutcome:
    return ToolOutcome(
        Outcome.ERROR,
        f"An error occurred while running the tool {tool.name}: {why}.",
        ToolFailure(kind=kind, message=why),
    )
