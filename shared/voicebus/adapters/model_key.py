"""The key of a model that a function gives, such as a token that expires: asked for one at each dialling."""

import asyncio
import contextvars
import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final

from voicebus.bearer import NOT_CARRIED, bearer
from voicebus.engine.failures import KEY_UNAVAILABLE
from voicebus.errors import ModelLinkError
from voicebus.runtime.threads import DaemonThreadPool

KeyFunction = Callable[[], str | Awaitable[str]]
Key = str | KeyFunction
"""A key, or a function (sync or async) that is asked for one at each dialling, such as for a token that expires."""

# Functions that are not async fetch tokens over the network: in threads, a few at a time, for all sessions.
_THREADS: Final = 8


@functools.cache
def _pool() -> DaemonThreadPool:
    return DaemonThreadPool(_THREADS, name="model-key")


async def ask(function: KeyFunction, *, within_s: float) -> Any:
    """What the function returns, awaited if need be; one that is not async runs in a thread.

    Raises:
        ModelLinkError: it raised, or did not return in time. The text tells no more than the type of what it raised,
            as tokens may stand in the rest.
    """
    try:
        async with asyncio.timeout(within_s) as limit:
            made = function() if inspect.iscoroutinefunction(function) else await _in_thread(function)
            return await made if inspect.isawaitable(made) else made
    except _RaisedError as raised:
        error: BaseException = raised.__cause__ or raised
        why = f"raised {type(error).__name__}"
    except Exception as failed:  # noqa: BLE001 - told below
        error, why = failed, f"raised {type(failed).__name__}"
        if limit.expired() and isinstance(failed, TimeoutError):
            why = f"did not return within {within_s:g} s"
    except asyncio.CancelledError as failed:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        error, why = failed, "cancelled itself"
    except SystemExit as failed:  # it would stop the loop, and with it every session
        error, why = failed, "raised SystemExit"
    raise ModelLinkError(f"the function that gives the model's key {why}", code=KEY_UNAVAILABLE) from error


class _RaisedError(Exception):
    """A function raised in its thread; its cause may be what no future can carry, or what would stop the loop."""


async def _in_thread(function: KeyFunction) -> Any:
    def called() -> Any:
        try:
            return function()
        except BaseException as error:  # SystemExit, too, is to reach the caller and not the thread
            raise _RaisedError from error

    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(_pool(), context.run, called)


async def key_from(function: KeyFunction, *, within_s: float) -> str:
    """The key that the function gives.

    Raises:
        ModelLinkError: as `ask`, or it gave no key.
    """
    key = await ask(function, within_s=within_s)
    if isinstance(key, str) and key:
        return key
    given = "an empty string" if key == "" else type(key).__name__
    raise ModelLinkError(f"the function that gives the model's key returned {given}, no key", code=KEY_UNAVAILABLE)


def authorization(key: str) -> str:
    """The header that carries `key`.

    Raises:
        ModelLinkError: none can. The key is not in the text.
    """
    made = bearer(key)
    if made is None:
        raise ModelLinkError(f"the model's key {NOT_CARRIED}", code=KEY_UNAVAILABLE)
    return made
