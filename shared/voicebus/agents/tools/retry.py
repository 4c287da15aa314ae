"""When a tool that failed is run again: within its call, under the same idempotency key, before the call's deadline.

Only a tool that is marked `idempotent` may have a policy, as each attempt is another start. What fails for good is not
tried again: arguments that do not fit, a guardrail's word, a result that does not fit, the end of the time.
"""

import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from voicebus.agents.checking import is_number
from voicebus.agents.context import ToolContext
from voicebus.agents.functions import OverLimitError
from voicebus.errors import ModelBehaviorError, UserError
from voicebus.telemetry.logging import get_logger, raised

log: Final = get_logger(__name__)

T = TypeVar("T")
RetryOn = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool]

MAX_ATTEMPTS: Final = 100


@dataclass(frozen=True)
class RetryPolicy:
    """How often a tool is tried that raises: `@function_tool(idempotent=True, retry=RetryPolicy(attempts=3))`.

    Args:
        attempts: starts in all, the first among them; 1 to 100.
        backoff: s before the second attempt.
        factor: by how much each wait is longer than the one before, 1 or more.
        max_backoff: s that a wait lasts at most.
        jitter: part of each wait that is left to chance, 0 to 1: 0.5 waits between half and the whole of it.
        on: the errors that are worth another attempt: exception types, or a function of the error.

    An attempt that could not start before the call's deadline is not waited for: the last error is the answer.

    Raises:
        UserError: an argument is out of its range, or `on` is neither.
    """

    attempts: int = 3
    backoff: float = 0.2
    factor: float = 2.0
    max_backoff: float = 5.0
    jitter: float = 0.5
    on: RetryOn = Exception

    def __post_init__(self) -> None:
        def require(name: str, holds: bool, needed: str) -> None:
            if not holds:
                raise UserError(f"RetryPolicy: {name} must be {needed}, not {getattr(self, name)!r}")

        whole = isinstance(self.attempts, int) and not isinstance(self.attempts, bool)
        require("attempts", whole and 1 <= self.attempts <= MAX_ATTEMPTS, f"a whole number from 1 to {MAX_ATTEMPTS}")
        require("backoff", _within(self.backoff, 0, math.inf), "a number of seconds, 0 or more")
        require("factor", _within(self.factor, 1, math.inf), "a number, 1 or more")
        require("max_backoff", _within(self.max_backoff, 0, math.inf), "a number of seconds, 0 or more")
        require("jitter", _within(self.jitter, 0, 1), "a number from 0 to 1")
        types = self.on if isinstance(self.on, tuple) else (self.on,)
        errors = bool(types) and all(isinstance(one, type) and issubclass(one, Exception) for one in types)
        require("on", errors or _is_test(self.on), "exception types, or a function of the error")

    def wait(self, error: Exception, attempt: int, *, chance: float) -> float | None:
        """s to wait after this `attempt` (from 1) raised `error`; None where it was the last.

        `chance`, from 0 to 1, is what the jitter makes of it. What `on` raises counts as no.
        """
        if attempt >= self.attempts or not self._covers(error):
            return None
        try:
            whole = min(self.max_backoff, self.backoff * self.factor ** (attempt - 1))
        except OverflowError:
            whole = self.max_backoff
        return whole * (1 - self.jitter * chance)

    def _covers(self, error: Exception) -> bool:
        if isinstance(error, ModelBehaviorError):
            return False
        if isinstance(self.on, type | tuple):
            return isinstance(error, self.on)
        try:
            return bool(self.on(error))
        except Exception as second:  # noqa: BLE001 - an author's function may raise anything
            log.warning("retry policy cannot tell", why=type(second).__name__, **raised(error))
            return False


async def attempted(
    run: Callable[[], Awaitable[T]],
    policy: RetryPolicy,
    context: ToolContext[Any],
    *,
    left: Callable[[], float],
    again: Callable[[int], Awaitable[int | None]] | None,
) -> T:
    """Run a tool until it does not raise, or its `policy` gives it up. `context.attempt` counts, also across workers.

    `left` tells the s that remain. `again`, asked before each further attempt with its number, tells the number that
    it has, or None where the call may not start once more.

    Raises:
        Exception: what the last attempt raised.
    """
    while True:
        try:
            return await run()
        except OverLimitError:
            raise
        except Exception as error:  # a tool may raise anything; the policy says what is tried again
            wait = policy.wait(error, context.attempt, chance=random.random())  # noqa: S311
            if wait is None or wait >= left():
                raise
            log.info(
                "tool is tried again", tool=context.tool_name, attempt=context.attempt, wait_s=round(wait, 3),
                **raised(error),
            )  # fmt: skip
            await asyncio.sleep(wait)
            number = context.attempt + 1 if again is None else await again(context.attempt + 1)
            if number is None:
                raise
            context.attempt = number


def _within(value: object, lowest: float, highest: float) -> bool:
    return is_number(value) and lowest <= value <= highest


def _is_test(on: object) -> bool:
    return callable(on) and not isinstance(on, type)
