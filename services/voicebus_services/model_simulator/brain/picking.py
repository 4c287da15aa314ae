"""Which tool a request is for. The single home of scoring tools against an utterance.

Evidence, each general: words shared with the tool's name, description, constants and parameters (weighted by how rare
they are among the session's tools), words of the same concept or of near meaning, agreement of what is to be done
(reading, creating, cancelling, …), how well the words fill the tool's arguments, and, where there is a sentence model,
how near the request as a whole is to the tool in meaning.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import log, sqrt
from operator import mul
from typing import Any, Final, NamedTuple

from voicebus_services.model_simulator.brain.associations import similarity, vector
from voicebus_services.model_simulator.brain.concepts import actions, opposite, same_concept
from voicebus_services.model_simulator.brain.idioms import idioms
from voicebus_services.model_simulator.brain.meaning import Likeness, ToolMeanings, choose
from voicebus_services.model_simulator.brain.schema import Parameter, Tool, read_tool
from voicebus_services.model_simulator.brain.slots import Filling, fill
from voicebus_services.model_simulator.brain.tokens import STOP_WORDS, split_name, stem, stemmed_words, stems, words
from voicebus_services.model_simulator.brain.utterance import Utterance
from voicebus_services.model_simulator.brains import Meaning

SURE: Final = 0.62
ENOUGH: Final = 0.34

_HANDOFF: Final = re.compile(r"^transfer_to_(.+?)(?:_agent)?$|^hand_?off_to_(.+)$", re.IGNORECASE)
_HANDOFF_WORDS: Final = stemmed_words(
    """handoff hand transfer agent handle request user caller question help customer assistant route escalate
    delegate"""
)
_ASKS_FOR_SOMEBODY: Final = re.compile(
    r"\b(?:transfer me|connect me|put me through|pass me|hand me|switch me|forward me|(?:speak|talk|chat) (?:to"
    r"|with)|get me (?:to )?(?:a|an|the|your))\b",
    re.IGNORECASE,
)
_QUESTION: Final = re.compile(
    r"^(?:and |so |ok |okay |hey |please |hi |hello )*(?:what|how|when|where|who|which|why|is|are|do(?! not)"
    r"|does|did|was|were|has|have|am|any)\b",
    re.IGNORECASE,
)
# "Get me a taxi" and "get me the news" ask for different things with the same verb.
_EMPTY_VERBS: Final = frozenset({"get", "give", "make", "do"})
_WANTS: Final = re.compile(
    r"\b(?:i would like|i want|i need|i will have|i will take|we want|we need|we would like|get (?:me|us)"
    r"|give (?:me|us)|can (?:i|we) (?:get|have))"
    r" (?!to\b|know\b|you\b)", re.IGNORECASE,
)  # fmt: skip
_BEFORE_VERBS: Final = words("to please you i and we then just also , . me not ? ! let us now like")
_DESTRUCTIVE: Final = frozenset({"delete"})
_POLITE_REQUEST: Final = re.compile(
    r"^(?:do you think|would you|could you|can you|will you|do you want)", re.IGNORECASE
)
_FIELD_WORTH: Final = {"name": 1.0, "constant": 0.8, "description": 0.72, "parameter": 0.5}
_VAGUE: Final = stemmed_words(
    """user given specified current provide return use based information data value detail call tool function
    string name list new one"""
)


class _Weights(NamedTuple):
    """What each kind of evidence is worth, in logits, against a request for none of the tools (`no_tool`)."""

    words: float
    agreement: float
    fit: float
    whole: float
    closest: float
    no_tool: float


# Where there is a sentence model: a conditional logit over the session's tools and "none of them", fitted with a ridge
# of 0.02 to some 470 requests over 120 tools (those of the test's own tables with a weight of 0.3) and 40 sentences of
# small talk with each set of tools. Leaving a third of the tools out and fitting the rest picks 77 of 79 all the same.
_WEIGHTS: Final = _Weights(words=6.3, agreement=5.5, fit=13.0, whole=9.0, closest=12.0, no_tool=6.7)
_SCALE: Final = 0.12  # odds of ten to one are SURE
_RELATED: Final = 0.2


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


@dataclass(frozen=True, slots=True)
class Match:
    """A tool, how well it fits (0 not at all, 0.34 enough, above 0.62 surely), and its arguments as far as they
    were said.
    """

    tool: Tool
    score: float
    filling: Filling
    handoff: bool


class Catalogue:
    """The tools of a session, prepared for scoring.

    Args:
        meaning: the sentence model; None lets the words alone decide.
    """

    def __init__(self, definitions: Sequence[Mapping[str, Any]], meaning: Meaning | None = None) -> None:
        tools = [read_tool(d) for d in definitions if d.get("name")]
        self.profiles = [_profile(tool) for tool in tools]
        frequency = Counter(term for profile in self.profiles for term in profile.terms)
        count = len(self.profiles)
        self._rarity = {term: log(1 + count / df) / log(1 + count) for term, df in frequency.items()} if count else {}
        self._meanings = ToolMeanings(tools, meaning) if meaning is not None else None

    @property
    def tools(self) -> list[Tool]:
        return [profile.tool for profile in self.profiles]

    def rank(self, said: Utterance, *, without_handoffs: bool = False) -> list[Match]:
        """All tools, best first; equal ones in the order of the session."""
        likeness = self._meanings.likeness(said.text) if self._meanings is not None else {}
        matches = [
            self._match(profile, said, likeness.get(profile.tool.name))
            for profile in self.profiles
            if not (without_handoffs and profile.handoff)
        ]
        return sorted(matches, key=lambda match: -match.score)

    def choose(self, tool: Tool, filling: Filling, said: Utterance) -> None:
        """Give the constants that the words mean without naming them, where there is a sentence model."""
        if self._meanings is not None:
            choose(tool, filling, self._meanings.likeness(said.text)[tool.name])

    def _match(self, profile: Profile, said: Utterance, like: Likeness | None) -> Match:
        far = like is None or like.closest < _RELATED
        if far and not profile.handoff and not _speaks_of(profile, said):
            return Match(profile.tool, 0.0, Filling(missing=list(profile.tool.required)), handoff=False)
        filling = fill(profile.tool, said)
        score = self._lexical(profile, said, filling)
        agreement, fit = 0.0, 0.0
        if profile.handoff:
            score = self._handoff_score(profile, said, score)
        elif score > 0.05 or not far:
            agreement, fit = _action_agreement(profile, said), _argument_fit(profile.tool, said, filling)
        if like is None:
            return Match(profile.tool, score + agreement + fit, filling, bool(profile.handoff))
        weighed = (
            _WEIGHTS.words * score
            + _WEIGHTS.agreement * agreement
            + _WEIGHTS.fit * fit
            + _WEIGHTS.whole * like.whole
            + _WEIGHTS.closest * like.closest
            - _WEIGHTS.no_tool
        )
        choose(profile.tool, filling, like)
        return Match(profile.tool, ENOUGH + _SCALE * weighed, filling, bool(profile.handoff))

    def _lexical(self, profile: Profile, said: Utterance, filling: Filling) -> float:
        total, weight_sum = 0.0, 0.0
        matched_objects: dict[str, float] = {}
        content: list[str] = []
        peak = 0.0
        for at, token in enumerate(said.tokens):
            if not token.is_word or token.low in STOP_WORDS or token.low[0].isdigit():
                continue
            weight = 0.3 if at in filling.used else 1.0
            if actions(token.stem) and token.stem not in profile.objects:
                weight *= 0.6
            content.append(token.stem)
            best = 0.0
            for term, worth in profile.terms.items():
                near = _nearness(token.stem, term)
                if near:
                    best = max(best, near * worth * (0.55 + 0.45 * self._rarity[term]))
                    if term in profile.objects:
                        matched_objects[term] = max(
                            matched_objects.get(term, 0.0), near * (1.0 if at not in filling.used else 0.7)
                        )
            peak = max(peak, best)
            # A value dilutes a request little; one that speaks of the tool's own things ("pizza" for a dish)
            # supports it.
            total += (0.6 if at in filling.used else weight) * best
            weight_sum += weight
        for word in idioms(said.text):
            best = max((_nearness(word, term) * worth for term, worth in profile.terms.items()), default=0.0)
            if best > 0.4:
                total += 0.8 * best
                weight_sum += 0.8
                for term in profile.objects:
                    matched_objects[term] = max(matched_objects.get(term, 0.0), _nearness(word, term))
        if not weight_sum:
            return 0.0
        if profile.handoff:
            # An agent's name says little; what it handles stands in the description, and one thing of it is enough.
            matched_objects = dict.fromkeys(profile.objects, peak)
        share = total / (weight_sum + 0.45)
        coverage = (
            sum(matched_objects.get(o, 0.0) for o in profile.objects) / len(profile.objects) if profile.objects else 0.0
        )
        return (
            0.55 * share
            + 0.15 * min(total, 2.0)
            + 0.3 * coverage
            + 0.25 * max(0.0, _cosine(_direction(tuple(content)), profile.direction) - 0.15)
        )

    def _handoff_score(self, profile: Profile, said: Utterance, score: float) -> float:
        if _ASKS_FOR_SOMEBODY.search(said.text):
            return score + (0.55 if score > 0.1 else 0.0)
        return score - 0.04


@lru_cache(maxsize=65_536)
def _nearness(word: str, term: str) -> float:
    if word == term:
        return 1.0
    if opposite(word, term):
        return 0.0
    concept = 0.62 if same_concept(word, term) else 0.0
    close = similarity(word, term)
    return max(concept, (close - 0.12) * 0.85 if close > 0.4 else 0.0)


def _speaks_of(profile: Profile, said: Utterance) -> bool:
    """Whether any word comes near the tool at all; filling the arguments of the others would be wasted time."""
    words = {t.stem for t in said.tokens if t.low not in STOP_WORDS} | set(idioms(said.text))
    return any(_nearness(word, term) * worth >= 0.15 for word in words for term, worth in profile.terms.items())


def _profile(tool: Tool) -> Profile:
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
    return Profile(tool, terms, objects, (*verbs, *description_verbs), kinds, handoff, _direction(tuple(
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
def _direction(words: tuple[str, ...]) -> tuple[float, ...]:
    vectors = [v for v in map(vector, dict.fromkeys(words)) if v is not None]
    if not vectors:
        return ()
    summed = [sum(column) for column in zip(*vectors, strict=True)]
    length = sqrt(sum(map(mul, summed, summed))) or 1.0
    return tuple(value / length for value in summed)


def _cosine(left: Sequence[float], right: Sequence[float]) -> float:
    return sum(map(mul, left, right)) if left and right else 0.0


def request_actions(said: Utterance) -> tuple[frozenset[str], tuple[str, ...]]:
    """What is asked to be done, as classes of action and as the verbs themselves."""
    question = bool(_QUESTION.match(said.text)) and not _POLITE_REQUEST.match(said.text)
    places = _verb_places(said)
    verbs = [t.stem for i, t in enumerate(said.tokens) if i in places and actions(t.stem) and t.low not in _EMPTY_VERBS]
    kinds = frozenset().union(*(actions(v) for v in verbs[:2])) if verbs else frozenset()
    kinds |= frozenset().union(*(actions(v) for v in idioms(said.text)))
    if question:
        kinds = frozenset({"read"}) | (kinds if "how do i" in said.text.lower() else frozenset())
    return kinds, tuple(verbs)


def _verb_places(said: Utterance) -> frozenset[int]:
    """Where a word stands as the verb of a request rather than as a noun."""
    return frozenset(
        i for i in range(len(said.tokens))
        if i == 0 or said.low(i - 1) in _BEFORE_VERBS
    )  # fmt: skip


def _action_agreement(profile: Profile, said: Utterance) -> float:
    kinds, verbs = request_actions(said)
    score = 0.0
    contrary = [
        v
        for v in verbs
        if v not in profile.terms and not actions(v) & profile.actions and any(opposite(v, w) for w in profile.verbs)
    ]
    if contrary:
        score -= 0.45
    elif any(v in profile.verbs[:1] for v in verbs):
        score += 0.2
    words = {t.stem for t in said.tokens}
    name = {stem(w) for w in split_name(profile.tool.name)}
    if any(opposite(w, n) for w in words - name - profile.terms.keys() for n in name) and not words & name & set(
        profile.verbs
    ):
        score -= 0.2
    if not kinds and _WANTS.search(said.text) and profile.actions & {"create", "send"}:
        return score + 0.12
    if not kinds or not profile.actions:
        return score
    if kinds & profile.actions:
        return score + 0.16
    if profile.actions <= _DESTRUCTIVE and not _takes_back(said):
        return score - 0.4
    return score - 0.18


def _takes_back(said: Utterance) -> bool:
    """ "I don't want it any more" asks for a cancellation without the verb."""
    return (
        re.search(
            r"\b(?:not|no longer|never) (?:want|need|like|interested)|any ?more\b|get rid of", said.text, re.IGNORECASE
        )
        is not None
    )


def _argument_fit(tool: Tool, said: Utterance, filling: Filling) -> float:
    """Arguments that the words fill are evidence for the tool; values that no parameter takes are evidence against
    it.
    """
    score = 0.0
    for parameter in tool.parameters:
        strength = filling.strength.get(parameter.path, 0.0)
        formal = parameter.enum or parameter.kind not in {
            "thing",
            "text",
            "query",
            "title",
            "place",
            "person",
            "creator",
        }
        if strength >= 2.0 and formal:
            score += 0.12 if parameter.required else 0.06
        elif strength >= 1.4:
            score += 0.05
    score -= 0.05 * min(len(filling.missing), 3)
    values = [(n.first, n.last) for n in said.numbers] + [(m.first, m.last) for m in said.moments]
    values += [(p.first, p.last) for p in (*said.emails, *said.urls)]
    left = sum(1 for first, last in values if not filling.used & set(range(first, last)))
    score -= 0.08 * min(left, 3)
    return min(score, 0.4)


class Catalogues:
    """Prepares the tools of a session once, not with every answer."""

    def __init__(self, meaning: Meaning | None = None) -> None:
        self._prepared = lru_cache(maxsize=256)(lambda key: Catalogue(json.loads(key), meaning))

    def of(self, definitions: Sequence[Mapping[str, Any]]) -> Catalogue:
        """The prepared tools."""
        return self._prepared(json.dumps(list(definitions), default=str))
