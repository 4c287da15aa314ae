"""One function call of the model: its stages, what may happen to it in each, and which calls there were.

The single home of both tables. Who moves a call from stage to stage is `approvals.py` up to its start, `toolcalls.py`
from there on.
"""

import hashlib
from collections.abc import Callable, Container, Mapping
from enum import Enum
from typing import Any, Final

import msgspec

from voicebus.contracts.tools import Outcome
from voicebus.engine.bounds import REMEMBERED, Recent
from voicebus.engine.config import Approval, HandoffSpec, HostedToolSpec, ToolSpec
from voicebus.engine.inputs import (
    AgentResolved,
    AgentUnresolved,
    Approve,
    CallVetted,
    Input,
    Reject,
    SendToolOutput,
    ToolErrorWorded,
    ToolProgressArrived,
    ToolResultArrived,
    ToolStartedArrived,
)
from voicebus.engine.responses import Response

_decode: Final = msgspec.json.decode
_encode: Final = msgspec.json.Encoder(order="sorted").encode


class Stage(Enum):
    """Where a call is. A call that was answered is in none: it is forgotten but for its id."""

    __hash__: Callable[[object], int] = object.__hash__  # type: ignore[assignment] # taken for a bound one

    VETTING = "vetting"
    """The author's side is asked whether it may run."""
    ASKING = "asking"
    """A person is."""
    RUNNING = "running"
    RESOLVING = "resolving"
    """A handoff, whose agent is being resolved."""
    ELSEWHERE = "elsewhere"
    """The program answers it itself."""
    WORDING = "wording"
    """It has failed, and the author's side is asked how the model is told."""


HEARD: Final[Mapping[Stage, frozenset[type[Input]]]] = {
    Stage.VETTING: frozenset({CallVetted}),
    Stage.ASKING: frozenset({Approve, Reject}),
    Stage.RUNNING: frozenset({ToolStartedArrived, ToolProgressArrived, ToolResultArrived}),
    Stage.RESOLVING: frozenset({AgentResolved, AgentUnresolved}),
    Stage.ELSEWHERE: frozenset({SendToolOutput}),
    Stage.WORDING: frozenset({ToolErrorWorded}),
}
"""What counts in each stage; anything else about a call is late, early or double, and changes nothing."""

UNLIMITED: Final = frozenset({Stage.ASKING, Stage.ELSEWHERE})
"""Stages in which nobody is busy with the call: a person, or the program, takes the time that it takes."""


class Answer(msgspec.Struct, frozen=True):
    """What a call came to. `background`: the model need not go on because of it.

    `recorded`: there is a `tool_end`; not for handoffs, and not for a tool that the agent does not have.
    """

    output: str
    outcome: Outcome = Outcome.OK
    worker: str | None = None
    background: bool = False
    recorded: bool = False


class Call(msgspec.Struct, eq=False):
    """One call. `spec` is None for a tool that the agent does not have.

    `approved`: a person, or a sticky decision, wants it to run. `started_ms` is None until it runs.
    `approval_timeout_ms` is how long a person may take, None for as long as the session lasts. `told`: it runs in the
    background, and the model knows.
    """

    id: str
    item_id: str
    name: str
    arguments: str
    response: Response
    spec: ToolSpec | HandoffSpec | HostedToolSpec | None
    stage: Stage = Stage.VETTING
    approved: bool = False
    started_ms: int | None = None
    worker: str | None = None
    answer: Answer | None = None
    told: bool = False
    approval_timeout_ms: int | None = None

    @property
    def respond(self) -> str:
        return self.spec.respond if isinstance(self.spec, ToolSpec) else "when_all_done"

    @property
    def is_background(self) -> bool:
        """Whether the conversation goes on before its result is there."""
        return isinstance(self.spec, ToolSpec) and self.spec.background

    @property
    def approval(self) -> Approval:
        """Whether it waits for a person. The owner of a hosted tool decides, where it cares to, else a person."""
        if isinstance(self.spec, HostedToolSpec):
            return Approval.ASK if self.spec.vetted else Approval.ALWAYS
        return self.spec.approval if isinstance(self.spec, ToolSpec) else Approval.NEVER

    @property
    def vetted(self) -> bool:
        """Whether its guardrails are asked right before it runs, whoever approved it."""
        return isinstance(self.spec, ToolSpec) and self.spec.vetted

    def answering(self, output: str) -> dict[str, Any]:
        """The item that answers it at the model, without an id."""
        if not isinstance(self.spec, HostedToolSpec):
            return {"type": "function_call_output", "call_id": self.id, "output": output}
        decision = {"approve": True} if self.approved else {"approve": False, "reason": output}
        return {"type": "mcp_approval_response", "approval_request_id": self.id, **decision}


class KnownCalls:
    """Which calls there were, by id: an id that was used is not run again.

    The last `REMEMBERED` are known, each by a fingerprint of constant size, and those that wait for their answer, which
    are `open_`. Further back, a model that uses an id again makes a new call of it; the bus still answers one that it
    has run already from its stored result. `declined` are those that were answered because nobody waits for them.
    """

    def __init__(self, open_: Container[str]) -> None:
        self._open = open_
        self._known: dict[str, bytes] = {}
        self.declined: Recent = Recent()

    def __contains__(self, call_id: str) -> bool:
        return call_id in self._known

    def meet(self, call_id: str, role: str, name: str, arguments: str) -> bool | None:
        """None for a new call, which is known from now on; else whether it is the known one of that id once more.

        `role` is what the call is made for: a function's call and a handoff are never the same one.
        """
        fingerprint = _fingerprint(role, name, arguments)
        known = self._known.get(call_id)
        if known is not None:
            return known == fingerprint
        self._known[call_id] = fingerprint
        if len(self._known) > REMEMBERED:
            del self._known[next(old for old in self._known if old not in self._open)]
        return None


def _fingerprint(role: str, name: str, arguments: str) -> bytes:
    """Of constant size; spelling the same arguments otherwise does not make two calls of one."""
    try:
        parsed = _encode(_decode(arguments))
    except (ValueError, OverflowError, RecursionError):
        parsed = b"?" + arguments.encode("utf-8", "surrogatepass")
    text = "\0".join((role, name, "")).encode("utf-8", "surrogatepass") + parsed
    return hashlib.blake2b(text, digest_size=16).digest()
