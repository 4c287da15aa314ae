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
from math import log
from typing import Any, Final, NamedTuple

from voicebus_services.model_simulator.brain.associations import similarity
from voicebus_services.model_simulator.brain.concepts import same_concept
from voicebus_services.model_simulator.brain.idioms import idioms
from voicebus_services.model_simulator.brain.meaning import Likeness, ToolMeanings, choose
from voicebus_services.model_simulator.brain.profiles import Profile, cosine, direction_of, read_profile
from voicebus_services.model_simulator.brain.schema import Tool, read_tool
from voicebus_services.model_simulator.brain.slots import Filling, fill
from voicebus_services.model_simulator.brain.tokens import STOP_WORDS, split_name, stem, words
from voicebus_services.model_simulator.brain.utterance import Utterance
from voicebus_services.model_simulator.brain.verbs import actions, opposite
from voicebus_services.model_simulator.brains import Meaning

SURE: Final = 0.62
ENOUGH: Final = 0.34

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
_FACT: Final = re.compile(
    r"^(?:and |so |ok |okay |hey |please |hi |hello,? )*(?:how (?:much|many|long|far|late|old|warm|hot|cold|big)|what"
    r"|when|where|which|who|did|does|is|are there|has|have|was)\b",
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


class _Weights(NamedTuple):
    """What each kind of evidence is worth, in logits, against a request for none of the tools (`no_tool`)."""

    words: float
    agreement: float
    fit: float
    told: float
    fact: float
    whole: float
    closest: float
    no_tool: float


# Where there is a sentence model: a conditional logit over the session's tools and "none of them", fitted with a ridge
# of 0.02 to some 470 requests over 120 tools (those of the test's own tables with a weight of 0.3) and 40 sentences of
# small talk with each set of tools, then rounded, and `no_tool` lowered by half a logit since set phrases of small talk
# are known beside it. Fitted without one pair of tables, it gets 79, 80 and 75 of that pair's 80 right.
_WEIGHTS: Final = _Weights(
    words=7.0, agreement=2.5, fit=10.0, told=3.6, fact=1.6, whole=11.5, closest=10.5, no_tool=10.0
)  # fmt: skip
_SCALE: Final = 0.12  # odds of ten to one are SURE
_RELATED: Final = 0.2


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
        self.profiles = [read_profile(tool) for tool in tools]
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
        choose(profile.tool, filling, like)
        weighed = (
            _WEIGHTS.words * score
            + _WEIGHTS.agreement * agreement
            + _WEIGHTS.fit * fit
            + _WEIGHTS.told * _told(profile.tool, filling)
            + _WEIGHTS.whole * like.whole
            + _WEIGHTS.closest * like.closest
            - _WEIGHTS.fact * _asks_of_a_doer(profile, said)
            - _WEIGHTS.no_tool
        )
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
            + 0.25 * max(0.0, cosine(direction_of(tuple(content)), profile.direction) - 0.15)
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


def _told(tool: Tool, filling: Filling) -> float:
    """The share of what the tool needs that was said; a half where it needs nothing."""
    needed = len(tool.required)
    return (needed - len(filling.missing)) / needed if needed else 0.5


def _asks_of_a_doer(profile: Profile, said: Utterance) -> bool:
    """Whether a fact is asked for and the tool tells none: "How much charge is left?" sets no limit of charging."""
    return bool(profile.actions) and not profile.actions & {"read", "convert"} and bool(_FACT.match(said.text))


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
