"""The one place that calls what authors write: tools and guardrails, async on the event loop, others in a thread, and
short answers about a session (`answer_of`) on the event loop.
"""

import asyncio
import contextvars
import inspect
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any


class OverLimitError(Exception):
    """The function was given up: it took longer than its limit. No `TimeoutError`, which it might raise itself."""


def is_async_callable(function: Any) -> bool:
    """Whether calling `function`, a function or an object with `__call__`, gives a coroutine."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def name_of(function: Any) -> str:
    """What a function is called, or the class of an object that is called."""
    return str(getattr(function, "__name__", type(function).__name__))


def takes(function: Callable[..., Any], count: int) -> bool:
    """Whether `function` can be called with so many arguments; one that does not tell is believed to."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def presentable(error: Exception) -> Exception:
    """`error`, or a RuntimeError that names its type where it has no text: its `__str__` or `__repr__` raises."""
    try:
        f"{error} {error!r}"
    except Exception:  # noqa: BLE001 - an author's exception may do anything
        return RuntimeError(f"{type(error).__name__}, which does not say of what")
    return error


async def call_within(
    seconds: float,
    function: Callable[..., Any],
    positional: Sequence[Any],
    named: Mapping[str, Any] | None = None,
    *,
    is_async: bool,
    executor: Executor | None,
    what: str,
) -> Any:
    """`call_function`, given `seconds`: then one that is async is cancelled, and a thread is left to end on its own.

    Raises:
        OverLimitError: the time is over.
        Exception: as `call_function`; a RuntimeError where the function cancelled itself.
    """
    call = (
        _awaited(function(*positional, **(named or {})), what)
        if is_async
        else call_function(function, positional, named or {}, is_async=False, executor=executor, what=what)
    )
    # Not under `asyncio.timeout`, which waits for one that takes no notice of its cancellation.
    # By the loop itself: `asyncio.create_task` makes a name up first, and it is done with every call.
    running = asyncio.get_running_loop().create_task(call, name=what)
    try:
        if is_async:
            await asyncio.sleep(0)  # one that waits for nothing is done by now, and needs no timer
        if not running.done():
            await asyncio.wait({running}, timeout=seconds)
        if not running.done():
            raise OverLimitError(f"the {what} took longer than {seconds:.3g} s")
        if running.cancelled():
            raise RuntimeError(f"the {what} was cancelled")
        return running.result()
    finally:
        give_up(running)


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
            KeyboardInterrupt), that no future can carry (StopIteration) or that has no text.
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


async def answer_of(what: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call `function`, quick by its contract, on the event loop, and await what it returns, if that can be awaited.

    Raises:
        Exception: what it raised; a RuntimeError that begins with `what` instead of a cancellation that nobody asked
            for, as by a task of its own that was cancelled, of what would stop the loop (SystemExit), and of one that
            has no text. KeyboardInterrupt is the user's, and passes.
    """
    try:
        outcome = function(*arguments)
        return await outcome if inspect.isawaitable(outcome) else outcome
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise RuntimeError(f"{what} cancelled itself") from None
    except KeyboardInterrupt:
        raise
    except Exception as error:  # an author's function may raise anything
        if (shown := presentable(error)) is error:
            raise
        raise shown from None
    except BaseException as error:  # SystemExit, which would stop the loop
        raise RuntimeError(f"{what} raised {type(error).__name__}") from error


def _called(
    function: Callable[..., Any], positional: Sequence[Any], named: Mapping[str, Any], what: str
) -> tuple[Any, Exception | None]:
    try:
        return function(*positional, **named), None
    except Exception as error:  # noqa: BLE001 - carried to the caller
        stopped = isinstance(error, StopIteration)
        return None, RuntimeError(f"the {what} raised StopIteration") if stopped else presentable(error)
    except BaseException as error:  # noqa: BLE001 - SystemExit in a thread must not end the process
        return None, RuntimeError(f"the {what} raised {type(error).__name__}")


async def _awaited(awaitable: Any, what: str) -> Any:
    try:
        return await awaitable
    except asyncio.CancelledError:
        raise
    except Exception as error:  # an author's function may raise anything
        if (shown := presentable(error)) is error:
            raise
        raise shown from None
    except BaseException as error:  # SystemExit, which would stop the loop
        raise RuntimeError(f"the {what} raised {type(error).__name__}") from error


def give_up(task: asyncio.Task[Any]) -> None:
    """Cancel a task that nobody waits for any more. It may have ended a moment before its waiter was cancelled."""
    if task.done():
        _forget(task)
    else:
        task.add_done_callback(_forget)
        task.cancel()


def _forget(task: asyncio.Task[Any]) -> None:
    """Take note of how a task that was given up ended, as the loop complains of errors that nobody looked at."""
    if not task.cancelled():
        task.exception()
