"""A thousand random answers with and without a forbidden word, cut into deltas anywhere and judged at any time.

In every mode the word is found wherever it stands. In `hold` nothing of it is known to anybody, and with a window
nothing either, as long as the transcript comes less than the window behind its audio.
"""

import itertools
import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from support.talk import Talk, agent
from voicebus.contracts.guardrails import GuardrailResult
from voicebus.contracts.journal import EventType
from voicebus.engine.config import Face, GuardrailMode, GuardrailSpec
from voicebus.engine.inputs import Input, ModelAudio
from voicebus.engine.outputs import DispatchCheck, Emit, ForwardAudio, Output, Record, ToClient

ANSWERS = 1000
FORBIDDEN = "vault"
WORDS = ("we", "keep", "all", "of", "your", "money", "safely", "in", "our", "vaul", "rooms", "and", "cellars", "va")


@dataclass
class Answer:
    """`text` and where in the audio (ms) it is forbidden; `events` in the order in which a model sends them."""

    text: str = ""
    total_ms: float = 0.0
    forbidden: tuple[float, float] | None = None
    clean: int = 0
    events: list[str | float] = field(default_factory=list)


def answer(chance: random.Random, *, window_ms: int | None) -> Answer:
    """A random answer. With a window its transcript comes less than that behind its audio, or ahead of it."""
    made = Answer()
    words = [chance.choice(WORDS) for _ in range(chance.randint(0, 20))]
    if chance.random() < 0.7:
        words.insert(chance.choice([0, len(words), chance.randint(0, len(words))]), FORBIDDEN)
    begins: list[float] = []  # of each character, in ms of the audio
    for index, word in enumerate(words or ["no"]):
        said = word if index == 0 else f" {word}"
        word_ms = chance.uniform(45, 110) * len(said)
        if word == FORBIDDEN and made.forbidden is None:
            made.forbidden, made.clean = (
                (made.total_ms, made.total_ms + word_ms),
                len(made.text) + len(said) - len(word),
            )
        begins += [made.total_ms] * len(said)
        made.text += said
        made.total_ms += word_ms + chance.choice([0, 0, 0, chance.uniform(0, 250)])
    cuts = sorted({0, len(made.text), *(chance.randrange(len(made.text)) for _ in range(chance.randint(0, 30)))})
    texts = list(itertools.pairwise(cuts))
    due = made.total_ms if window_ms is None else 0.0
    at_ms = 0.0
    while texts or at_ms < made.total_ms:
        if texts and window_ms is not None:
            due = max(due, begins[texts[0][0]] - chance.uniform(0, 400))
            late = at_ms + 200 >= begins[texts[0][0]] + window_ms  # the next audio may be as long as that
        else:
            late = False
        if texts and (late or at_ms >= made.total_ms or (at_ms >= due and chance.random() < 0.5) or window_ms is None):
            if window_ms is None and at_ms < made.total_ms and chance.random() < 0.5:
                at_ms += sound(made, chance, at_ms)
                continue
            start, end = texts.pop(0)
            made.events.append(made.text[start:end])
        elif at_ms < made.total_ms:
            at_ms += sound(made, chance, at_ms)
    return made


def sound(made: Answer, chance: random.Random, at_ms: float) -> float:
    ms = min(chance.uniform(20, 200), made.total_ms - at_ms)
    made.events.append(ms)
    return ms if made.total_ms - at_ms - ms > 0.1 else made.total_ms - at_ms


class Listener(Talk):
    """Knows which audio was let through (ms of the answer), as a client would."""

    def __init__(self, *arguments: Any, **config: Any) -> None:
        self.heard: list[tuple[float, float]] = []
        self.places: dict[int, tuple[float, float]] = {}
        self.answered: set[str] = set()
        super().__init__(*arguments, **config)

    def sound(self, start: float, end: float) -> None:
        item = ModelAudio("resp_1", "item_a", 0, 0, round((end - start) * 48))
        self.places[id(item)] = (start, end)
        self.put(item)

    def handled(self, item: Input, outputs: list[Output]) -> None:
        if any(isinstance(output, ForwardAudio) for output in outputs):
            self.heard.append(self.places[id(item)])

    def judge(self, chance: random.Random, *, some: float) -> None:
        """Answer `some` of the checks that wait, in any order, as a worker does that trips over the word."""
        waiting = [check for check in self.of(DispatchCheck) if check.check_id not in self.answered]
        for check in chance.sample(waiting, len(waiting)):
            if chance.random() < some:
                self.answered.add(check.check_id)
                tripped = FORBIDDEN in check.text
                self.verdict(check.check_id, GuardrailResult(name="rude", tripped=tripped))


def hold_talk(talk: Listener, made: Answer, chance: random.Random) -> None:
    where: dict[str, Any] = {"response_id": "resp_1", "item_id": "item_a", "output_index": 0, "content_index": 0}
    talk.item_begins()
    talk.model("response.content_part.added", part={"type": "audio", "transcript": ""}, **where)
    at_ms = 0.0
    for event in made.events:
        talk.now += 0.01
        if isinstance(event, str):
            talk.says(event)
        else:
            talk.sound(at_ms, at_ms + event)
            at_ms += event
        talk.judge(chance, some=0.5)
    talk.model("response.output_audio.done", **where)
    talk.said(made.text)
    talk.model("response.content_part.done", part={"type": "audio", "transcript": made.text}, **where)
    talk.item_ends(made.text)
    content = [{"type": "output_audio", "transcript": made.text}]
    item = {"id": "item_a", "type": "message", "role": "assistant", "status": "completed", "content": content}
    talk.ends(output=[item])
    talk.judge(chance, some=1)


def told(talk: Listener) -> list[Output]:
    """What clients, or their histories, were told that has the word in it. Records marked withheld are not for them."""
    shown = [output for output in talk.all if isinstance(output, Emit | ToClient | Record)]
    shown = [one for one in shown if not (isinstance(one, Record) and getattr(one.data, "withheld", False))]
    return [one for one in shown if FORBIDDEN in repr(one)]


def transcript(talk: Listener, face: Face) -> str:
    if face is Face.NATIVE:
        return "".join(data["delta"] for data in talk.emitted("transcript_delta"))
    return "".join(event["delta"] for event in talk.shown("response.output_audio_transcript.delta"))


@pytest.mark.parametrize("face", [Face.NATIVE, Face.OPENAI])
@pytest.mark.parametrize("window_ms", [None, 500])
def test_nothing_forbidden_is_known_of_a_thousand_answers_that_are_held(face: Face, window_ms: int | None) -> None:
    guardrail = GuardrailSpec(
        "rude", mode=GuardrailMode.HOLD, debounce=1 if window_ms else 100, hold_window_ms=window_ms
    )
    early = 0
    for seed in range(ANSWERS // 2):  # of each face
        chance = random.Random(seed)
        made = answer(chance, window_ms=window_ms)
        talk = Listener(agent(guardrails=[guardrail]), face=face)
        if face is Face.OPENAI:
            talk.live().client("response.create")
            talk.begins()
        else:
            talk.asked()
        hold_talk(talk, made, chance)
        trips = talk.records(EventType.GUARDRAIL_TRIPPED)
        if made.forbidden is None:
            assert trips == [], seed
            assert transcript(talk, face) == made.text, seed
            assert sum(end - start for start, end in talk.heard) == pytest.approx(made.total_ms), seed
        else:
            assert len(trips) == 1, seed
            begins, ends = made.forbidden
            assert not [one for one in talk.heard if one[1] > begins and one[0] < ends], (seed, made, talk.heard)
            heard = transcript(talk, face)
            assert made.text[: made.clean].startswith(heard), (seed, made, heard)
            assert not (leaks := told(talk)), (seed, leaks)
            early += bool(heard)
    assert bool(early) == (window_ms is not None)


@pytest.mark.parametrize("mode", [GuardrailMode.OBSERVE, GuardrailMode.INTERRUPT])
@pytest.mark.parametrize("debounce", [-1, 1, 100])
def test_a_forbidden_word_is_found_wherever_it_stands(mode: GuardrailMode, debounce: int) -> None:
    for seed in range(100):
        chance = random.Random(seed)
        made = answer(chance, window_ms=None)
        talk = Listener(agent(guardrails=[GuardrailSpec("rude", mode=mode, debounce=debounce)]))
        talk.asked()
        hold_talk(talk, made, chance)
        assert len(talk.records(EventType.GUARDRAIL_TRIPPED)) == (made.forbidden is not None), seed
