"""How soon something may be heard of a spoken part that is not judged whole yet (`hold_window_ms`; contract section 8).

Rules, for a window of W ms:

1. What came when the part had A ms of audio may be known once the text that had come by A + W ms was let pass, up to
   the end of its last word: a word that is cut in two by its deltas is judged whole before any of it is told.
2. That is sound as long as the transcript comes less than W ms behind its audio. Words come without their times, so
   where in the audio a text ends is told from its letters and the voice's pace (`Pace`), counted from where the text
   stood best in relation to its audio: at the beginning, if not later. What is told ends W ms before that. So where a
   text stands still, or comes later than before, what is told comes as much later: there may be a pause, or the end, or
   a text that is late.
3. A part is `broken`, and the rest of it waits for the whole, once its audio has reached W ms without a word, or is
   2 W ms ahead of its text even in slow speech.
4. How far the text came behind at most is known once the part is complete. W ms or more that broke nothing have been a
   violation, too, and are counted as one.

What remains: where a text is late, and is spoken faster than the voice mostly speaks, it is taken to have come farther
than it has, by what that makes since it stood best. That has to be W ms to let out what nobody has judged.
"""

import unicodedata
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field
from typing import Final

# How long a letter is spoken (ms) by voices that nobody has heard yet: at least, mostly, and in slow speech.
_UNHEARD: Final = (40.0, 65.0, 90.0)
# What of a voice's own pace that is. Parts with fewer letters tell little of it.
_HEARD: Final = (0.85, 1.0, 1.2)
_TELLING: Final = 60
_PARTS: Final = 8
# A digit is read as a word, and a sign of the wide scripts as a syllable: so many letters.
_DIGIT: Final = 4
_WIDE: Final = 3
# Places of the text in its audio that are remembered for the lag.
_MAX_PLACES: Final = 4096


def _letters(text: str) -> int:
    """How much there is to speak."""
    if text.isascii() and not any(map(str.isdigit, text)):
        return len(text)
    return sum(
        _DIGIT if character.isdigit() else _WIDE if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def goes_on(character: str) -> bool:
    """Whether a word may go on behind `character`. What is judged by words relies on it: of a text that may grow, the
    last word is let out once it has come to its end, and not before.
    """
    return (character.isalnum() or character == "_") and unicodedata.east_asian_width(character) not in "WF"


class Pace:
    """How long a letter is spoken (ms): by the last parts that were heard whole, else by any voice."""

    def __init__(self) -> None:
        self._parts: deque[tuple[float, int]] = deque(maxlen=_PARTS)
        self.fastest: float
        self.usual: float
        self.slowest: float
        self.fastest, self.usual, self.slowest = _UNHEARD

    def heard(self, audio_ms: float, letters: int) -> None:
        """A part is complete."""
        if letters < _TELLING:
            return
        self._parts.append((audio_ms, letters))
        own = sum(ms for ms, _ in self._parts) / sum(count for _, count in self._parts)
        self.fastest, self.usual, self.slowest = (own * part for part in _HEARD)


@dataclass(slots=True, eq=False)
class Window:
    """One part's text against its audio, both as they come. `ms` is None where nothing is heard before the end.

    `pace` is the voice's, `audio_ms` the audio received so far.
    """

    ms: int | None
    pace: Pace = field(default_factory=Pace)
    audio_ms: float = 0.0
    broken: bool = False
    _length: int = 0
    _letters: int = 0
    _behind: float = 0.0
    _told: list[float] = field(default_factory=list)
    _lengths: list[int] = field(default_factory=list)
    _places: list[tuple[float, int]] = field(default_factory=list)

    def said(self, text: str) -> None:
        """The part's text has grown by `text`."""
        if len(self._places) < _MAX_PLACES:
            self._places.append((self.audio_ms, self._letters))
        self._length += len(text)
        self._letters += _letters(text)
        self._behind = min(self._behind, self._ahead_ms(self.pace.usual))

    def sounded(self, ms: float) -> bool:
        """`ms` more of its audio came; True where that breaks the window."""
        self.audio_ms += ms
        if self.ms is None or self.broken:
            return False
        likely = self._behind + self._letters * self.pace.usual
        certain = self._letters * self.pace.fastest
        told = min(self.audio_ms, max(certain, likely)) - self.ms
        self._told.append(max(told, self._told[-1]) if self._told else told)
        self._lengths.append(self._length)
        late = self._length == 0 or self._ahead_ms(self.pace.slowest) >= 2 * self.ms
        self.broken = self.audio_ms >= self.ms and late
        return self.broken

    def _ahead_ms(self, letter_ms: float) -> float:
        """How far the audio is ahead of the text, spoken at that pace."""
        return self.audio_ms - self._letters * letter_ms

    def lets(self, at_ms: float, text: str, passed: int) -> bool:
        """Whether what came at `at_ms` may be known when the first `passed` characters of `text` were let pass."""
        if self.ms is None or self.broken:
            return False
        place = bisect_left(self._told, at_ms)
        if place == len(self._told):
            return False
        end = self._lengths[place]
        if passed < end:
            return False
        return not goes_on(text[end - 1 : end] or " ") or any(not goes_on(sign) for sign in text[end:passed])

    def complete(self) -> float | None:
        """Nothing will be added. How far (ms) the text came behind its audio at most, speech taken as even; None where
        one of the two is missing.
        """
        if not self._letters or not self.audio_ms:
            return None
        self.pace.heard(self.audio_ms, self._letters)
        return max(0.0, *(at - self.audio_ms * before / self._letters for at, before in self._places))

    def was_broken(self, lag_ms: float) -> bool:
        """Whether a lag of the complete part was a violation that nobody has seen meanwhile."""
        return self.ms is not None and not self.broken and lag_ms >= self.ms
