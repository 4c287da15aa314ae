"""How soon something may be heard of a spoken part that is not judged whole yet (`hold_window_ms`; contract section 8).

Rules, for a window of W ms:

1. What came when the part had A ms of audio may be known once the text that had come by A + W ms was let pass, up to
   the end of its last word: a word that is cut in two by its deltas is judged whole before any of it is told.
2. That is sound as long as the transcript comes less than W ms behind its audio. Words come without their times, so
   where in the audio a text ends is told from its letters and the voice's pace (`Pace`), counted from where the text
   stood best in relation to its speech: at the beginning, if not later. What is told ends W ms before that. So where a
   text stands still while the voice goes on, or comes later than before, what is told comes as much later: there may be
   the end, or a text that is late. Pauses of the voice, which its loudness tells, need no text.
3. A part is `broken`, and the rest of it waits for the whole, once its text is seen to be late: where it goes on after
   a standstill in which the voice, its pauses left out, said W ms more than what has come since, at each place of late
   and at the pace of late; where its audio has reached W ms without a word; and where the voice is 2 W ms ahead of it
   even in slow speech. A text that is ahead in fast speech is not late, however long it stands still.
4. How far the text came behind at most is known once the part is complete. W ms or more that broke nothing have been a
   violation, too, and are counted as one. So is a part that is stopped where its text would have broken it
   by going on.

What remains: a text that becomes late little by little, in speech that becomes faster as much, shows in 4 alone.
"""

import unicodedata
from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from dataclasses import dataclass, field
from typing import Final

# How long a letter is spoken (ms) by voices that nobody has heard yet: at least, in fast speech, mostly, and in slow.
_UNHEARD: Final = (40.0, 58.0, 65.0, 90.0)
# What of a voice's own pace that is. Parts with fewer letters tell little of it.
_HEARD: Final = (0.85, 0.9, 1.0, 1.2)
_TELLING: Final = 60
# Nobody speaks faster or slower than that: a part of which it seems so tells nothing.
_SPOKEN: Final = (20.0, 250.0)
_PARTS: Final = 8
# A digit is read as a word, and a sign of the wide scripts as a syllable: so many letters.
_DIGIT: Final = 4
_WIDE: Final = 3
# Signs of the wide scripts that show nothing: no word ends there.
_FILLERS: Final = "\u115f\u3164"
# Places of the text in its audio that are remembered for the lag.
_MAX_PLACES: Final = 4096
# Single words differ from the voice's pace; of so many letters on a slow voice may be told from a late text.
_WORDS: Final = 20
# Where the text stood of late: within so much speech (ms), and at so many places.
_LATELY_MS: Final = 2000
_MAX_LATELY: Final = 64
# What came within so much audio (ms) is told together, so that a model's many small deltas are not kept one by one.
_STEP_MS: Final = 10


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
    if character == "" or (unicodedata.east_asian_width(character) in "WF" and character not in _FILLERS):
        return False
    # An accent, or a sign that shows nothing, stands in the middle of a word as well.
    return character.isalnum() or character == "_" or unicodedata.category(character) in ("Mn", "Mc", "Me", "Cf")


class Pace:
    """How long a letter is spoken (ms), without pauses: by the last parts that were heard whole, else by any voice."""

    def __init__(self) -> None:
        self._parts: deque[tuple[float, int]] = deque(maxlen=_PARTS)
        self.fastest: float
        self.fast: float
        self.usual: float
        self.slowest: float
        self.fastest, self.fast, self.usual, self.slowest = _UNHEARD

    def heard(self, speech_ms: float, letters: int) -> None:
        """A part is complete."""
        if letters < _TELLING or not _SPOKEN[0] <= speech_ms / letters <= _SPOKEN[1]:
            return
        self._parts.append((speech_ms, letters))
        own = sum(ms for ms, _ in self._parts) / sum(count for _, count in self._parts)
        self.fastest, self.fast, self.usual, self.slowest = (own * part for part in _HEARD)


@dataclass(slots=True, eq=False)
class Window:
    """One part's text against its audio, both as they come. `ms` is None where nothing is heard before the end.

    `pace` is the voice's, `audio_ms` the audio received so far, `speech_ms` that without its pauses.
    """

    ms: int | None
    pace: Pace = field(default_factory=Pace)
    audio_ms: float = 0.0
    speech_ms: float = 0.0
    broken: bool = False
    _length: int = 0
    _letters: int = 0
    _best: tuple[float, int] = (0.0, 0)
    _heard: "array[float]" = field(default_factory=lambda: array("d"))
    _speech: "array[float]" = field(default_factory=lambda: array("d"))
    _told: "array[float]" = field(default_factory=lambda: array("d"))
    _lengths: "array[int]" = field(default_factory=lambda: array("q"))
    _places: list[tuple[float, int]] = field(default_factory=list)
    _lately: deque[tuple[float, int]] = field(default_factory=lambda: deque([(0.0, 0)], _MAX_LATELY))

    def said(self, text: str) -> bool:
        """The part's text has grown by `text`; True where that breaks the window."""
        breaks = text != "" and self.ms is not None and not self.broken and self._goes_on_late(self.ms)
        self.broken = self.broken or breaks
        if len(self._places) < _MAX_PLACES:
            self._places.append((self.speech_ms, self._letters))
        self._length += len(text)
        self._letters += _letters(text)
        if self.speech_ms <= self._likely_ms():
            self._best = self.speech_ms, self._letters
        return breaks

    def _goes_on_late(self, window_ms: int) -> bool:
        """Whether the text, which goes on, has let the voice come too far; remembers where both stand."""
        late = self.speech_ms - self._letters * self.pace.fast >= window_ms
        letter_ms, slower_ms = self._lately_ms()
        for speech_ms, letters in self._lately:
            more = self._letters - letters
            spoken_ms = more * letter_ms + max(0, more - _WORDS) * slower_ms
            late = late and self.speech_ms - speech_ms - spoken_ms >= window_ms
        self._lately.append((self.speech_ms, self._letters))
        while self._lately[0][0] < self.speech_ms - _LATELY_MS:
            self._lately.popleft()
        return late

    def _lately_ms(self) -> tuple[float, float]:
        """How long a letter is spoken here, and how much longer it may be: known of a text that comes word by word."""
        (first_ms, first), (last_ms, last) = self._lately[0], self._lately[-1]
        here_ms = (last_ms - first_ms) / (last - first) if last - first >= _WORDS else 0.0
        if self.pace.fastest <= here_ms <= self.pace.slowest:
            return here_ms, 0.0
        return self.pace.usual, self.pace.slowest - self.pace.usual

    def sounded(self, ms: float, speech: float = 1.0) -> bool:
        """`ms` more of its audio came, of which that share is speech; True where that breaks the window."""
        self.audio_ms += ms
        self.speech_ms += ms * speech
        if self.ms is None or self.broken:
            return False
        told = self._told[-1] if self._told else float("-inf")
        if len(self._heard) > 1 and self.audio_ms - self._heard[-2] < _STEP_MS:
            for places in (self._heard, self._speech, self._told, self._lengths):
                places.pop()
        self._heard.append(self.audio_ms)
        self._speech.append(self.speech_ms)
        self._told.append(max(told, self._reached_ms() - self.ms))
        self._lengths.append(self._length)
        late = self._length == 0 or self.speech_ms - self._letters * self.pace.slowest >= 2 * self.ms
        self.broken = self.audio_ms >= self.ms and late
        return self.broken

    def _likely_ms(self) -> float:
        """How much speech the text is, counted from where it stood best."""
        best_ms, best_letters = self._best
        # As fast as before that place, if that tells: a text that was ahead there tells nothing of the voice.
        part_ms = best_ms / best_letters if best_letters >= _TELLING // 2 else 0.0
        letter_ms = part_ms if self.pace.fastest <= part_ms <= self.pace.usual else self.pace.usual
        return best_ms + (self._letters - best_letters) * letter_ms

    def _reached_ms(self) -> float:
        """Where in the audio the text ends, with the pause that follows, as far as that is likely."""
        reached = max(self._letters * self.pace.fastest, self._likely_ms())
        place = bisect_right(self._speech, reached)
        if place == len(self._speech):
            return self.audio_ms
        heard, speech = (self._heard[place - 1], self._speech[place - 1]) if place else (0.0, 0.0)
        return heard + reached - speech

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

    def stops(self) -> bool:
        """The part was stopped, nothing will be added: True where its text was late and nobody has seen that yet."""
        return self.ms is not None and not self.broken and self._length > 0 and self._goes_on_late(self.ms)

    def complete(self) -> float | None:
        """Nothing will be added. How far (ms) the text came behind its speech at most, that taken as even; None where
        one of the two is missing.
        """
        if not self._letters or not self.audio_ms:
            return None
        self.pace.heard(self.speech_ms, self._letters)
        return max(0.0, *(at - self.speech_ms * before / self._letters for at, before in self._places))

    def was_broken(self, lag_ms: float) -> bool:
        """Whether a lag of the complete part was a violation that nobody has seen meanwhile."""
        return self.ms is not None and not self.broken and lag_ms >= self.ms
