"""Windows of guardrails that hold, beside simulated voices: words of different length and pace, pauses, and transcripts
that come early, in step or late.
"""

import random
import statistics
from dataclasses import dataclass, field

import pytest

from voicebus.engine.window import Pace, Window

ANSWERS = 100
WINDOW_MS = 500
WORDS = ("the", "a", "we", "of", "and", "your", "money", "is", "safely", "kept", "in", "cellars", "please", "tomorrow")


@dataclass
class Voice:
    """Says words at its pace; of each the text, and from when to when it is said (ms)."""

    chance: random.Random
    letter_ms: float
    words: list[tuple[str, float, float]] = field(default_factory=list)
    total_ms: float = 0.0

    def answers(self, count: int) -> "Voice":
        said = Voice(self.chance, self.letter_ms)
        tempo = self.chance.uniform(0.9, 1.1)
        for _ in range(count):
            word = self.chance.choice(WORDS) + " "
            spoken_ms = len(word) * self.letter_ms * tempo * self.chance.uniform(0.85, 1.15)
            said.words.append((word, said.total_ms, said.total_ms + spoken_ms))
            said.total_ms += spoken_ms
            if self.chance.random() < 0.12:
                said.total_ms += self.chance.choice([200.0, 400.0, 800.0])
        return said

    def speech(self, start_ms: float, end_ms: float) -> float:
        """How much of that time is speech (0 to 1)."""
        spoken = sum(max(0.0, min(end, end_ms) - max(start, start_ms)) for _, start, end in self.words)
        return spoken / (end_ms - start_ms)


class InStep:
    """A transcript that comes `early` to `late` ms after its words begin."""

    def __init__(self, early: float, late: float) -> None:
        self.early, self.late = early, late

    def lag(self, voice: Voice, at_ms: float) -> float:
        return voice.chance.uniform(self.early, self.late)


class Jump(InStep):
    """One that is in step, and from somewhere on `by` ms later."""

    def __init__(self, by: float, early: float = 0.0, late: float = 0.0) -> None:
        super().__init__(early, late)
        self.by = by
        self.since: dict[int, float] = {}

    def lag(self, voice: Voice, at_ms: float) -> float:
        since = self.since.setdefault(id(voice), voice.chance.uniform(0.1, 0.9) * voice.total_ms)
        return super().lag(voice, at_ms) + (self.by if at_ms > since else 0)


class Ramp(InStep):
    """One that becomes `by` of the time later."""

    def __init__(self, by: float) -> None:
        super().__init__(0, 0)
        self.by = by

    def lag(self, voice: Voice, at_ms: float) -> float:
        return self.by * at_ms


class Sentences(InStep):
    """One that comes in lumps of so many words, each `early` to `late` ms after its first word begins."""

    def __init__(self, words: int, early: float, late: float) -> None:
        super().__init__(early, late)
        self.words = words


@dataclass
class Heard:
    """`lag_ms` is how late a word was at most, `unjudged_ms` how much was heard beyond the text that had come."""

    lag_ms: float = 0.0
    unjudged_ms: float = 0.0
    broken: bool = False
    counted: bool = False
    told_ms: float = 0.0
    told_broken_ms: float = 0.0
    share: float = 0.0


def hear(seed: int, transcript: InStep, *, known: bool) -> Heard:
    """One answer of a voice of which three were heard before, if `known`; each text is let pass at once."""
    chance = random.Random(seed)
    voice, pace = Voice(chance, chance.uniform(52, 82)), Pace()
    for before in [voice.answers(chance.randint(20, 60)) for _ in range(3 if known else 0)]:
        spoken = sum(end - start for _, start, end in before.words)
        pace.heard(spoken, sum(len(word) for word, _, _ in before.words))
    said = voice.answers(chance.randint(5, 60))
    comes, last = [], 0.0
    lump = transcript.words if isinstance(transcript, Sentences) else 1
    for place, (_, start, _) in enumerate(said.words):
        if place % lump == 0:
            last = max(last, start + transcript.lag(said, start))
        comes.append(last)
    found = Heard()
    window, text, at_ms, coming, places = Window(WINDOW_MS, pace), "", 0.0, 0, []
    while at_ms < said.total_ms:
        while coming < len(comes) and comes[coming] <= at_ms:
            found.lag_ms = max(found.lag_ms, at_ms - said.words[coming][1])
            if window.said(said.words[coming][0]):
                found.broken, found.told_broken_ms = True, found.told_ms
            text += said.words[coming][0]
            coming += 1
        step = min(100.0, said.total_ms - at_ms)
        if window.sounded(step, said.speech(at_ms, at_ms + step)):
            found.broken, found.told_broken_ms = True, found.told_ms
        at_ms += step
        places.append(at_ms)
        while places and window.lets(places[0], text, len(text)):
            found.told_ms = places.pop(0)
            if coming < len(said.words):
                found.unjudged_ms = max(found.unjudged_ms, found.told_ms - said.words[coming][1])
    for word, start, _ in said.words[coming:]:
        found.lag_ms = max(found.lag_ms, at_ms - start)
        if window.said(word):
            found.broken, found.told_broken_ms = True, found.told_ms
    lag_ms = window.complete()
    found.counted = found.broken or (lag_ms is not None and window.was_broken(lag_ms))
    found.share = found.told_ms / said.total_ms
    return found


IN_STEP = [InStep(0, 0), InStep(200, 200), InStep(-200, 350), InStep(0, 350), InStep(-300, -300), Sentences(20, 0, 0)]
EARLY = [InStep(-3000, -3000), InStep(-2500, -200), Sentences(5, -400, 300), Sentences(12, -1000, -200)]
LATE = [
    InStep(600, 600),
    InStep(0, 1000),
    Jump(520),
    Jump(700),
    Jump(1000),
    Jump(1500),
    Jump(800, -200, 300),
    Ramp(0.1),
]


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("transcript", [*IN_STEP, *EARLY, *LATE])
def test_nothing_unjudged_is_heard_but_of_transcripts_behind_by_the_window_and_those_are_counted(
    transcript: InStep, known: bool
) -> None:
    answers = [hear(seed, transcript, known=known) for seed in range(ANSWERS)]
    assert [one for one in answers if one.unjudged_ms > 0 and one.lag_ms < WINDOW_MS] == []
    assert [one for one in answers if one.unjudged_ms > 0 and not one.counted] == []


@pytest.mark.parametrize("transcript", IN_STEP)
def test_pauses_and_words_of_different_length_break_nothing(transcript: InStep) -> None:
    answers = [hear(seed, transcript, known=True) for seed in range(ANSWERS)]
    assert not any(one.broken for one in answers)
    assert statistics.fmean(one.share for one in answers) > 0.75, "heard before its end"


@pytest.mark.parametrize("transcript", EARLY)
def test_a_transcript_that_is_early_hardly_ever_seems_late(transcript: InStep) -> None:
    answers = [hear(seed, transcript, known=True) for seed in range(ANSWERS)]
    assert sum(one.broken for one in answers) <= 0.2 * ANSWERS


@pytest.mark.parametrize("transcript", LATE)
def test_a_violation_is_counted_and_once_it_is_seen_nothing_more_is_heard(transcript: InStep) -> None:
    answers = [hear(seed, transcript, known=True) for seed in range(ANSWERS)]
    late = [one for one in answers if one.lag_ms >= WINDOW_MS + 200]
    assert sum(one.counted for one in late) >= 0.9 * len(late)
    assert all(one.told_ms == one.told_broken_ms for one in answers if one.broken)


@pytest.mark.parametrize("by", [1000, 1500])
def test_a_transcript_that_becomes_late_by_two_windows_is_seen_to_be(by: int) -> None:
    answers = [hear(seed, Jump(by), known=True) for seed in range(ANSWERS)]
    late = [one for one in answers if one.lag_ms >= by]
    assert sum(one.broken for one in late) >= 0.9 * len(late)
