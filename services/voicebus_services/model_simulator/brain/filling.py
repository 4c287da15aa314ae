"""What an utterance says about a tool's arguments: the single home of that record and of when a value is sure."""

from dataclasses import dataclass, field
from typing import Any

from voicebus_services.model_simulator.brain.candidate import Candidate
from voicebus_services.model_simulator.brain.schema import Parameter

ENOUGH_REQUIRED = 0.5
_ENOUGH_OPTIONAL = 1.5


@dataclass(slots=True)
class Filling:
    """What an utterance says about a tool's arguments.

    Attributes:
        values: path of the parameter -> value.
        strength: path -> how sure the value is.
        missing: required parameters that nothing was said about.
        used: tokens that became values.
        loose: those of the used tokens that only hint at a value ("sore throat" for a specialty); a text may tell them
            again.
        others: for the one parameter that was given several values, the further ones ("in Paris and in London").
    """

    values: dict[tuple[str, ...], Any] = field(default_factory=dict)
    strength: dict[tuple[str, ...], float] = field(default_factory=dict)
    missing: list[Parameter] = field(default_factory=list)
    used: frozenset[int] = frozenset()
    others: dict[tuple[str, ...], list[Any]] = field(default_factory=dict)
    places: dict[tuple[str, ...], int] = field(default_factory=dict)
    currencies: set[tuple[str, ...]] = field(default_factory=set)
    loose: frozenset[int] = frozenset()

    def set(self, parameter: Parameter, candidate: Candidate) -> None:
        self.values[parameter.path] = candidate.value
        self.strength[parameter.path] = candidate.score
        self.places[parameter.path] = candidate.first
        if parameter.kind == "currency":
            self.currencies.add(parameter.path)
        self.used |= candidate.tokens


def dispensable(parameter: Parameter) -> bool:
    """Whether a call can do without the parameter although it is required."""
    optional_list = (
        parameter.accepts("array")
        and not parameter.schema.get("minItems")
        and "optional" in parameter.description.lower()
    )
    return parameter.has_default or parameter.nullable or optional_list


def enough(parameter: Parameter) -> float:
    """The score that a value of the parameter needs."""
    needed = parameter.required and not dispensable(parameter)
    return ENOUGH_REQUIRED if needed else _ENOUGH_OPTIONAL
