"""A tool as the scorer sees it. The single home of reading a tool's words, objects, verbs and kind of action."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from operator import mul
from typing import Any, Final

from voicebus_services.model_simulator.brain.associations import vector
from voicebus_services.model_simulator.brain.schema import Parameter, Tool
from voicebus_services.model_simulator.brain.tokens import STOP_WORDS, split_name, stem, stemmed_words, stems
from voicebus_services.model_simulator.brain.verbs import actions

_HANDOFF: Final = re.compile(r"^transfer_to_(.+?)(?:_agent)?$|^hand_?off_to_(.+)$", re.IGNORECASE)
_HANDOFF_WORDS: Final = stemmed_words(
    """handoff hand transfer agent handle request user caller question help customer assistant route escalate
    delegate"""
)
_FIELD_WORTH: Final = {"name": 1.0, "constant": 0.8, "description": 0.72, "parameter": 0.5}
_VAGUE: Final = stemmed_words(
    """user given specified current provide return use based information data value detail call tool function
    string name list new one"""
)


@dataclass(frozen=True, slots=True)
class Profile:
    """A tool as the scorer sees it: its words by field, its kind of action, and whether it hands over to another
    agent.
    """

    tool: Tool
    terms: Mapping[str, float]
    objects: tuple[str, ...]
    verbs: tuple[str, ...]
    actions: frozenset[str]
    handoff: str
    direction: tuple[float, ...]


def read_profile(tool: Tool) -> Profile:
    """Read the tool once; a session's tools do not change with every request."""
    match = _HANDOFF.match(tool.name)
    handoff = (match[1] or match[2]) if match else ""
    if not handoff and re.match(r"^\s*hand-?off to\b", tool.description, re.IGNORECASE) and not tool.parameters:
        handoff = tool.name
    name_words = [
        w for w in split_name(handoff or tool.name) if w not in {"to", "a", "the", "of", "for", "by", "my", "in"}
    ]
    dropped = _HANDOFF_WORDS if handoff else frozenset()
    terms: dict[str, float] = {}

    def add(words: Sequence[str], worth: float) -> None:
        for word in words:
            if word not in dropped and len(word) > 1:
                terms[word] = max(terms.get(word, 0.0), worth)

    name_stems = [stem(w) for w in name_words]
    verbs = tuple(w for w in name_stems[:1] if actions(w))
    objects = tuple(dict.fromkeys(w for w in name_stems[len(verbs) :] if w not in dropped and w not in _VAGUE))
    add([w for w in name_stems if w not in STOP_WORDS], _FIELD_WORTH["name"])
    sentences = re.split(r"(?<=[.!?])\s+", tool.description)
    for number, sentence in enumerate(sentences[:6]):
        add([w for w in stems(sentence) if w not in _VAGUE], _FIELD_WORTH["description"] * (1.0 if number < 2 else 0.8))
    for parameter in tool.parameters:
        _add_parameter(parameter, add)
    description_verbs = _leading_verbs(tool.description)
    kinds = frozenset().union(*(actions(w) for w in (*verbs[:1], *description_verbs[0 if not verbs else 1 :])))
    return Profile(tool, terms, objects, (*verbs, *description_verbs), kinds, handoff, direction_of(tuple(
        w for w, worth in terms.items() if worth >= 0.7)))  # fmt: skip


def _leading_verbs(description: str) -> list[str]:
    """The verbs that a description opens with: "Lock or unlock a door" has two."""
    words = [stem(w) for w in re.findall(r"[a-z]+", re.split(r"[.;]", description.lower(), maxsplit=1)[0])]
    return [w for i, w in enumerate(words) if i == 0 or (words[i - 1] in {"or", "and"} and actions(w))]


def _add_parameter(parameter: Parameter, add: Any) -> None:
    add([w for w in parameter.words if w not in _VAGUE and w not in STOP_WORDS], _FIELD_WORTH["parameter"])
    add([w for w in parameter.hints if w not in _VAGUE], _FIELD_WORTH["parameter"] * 0.6)
    for value in (*parameter.enum, *(parameter.items.enum if parameter.items else ())):
        add([stem(w) for w in split_name(str(value)) if w not in STOP_WORDS], _FIELD_WORTH["constant"] * 0.8)


@lru_cache(maxsize=512)
def direction_of(words: tuple[str, ...]) -> tuple[float, ...]:
    """Where the stems point together, of length 1; empty when none is known."""
    vectors = [v for v in map(vector, dict.fromkeys(words)) if v is not None]
    if not vectors:
        return ()
    summed = [sum(column) for column in zip(*vectors, strict=True)]
    length = sqrt(sum(map(mul, summed, summed))) or 1.0
    return tuple(value / length for value in summed)


def cosine(left: Sequence[float], right: Sequence[float]) -> float:
    """The product of two directions; 0 when one is empty."""
    return sum(map(mul, left, right)) if left and right else 0.0
