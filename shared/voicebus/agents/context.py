"""What callbacks of an agent are given: the session's context, and a tool call's own."""

import math
from collections.abc import Awaitable, Callable, Generator
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, Generic

from structlog.stdlib import BoundLogger
from typing_extensions import TypeVar

from voicebus.agents import checking
from voicebus.agents.tools.cancellation import Cancellation
from voicebus.agents.usage import Usage
from voicebus.contracts.tools import Caller
from voicebus.errors import WrongTypeError, WrongValueError
from voicebus.telemetry.logging import get_logger

if TYPE_CHECKING:
    from voicebus.agents.agent import RealtimeAgent
    from voicebus.agents.config import RealtimeRunConfig

TContext = TypeVar("TContext", default=Any)


@dataclass
class RunContextWrapper(Generic[TContext]):
    """One per session; `context` is the object that the author passed in, shared by every callback.

    `usage` sums up what the session's model has used so far. `tool_input` is the input that an agent which runs as a
    tool was given, None elsewhere.

    Raises:
        UserError: `usage` is none.
    """

    context: TContext
    usage: Usage = field(default_factory=Usage)
    _: KW_ONLY
    tool_input: Any = None

    def __post_init__(self) -> None:
        # That of another library's context is taken as it is: an adopted tool counts in it.
        if not isinstance(self.usage, Usage) and not hasattr(self.usage, "total_tokens"):
            checking.refuse(type(self).__name__, "usage", "a Usage", self.usage)


@dataclass
class ToolContext(RunContextWrapper[TContext]):
    """One per tool call of `agent` in `session`; `tool_arguments` is the model's JSON text.

    `idempotency_key` (`session:call_id`) is the same however often a call is delivered, so that a tool can make its
    effect once. `deadline_s` is what is left of the call's time, in s, when it starts. On a worker `context` is the
    session's, of the type that the tool's annotation or the runner's `context_model` names, else a dict, or the
    worker's own; what a call that ends well changes in it is merged back (`shared_context.py`). `state` is what the
    call brought as its context (JSON), a copy for this call. `attempt` counts the starts of this call, from 1, on
    whatever workers and after whatever errors. `cancellation` tells a function in a thread that its call is not wanted
    any more. On a worker `usage` counts from nothing. `tool_call` and `run_config` are None in realtime sessions.
    `caller` is whose session it is (`tenant` and `subject`), None in a session of the same process. `reports` takes
    what `progress` is told, None where nobody listens, as in the test of a tool.

    Raises:
        UserError: no `tool_name` or no `tool_call_id` was given, or an argument has the wrong type.
    """

    tool_name: str = ""
    tool_call_id: str = ""
    tool_arguments: str = ""
    tool_call: Any = None
    _: KW_ONLY
    agent: "RealtimeAgent[Any] | None" = None
    run_config: "RealtimeRunConfig | None" = None
    session: str = ""
    deadline_s: float | None = None
    state: dict[str, Any] = field(default_factory=dict)
    attempt: int = 1
    cancellation: Cancellation = field(default_factory=Cancellation, repr=False, compare=False)
    reports: Callable[[str], None] | None = field(default=None, repr=False, compare=False)
    caller: Caller | None = None

    def __post_init__(self) -> None:
        if not self._is_in_order():
            self._check()

    def _is_in_order(self) -> bool:
        """Whether all is of the very type that it nearly always is: one is made with every call."""
        return (
            type(self.usage) is Usage
            and type(self.tool_name)
            is type(self.tool_call_id)
            is type(self.tool_arguments)
            is type(self.session)
            is str
            and self.tool_name != ""
            and self.tool_call_id != ""
            and (self.deadline_s is None or (type(self.deadline_s) is float and math.isfinite(self.deadline_s)))
            and type(self.state) is dict
            and type(self.attempt) is int
            and self.attempt >= 1
            and type(self.cancellation) is Cancellation
            and (self.reports is None or callable(self.reports))
            and (self.caller is None or type(self.caller) is Caller)
        )

    def _check(self) -> None:
        """Look closely, and refuse what cannot be."""
        super().__post_init__()
        # They have defaults only because `usage`, before them, has one.
        for name in ("tool_name", "tool_call_id"):
            given = getattr(self, name)
            if not isinstance(given, str) or not given:
                kind = WrongValueError if given == "" else WrongTypeError
                raise kind(f"ToolContext needs {name}: a non-empty string, not {given!r}")
        where = "ToolContext"
        checking.text(where, "tool_arguments", self.tool_arguments)
        checking.text(where, "session", self.session)
        checking.number(where, "deadline_s", self.deadline_s, optional=True, least=-math.inf)
        checking.instance(where, "state", self.state, dict)
        checking.whole(where, "attempt", self.attempt, least=1)
        checking.instance(where, "cancellation", self.cancellation, Cancellation)
        checking.function(where, "reports", self.reports, optional=True)
        checking.instance(where, "caller", self.caller, Caller, optional=True)

    @classmethod
    def from_agent_context(
        cls,
        context: RunContextWrapper[TContext],
        tool_call_id: str,
        tool_call: Any = None,
        agent: "RealtimeAgent[Any] | None" = None,
        *,
        tool_name: str | None = None,
        tool_arguments: str | None = None,
        run_config: "RealtimeRunConfig | None" = None,
        session: str = "",
        deadline_s: float | None = None,
        state: dict[str, Any] | None = None,
        reports: Callable[[str], None] | None = None,
    ) -> "ToolContext[TContext]":
        """The context of one call of a session whose own context is `context`; they share `usage`.

        The tool's name and the arguments are those of `tool_call`, where nothing else is said.

        Raises:
            UserError: `context` is no context of a session; or as the class itself.
        """
        if not hasattr(context, "usage") or not hasattr(context, "context"):
            checking.refuse("ToolContext.from_agent_context", "context", "a RunContextWrapper", context)
        return ToolContext(
            context.context,
            context.usage,
            getattr(tool_call, "name", "") if tool_name is None else tool_name,
            tool_call_id,
            getattr(tool_call, "arguments", "") if tool_arguments is None else tool_arguments,
            tool_call,
            tool_input=getattr(context, "tool_input", None),
            agent=agent,
            run_config=run_config,
            session=session,
            deadline_s=deadline_s,
            state={} if state is None else state,
            reports=reports,
        )

    @property
    def qualified_tool_name(self) -> str:
        """`tool_name`: a realtime session knows no namespaces of tools."""
        return self.tool_name

    @property
    def logger(self) -> BoundLogger:
        """A logger whose lines carry the session, the call and the tool."""
        return get_logger("voicebus.tool").bind(session=self.session, call=self.tool_call_id, tool=self.tool_name)

    def progress(self, text: str) -> Awaitable[None]:
        """Say how far the tool is: `await context.progress("…")`, or without `await` in a function that is not async.

        It becomes a `tool_progress` event; with `speak_progress` the model says it, too. Of several within 0.1 s the
        last one counts; text beyond 1,000 characters is cut.

        Raises:
            UserError: `text` is no text.
        """
        if not isinstance(text, str):
            raise WrongTypeError(f"context.progress() takes a text, not {text!r}")
        if self.reports is not None:
            self.reports(text)
        return _DONE

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for this call any more: the caller hung up, interrupted it, or it took too long."""
        return self.cancellation.cancelled

    @property
    def idempotency_key(self) -> str:
        """`session:call_id`."""
        return f"{self.session}:{self.tool_call_id}"


class _Done:
    """Done already, so that a function that is not async need not await it."""

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield


_DONE = _Done()
