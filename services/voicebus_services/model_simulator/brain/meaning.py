"""How near a request is in meaning to what a tool says of itself. The single home of the sentences that stand for one.

The sentence model is a port: without one the words alone decide (see `picking`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from operator import mul
from typing import Final

from voicebus_services.model_simulator.brain.schema import Parameter, Tool
from voicebus_services.model_simulator.brain.slots import Filling
from voicebus_services.model_simulator.brain.tokens import spoken_name
from voicebus_services.model_simulator.brains import Meaning

# Every sentence costs some 10 ms when a session's tools are first seen.
_MOST_CONSTANTS: Final = 12  # of one parameter; with more, none of them is embedded
_MOST_SENTENCES: Final = 40  # of one tool
_LONGEST: Final = 600  # characters of one sentence; the model reads some 128 word pieces
# How far the best constant must be ahead. Of 179 constants in tables of requests, the best was the right one for 96 of
# 100 that were ahead by 0.1. Optional ones that no word filled are left alone: nobody may have spoken of them.
_CLEARLY: Final = 0.1

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Likeness:
    """Products of directions, about 0 (unrelated) to 0.8 (said alike).

    Attributes:
        whole: of the request and everything the tool says of itself.
        closest: of the request and the tool with the constant that suits it best ("get car status mileage").
        constants: of the request and what each constant adds to the tool, by the parameter's path, in the order of the
            enum.
    """

    whole: float
    closest: float
    constants: Mapping[Path, Sequence[float]]


@dataclass(frozen=True, slots=True)
class _Directions:
    whole: Sequence[float]
    short: Sequence[float]
    constants: Mapping[Path, Sequence[Sequence[float]]]
    additions: Mapping[Path, Sequence[Sequence[float]]]


class ToolMeanings:
    """The directions of a session's tools, embedded once."""

    def __init__(self, tools: Sequence[Tool], meaning: Meaning) -> None:
        self._meaning = meaning
        self._directions = {tool.name: self._embedded(tool) for tool in tools}

    def likeness(self, text: str) -> Mapping[str, Likeness]:
        """How near the text is to each tool, by the tool's name."""
        said = self._meaning.embed(text)
        return {name: _compared(said, directions) for name, directions in self._directions.items()}

    def _embedded(self, tool: Tool) -> _Directions:
        short = f"{spoken_name(tool.name)}. {tool.description}"[:_LONGEST]
        whole = " ".join([short, *(_described(parameter) for parameter in tool.parameters)])[:_LONGEST]
        constants: dict[Path, list[Sequence[float]]] = {}
        left = _MOST_SENTENCES
        for parameter in tool.parameters:
            spoken = _constants(parameter)
            if 0 < len(spoken) <= min(_MOST_CONSTANTS, left):
                constants[parameter.path] = [self._meaning.embed(f"{short} {constant}") for constant in spoken]
                left -= len(spoken)
        plain = self._meaning.embed(short)
        additions = {path: [_added(direction, plain) for direction in group] for path, group in constants.items()}
        return _Directions(self._meaning.embed(whole), plain, constants, additions)


def _compared(said: Sequence[float], directions: _Directions) -> Likeness:
    closest = max(
        (_product(said, direction) for group in directions.constants.values() for direction in group),
        default=_product(said, directions.short),
    )
    additions = {
        path: [_product(said, direction) for direction in group] for path, group in directions.additions.items()
    }
    return Likeness(_product(said, directions.whole), closest, additions)


def _added(direction: Sequence[float], plain: Sequence[float]) -> Sequence[float]:
    """What a constant adds: the part of its direction that the tool alone does not have, of length 1."""
    shared = _product(direction, plain)
    rest = [value - shared * base for value, base in zip(direction, plain, strict=True)]
    length = sqrt(_product(rest, rest)) or 1.0
    return [value / length for value in rest]


def choose(tool: Tool, filling: Filling, like: Likeness) -> None:
    """Give the missing parameters, which no word filled, the constant that suits the request by far best."""
    for parameter in tool.parameters:
        products = like.constants.get(parameter.path, ())
        if parameter not in filling.missing or not parameter.enum or len(products) < 2:
            continue
        second, best = sorted(products)[-2:]
        if best - second >= _CLEARLY:
            values = [value for value in parameter.enum if value is not None]
            filling.values[parameter.path] = values[products.index(best)]
            filling.strength[parameter.path] = 1.0
    filling.missing = [parameter for parameter in filling.missing if parameter.path not in filling.values]


def _product(left: Sequence[float], right: Sequence[float]) -> float:
    return float(sum(map(mul, left, right)))


def _described(parameter: Parameter) -> str:
    return f"{spoken_name(parameter.name)}: {parameter.description} {', '.join(_constants(parameter))}."


def _constants(parameter: Parameter) -> list[str]:
    values = (*parameter.enum, *(parameter.items.enum if parameter.items else ()))
    return [spoken_name(str(value)) for value in values if value is not None]
