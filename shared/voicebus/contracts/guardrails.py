"""What gateways and guardrail workers tell each other (contract section 2)."""

from typing import Any, Final, Literal

from pydantic import Field

from voicebus.contracts.envelope import Message, Milliseconds

GUARDRAIL_CHECK: Final = "guardrail.check"
GUARDRAIL_VERDICT: Final = "guardrail.verdict"


class GuardrailCheck(Message):
    """`text` is the whole text so far, so a worker keeps no state; `final` says that no more will come.

    `stage` tells what the model says (output) from what the user says (input, `response_id` is "" then). `context` is
    the session's, without secrets. `stands_for` are older checks of the same answer that were never sent, as this one
    makes them needless: the verdict's `supersedes` names them. `tenant` is whose session it is. `early`: a verdict on
    some of the guardrails may come before that on the rest. `hops` counts the workers that lacked one of them.
    """

    check_id: str
    response_id: str
    item_id: str
    agent: str
    guardrails: list[str]
    text: str
    final: bool
    stage: Literal["input", "output"] = "output"
    reply_to: str = Field(min_length=1)
    context: dict[str, Any] = Field(default_factory=dict)
    stands_for: list[str] = Field(default_factory=list)
    tenant: str | None = None
    early: bool = False
    hops: int = Field(default=0, ge=0)


class GuardrailResult(Message):
    """One guardrail's finding. `error` is set where it could not judge; its declared policy then decides: `on_error`,
    or `on_unavailable` where it `timed_out`.
    """

    name: str
    tripped: bool
    info: Any = None
    error: str | None = None
    timed_out: bool = False


class GuardrailVerdict(Message):
    """`supersedes` are older checks of the same response, which this one makes needless: nobody answers those.

    `pending` are guardrails of the check that judge still: another verdict on it follows.
    """

    check_id: str
    response_id: str
    results: list[GuardrailResult]
    worker: str
    duration_ms: Milliseconds
    supersedes: list[str] = Field(default_factory=list)
    pending: list[str] = Field(default_factory=list)
