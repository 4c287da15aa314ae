"""Free text: the single home of finding the words that are to be written, said, remembered or searched."""

import re
from collections.abc import Set as AbstractSet
from typing import Final

from voicebus_services.model_simulator.brain.concepts import same_concept
from voicebus_services.model_simulator.brain.phrases import tool_words
from voicebus_services.model_simulator.brain.schema import Parameter, Tool
from voicebus_services.model_simulator.brain.tokens import STOP_WORDS, split_name, stem, stemmed_words, words
from voicebus_services.model_simulator.brain.utterance import DETERMINERS, Utterance
from voicebus_services.model_simulator.brain.verbs import actions

_SMALL_WORDS: Final = words(
    """at on in to for by the and of into from please thanks with starting until as under over below above than about
    around between is are a an"""
)
_TEXT_MARKS: Final = re.compile(
    r"\b(?:saying(?: that)?|that says|which says|that reads|says? that|to say(?: that)?|telling (?:him|her|them"
    r"|\w+)(?: that| to)?"
    r"|and tell (?:him|her|them)(?: that)?|and say(?: that)?|with the (?:message|text|note|words|body"
    r"|description)(?: that| saying)?"
    r"|(?:message|text|note|body|content|description|comment|saying|reason|title|question)\s*:)\s*,?\s*",
    re.IGNORECASE,
)
_HOW_TO_SAY: Final = re.compile(
    r"\bhow (?:do|would|can|should) (?:you|i|we|one) say,?\s+"
    r"|\bwhat is (?:the )?(?-i:[A-Z])\w+ (?:word |phrase )?for\s+",
    re.IGNORECASE,
)
_TELL: Final = re.compile(
    r"(?<!\ba )(?<!\ban )(?<!\bthe )\b(?:tell|text|message|inform|remind|ask|let|notify)\s+(?!(?:me|us|to|for"
    r"|from|saying|that|of|about|with|you)\b)(?:my |the )?([\w']+(?: (?-i:[A-Z])[\w']+)?)\s+(?:to )?(?:know )?"
    r"(?:by (?:e-?mail|text|phone|sms|message) )?(?:(?:in|from|at) [\w ]{1,20}?(?= that ) )?(?:that |about )?",
    re.IGNORECASE,
)
_TODO_MARKS: Final = re.compile(
    r"\b(?:remind me|remember|reminder|(?:a |new )?(?:task|to-?do|todo|note|memo)"
    r"(?: for (?:me|(?-i:[A-Z])\w+(?: (?-i:[A-Z])\w+)?))?|reminder for [^.,;]{1,40}?(?= to )|don't "
    r"(?:let me )?forget|do not (?:let me )?forget|note down|write down|jot down)(?:\s+(?:to|that|about|of"
    r"|saying)\b|\s*[:,])\s*",
    re.IGNORECASE,
)
_DUTY: Final = re.compile(r"\b(?:i|we) (?:need to|have to|must|should|ought to)\s+", re.IGNORECASE)
_HANDS_ON: Final = re.compile(
    r",? (?:and )?(?:give|assign|hand) (?:it|this|that)\b|, (?:it|this) (?:is|has)\b", re.IGNORECASE
)
_CAUSE: Final = re.compile(r"\b(?:because(?: of)?|since|due to|as|the reason (?:is|being)(?: that)?)\s+", re.IGNORECASE)
_PREFIX: Final = re.compile(
    r"^(?:(?:hey|hi|hello|please|ok|okay|so|well|um|uh|and|also|then|now|just|yes|yeah|good (?:morning|afternoon"
    r"|evening)|there)[,.!]*\s+)*"
    r"(?:(?:(?:can|could|would|will) (?:you|i|we|some(?:one|body)|any(?:one|body))(?: please| kindly| just"
    r"| also)?|would you mind|i(?: would"
    r"|'d)? (?:like|want|need|love|have)(?: you)? to|i am (?:trying|looking|going) to|i am looking for"
    r"|i (?:would like|want|need|have)|let us|please|do you know|can i get|may i (?:have|get)|help me(?: to)?"
    r"|is it possible to)\s+)*",
    re.IGNORECASE,
)
_HEADLINES: Final = stemmed_words("title subject task todo reminder event label name note what do")
_TROUBLE: Final = stemmed_words("problem issue fault complaint incident summary trouble defect")
_SEARCH: Final = re.compile(
    r"^(?:(?:search|look|browse|google|check|query)(?: the| our| your| my)?(?: \w+)?? (?:for|up|about|on)|find"
    r"(?: out)?(?: me)?(?: about)?|look up|search|google|show(?: me)?|get(?: me)?|give me|tell me(?: about)?"
    r"|what (?:is|are)(?: the)?|who (?:is|was)|explain|define|look for|i have a question about)\s+",
    re.IGNORECASE,
)

_LEADING_AWAY: Final = words("for to at on in by with from about until of and")
_STRANDED: Final = words("on in up off for with to at by")
_CLAUSE_STARTS: Final = words("that which who whose but because so")
_SUBJECT_MARKS: Final = words("about on regarding from for")


def labelled_text(parameter: Parameter, said: Utterance) -> tuple[int, int] | None:
    """The place of text that follows the parameter's own name ("with the subject lunch"); None without it."""
    if parameter.kind not in {"text", "title", "query", "thing"}:
        return None
    label = r"[ _]".join(re.escape(word) for word in split_name(parameter.name))
    match = re.search(
        rf"\b(?:with|using|under|and|set|make|add|put|write|leave|,) (?:the |a |an |my |as )?(?:the |a )?{label}"
        rf"(?: is| of| set to| to| that says| saying|:)? (.+?)(?=,| and | with (?:the|a) |\.|$)",
        said.text, re.IGNORECASE,
    )  # fmt: skip
    if match is None and parameter.kind == "text":
        match = re.search(r"(?:,| and| with)? (?:write|note that|mention that|put down),? (.+?)(?=\.(?: |$)|$)",
                          said.text, re.IGNORECASE)  # fmt: skip
        match = match if match and not re.match(r"(?:an?|the|me|my|down|to)\b", match[1]) else None
    if match is None:
        return None
    if match[1].split()[0].lower() in _LEADING_AWAY:
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
    if parameter.kind != "title" or _HEADLINES & set(parameter.words):
        marks.append(_TODO_MARKS)
    if {"task", "todo", "don", "do"} & set(parameter.hints):
        marks.append(_DUTY)
    if parameter.kind == "text":
        marks += [_CAUSE, _TELL]
    for mark in marks:
        match = mark.search(said.text)
        if match is None:
            continue
        start = match.end()
        end = next((m.start() for m in [_HANDS_ON.search(said.text, start)] if m), len(said.text))
        inside = [i for i, t in enumerate(said.tokens) if start <= t.start < end]
        if inside:
            return _without_edges(said, inside[0], inside[-1] + 1, frozenset())
    return None


def free_text(parameter: Parameter, tool: Tool, said: Utterance, used: frozenset[int]) -> tuple[int, int] | None:
    """The place of what remains when the request's own words and the tokens used for other parameters are taken
    away.
    """
    summary = parameter.kind == "title" and bool(_TROUBLE & set(parameter.hints))
    if (parameter.kind == "text" or summary) and (place := telling_clause(tool, said, used)) is not None:
        return _without_edges(said, *place, used)
    if "question" in parameter.words and said.text.rstrip().endswith("?") and not used:
        return 0, len(said.tokens)  # the question itself is what is asked
    prefix = _PREFIX.match(said.text)
    start = prefix.end() if prefix else 0
    first = next((i for i, t in enumerate(said.tokens) if t.start >= start), len(said.tokens))
    last = len(said.tokens)
    if parameter.kind == "query" and (match := _SEARCH.match(said.text[start:])) is not None:
        first = next((i for i, t in enumerate(said.tokens) if t.start >= start + match.end()), last)
    names = tool_words(tool) | set(parameter.words)
    if parameter.kind == "query":
        names |= stemmed_words(re.sub(r"[^a-z ]", " ", tool.description.lower()))
        first = _behind_subject_mark(said, first, names, used)
    elif parameter.kind == "text":
        first = _behind_subject_mark(said, first, frozenset(names | set(parameter.hints)), used, marks={"for", "of"})
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
    if parameter.kind in {"query", "title"}:
        last = _end_of_run(said, first, last, used)
    first, last = _without_edges(said, first, last, used)
    return (first, last) if first < last else None


def _end_of_run(said: Utterance, first: int, last: int, used: frozenset[int]) -> int:
    """Where the words that belong together end: at a clause of its own, or where another parameter's words begin."""
    for at in range(first + 1, last):
        joins = said.tokens[at].text == "," and at + 1 < last and at + 1 not in used and said.low(at + 1) != "please"
        if said.low(at) in _CLAUSE_STARTS or (said.tokens[at].text in ",;.?!" and not joins):
            return at
        if at in used and at - 1 not in used:
            return at
    return last


def _behind_subject_mark(
    said: Utterance, first: int, names: AbstractSet[str], used: frozenset[int], marks: AbstractSet[str] = _SUBJECT_MARKS
) -> int:  # fmt: skip
    """The place behind "about", "on" and the like, where only the tool's own words stand before it."""
    for at in range(first, len(said.tokens) - 1):
        if said.low(at) in marks and at > first:
            return at + 1
        if at not in used and said.stems[at] not in names and said.low(at) not in STOP_WORDS and not any(
            n.first <= at < n.last for n in said.numbers
        ):  # fmt: skip
            return first
    return first


_LEADS_IN: Final = words(
    """for to about that of me down on saying called is us some in up with regarding any from as"""
)


def telling_clause(tool: Tool, said: Utterance, used: frozenset[int] = frozenset()) -> tuple[int, int] | None:
    """The clauses that tell something, where another clause only asks for the tool ("My screen is dark, please open
    a ticket").
    """
    clauses: list[tuple[int, int]] = []
    start = 0
    inside = {i for m in said.moments for i in range(m.first, m.last)}
    for at, token in enumerate([*said.tokens, None]):
        if token is None or (token.text in ",.;:!?" and (at not in inside or at + 1 not in inside)):
            if start < at:
                clauses.append((start, at))
            start = at + 1
    names = tool_words(tool) | {word for p in tool.parameters for word in p.words}
    asking = [c for c in clauses if _asks(said, c, names) or _is_told(said, c, names, used)]
    telling = [c for c in clauses if c not in asking and c[1] - c[0] > 1]
    if not asking or not telling:
        return None
    runs: list[list[tuple[int, int]]] = []
    for clause in clauses:
        if clause not in telling:
            runs.append([])
        elif runs:
            runs[-1].append(clause)
        else:
            runs.append([clause])
    longest = max(runs, key=lambda run: run[-1][1] - run[0][0] if run else 0)
    return longest[0][0], longest[-1][1]


def _is_told(said: Utterance, clause: tuple[int, int], names: AbstractSet[str], used: frozenset[int]) -> bool:
    """Whether other parameters have all that a clause says ("the tag is LT-4471")."""
    telling = [i for i in range(*clause) if said.tokens[i].is_word and said.low(i) not in STOP_WORDS]
    return any(i in used for i in range(*clause)) and all(i in used or said.stems[i] in names for i in telling)


def _asks(said: Utterance, clause: tuple[int, int], names: frozenset[str]) -> bool:
    """Whether a clause is the request itself: a verb of action at its head, or words of the tool and a polite
    opening.
    """
    text = said.slice(*clause)
    prefix = _PREFIX.match(text + " ")
    rest = text[prefix.end() if prefix else 0 :].split()
    words = {said.stems[i] for i in range(*clause)}
    if prefix and re.search(r"\b(?:can|could|would|will|please|help me)\b", prefix[0], re.IGNORECASE):
        return True
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
        if all(said.low(i) in _SMALL_WORDS for i in tail):
            last = run
    led = last < len(said.tokens) and last in used  # whether a small word at the end leads to another value
    while first < last and (
        last - 1 in used
        or not said.tokens[last - 1].is_word
        or (said.low(last - 1) in _SMALL_WORDS - {"starting", "until"} and (led or said.low(last - 1) not in _STRANDED))
    ):
        led = led or last - 1 in used
        last -= 1
    while first < last and said.low(first) in {"to", "that"}:
        first += 1
    return first, last
