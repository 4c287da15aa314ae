"""How near a request is in meaning to what a tool says of itself. The single home of the sentences that stand for one.

The sentence model is a port: without one the words alone decide (see `picking`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import mul
from typing import Final

from voicebus_services.model_simulator.brain.schema import Parameter, Tool
from voicebus_services.model_simulator.brain.tokens import spoken_name
from voicebus_services.model_simulator.brains import Meaning

# Every sentence costs some 10 ms when a session's tools are first seen.
_MOST_CONSTANTS: Final = 16
_LONGEST: Final = 600  # characters of one sentence; the model reads some 128 word pieces


@dataclass(frozen=True, slots=True)
class Likeness:
    """Products of directions, about 0 (unrelated) to 0.8 (said alike).

    Attributes:
        whole: of the request and everything the tool says of itself.
        closest: of the request and the tool with the constant that suits it best ("get car status mileage").
    """

    whole: float
    closest: float


class ToolMeanings:
    """The directions of a session's tools, embedded once."""

    def __init__(self, tools: Sequence[Tool], meaning: Meaning) -> None:
        self._meaning = meaning
        self._directions: Mapping[str, Sequence[Sequence[float]]] = {
            tool.name: [meaning.embed(text[:_LONGEST]) for text in _sentences(tool)] for tool in tools
        }

    def likeness(self, text: str) -> Mapping[str, Likeness]:
        """How near the text is to each tool, by the tool's name."""
        said = self._meaning.embed(text)
        return {
            name: Likeness(*_whole_and_closest([sum(map(mul, said, direction)) for direction in directions]))
            for name, directions in self._directions.items()
        }


def _whole_and_closest(products: Sequence[float]) -> tuple[float, float]:
    return products[0], max(products[1:])


def _sentences(tool: Tool) -> list[str]:
    """The tool with all its parameters; then in short, once for each constant it can be given."""
    short = f"{spoken_name(tool.name)}. {tool.description}"
    whole = " ".join([short, *(_described(parameter) for parameter in tool.parameters)])
    constants = [constant for parameter in tool.parameters for constant in _constants(parameter)]
    return [whole, *(f"{short} {constant}" for constant in constants[:_MOST_CONSTANTS] or [""])]


def _described(parameter: Parameter) -> str:
    return f"{spoken_name(parameter.name)}: {parameter.description} {', '.join(_constants(parameter))}."


def _constants(parameter: Parameter) -> list[str]:
    values = (*parameter.enum, *(parameter.items.enum if parameter.items else ()))
    return [spoken_name(str(value)) for value in values if value is not None]
