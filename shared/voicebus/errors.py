"""Every error that Voicebus raises on purpose, in one tree.

VoicebusError
├── UsageError              the caller did something wrong; the text says what to change
│   ├── UserError           an agent, tool, handoff or guardrail is defined or used wrongly
│   │   ├── WrongTypeError      an argument is of a type that it cannot have; a TypeError as well
│   │   ├── WrongValueError     an argument has a value that it cannot have; a ValueError as well
│   │   └── NotConnectedError   a session is spoken to that is not open
│   ├── SettingsError       a setting is missing or wrong; stops the start
│   ├── TargetError         a TARGET cannot be loaded, or is no agent
│   └── ScenarioError       a scenario file is wrong, or asks for what cannot be had
├── RemoteError             a peer did something wrong, or is not there
│   ├── ModelLinkError      the model's socket cannot be opened, or was lost
│   ├── ModelCallError      the model's provider did not make a call
│   ├── ModelBehaviorError  the model asked for something that cannot be (bad arguments, reused call id)
│   ├── MCPServerError      an MCP server cannot be reached, refused, or did not answer
│   ├── TextModelError      a text model cannot be reached, or refused
│   ├── MaxTurnsExceeded    a text agent called tools again and again
│   ├── BusError            Redis refused or cannot be reached
│   └── StoreError          the database refused or cannot be reached
├── StaleOwnerError         another process owns this session now; stop writing
├── CommandRefusedError     a session cannot do what it was told to
├── ContractError           an entry on a stream breaks the contract; it goes to the dead letters
└── ToolError               a function tool failed
    ├── ToolTimeoutError    a function tool ran past its limit
    ├── ToolCancelledError  a function tool saw that its call is not wanted any more
    └── Tool{Input,Output}GuardrailTripwireTriggered   a guardrail of a tool asked for an error
"""

from typing import Any, ClassVar

__all__ = [
    "AgentsException",
    "BusError",
    "CommandRefusedError",
    "ContractError",
    "MCPServerError",
    "MaxTurnsExceeded",
    "ModelBehaviorError",
    "ModelCallError",
    "ModelLinkError",
    "NotConnectedError",
    "RemoteError",
    "ScenarioError",
    "SettingsError",
    "StaleOwnerError",
    "StoreError",
    "TargetError",
    "TextModelError",
    "ToolCancelledError",
    "ToolError",
    "ToolTimeoutError",
    "UsageError",
    "UserError",
    "VoicebusError",
    "WrongTypeError",
    "WrongValueError",
]


class VoicebusError(Exception):
    """Root of the tree. `retryable`: doing the same again may work."""

    retryable: ClassVar[bool] = False


# What programs that come from openai-agents catch.
AgentsException = VoicebusError


class _WithMessage:
    """Errors whose text such programs read."""

    @property
    def message(self) -> str:
        """The text."""
        return str(self)


class UsageError(VoicebusError):
    """The caller must change something."""


class UserError(_WithMessage, UsageError):
    """An agent, tool, handoff or guardrail is defined or used wrongly."""


class WrongTypeError(UserError, TypeError):
    """An argument is of a type that it cannot have. A `TypeError` as well, as which programs catch it."""


class WrongValueError(UserError, ValueError):
    """An argument has a value that it cannot have. A `ValueError` as well, as which programs catch it."""


class NotConnectedError(UserError, AssertionError):
    """A session is spoken to before it is entered or after its end, or is entered twice.

    An `AssertionError` as well, as which programs of openai-agents catch it.
    """


class SettingsError(UsageError):
    """A setting is missing or wrong. The text names the variable, what was read and what is allowed."""


class TargetError(UsageError):
    """A TARGET cannot be imported, or holds no agent."""


class ScenarioError(UsageError):
    """A scenario file is wrong, or asks for what cannot be had. The text names the file, the line and the field."""


class RemoteError(VoicebusError):
    """A peer did something wrong or is not there."""

    retryable: ClassVar[bool] = True


class ModelLinkError(RemoteError):
    """The model's socket could not be opened, or was lost.

    `code` is the protocol's error code where the server gave one (`invalid_api_key`, ...), `close_code` the
    WebSocket close code, `fatal` tells that connecting again cannot help (protocol section 3.3), `retry_after` how long
    the server asks to be left alone (s).
    """

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        close_code: int | None = None,
        fatal: bool = False,
        retry_after: float = 0.0,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.close_code = close_code
        self.fatal = fatal
        self.retry_after = retry_after


class ModelCallError(RemoteError):
    """A model's provider did not make a call (WebRTC). `status` is its HTTP status; None where it gave none.

    `code` is the provider's error code, where it gave one.
    """

    def __init__(self, message: str, *, status: int | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class ModelBehaviorError(_WithMessage, RemoteError):
    """The model asked for something that cannot be: arguments that do not parse, a call id used twice."""

    retryable: ClassVar[bool] = False


class MCPServerError(RemoteError):
    """An MCP server cannot be reached, refused a request, or did not answer. `unanswered`: it may be asked again."""

    def __init__(self, message: str, *, unanswered: bool = False) -> None:
        super().__init__(message)
        self.unanswered = unanswered


class TextModelError(RemoteError):
    """A text model cannot be reached, or refused a request."""


class MaxTurnsExceeded(_WithMessage, RemoteError):  # noqa: N818 - the name that programs catch
    """A text agent called tools again and again, and came to no end within its `max_turns`."""

    retryable: ClassVar[bool] = False


class BusError(RemoteError):
    """Redis refused a command or cannot be reached."""


class StoreError(RemoteError):
    """The database refused a statement or cannot be reached."""


class StaleOwnerError(VoicebusError):
    """The session has another owner now (its epoch moved on): nothing more may be written."""

    def __init__(self, session: str, *, epoch: int, current: int) -> None:
        super().__init__(f"session {session}: this owner's epoch is {epoch}, the current one is {current}")
        self.session = session
        self.epoch = epoch
        self.current = current


class CommandRefusedError(VoicebusError):
    """A session cannot do what it was told to. `code` is the one that the native face answers with."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ContractError(VoicebusError):
    """An entry breaks the stream contract. `reason` is the dead letter's reason, a short identifier."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class ToolError(VoicebusError):
    """A function tool failed; the text is what the model is told."""


class ToolCancelledError(ToolError):
    """Raised in a function tool by `context.cancellation.raise_if_cancelled()`."""


class ToolProcessError(ToolError):
    """A function tool could not be run to its end in a process of its own. `kind` says why: `crashed`, `memory_limit`,
    or `not_sendable`.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.kind, str(self))


class ToolTimeoutError(ToolError):
    """A function tool ran past its limit."""

    def __init__(self, tool_name: str, timeout_seconds: float) -> None:
        super().__init__(f"Tool '{tool_name}' timed out after {timeout_seconds:g} seconds.")
        self.tool_name = tool_name
        self.timeout_seconds = timeout_seconds
