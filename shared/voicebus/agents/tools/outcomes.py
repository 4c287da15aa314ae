"""What comes of calls that are not run, in words for the model and for operators."""

from voicebus.agents.tools.invoke import ToolOutcome
from voicebus.contracts.tools import Outcome, ToolCall, ToolFailure


def expired(tool: str) -> ToolOutcome:
    """What comes of a call whose time was over before it could start."""
    failure = ToolFailure(kind="expired", message="the call's deadline passed before it could start")
    return ToolOutcome(Outcome.EXPIRED, f"The tool {tool} was not started in time.", failure)


def unknown_tool(call: ToolCall, queue: str) -> ToolOutcome:
    """What comes of a call of a tool that nobody has."""
    of_version = "" if call.version is None else f" of version {call.version} or newer"
    why = f"no worker of queue {queue!r} has a tool named {call.tool!r}{of_version}"
    return ToolOutcome(
        Outcome.ERROR, f"The tool {call.tool} is not available.", ToolFailure(kind="unknown_tool", message=why)
    )


def given_up(call: ToolCall, why: str, *, started: bool) -> ToolOutcome:
    """What comes of a call that goes to the dead letters; `started`: a worker has begun it."""
    if started and not call.idempotent:
        outcome, text = Outcome.UNKNOWN, _unknown(call.tool)
    else:
        text = f"The tool {call.tool} failed again and again, and was given up. Do not call it again for this."
        outcome = Outcome.ERROR
    return ToolOutcome(outcome, text, ToolFailure(kind="dead_lettered", message=why))


def not_started(status: str, detail: str, tool: str) -> ToolOutcome:
    """What comes of a call that is not started, by the `status` and `detail` of its claim."""
    if status == "cancelled":
        return ToolOutcome(Outcome.CANCELLED, "The call was cancelled.")
    if status == "not_durable":
        failure = ToolFailure(kind="bus_not_durable", message="no replica confirmed in time that the call starts")
        return ToolOutcome(Outcome.ERROR, f"The tool {tool} was not run: it cannot be run safely just now.", failure)
    if status == "expired":
        return expired(tool)
    failure = ToolFailure(kind="outcome_unknown", message=f"the worker that ran it is gone: {detail or 'no claim'}")
    return ToolOutcome(Outcome.UNKNOWN, _unknown(tool), failure)


def _unknown(tool: str) -> str:
    return f"The outcome of the tool {tool} is unknown: it was interrupted, and may or may not have taken effect."
