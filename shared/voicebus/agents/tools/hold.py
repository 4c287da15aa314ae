"""Hold phrases: what is said where a tool takes its time, as tools and run configs say it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from voicebus.agents.checking import LONGEST_S, is_number
from voicebus.engine.config import HoldSpec
from voicebus.errors import UserError

HoldPhrase = str | Sequence[str]
"""One phrase, or several that are said in turn; an empty one switches hold phrases off."""

DEFAULT_AFTER_MS: Final = 1500

_MAX_CHARS: Final = 500


@dataclass(frozen=True, slots=True)
class Hold:
    """What a tool or a run config says of its hold phrases; None is what it leaves open. Times in ms."""

    phrases: tuple[str, ...] | None = None
    after_ms: int | None = None
    every_ms: int | None = None

    def spec(self, otherwise: "Hold") -> HoldSpec | None:
        """What holds, `otherwise` filling in what is left open; None where nothing is said."""
        phrases = otherwise.phrases if self.phrases is None else self.phrases
        after = otherwise.after_ms if self.after_ms is None else self.after_ms
        every = otherwise.every_ms if self.every_ms is None else self.every_ms
        return HoldSpec(phrases, DEFAULT_AFTER_MS if after is None else after, every) if phrases else None


def read_hold(where: str, phrase: Any, after: Any, every: Any) -> Hold:
    """`phrase` and the seconds of silence before the first (`after`) and each further one (`every`), checked.

    Raises:
        UserError: a phrase is no text, or a time no number of seconds above 0; names `where` it stands.
    """
    return Hold(_phrases(where, phrase), _ms(where, "hold_after", after), _ms(where, "hold_every", every))


def _phrases(where: str, phrase: Any) -> tuple[str, ...] | None:
    if phrase is None:
        return None
    phrases = (phrase,) if isinstance(phrase, str) else tuple(phrase) if isinstance(phrase, list | tuple) else None
    if phrases is None or not all(isinstance(entry, str) and len(entry) <= _MAX_CHARS for entry in phrases):
        raise UserError(
            f"{where}: hold_phrase must be a text of at most {_MAX_CHARS} characters, or a list of such, not {phrase!r}"
        )
    return tuple(entry for entry in phrases if entry.strip())


def _ms(where: str, name: str, seconds: Any) -> int | None:
    if seconds is None:
        return None
    if not is_number(seconds) or not 0 < seconds <= LONGEST_S:
        raise UserError(f"{where}: {name} must be a number of seconds above 0, not {seconds!r}")
    return max(1, round(seconds * 1000))
