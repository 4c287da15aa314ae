"""What gateways and tool workers tell each other (contract section 2)."""

import re
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from typing_extensions import TypedDict

from voicebus.contracts.envelope import Message, Milliseconds, json_object
from voicebus.errors import ContractError

TOOL_CALL: Final = "tool.call"
TOOL_STARTED: Final = "tool.started"
TOOL_PROGRESS: Final = "tool.progress"
TOOL_RESULT: Final = "tool.result"
TOOL_CANCEL: Final = "tool.cancel"
TOOL_HANDOVER: Final = "tool.handover"
TOOL_FOLLOW: Final = "tool.follow"


# What realtime models take as the name of a function.
TOOL_NAME: Final = r"[A-Za-z0-9_-]{1,64}"

# What a session takes in of a result (characters), whatever the limit of its worker is: each of its listeners is sent
# it, and it is recorded. And what of the text of a failure or of progress.
MAX_RESULT: Final = 1_048_576
MAX_FAILURE: Final = 2_000
MAX_PROGRESS: Final = 1_000

# What of a session's context goes with every call, as JSON.
MAX_CONTEXT_BYTES: Final = 16 * 1024


class ContextChange(TypedDict, total=False):
    """One field of the context: what the tool was given and what it made of it. Absent where the field was, or is."""

    before: Any
    after: Any


CONTEXT_LOST: Final = "context_not_json"
"""Beside an outcome that is ok: the call went well, but what the tool changed in the session's context is lost."""

# Failures that the program wants to know of, beside the model: the session records an `error` for them (a tool that
# words no errors, a timeout that is to be raised, a guardrail of a tool that failed or asked for an exception).
REPORTED_FAILURES: Final = frozenset({"raised_unhandled", "timeout_raised", "guardrail_raised", CONTEXT_LOST})


_VERSION: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12}){0,3}")


def is_version(text: str) -> bool:
    """Whether `text` can be the version of a tool: up to four numbers with dots between them."""
    return _VERSION.fullmatch(text) is not None


@lru_cache(maxsize=1024)
def version_key(version: str) -> tuple[int, ...]:
    """What versions of a tool are ordered by: "2" comes before "10", and "1" is "1.0"; what is none comes first."""
    if not is_version(version):
        return ()
    numbers = [int(part) for part in version.split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


IN_PROCESS: Final = "in-process"
"""The worker of a tool, or a guardrail, that the session's owner runs itself."""

LONGEST_MS: Final = 366 * 24 * 3600 * 1000
"""What a time in a registration may be; longer ones are beyond what timers take."""


class Outcome(StrEnum):
    OK = "ok"
    ERROR = "error"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    UNKNOWN = "unknown"


class Caller(Message):
    """Whose session it is: the tenant, and who in it has opened the session, as its credential tells."""

    tenant: str
    subject: str


class ToolCall(Message):
    """`arguments` is the model's JSON text, unparsed; the entry's `deadline` is the call's.

    `vetted`: the session's owner has asked the tool's input guardrails already. `replayed`: an operator has put it back
    from the dead letters, whatever became of its session. `version`: the version of the tool whose schema the model was
    given, None where it is not known. `context` is the session's, without secrets, null where there is none; `caller`
    is whose session it is.
    """

    call_id: str
    tool: str
    arguments: str
    agent: str
    reply_to: str = Field(min_length=1)
    attempt: int = 1
    hops: int = 0
    idempotent: bool = False
    vetted: bool = False
    replayed: bool = False
    version: str | None = None
    context: Annotated[dict[str, Any], BeforeValidator(lambda given: {} if given is None else given)] = Field(
        default_factory=dict
    )
    caller: Caller | None = None


class ToolStarted(Message):
    """`attempt` counts the starts of this call, from 1: also after errors, and on other workers."""

    call_id: str
    worker: str
    attempt: int = 1


class ToolProgress(Message):
    """Of a text longer than 1,000 characters only the beginning is there."""

    call_id: str
    text: Annotated[str, AfterValidator(lambda text: _cut(text, MAX_PROGRESS))]


class ToolFailure(Message):
    """`kind` is a short identifier (`unknown_tool`, `invalid_arguments`, `raised`, ...), `message` one sentence."""

    kind: str
    message: Annotated[str, AfterValidator(lambda text: _cut(text, MAX_FAILURE))]


class ToolResult(Message):
    """`output` is what the model is told, also for failures. `background`: it need not go on because of it.

    `reference` stands for an output that is too large for the inbox (`INLINE_RESULT_BYTES`): the key of the call's
    record, which has the whole result as JSON in its field `result`. `context` are the fields of the session's context
    that the tool has changed.
    """

    call_id: str
    outcome: Outcome
    output: str
    error: ToolFailure | None = None
    worker: str
    duration_ms: Milliseconds
    background: bool = False
    reference: str | None = None
    context: dict[str, ContextChange] = Field(default_factory=dict)

    def bounded(self) -> "ToolResult":
        """This one, unless it is larger than `MAX_RESULT`: then an error that says so."""
        size = len(self.output)
        if size <= MAX_RESULT:
            return self
        why = f"the result has {size} characters, more than the {MAX_RESULT} that a session takes in"
        failure = ToolFailure(kind="output_too_large", message=why)
        said = {
            "outcome": Outcome.ERROR,
            "output": f"An error occurred while running the tool: {why}.",
            "error": failure,
        }
        return self.model_copy(update=said)

    @classmethod
    def unreadable(cls, call_id: str, why: str) -> "ToolResult":
        """What comes of a call whose worker has answered what nobody can read: it has ended, nobody knows how."""
        output = "Its outcome is unknown: the answer of the tool cannot be read. It may or may not have taken effect."
        return cls(
            call_id=call_id, outcome=Outcome.UNKNOWN, output=output, error=ToolFailure(kind="malformed", message=why),
            worker="gateway", duration_ms=0,
        )  # fmt: skip

    @classmethod
    def stored(cls, text: str) -> "ToolResult":
        """The result in the record of a call, which its worker has written, in whatever language.

        Raises:
            ContractError: `malformed`; it can be read by nobody.
        """
        try:
            return cls.model_validate(json_object(text))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise ContractError(f"stored result: {where}: {first['msg']}", reason="malformed") from error
        except ValueError as error:
            raise ContractError(f"stored result: {error}", reason="malformed") from error


class ToolCancel(Message):
    call_id: str
    reason: str


class ToolHandover(Message):
    """A call that another worker lacked the tool for is pending for this one now, as `entry_id` of the queue's stream.

    Sent only to workers whose heartbeat says `handover`.
    """

    call_id: str
    queue: str
    entry_id: str


class ToolFollow(Message):
    """A call that this worker runs was published again: from now on `reply_to`, with the entry's epoch, hears of it.

    The record of the call says so already; this is for progress. Sent only to workers whose heartbeat says `follow`.
    """

    call_id: str
    reply_to: str = Field(min_length=1)


class ToolRegistration(Message):
    """One tool in `vb:registry:tools`; `workers` are the ids that offer it, `at` ms of Redis-server time.

    `respond`, `background`, `speak_progress` and the hold phrases are how a conversation treats its calls. Workers of
    one version agree on what the schema asks for; in all else they may differ, and what `by` says counts, the one of
    them that began last.

    While workers are exchanged for those of a newer version it is the newest, and `older` are those that workers offer
    still, newest first, with no `older` of their own.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    queue: str
    version: str = "1"
    timeout_ms: int = Field(gt=0, le=LONGEST_MS)
    idempotent: bool = False
    needs_approval: bool = False
    approval_timeout_ms: int | None = Field(None, ge=0, le=LONGEST_MS)
    respond: Literal["when_all_done", "always", "never"] = "when_all_done"
    background: bool = False
    speak_progress: bool = False
    hold_phrases: list[str] | None = None
    hold_after_ms: int | None = Field(None, ge=0, le=LONGEST_MS)
    hold_every_ms: int | None = Field(None, ge=0, le=LONGEST_MS)
    cancel_on_interrupt: bool = False
    workers: list[str] = Field(default_factory=list)
    by: str = ""
    at: int
    older: list["ToolRegistration"] = Field(default_factory=list)

    @property
    def versions(self) -> list["ToolRegistration"]:
        """Itself and what is `older`, newest first, each by itself."""
        return [self.model_copy(update={"older": []}), *self.older]


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[: characters - 1]}…"
