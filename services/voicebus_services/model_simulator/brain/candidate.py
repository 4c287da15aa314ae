"""A possible value of a parameter, and whether it stands on the parameter's side of the sentence ("from", "to", …)."""

from dataclasses import dataclass, replace
from typing import Any, Final

from voicebus_services.model_simulator.brain.schema import Parameter
from voicebus_services.model_simulator.brain.utterance import Utterance

_SIDE_OF: Final = {
    "from": "from", "since": "from", "starting": "from", "after": "from", "to": "to", "into": "to", "until": "to",
    "till": "to", "onto": "to", "under": "max", "below": "max", "over": "min", "above": "min",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Candidate:
    """A possible value: how well it fits (above 0; 1 is unsure, 3 is sure) and the tokens it is read from.

    Attributes:
        long: whether it is a name with small words in it, so that no part of it is a value by itself.
    """

    score: float
    value: Any
    first: int
    last: int
    long: bool = False

    @property
    def tokens(self) -> frozenset[int]:
        return frozenset(range(self.first, self.last))


def sided(parameter: Parameter, said: Utterance, candidate: Candidate) -> Candidate:
    """Better when the word before it stands on the parameter's side ("from savings" for `from_account`)."""
    return replace(candidate, score=candidate.score + side(parameter, said, candidate.first))


def side(parameter: Parameter, said: Utterance, at: int) -> float:
    """How well the preposition before a place agrees with the parameter's side: 1 agrees, -1 contradicts, 0 neither."""
    back = at - 1
    while back >= 0 and said.low(back) in {"the", "my", "a", "an", "our", "your"}:
        back -= 1
    before = said.low(back)
    found = _SIDE_OF.get(before, "")
    if before == "than" and back:
        found = {"less": "max", "cheaper": "max", "fewer": "max", "more": "min", "higher": "min"}.get(
            said.low(back - 1), ""
        )
        if said.low(back - 2) in {"no", "not"}:
            found = {"max": "min", "min": "max"}.get(found, "")
    if before in {"most", "least"} and said.low(back - 1) == "at":
        found = {"most": "max", "least": "min"}[before]
    if before == "to" and said.low(back - 1) == "up":
        found = "max"
    if before == "between":
        found = "min" if parameter.role in {"min", "max"} else "from"
    if before == "and" and any(said.low(i) == "between" for i in range(max(0, back - 5), back)):
        found = "max" if parameter.role in {"min", "max"} else "to"
    if not found or not parameter.role:
        return 0.0
    return 1.5 if found == parameter.role else -1.5
