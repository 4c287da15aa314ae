"""Why a tool call is answered at once instead of being run."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """`kind` is for programs, `message` for operators, `output` for the model to speak of."""

    kind: str
    message: str
    output: str


def out_of_order(tool: str, *, failures: int, error: str) -> Refusal:
    """The tool rests, after so many failures in a row, of which `error` was the last."""
    return Refusal(
        "circuit_open",
        f"the tool failed {failures} times in a row ({error}) and rests",
        f"The tool {tool} is out of order at the moment and was not run. Tell the user so, and do not call it "
        "again for a while.",
    )


def unreachable(tool: str, why: str) -> Refusal:
    """The bus takes no call of the tool, or brings no answer, until somebody mends it; `why` says what."""
    return Refusal(
        "bus_refused",
        why,
        f"The tool {tool} cannot be reached at the moment and was not run. Tell the user so, and offer to try again "
        "later.",
    )
