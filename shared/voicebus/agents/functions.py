"""The one place that calls what authors write: tools and guardrails, async on the event loop, others in a thread."""

import asyncio
import contextvars
import inspect
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any


async def call_function(
    function: Callable[..., Any],
    positional: Sequence[Any],
    named: Mapping[str, Any],
    *,
    is_async: bool,
    executor: Executor | None,
    what: str,
) -> Any:
    """Call `function` and await what it returns, if that can be awaited; `what` names it in messages.

    One that is not async runs in `executor` (None: the loop's default one), in a copy of the caller's context.

    Raises:
        Exception: what the function raised; a RuntimeError instead of what would stop the loop (SystemExit,
            KeyboardInterrupt) or that no future can carry (StopIteration).
    """
    if is_async:
        return await _awaited(function(*positional, **named), what)
    scope = contextvars.copy_context()
    outcome, error = await asyncio.get_running_loop().run_in_executor(
        executor, scope.run, _called, function, positional, named, what
    )
    if error is not None:
        raise error
    return await _awaited(outcome, what) if inspect.isawaitable(outcome) else outcome


def _called(
    function: Callable[..., Any], positional: Sequence[Any], named: Mapping[str, Any], what: str
) -> tuple[Any, Exception | None]:
    try:
        return function(*positional, **named), None
    except Exception as error:  # noqa: BLE001 - carried to the caller
        return None, error if not isinstance(error, StopIteration) else RuntimeError(f"the {what} raised StopIteration")
    except BaseException as error:  # noqa: BLE001 - SystemExit in a thread must not end the process
        return None, RuntimeError(f"the {what} raised {type(error).__name__}")


async def _awaited(awaitable: Any, what: str) -> Any:
    try:
        return await awaitable
    except (asyncio.CancelledError, Exception):
        raise
    except BaseException as error:
        raise RuntimeError(f"the {what} raised {type(error).__name__}") from error
