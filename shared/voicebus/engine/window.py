"""How soon something may be heard of a spoken part that is not judged whole yet (`hold_window_ms`; contract section 8).

Rules, for a window of W ms:

1. What came when the part had A ms of audio may be known once the text that had come by A + W ms was let pass, up to
   the end of its last word: a word that is cut in two by its deltas is judged whole before any of it is told.
2. That holds as long as the transcript comes less than W ms behind its audio. Where it does not, or may not, the part
   is `broken`: the rest of it waits until the whole was judged.
3. A part is broken whose audio has reached W ms without a word; whose text has not grown for W ms of audio, while it
   is too short to be ahead even of the fastest speech; and whose text stays W ms behind slow speech.
"""

import unicodedata
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

# How long a letter is spoken at least, and in slow speech (ms).
_FASTEST_MS: Final = 40.0
_SLOW_MS: Final = 90.0
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


@dataclass(slots=True, eq=False)
class Window:
    """One part's text against its audio, both as they come. `ms` is None where nothing is heard before the end.

    `audio_ms` is the audio received so far.
    """

    ms: int | None
    audio_ms: float = 0.0
    broken: bool = False
    _length: int = 0
    _letters: int = 0
    _grew_at: float = 0.0
    _audio: list[float] = field(default_factory=list)
    _lengths: list[int] = field(default_factory=list)
    _places: list[tuple[float, int]] = field(default_factory=list)

    def said(self, text: str) -> None:
        """The part's text has grown by `text`."""
        if len(self._places) < _MAX_PLACES:
            self._places.append((self.audio_ms, self._letters))
        self._length += len(text)
        self._letters += _letters(text)
        self._grew_at = self.audio_ms

    def sounded(self, ms: float) -> bool:
        """`ms` more of its audio came; True where that breaks the window."""
        self.audio_ms += ms
        if self.ms is None or self.broken:
            return False
        self._audio.append(self.audio_ms)
        self._lengths.append(self._length)
        self.broken = self._may_lag(self.ms)
        return self.broken

    def _may_lag(self, ms: int) -> bool:
        if self.audio_ms < ms:
            return False
        stalls = self.audio_ms - self._grew_at >= ms and self.audio_ms - self._letters * _FASTEST_MS >= ms
        return self._length == 0 or stalls or self.audio_ms - self._letters * _SLOW_MS >= ms

    def lets(self, at_ms: float, text: str, passed: int) -> bool:
        """Whether what came at `at_ms` may be known when the first `passed` characters of `text` were let pass."""
        if self.ms is None or self.broken:
            return False
        place = bisect_left(self._audio, at_ms + self.ms)
        if place == len(self._audio):
            return False
        end = self._lengths[place]
        if passed < end:
            return False
        return not goes_on(text[end - 1 : end] or " ") or any(not goes_on(sign) for sign in text[end:passed])

    def lag_ms(self) -> float | None:
        """How far the text came behind its audio at most, speech taken as even; None where one of the two is missing.

        To be asked when the part is complete.
        """
        if not self._letters or not self.audio_ms:
            return None
        return max(0.0, *(at - self.audio_ms * before / self._letters for at, before in self._places))
