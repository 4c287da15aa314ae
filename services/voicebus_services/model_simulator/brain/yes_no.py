"""Yes and no. The single home of reading booleans: what was asked for, what was denied, and what nobody mentioned."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from voicebus_services.model_simulator.brain.associations import similarity
from voicebus_services.model_simulator.brain.candidate import Candidate
from voicebus_services.model_simulator.brain.choice_words import sayings
from voicebus_services.model_simulator.brain.choices import related
from voicebus_services.model_simulator.brain.schema import Parameter
from voicebus_services.model_simulator.brain.tokens import STOP_WORDS, stem, stemmed_words, stems, words
from voicebus_services.model_simulator.brain.utterance import Utterance
from voicebus_services.model_simulator.brain.verbs import opposite

_NEGATIONS: Final = words("""no not without never disable skip exclude except""")
_TRUE_WORDS: Final = words("""on yes enable activate true enabled yep yeah sure""")
_FALSE_WORDS: Final = words("""off no disable deactivate false disabled nope kill extinguish cut shut""")
_SWITCH_NAMES: Final = stemmed_words("""on enabled enable power state active is turned switch value status""")
_FILLERS: Final = stemmed_words(
    """is with include includes included has should want wants wanted need needs needed be enable enabled allow allowed
    require required request requested only now add send use using do can must to for a the of us via per at in on
    my user get have"""
)
_SUPPRESSING: Final = stemmed_words(
    "silence silencing silent mute muted block pause paused suspend suppress quiet disturb"
)
_HOLDING: Final = stemmed_words("hold stop hush shush")
_RESUMING: Final = stemmed_words("unmute resume allow unblock unpause unsilence")
_MODE_NAMES: Final = stemmed_words("quiet silent mode dnd focus")
_AGAIN: Final = frozenset({"again", "repeat"})
_ASKS: Final = words("""with include including add plus want need also""")
_ENDS_DENIAL: Final = words("""but , . ; with and""")
_NOT_NEEDED: Final = re.compile(
    r"^(?:s )?(?:is|are|be)? ?(?:not|will not be|un) ?(?:need|necessary|requir|import|want)"
)
_DEFAULT_NO: Final = re.compile(
    r"otherwise|only if|only when|true if|true when|true to|true for|whether|\bif (?:the|they|it|he|she)\b|default",
    re.IGNORECASE,
)
_EMPTY: Final = stemmed_words(
    """true false whether user customer guest caller only ask asked say said otherwise set null default if yes no
    wants request requested needed"""
)


def is_switch(parameter: Parameter) -> bool:
    """Whether the parameter turns something on and off rather than adding something."""
    named = [w for w in parameter.words if w not in _FILLERS]
    return not named or all(w in _SWITCH_NAMES for w in parameter.words)


def booleans(parameter: Parameter, said: Utterance) -> Iterator[Candidate]:
    """Yes or no as the words have it."""
    if is_switch(parameter) or set(parameter.words) <= _SUPPRESSING:
        if _suppresses(parameter):
            yield from _silenced(said)
        else:
            yield from _switched(said)
        return
    if _AGAIN & set(parameter.words):
        yield from _repeated(said)
    named = [w for w in parameter.words if w not in _FILLERS]
    for at, token in enumerate(said.tokens):
        if token.low + said.low(at + 1) in named or token.low + said.low(at + 2) in named:  # "pick it up" for `pickup`
            yield Candidate(2.0, not _denied(said, at, at + 1), at, at + 1)
        worth = _told(said, at, named)
        if worth:
            yield Candidate(worth, not _denied(said, at, at + 1), at, at + 1)
        elif any(opposite(token.stem, w) or token.stem in {"un" + w, "non" + w, "in" + w} for w in named):
            yield Candidate(2.0, False, at, at + 1)
    yield from _said_for(parameter, said, tuple(named))
    glosses = _glosses(parameter)
    yield from _chosen(glosses, said)
    if not glosses:
        yield from _described(parameter, said)


def unmentioned(parameter: Parameter, *, mentioned: bool) -> bool | None:
    """The value of a required boolean that no word tells: no extra was asked for; a switch whose brightness or color
    is being set is on. None when it has to be asked for.

    Args:
        mentioned: whether an optional value beside it was given.
    """
    if is_switch(parameter):
        return True if mentioned else None
    return False if _DEFAULT_NO.search(parameter.description) else None


def _switched(said: Utterance) -> Iterator[Candidate]:
    for at, token in enumerate(said.tokens):
        if token.low in {"on", "off"} and not _is_particle(said, at):
            continue
        if token.low in _TRUE_WORDS or token.low in _FALSE_WORDS:
            worth = 2.5
            if said.word_before(at) in {"leav", "left", "still"} or any(
                said.stems[i] == "leav" for i in range(max(0, at - 6), at)
            ):
                worth = 0.8  # "I left the light on" tells how it is, not how it shall be
            if token.low == "no" and said.low(at + 1) == "more":
                worth = 2.6
            yield Candidate(worth, token.low in _TRUE_WORDS, at, at + 1)
        elif token.low in {"dark", "light"} and said.low(at - 1) in {"too", "pitch", "some", "so", "need", "more"}:
            yes = token.low != "light" or said.low(at - 2) != "no"
            yield Candidate(1.0 if yes else 2.6, yes, at, at + 1)


def _suppresses(parameter: Parameter) -> bool:
    """Whether being on keeps something else from happening, as the description tells ("True to silence …")."""
    if _SUPPRESSING & set(parameter.words):
        return True
    told = re.search(r"\btrue\b\s*(?:=|:|for|to|if|when|means|-)\s*([^,;.()]+)", parameter.description, re.IGNORECASE)
    if told is None:
        return bool(_SUPPRESSING & set(stems(parameter.description)))
    return bool((_SUPPRESSING | _HOLDING) & set(stems(told[1])))


def _silenced(said: Utterance) -> Iterator[Candidate]:
    """On and off of what suppresses something: "no more beeping" and "notifications off" switch it on, "notifications
    back on" switches it off; only where the mode itself is named are on and off its own.
    """
    itself = bool((_MODE_NAMES | _SUPPRESSING) & set(said.stems)) or "do not disturb" in said.text.lower()
    for candidate in _switched(said):
        low = said.low(candidate.first)
        if low == "no" and said.low(candidate.first + 1) == "more":
            yield Candidate(2.6, True, candidate.first, candidate.first + 2)
        elif low not in {"yes", "yep", "yeah", "sure", "no", "nope"}:
            yield replace(candidate, value=candidate.value if itself else not candidate.value)
    for at, stemmed in enumerate(said.stems):
        if stemmed in _SUPPRESSING - {"disturb", "quiet"} or stemmed in _HOLDING:
            yield Candidate(2.2, not _denied(said, at, at + 1), at, at + 1)
        elif stemmed in _RESUMING or (stemmed == "again" and not (_SUPPRESSING | _HOLDING) & set(said.stems)):
            yield Candidate(2.3, False, at, at + 1)


def _repeated(said: Utterance) -> Iterator[Candidate]:
    """ "I'd see it again" and "never again", the denial anywhere in the clause."""
    for at in range(len(said.tokens)):
        if said.low(at) != "again":
            continue
        start = next((i + 1 for i in range(at - 1, -1, -1) if said.low(i) in {",", ".", ";", "but"}), 0)
        denied = any(said.low(i) in {"not", "never", "no", "hardly"} for i in range(start, at))
        yield Candidate(2.2, not denied, at, at + 1)


def _is_particle(said: Utterance, at: int) -> bool:
    """Whether "on" or "off" switches rather than leads in a date or a place ("on Monday", "on the table")."""
    if any(m.first == at + 1 or m.first == at for m in said.moments):
        return False
    if said.low(at) == "off":
        return True
    verbs = {"turn", "switch", "put", "flip", "power", "be", "leav", "keep", "back", "com"}
    if any(s in verbs for s in said.stems[max(0, at - 6) : at]):
        return True
    following = said.low(at + 1)
    return not following.isalpha() or following in {"please", "in", "now", "for", "at", "and"}


def _told(said: Utterance, at: int, named: list[str]) -> float:
    """How surely the word at a place speaks of the boolean: the last word of its name, with the others near or asked
    for by "with" or "add".
    """
    token = said.tokens[at]
    if not token.is_word or token.low in STOP_WORDS:
        return 0.0
    near = max((_alike(token.stem, w) for w in named), default=0.0)
    if not near:
        return 0.0
    if len(named) == 1:
        return 2.5 * near
    others = [w for w in named if _alike(token.stem, w) < near]
    told = sum(any(_alike(s, w) for s in said.stems) for w in others)
    if told == len(others):
        return 2.5 * near
    is_head = _alike(token.stem, named[-1]) == near
    before = {said.low(i) for i in range(max(0, at - 4), at)}
    if is_head:
        return 1.8 * near if before & (_ASKS | _NEGATIONS) else 0.0
    return 1.6 if near == 1.0 else 0.0  # "I told the police" for `police_report`


def _alike(word: str, wanted: str) -> float:
    if word == wanted:
        return 1.0
    if related(word, wanted):
        return 0.9
    close = similarity(word, wanted)
    return 0.65 if close > 0.62 else 0.0


def _said_for(parameter: Parameter, said: Utterance, named: tuple[str, ...]) -> Iterator[Candidate]:
    """ "As soon as possible" for `urgent`, "there and back" for `round_trip`."""
    text = f" {' '.join(said.stems)} "
    for pattern in sayings(named, whole=True):
        for match in pattern.finditer(text):
            first = text.count(" ", 0, match.start()) - 1
            last = first + match[0].count(" ") + 1
            yield Candidate(2.0, not _denied(said, first, last), first, last)


def _glosses(parameter: Parameter) -> dict[bool, tuple[str, ...]]:
    """What yes and no stand for where the description says so: "true for delivery, false for pickup"."""
    found: dict[bool, tuple[str, ...]] = {}
    for value in (True, False):
        match = re.search(
            rf"\b{value}\b\s*(?:=|:|for|to|if|when|means|-)\s*([^,;.()]+)", parameter.description, re.IGNORECASE
        )
        if match:
            found[value] = tuple(s for s in stems(match[1]) if s not in _EMPTY)
    return found if len(found) == 2 and all(found.values()) else {}


def _chosen(glosses: dict[bool, tuple[str, ...]], said: Utterance) -> Iterator[Candidate]:
    text = f" {' '.join(said.stems)} "
    for value, gloss in glosses.items():
        others = set(glosses[not value])
        for at, token in enumerate(said.tokens):
            if token.stem in gloss and token.stem not in others:
                yield Candidate(2.0, value != _denied(said, at, at + 1), at, at + 1)
        for pattern in sayings(gloss):
            for match in pattern.finditer(text):
                first = text.count(" ", 0, match.start()) - 1
                last = first + match[0].count(" ") + 1
                yield Candidate(2.1, value != _denied(said, first, last), first, last)


def _described(parameter: Parameter, said: Utterance) -> Iterator[Candidate]:
    """A word that only the description has: "wheelchair" for `accessible`."""
    text = re.split(r"otherwise|;|\.", parameter.description, maxsplit=1)[0]
    telling = {
        s for w in re.findall(r"[a-z]+", text.lower())
        if w not in STOP_WORDS and (s := stem(w)) not in _EMPTY | _FILLERS and len(w) > 3
    }  # fmt: skip
    met = [at for at, s in enumerate(said.stems) if s in telling]
    if len({said.stems[at] for at in met}) >= 2 and len(telling) <= 4:
        yield Candidate(1.8, not _denied(said, met[0], met[0] + 1), met[0], met[0] + 1)
    for at, token in enumerate(said.tokens):
        if token.stem in telling and {said.low(i) for i in range(max(0, at - 4), at)} & (_ASKS | _NEGATIONS):
            yield Candidate(1.5, not _denied(said, at, at + 1), at, at + 1)


def _denied(said: Utterance, first: int, last: int) -> bool:
    """Whether the words before deny it ("no need for a receipt") or those behind it do ("is not necessary")."""
    for at in range(first - 1, max(-1, first - 6), -1):
        if said.low(at) in _NEGATIONS:
            return not (said.low(at) == "not" and said.low(at + 1) == "only")
        if said.low(at) in _ENDS_DENIAL:
            break
    return _NOT_NEEDED.match(" ".join(said.stems[last : last + 4])) is not None
