"""Names, things and free text: the single home of reading string values that are told by their place in the sentence."""

import re
from collections.abc import Iterator
from typing import Final

from voicebus_services.model_simulator.brain.associations import similarity
from voicebus_services.model_simulator.brain.candidates import Candidate, side
from voicebus_services.model_simulator.brain.concepts import actions, same_concept
from voicebus_services.model_simulator.brain.schema import Parameter, Tool
from voicebus_services.model_simulator.brain.tokens import split_name, stem, stemmed_words, words
from voicebus_services.model_simulator.brain.utterance import DETERMINERS, PREPOSITIONS, Chunk, Utterance

# Which kinds of value follow which preposition, best first.
_FOLLOWS: Final = {
    "in": ("place", "language", "currency", "color", "category"),
    "at": ("place", "organization", "time"),
    "on": ("thing", "query", "date", "title"),
    "for": ("thing", "place", "person", "query", "title", "text", "organization"),
    "from": ("place", "person", "organization", "thing"),
    "to": ("place", "person", "language", "thing", "title"),
    "into": ("language", "currency", "thing", "place"),
    "with": ("person", "thing", "organization"),
    "by": ("creator", "person"),
    "about": ("query", "text", "title", "thing"),
    "regarding": ("query", "text", "title"),
    "of": ("thing", "place", "organization", "person", "query", "title", "creator"),
    "near": ("place",), "around": ("place",), "inside": ("place",), "outside": ("place",), "through": ("place",),
    "called": ("title", "person", "thing"), "named": ("title", "person", "thing"), "titled": ("title",),
    "labelled": ("title",), "labeled": ("title",), "entitled": ("title",),
    "as": ("thing", "person", "title"), "using": ("thing",), "via": ("thing", "place"), "under": ("person", "thing"),
    "because": ("text",), "saying": ("text",), "without": ("thing",), "against": ("thing",),
}  # fmt: skip
_NAMED_KINDS: Final = frozenset({"place", "person", "creator", "organization"})
_HEADS_KEPT: Final = stemmed_words("""room street park station airport restaurant hotel museum bridge beach""")
_TITLES: Final = words("""dr doctor mr mrs ms miss professor prof sir saint uncle aunt""")
_TEXT_MARKS: Final = re.compile(
    r"\b(?:saying(?: that)?|that says|which says|that reads|says? that|to say(?: that)?|telling (?:him|her|them|\w+)(?: that| to)?"
    r"|and tell (?:him|her|them)(?: that)?|and say(?: that)?|with the (?:message|text|note|words|body|description)(?: that| saying)?"
    r"|(?:message|text|note|body|content|description|comment|saying|reason|title|question)\s*:)\s*,?\s*",
    re.IGNORECASE,
)
_HOW_TO_SAY: Final = re.compile(r"\bhow (?:do|would|can|should) (?:you|i|we|one) say\s+", re.IGNORECASE)
_TELL: Final = re.compile(
    r"(?<!\ba )(?<!\ban )(?<!\bthe )\b(?:tell|text|message|inform|remind|ask|let|notify)\s+(?!(?:me|us|to|for|from|saying|that|of|about|with|you)\b)(?:my |the )?([\w']+(?: [A-Z][\w']+)?)\s+(?:know |that |to know |about )?",
    re.IGNORECASE,
)
_TODO_MARKS: Final = re.compile(
    r"\b(?:remind me|remember|reminder|(?:a |new )?(?:task|to-?do|todo|note|memo)(?: for me)?|don't (?:let me )?forget|do not (?:let me )?forget|note down|write down|jot down)(?:\s+(?:to|that|about|of|saying)\b|\s*[:,])\s*",
    re.IGNORECASE,
)
_CAUSE: Final = re.compile(r"\b(?:because(?: of)?|since|due to|as|the reason (?:is|being)(?: that)?)\s+", re.IGNORECASE)
_PREFIX: Final = re.compile(
    r"^(?:(?:hey|hi|hello|please|ok|okay|so|well|um|uh|and|also|then|now|just|yes|yeah|good (?:morning|afternoon|evening)|there)[,.!]*\s+)*"
    r"(?:(?:(?:can|could|would|will) (?:you|i|we)(?: please| kindly| just| also)?|would you mind|i(?: would|'d)? (?:like|want|need|love|have)(?: you)? to|i am (?:trying|looking|going) to|i am looking for"
    r"|i (?:would like|want|need|have)|let us|please|do you know|can i get|may i (?:have|get)|help me(?: to)?|is it possible to)\s+)*",
    re.IGNORECASE,
)
_SEARCH: Final = re.compile(
    r"^(?:(?:search|look|browse|google|check|query)(?: the| our| your| my)?(?: \w+)?? (?:for|up|about|on)|find(?: out)?(?: me)?(?: about)?|look up|search|google|show(?: me)?|get(?: me)?|give me|tell me(?: about)?|what (?:is|are)(?: the)?|who (?:is|was)|explain|define|look for|i have a question about)\s+",
    re.IGNORECASE,
)


def phrase_candidates(parameter: Parameter, tool: Tool, said: Utterance, used: frozenset[int]) -> list[Candidate]:
    """Candidates for a string parameter among the noun phrases outside of ``used`` tokens. Best first."""
    found = [c for quote in said.quotes if (c := _quoted(parameter, quote.first, quote.last, quote.value))]
    dated = any(p.kind in {"date", "datetime", "time", "day"} for p in tool.parameters)
    chunks = said.open_chunks if parameter.kind == "title" and not dated else said.chunks
    for chunk in chunks:
        first, last = _trimmed(parameter, tool, said, chunk, used)
        if first < last:
            score = _fit(parameter, tool, said, chunk, first, last)
            if score > 0:
                found.append(Candidate(score, spelled(parameter, said, first, last), first, last))
    if said.tells_names and parameter.kind in {"title", "creator", "query", "place", "thing"}:
        found += _long_names(parameter, tool, said, used, found)
    whole = [c for c in found if c.long]
    found = [c for c in found if c.long or not any(w.first <= c.first and c.last <= w.last for w in whole)]
    return sorted(found, key=lambda c: (-round(c.score, 6), c.first, -c.last))


def _quoted(parameter: Parameter, first: int, last: int, value: str) -> Candidate | None:
    worth = {"text": 4.0, "title": 4.0, "query": 4.0}.get(parameter.kind, 2.0)
    return Candidate(worth, value, first, last)


def spelled(parameter: Parameter, said: Utterance, first: int, last: int) -> str:
    """The words as the value: names of people and places get their capitals where the transcript lost them."""
    text = said.slice(first, last).strip(' ,.?!"')
    if (
        last < len(said.tokens)
        and said.low(last).isalpha()
        and said.low(last) not in PREPOSITIONS | DETERMINERS | {"and"}
    ):
        text = text.removesuffix("'s")  # "Anna's salary" speaks of Anna, "at Luigi's" of Luigi's
    if (
        parameter.kind in {"place", "person", "creator"}
        and text == text.lower()
        and not said.tells_names
        and text.replace(" ", "").isalpha()
    ):
        relation = said.low(first - 1) in {"my", "the", "our", "a", "an"}
        if not relation:
            return " ".join(w if w in {"of", "the", "de", "la"} else w[:1].upper() + w[1:] for w in text.split(" "))
    if parameter.kind == "language":
        return text[:1].upper() + text[1:]
    return text


def _tool_words(tool: Tool) -> frozenset[str]:
    return frozenset(stem(w) for w in split_name(tool.name))


def _trimmed(parameter: Parameter, tool: Tool, said: Utterance, chunk: Chunk, used: frozenset[int]) -> tuple[int, int]:
    """The chunk without tokens that are used, verbs of the request, and words that only name the tool or the parameter."""
    first, last = chunk.first, chunk.last
    while first < last and first in used:
        first += 1
    while last > first and last - 1 in used:
        last -= 1
    if any(i in used for i in range(first, last)):
        last = next(i for i in range(first, last) if i in used)
    names = _tool_words(tool)
    labels = set(parameter.words) - _HEADS_KEPT
    head = stem(split_name(tool.name)[-1]) if split_name(tool.name) else ""
    while first < last and _drops_at_start(said, chunk, first, last, names, labels):
        first += 1
    while first < last and _drops_at_end(said, first, last, names, labels, head):
        last -= 1
    return first, last


def _drops_at_start(
    said: Utterance, chunk: Chunk, first: int, last: int, names: frozenset[str], labels: set[str]
) -> bool:
    word = said.tokens[first]
    if word.low in _TITLES and first + 1 < last:
        return False
    if not word.is_word or word.stem in labels or word.low in {"is", "number"}:
        return True
    if word.stem in names:
        return not _name_goes_on(said, first, last)
    verb = first == chunk.first and actions(word.stem) and not word.text[0].isupper()
    return bool(verb) and first + 1 < last and _request_start(said, first)


def _drops_at_end(said: Utterance, first: int, last: int, names: frozenset[str], labels: set[str], head: str) -> bool:
    word = said.tokens[last - 1]
    if not word.is_word or word.low in {"please", "now", "instead", "too", "back"}:
        return True
    if (
        last - first > 1
        and last > 2
        and said.tells_names
        and all(t.text[0].isupper() for t in said.tokens[last - 2 : last])
    ):
        return False  # the last word of a name
    if word.stem in labels or word.stem in names - _HEADS_KEPT:
        return True
    return last - first > 1 and word.stem not in _HEADS_KEPT and same_concept(word.stem, head)


def _name_goes_on(said: Utterance, first: int, last: int) -> bool:
    """Whether a tool word opens a name written with capitals ("Weather Report")."""
    return (
        first > 0
        and last - first > 1
        and said.tokens[first].text[0].isupper()
        and said.tokens[first + 1].text[0].isupper()
    )


def _request_start(said: Utterance, at: int) -> bool:
    return at == 0 or said.low(at - 1) in {"please", "you", "to", "and", ",", "i", "we", "then", "me"}


def _fit(parameter: Parameter, tool: Tool, said: Utterance, chunk: Chunk, first: int, last: int) -> float:
    """How well the phrase fits by its preposition, its neighbours, its meaning and its capitals."""
    score = 0.6
    kind, preposition = parameter.kind, chunk.preposition
    if kind == "language" and preposition not in {"in", "into", "to", "from"}:
        return 0.0
    if said.low(first - 1) in {"what", "which", "how", "whose"}:
        score -= 1.5  # "what time", "which day" ask for a value and are none
    if said.low(first - 1) in {"called", "named", "titled"} and kind in {"title", "person", "thing"}:
        score += 2.0
    if preposition:
        follows = _FOLLOWS.get(preposition, ())
        if kind in follows:
            score += 1.4 - 0.15 * follows.index(kind)
        elif kind != "thing":
            score -= 0.5
        if preposition in parameter.words:
            score += 1.5
        chain_start = next(
            c for c in (said.chunks if chunk in said.chunks else said.open_chunks) if c.chain == chunk.chain
        )
        score += side(parameter, said, chain_start.first)
    else:
        if kind in {"thing", "title", "query", "person"}:
            score += 0.5
        if kind == "place" and not chunk.cased:
            score -= 0.3
        if parameter.role in {"from", "to"} and kind == "place":
            score -= 0.3
    # "account savings", "savings account": the parameter's name beside the value.
    labels = set(parameter.words) - {"nam", "id", "typ"}
    if said.word_before(first) in labels or (last < len(said.tokens) and said.stems[last] in labels):
        score += 1.2
    if said.low(first - 1) == "is" and said.word_before(first - 1) in labels:
        score += 1.5
    words = [said.stems[i] for i in range(first, last) if said.tokens[i].is_word]
    meaning = [w for w in dict.fromkeys((*parameter.words, *parameter.hints[:8])) if len(w) > 2]
    nearest = max((similarity(w, m) for w in words[-2:] for m in meaning), default=0.0)
    score += max(0.0, nearest - 0.2) * 1.6
    if any(same_concept(w, m) for w in words[-1:] for m in parameter.words):
        score += 0.5
    if kind in _NAMED_KINDS and not chunk.cased and words and all(
        any(same_concept(w, m) for m in parameter.words) for w in words
    ):  # fmt: skip
        score -= 1.5  # "the town" is no city's name
    if chunk.cased:
        score += 0.6 if kind in _NAMED_KINDS | {"title"} else 0.1
    elif said.tells_names and kind in _NAMED_KINDS and said.low(first - 1) not in {"my"}:
        score -= 0.5
    if said.low(last) == "of" and said.low(first - 1).isdigit() | any(n.last == first for n in said.numbers):
        score -= 1.5  # "sixty tablets of aspirin" asks for aspirin
    if kind == "person" and said.low(first - 1) == "my":
        score += 0.2
    named = _described_words(tool)
    if words and all(w in named for w in words):
        score -= 1.3
    if first == 0 and len(words) == 1 and actions(words[0]):
        score -= 1.5
    return score


def _described_words(tool: Tool) -> frozenset[str]:
    return frozenset(stem(w) for w in re.findall(r"[a-z]+", tool.description.lower())) | _tool_words(tool)


_JOINERS: Final = words("""of the and de la del & a in on to for - '""")


def _long_names(
    parameter: Parameter, tool: Tool, said: Utterance, used: frozenset[int], short: list[Candidate]
) -> Iterator[Candidate]:
    """Names that hold small words: "Lord of the Rings", "Simon and Garfunkel"."""
    joiners = (
        _JOINERS
        if parameter.kind == "title"
        else {"of", "the", "de", "la", "del", "&", "-", "'"} | ({"and"} if parameter.kind == "creator" else set())
    )
    for candidate in short:
        first, last = candidate.first, candidate.last
        if said.low(first - 1) == "the" and said.tokens[first - 1].text == "The" and first > 1:
            first -= 1
        while True:
            end = last
            while end < len(said.tokens) and said.low(end) in joiners and end not in used:
                end += 1
            if end == last or end >= len(said.tokens) or end in used or not said.tokens[end].text[0].isupper():
                break
            if not said.tokens[last - 1].text[0].isupper():
                break
            while (
                end < len(said.tokens)
                and said.tokens[end].is_word
                and said.tokens[end].text[0].isupper()
                and end not in used
            ):
                end += 1
            last = end
        if last > candidate.last:
            yield Candidate(candidate.score + 0.3, said.slice(first, last), first, last, long=True)


# --- free text -------------------------------------------------------------------------------------------------------


def labelled_text(parameter: Parameter, said: Utterance) -> tuple[int, int] | None:
    """The place of text that follows the parameter's own name ("with the subject lunch"); None without it."""
    if parameter.kind not in {"text", "title", "query", "thing"}:
        return None
    label = r"[ _]".join(re.escape(word) for word in split_name(parameter.name))
    match = re.search(
        rf"\b(?:with|using|under|and|set|make|,) (?:the |a |an )?{label}(?: is| of| set to| to|:)? (.+?)(?=,| and | with (?:the|a) |\.|$)",
        said.text, re.IGNORECASE,
    )  # fmt: skip
    if match is None:
        return None
    first, last = said.range_of(match.start(1), match.end(1))
    return (first, last) if first < last else None


def marked_text(parameter: Parameter, said: Utterance) -> tuple[int, int] | None:
    """The place of text that the utterance itself marks ("saying …", "remind me to …", quotes); None without a mark.

    What stands there is claimed before other parameters look for values in it.
    """
    if parameter.kind not in {"text", "title", "query"}:
        return None
    for quote in said.quotes:
        return quote.first, quote.last
    marks = [_TEXT_MARKS, _HOW_TO_SAY] if parameter.kind == "text" else []
    marks.append(_TODO_MARKS)
    if parameter.kind == "text":
        marks += [_CAUSE, _TELL]
    for mark in marks:
        match = mark.search(said.text)
        if match is None:
            continue
        start = match.end()
        inside = [i for i, t in enumerate(said.tokens) if t.start >= start]
        if inside and len(said.tokens) - inside[0] >= 1:
            return _without_edges(said, inside[0], len(said.tokens), frozenset())
    return None


def free_text(parameter: Parameter, tool: Tool, said: Utterance, used: frozenset[int]) -> tuple[int, int] | None:
    """The place of what remains when the request's own words and the tokens used for other parameters are taken away."""
    if parameter.kind == "text" and (place := telling_clause(tool, said)) is not None:
        return _without_edges(said, *place, used)
    prefix = _PREFIX.match(said.text)
    start = prefix.end() if prefix else 0
    first = next((i for i, t in enumerate(said.tokens) if t.start >= start), len(said.tokens))
    last = len(said.tokens)
    if parameter.kind == "query" and (match := _SEARCH.match(said.text[start:])) is not None:
        first = next((i for i, t in enumerate(said.tokens) if t.start >= start + match.end()), last)
    names = _tool_words(tool) | set(parameter.words)
    seen_action, begin = False, first
    while first < last:
        word = said.tokens[first]
        is_action = bool(actions(word.stem)) and not seen_action
        if (
            first in used or not word.is_word or word.low in DETERMINERS or word.stem in names or is_action
            or word.low in _LEADS_IN
        ):  # fmt: skip
            seen_action = seen_action or is_action
            first += 1
            continue
        break
    if parameter.kind == "text" and first > begin and said.low(first - 1) in DETERMINERS - {"a", "an"}:
        first -= 1  # "the printer is jammed" keeps its article
    first, last = _without_edges(said, first, last, used)
    return (first, last) if first < last else None


_LEADS_IN: Final = words("""for to about that of me down on saying called is us some in up with regarding""")


def telling_clause(tool: Tool, said: Utterance) -> tuple[int, int] | None:
    """The clauses that tell something, where another clause only asks for the tool ("My screen is dark, please open a ticket")."""
    clauses: list[tuple[int, int]] = []
    start = 0
    for at, token in enumerate([*said.tokens, None]):
        if token is None or token.text in ",.;:!?":
            if start < at:
                clauses.append((start, at))
            start = at + 1
    names = _tool_words(tool) | {word for p in tool.parameters for word in p.words}
    asking = [c for c in clauses if _asks(said, c, names)]
    telling = [c for c in clauses if c not in asking and c[1] - c[0] > 1]
    if not asking or not telling:
        return None
    return telling[0][0], telling[-1][1]


def _asks(said: Utterance, clause: tuple[int, int], names: frozenset[str]) -> bool:
    """Whether a clause is the request itself: a verb of action at its head, or words of the tool and a polite opening."""
    text = said.slice(*clause)
    prefix = _PREFIX.match(text + " ")
    rest = text[prefix.end() if prefix else 0 :].split()
    words = {said.stems[i] for i in range(*clause)}
    if rest and actions(stem(rest[0].lower().strip(",."))):
        return True
    return bool(prefix and prefix.end() and (words & names or not rest)) or any(
        same_concept(w, n) for w in words for n in names if clause[1] - clause[0] <= 4
    )


def _without_edges(said: Utterance, first: int, last: int, used: frozenset[int]) -> tuple[int, int]:
    """The place without used tokens, small words, punctuation and politeness at both ends."""
    while first < last and (first in used or not said.tokens[first].is_word):
        first += 1
    interior = [i for i in range(first, last) if i in used]
    if interior:
        run = interior[0]
        tail = [i for i in range(run, last) if i not in used and said.tokens[i].is_word]
        if all(
            said.low(i)
            in {
                "at",
                "on",
                "in",
                "to",
                "for",
                "by",
                "the",
                "and",
                "of",
                "into",
                "from",
                "please",
                "with",
                "starting",
                "until",
                "as",
            }
            for i in tail
        ):
            last = run
    while last > first and (
        last - 1 in used or not said.tokens[last - 1].is_word
        or said.low(last - 1) in {"please", "thanks", "at", "on", "in", "to", "for", "by", "the", "and", "of", "into", "from", "with"}
    ):  # fmt: skip
        last -= 1
    return first, last
