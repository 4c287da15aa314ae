"""What was said, taken apart: the single home of finding values and noun phrases in an utterance, for any tool.

Nothing here knows tools or schemas. A place in the utterance is a range of token numbers, first to last (exclusive).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Final

from voicebus_services.model_simulator.brain.dates import Moment, find_moments
from voicebus_services.model_simulator.brain.numbers import Number, find_numbers, spelled_digit
from voicebus_services.model_simulator.brain.tokens import (
    Token,
    as_written,
    clean,
    stemmed_words,
    tokenise,
    words,
)
from voicebus_services.model_simulator.brain.verbs import actions

_LONGEST: Final = 2_000  # characters; a request said aloud is far shorter

PREPOSITIONS: Final = words(
    """in at on for from to with by about of into onto under over near around until till via as called named titled
    saying because using between before after without since than above below per inside outside through across
    within regarding concerning towards toward during through off up down labelled labeled entitled against
    beside behind starting ending plus"""
)
DETERMINERS: Final = words(
    """a an the my our your his her their its this that these those some any another each every all"""
)
_BREAKS: Final = words(
    """mean means meant better best worse cheaper i me we us you he him she it they them myself is am are was were
    be been being do does did done doing being have has had will would shall should can could may might must let
    what which who whom whose when where why how please thanks thank hello hi hey okay ok so then there here not
    no yes and or but if just also too again now right really very want wants wanted like need needs get got
    give going gonna tell know much many more most less least well um uh if whether sorry actually maybe perhaps
    quickly soon asap currently today's goes go come"""
)
_PARTICLE_VERBS: Final = stemmed_words(
    """turn switch put log sign check pick look call wake set shut power fill dial back take crank bring warm cool
    heat"""
)
_PARTICLES: Final = words("""on off up down in out back""")
_COMMON_VERBS: Final = words(
    """turn switch toggle take bring drive pick put keep help try use leave come ask talk speak think hear feel fly
    travel stay eat drink sleep work wear cook watch read listen learn meet visit see look fix repair mend clean
    wash heat warm cool dim brighten invite hold wait reach contact run walk ride swim move sell rent hire lend
    borrow download upload install restart print scan sign say"""
)
_STREETS: Final = stemmed_words("""street avenue road lane drive square boulevard way court place terrace""")
_MEASURES: Final = stemmed_words(
    """km kilometers kilometres miles meters metres m kg kilograms kilos grams g pounds percent degrees liters
    litres inches feet cm mm hours minutes seconds"""
)
_SPOKEN_EMAIL: Final = re.compile(
    r"\b([a-z0-9_.+-]+(?: (?:dot|underscore|dash|plus) [a-z0-9]+)*) at ([a-z0-9-]+(?:(?: dot |\.)[a-z0-9-]+)*"
    r"(?: dot |\.)(?:com|org|net|edu|io|de|uk|fr|eu|gov|info|co|ai|dev|us|ca|ch|nl|es|it))\b",
    re.IGNORECASE,
)
_QUOTED: Final = re.compile(r"\"([^\"]+)\"|(?<![\w])'([^']{2,})'(?!\w)")
_EMAIL: Final = re.compile(r"^[\w.+-]+@[\w-]+(?:\.[\w-]+)+$")
_URL: Final = re.compile(
    r"^(?:https?://\S+|www\.\S+|[a-z0-9-]+(?:\.[a-z0-9-]+)*\.(?:com|org|net|io|dev|ai)(?:/\S*)?)$", re.IGNORECASE
)
_PHONE: Final = re.compile(r"(?<![\w])\+?\(?\d[\d\s().-]{5,}\d(?!\w)")


@dataclass(frozen=True, slots=True)
class Piece:
    """A value found in the utterance: an e-mail address, an address of the web, a phone number, a quotation or a
    code.
    """

    first: int
    last: int
    value: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """A noun phrase without its article.

    Attributes:
        preposition: the one before it, "" for an object that follows its verb.
        chain: number of the list it belongs to ("Anna and Bob" is one list of two).
        cased: whether it is written as a name inside a sentence that tells names by capitals.
    """

    first: int
    last: int
    preposition: str
    chain: int
    cased: bool = False


class Utterance:
    """One utterance with everything found in it.

    Args:
        said: as transcribed or typed.
        today: what "tomorrow" is counted from.
    """

    def __init__(self, said: str, today: date) -> None:
        self._written = _mend(clean(said[:_LONGEST]))
        self.text = self._written.replace("\u00a0", " ")
        self.today = today
        self.tokens: list[Token] = tokenise(self.text)
        self.stems: list[str] = [t.stem for t in self.tokens]
        self.numbers: list[Number] = find_numbers(self.tokens)
        self.moments: list[Moment] = find_moments(self.text, self.tokens, today)
        self.emails = [Piece(i, i + 1, t.text.rstrip(".")) for i, t in enumerate(self.tokens) if _EMAIL.match(t.low)]
        self.urls = [
            Piece(*self.range_of(m.start(), m.end()), m[0].rstrip(".,?!"))
            for m in re.finditer(r"\S+", self.text)
            if _URL.match(m[0].rstrip(".,?!")) and "@" not in m[0]
        ]
        self.quotes = [Piece(*self.range_of(m.start(), m.end()), m[1] or m[2]) for m in _QUOTED.finditer(self.text)]
        self.phones = [Piece(*self.range_of(m.start(), m.end()), m[0].strip()) for m in _PHONE.finditer(self.text)]
        self.codes = list(self._codes())
        # Capitals tell names only where somebody used them: a transcript all in lower case says nothing.
        self.tells_names = any(
            t.text[0].isupper() and t.low not in {"i", "pm", "am"} for t in self.tokens[1:]
        ) and not (self.text.isupper())
        self.house_numbers: set[int] = set()
        self.chunks = self._chunks(with_moments=False)
        # A title may be a word of the calendar ("Yesterday"); only tools that take no date look here.
        self.open_chunks = self._chunks(with_moments=True) if self.moments else self.chunks

    def range_of(self, start: int, end: int) -> tuple[int, int]:
        """The tokens between two places of the text."""
        inside = [i for i, t in enumerate(self.tokens) if t.start >= start and t.end <= end]
        return (inside[0], inside[-1] + 1) if inside else (0, 0)

    def slice(self, first: int, last: int) -> str:
        """The text of some tokens as it was written."""
        return as_written(self._written[self.tokens[first].start : self.tokens[last - 1].end]) if first < last else ""

    def low(self, at: int) -> str:
        """The word at a place in lower case; "" outside of the utterance."""
        return self.tokens[at].low if 0 <= at < len(self.tokens) else ""

    def word_before(self, at: int) -> str:
        """Stem of the word before a place, articles and "is", "number", "#" skipped."""
        at -= 1
        while at >= 0 and self.tokens[at].low in DETERMINERS | {
            "is",
            "of",
            "number",
            "#",
            ":",
            "to",
            "as",
            "be",
            "are",
            "no",
            ".",
        }:
            at -= 1
        return self.stems[at] if at >= 0 else ""

    def _codes(self) -> Iterable[Piece]:
        """ "AB-123", "A B 1 2 3", "4 5 6 7", "#42": runs of letters and digits that name a thing."""
        at = 0
        while at < len(self.tokens):
            end, digits, joined, spaced = at, 0, "", False
            while end < len(self.tokens):
                token = self.tokens[end]
                contiguous = end > at and self.tokens[end - 1].end == token.start
                if (
                    token.text in "-#/_."
                    and end > at
                    and end + 1 < len(self.tokens)
                    and contiguous
                    and self.tokens[end + 1].start == token.end
                    and self._code_part(end + 1)
                ):
                    joined += token.text
                    end += 1
                    continue
                part = self._code_part(end)
                if not part or (
                    end == at
                    and token.text in {"a", "I", "i", "A"}
                    and not (self._code_part(end + 1) and self._code_part(end + 2))
                ):
                    break
                spaced = spaced or (end > at and not contiguous)
                joined += part
                digits += sum(c.isdigit() for c in part)
                end += 1
            single_letters = all(len(t.low) == 1 for t in self.tokens[at:end])
            if end > at and (digits or (single_letters and end - at >= 3)):
                value = re.sub(r"[-./]", "", joined) if spaced or (single_letters and end - at > 2) else joined
                yield Piece(at, end, value)
            at = max(end, at + 1)

    def _code_part(self, at: int) -> str:
        if at >= len(self.tokens):
            return ""
        token = self.tokens[at]
        if spelled := spelled_digit(token):
            return spelled
        if re.fullmatch(r"\d+|(?=\w*\d)(?=\w*[A-Za-z])\w{2,}", token.text) and not re.fullmatch(
            r"\d+(?:st|nd|rd|th|am|pm)", token.low
        ):
            return token.text.upper() if any(c.isdigit() for c in token.text) and token.text.isalnum() else token.text
        # A short word in capitals belongs to a code when digits follow it: "ABC 123".
        if re.fullmatch(r"[A-Z]{2,5}", token.text) and at + 1 < len(self.tokens):
            following = self.tokens[at + 1]
            if following.low.isdigit() or (
                following.text == "-" and at + 2 < len(self.tokens) and self.tokens[at + 2].low[:1].isdigit()
            ):
                return token.text
        return ""

    def _chunks(self, *, with_moments: bool) -> list[Chunk]:
        barred = set() if with_moments else {i for m in self.moments for i in range(m.first, m.last)}
        barred |= {i for p in [*self.emails, *self.urls, *self.quotes] for i in range(p.first, p.last)}
        chunks: list[Chunk] = []
        start, preposition, chain, linked = 0, "", 0, False
        for at in range(len(self.tokens) + 1):
            stops = at == len(self.tokens) or at in barred or self._stops(at)
            if not stops:
                continue
            start = self._after_number(start, at)
            if start < at:
                chain = chain if linked and chunks else chain + 1
                inherited = chunks[-1].preposition if linked and chunks and not preposition else preposition
                chunks.append(Chunk(start, at, inherited, chain, self._cased(start, at)))
                linked, preposition = False, ""
            start = at + 1
            if at == len(self.tokens):
                break
            word = self.low(at)
            if at in barred:
                preposition, linked = "", False
            elif word in {"and", ",", "or", "&", "plus"}:
                linked = bool(chunks) and chunks[-1].last >= at - 1
            elif word in PREPOSITIONS and not (word in _PARTICLES and self._particle(at)):
                linked = linked and bool(chunks) and chunks[-1].preposition == word
                preposition = word
            elif word not in DETERMINERS:
                preposition, linked = ("" if word not in {"me", "us"} or not preposition else preposition), False
        return chunks

    def _after_number(self, start: int, end: int) -> int:
        """The start of a phrase behind its leading number; a house number stays ("12 Baker Street")."""
        number = next((n for n in self.numbers if n.first == start and n.last <= end and not n.ordinal), None)
        if number is None:
            return start
        rest = self.tokens[number.last : end]
        street = any(t.stem in _STREETS for t in rest) or (
            len(rest) > 1 and all(t.text[0].isupper() for t in rest) and self.tells_names
        )
        if number.literal and street:
            self.house_numbers.add(start)
            return start
        # "20 km": the unit goes with its number.
        measured = number.unit in _MEASURES and number.last < end and self.stems[number.last] == number.unit
        return number.last + 1 if measured else number.last

    def _particle(self, at: int) -> bool:
        """Whether the word belongs to the verb: "turn on", "switch it off"."""
        near = self.stems[max(0, at - 2) : at]
        return bool(near) and (
            near[-1] in _PARTICLE_VERBS or (len(near) == 2 and near[0] in _PARTICLE_VERBS and near[1] in {"it", "them"})
        )

    def _stops(self, at: int) -> bool:
        token = self.tokens[at]
        if not token.is_word and token.text not in "-'&.":
            return True
        if token.text in "-.&'":
            return not (
                0 < at < len(self.tokens) - 1
                and self.tokens[at - 1].end == token.start
                and self.tokens[at + 1].start == token.end
            )
        if token.low in _BREAKS and not (
            token.text[0].isupper() and at > 0 and token.low != "i" and len(token.low) > 2
        ):
            return True
        if token.low in PREPOSITIONS | DETERMINERS:
            return not (at > 0 and token.text[0].isupper() and self.tokens[at - 1].text[0].isupper() and at > 1)
        if at > 1 and token.low == token.text and self.tokens[at - 1].text[0].isupper() and actions(token.stem):
            return True  # the verb after a name: "Can Anna see me"
        return at == self._head_verb(at)

    def _head_verb(self, at: int) -> int:
        """The place itself where it holds the verb of a request: first word, or after "to", "please", "you", "and"."""
        if not actions(self.stems[at]) and self.tokens[at].low not in _COMMON_VERBS:
            return -1
        before = self.low(at - 1)
        if at == 0 or before in {
            "please",
            "you",
            "i",
            "we",
            "let",
            "us",
            "just",
            "also",
            "then",
            ",",
            ".",
            "?",
            "!",
            "now",
            "hey",
            "ok",
            "okay",
        }:
            return at
        if before in {"to", "and"}:
            return (
                at
                if self.low(at - 2) in {"want", "like", "need", "you", "me", "have", "love", "wants", "trying", "going"}
                or before == "and"
                else -1
            )
        return -1

    def _cased(self, first: int, last: int) -> bool:
        return any(t.text[0].isupper() for t in self.tokens[max(first, 1) : last] if t.is_word)


def _mend(text: str) -> str:
    """Spoken addresses put into writing: "ann dot lee at example dot com" becomes an e-mail address."""

    def joined(match: re.Match[str]) -> str:
        name, host = match[1], match[2]
        for word, sign in ((" dot ", "."), (" underscore ", "_"), (" dash ", "-"), (" plus ", "+")):
            name, host = re.sub(word, sign, name, flags=re.IGNORECASE), re.sub(word, sign, host, flags=re.IGNORECASE)
        return f"{name}@{host}".lower()

    return _SPOKEN_EMAIL.sub(joined, text)
