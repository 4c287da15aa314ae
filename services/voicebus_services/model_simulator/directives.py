"""Directives in what the user says, such as `[[say: hello]]`: how a test tells the simulated model what to do.

    [[say: TEXT]]                   say TEXT
    [[call: NAME {"json": 1}]]      call a function; the arguments pass as they are written, valid JSON or not
    [[fault: KIND CODE]]            act out a failure; kinds and codes are those of `brains.Fault`
    [[delay: 200ms]]                think that long first (ms or s)
    [[next]]                        what follows belongs to the next response, after the function outputs came

Several are carried out in order. `{outputs}` inside a `say` becomes the function outputs since the user spoke,
`{known}` all that the session knows: what it was not told, or not told again after a reconnect, is not among them.
"""

import re
from dataclasses import dataclass
from typing import get_args

from voicebus_services.model_simulator.brains import BrainReply, Call, Fault, FaultKind, Output, Say

_OPENING = re.compile(r"\[\[\s*(say|call|fault|delay|next)\s*(?::\s*)?")
_DELAY = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s)?")
_MAX_DELAY_MS = 600_000


@dataclass(frozen=True, slots=True)
class Directive:
    """One directive: its word and what follows the colon."""

    word: str
    argument: str


def find(text: str) -> list[Directive]:
    """The directives in a text, in order."""
    found = []
    position = 0
    while (opening := _OPENING.search(text, position)) is not None:
        end = _closing(text, opening.end())
        if end is None:
            break
        found.append(Directive(opening[1], text[opening.end() : end].strip()))
        position = end + 2
    return found


def asks_for(text: str, word: str, argument: str) -> bool:
    """Whether the text holds this directive."""
    return "[[" in text and Directive(word, argument) in find(text)


def _closing(text: str, start: int) -> int | None:
    """Where this directive's `]]` is: the first one that no JSON list inside it needs for itself."""
    depth, place = 0, start
    while place < len(text):
        if text.startswith("]]", place) and depth <= 0:
            return place
        depth += {"[": 1, "]": -1}.get(text[place], 0)
        place += 1
    # Arguments that are meant to be broken JSON may leave a bracket open.
    first = text.find("]]", start)
    return None if first < 0 else first


def reply_for(directives: list[Directive], round_number: int, outputs: str, known: str) -> BrainReply | None:
    """What the directives of one round (between two `[[next]]`) ask for; None when that round has none."""
    rounds: list[list[Directive]] = [[]]
    for directive in directives:
        if directive.word == "next":
            rounds.append([])
        else:
            rounds[-1].append(directive)
    if round_number >= len(rounds) or not rounds[round_number]:
        return None
    made: list[Output] = []
    fault, delay_ms = None, 0
    for directive in rounds[round_number]:
        match directive.word:
            case "say":
                made.append(Say(directive.argument.replace("{outputs}", outputs).replace("{known}", known)))
            case "call":
                name, _, arguments = directive.argument.partition(" ")
                made.append(Call(name, arguments.strip() or "{}"))
            case "fault":
                fault = _fault(directive.argument) or fault
            case _:
                delay_ms += _delay(directive.argument)
    return BrainReply(tuple(made), fault, min(delay_ms, _MAX_DELAY_MS))


def _fault(argument: str) -> Fault | None:
    kind, _, code = argument.partition(" ")
    for known in get_args(FaultKind):
        if kind == known:
            return Fault(known, code.strip() or "server_error")
    return None


def _delay(argument: str) -> int:
    amount = _DELAY.fullmatch(argument)
    if amount is None:
        return 0
    return round(float(amount[1]) * (1000 if amount[2] == "s" else 1))
