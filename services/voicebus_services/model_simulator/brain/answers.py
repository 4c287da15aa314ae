"""The reply to a question for one argument, often just the value. The single home of understanding it."""

import re
from collections.abc import Mapping
from typing import Any, Final

from voicebus_services.model_simulator.brain.candidates import typed_candidates
from voicebus_services.model_simulator.brain.phrases import spelled
from voicebus_services.model_simulator.brain.schema import Parameter, Tool
from voicebus_services.model_simulator.brain.slots import Filling, fill
from voicebus_services.model_simulator.brain.utterance import DETERMINERS, PREPOSITIONS, Utterance

_OPENING: Final = re.compile(
    r"^(?:(?:oh|well|um|uh|okay|ok|yes|sure|please|so|sorry)[,.]?\s+)*"
    r"(?:(?:it is|that is|that would be|it would be|it will be|this is|the (?:\w+ ){1,3}(?:is|should be"
    r"|would be)|my (?:\w+ ){1,3}is|let us say|i think|i want|i would like|make it|say|to say|just|tell (?:him"
    r"|her|them)(?: that)?|i am in|i am|call it|use)\s+)*",
    re.IGNORECASE,
)
_YES: Final = re.compile(
    r"^\W*(?:yes|yeah|yep|sure|please|of course|certainly|do|correct|right|definitely|absolutely|ok|okay|true)\b",
    re.IGNORECASE,
)
_NO: Final = re.compile(r"^\W*(?:no|nope|not|don't|do not|never|false|without)\b", re.IGNORECASE)
_WHOLE_ANSWER: Final = frozenset({"text", "query", "title"})


def answer(tool: Tool, known: Mapping[tuple[str, ...], Any], asked: Parameter, said: Utterance) -> Filling:
    """The filling with the answer in it; ``asked`` stays missing when the answer holds no value for it."""
    values = dict(known)
    value = _value(tool, asked, said)
    if value is not None:
        values[asked.path] = value
    if asked.kind in _WHOLE_ANSWER and value is not None:
        filling = fill(
            tool, Utterance("", said.today), values
        )  # the words are the text, nothing else is read from them
    else:
        filling = fill(tool, said, values, formal_only=True)
    if value is None and asked.path not in known:
        filling.values.pop(asked.path, None)
        if asked not in filling.missing:
            filling.missing.insert(0, asked)
    return filling


def _value(tool: Tool, asked: Parameter, said: Utterance) -> Any:
    if asked.accepts("boolean") and (_YES.match(said.text) or _NO.match(said.text)):
        return _YES.match(said.text) is not None
    if asked.accepts("array"):
        filled = fill(tool, said)
        if asked.path in filled.values:
            return filled.values[asked.path]
        bare = _bare(asked.items or asked, said)
        return [bare] if bare is not None else None
    typed = typed_candidates(asked, said)
    if typed:
        return typed[0].value
    if asked.accepts("integer", "number"):
        number = next((n.value for n in said.numbers), None)
        if number is None:
            return None
        return int(number) if float(number).is_integer() else number if asked.accepts("number") else None
    if asked.enum or not asked.accepts("string"):
        return None
    return _bare(asked, said)


def _bare(asked: Parameter, said: Utterance) -> str | None:
    """The answer without its opening ("It's …", "In …") and its article."""
    opening = _OPENING.match(said.text)
    start = opening.end() if opening else 0
    places = [i for i, t in enumerate(said.tokens) if t.start >= start]
    if not places:
        return None
    first, last = places[0], len(said.tokens)
    while last > first and (not said.tokens[last - 1].is_word or said.low(last - 1) in {"please", "thanks"}):
        last -= 1
    if asked.kind not in _WHOLE_ANSWER:
        while first < last - 1 and said.low(first) in PREPOSITIONS | DETERMINERS:
            first += 1
    if first >= last:
        return None
    if last - first == 1 and said.low(first) in {
        "what",
        "why",
        "huh",
        "pardon",
        "sorry",
        "yes",
        "no",
        "hello",
        "hi",
        "okay",
        "ok",
        "none",
    }:
        return None
    if asked.kind in {"date", "datetime", "time", "email", "phone", "url"}:
        return None  # these have a form; an answer without it was not understood
    if asked.kind == "identifier" and said.codes:
        return said.codes[0].value
    return spelled(asked, said, first, last)
