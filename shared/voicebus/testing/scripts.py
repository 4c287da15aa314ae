"""What scripts of models and servers have in common: how an expectation is written, and what a broken script raises."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from voicebus.errors import VoicebusError

_SHOWN: Final = 300


class RealtimeScriptError(VoicebusError, AssertionError):
    """A scripted conversation went another way than its script."""


class UnexpectedRealtimeSend(RealtimeScriptError):  # noqa: N818 - the name that programs know
    """Something was sent that the script does not expect next.

    `actual` is what was sent, `expected` what the next step waits for (None: the script had ended).
    """

    def __init__(self, actual: Any, expected: Any) -> None:
        awaited = "nothing more" if expected is None else described(expected)
        super().__init__(f"unexpected send: {shortened(actual)}; the script expected {awaited}")
        self.actual = actual
        self.expected = expected


class UnconsumedRealtimeSteps(RealtimeScriptError):  # noqa: N818 - the name that programs know
    """The conversation ended before the script did; `remaining_steps` is how many of it were never reached."""

    def __init__(self, steps: Sequence[Any]) -> None:
        first = described(getattr(steps[0], "expect", steps[0]))
        super().__init__(f"{len(steps)} step(s) of the script were not reached; the next expected {first}")
        self.remaining_steps: int = len(steps)


def matches(expected: Any, actual: Any) -> bool:
    """Whether `actual` is what a step expects: a type by isinstance, a function by its answer, a value by equality."""
    if isinstance(expected, type):
        return isinstance(actual, expected)
    if callable(expected):
        return bool(expected(actual))
    return bool(expected == actual)


def contains(expected: Any, actual: Any) -> bool:
    """Whether JSON `actual` has everything of `expected`: mappings may hold more, lists and values must be equal.

    A function among the expected values is asked.
    """
    if isinstance(expected, Mapping):
        return isinstance(actual, Mapping) and all(
            name in actual and contains(value, actual[name]) for name, value in expected.items()
        )
    if isinstance(expected, list):
        return (
            isinstance(actual, list)
            and len(expected) == len(actual)
            and all(contains(*pair) for pair in zip(expected, actual, strict=True))
        )
    return matches(expected, actual)


def described(expected: Any) -> str:
    """An expectation, for messages."""
    if isinstance(expected, type):
        return f"any {expected.__name__}"
    if isinstance(expected, Callable):  # type: ignore[arg-type]
        return f"what {getattr(expected, '__name__', type(expected).__name__)}() accepts"
    return shortened(expected)


def shortened(value: Any, limit: int = _SHOWN) -> str:
    """`value` for a message, at most `limit` characters."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
