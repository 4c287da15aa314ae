"""Waiting for a condition, with a failure that says what was waited for."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

T = TypeVar("T")


@overload
async def wait_until(
    probe: Callable[[], Awaitable[T]], *, description: str, timeout: float = ..., interval: float = ...
) -> T: ...


@overload
async def wait_until(probe: Callable[[], T], *, description: str, timeout: float = ..., interval: float = ...) -> T: ...


async def wait_until(
    probe: Callable[[], T | Awaitable[T]], *, description: str, timeout: float = 10.0, interval: float = 0.01
) -> T:
    """Poll `probe` (sync or async) until it returns something true, and return that.

    Raises:
        AssertionError: after `timeout` seconds; names `description` and the last value.
    """
    deadline = time.monotonic() + timeout
    while True:
        outcome = probe()
        value: T = await outcome if isinstance(outcome, Awaitable) else outcome
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s for {description}; last seen: {value!r}")
        await asyncio.sleep(interval)
