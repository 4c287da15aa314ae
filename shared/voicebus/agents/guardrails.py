"""Guardrails: functions that judge what the model says (output) and what the user says (input)."""

import inspect
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Generic, Literal, overload

from voicebus.agents import checking
from voicebus.agents.apart import call_apart, check_apart
from voicebus.agents.context import RunContextWrapper, TContext
from voicebus.agents.functions import call_function, name_of, takes
from voicebus.engine.config import GuardrailMode
from voicebus.errors import UserError
from voicebus.runtime.processes import ProcessPool

Policy = Literal["open", "closed"]
Mode = Literal["observe", "interrupt", "hold"]
GuardrailExecutor = Literal["auto", "process"]

DEFAULT_INPUT_BUDGET_MS = 1500
"""How long a user's turn waits at most for guardrails of mode `hold` (ms)."""


@dataclass(frozen=True)
class GuardrailFunctionOutput:
    """A guardrail's finding. `output_info` must be JSON; it is shown to operators, not to the caller.

    Raises:
        UserError: `tripwire_triggered` is no bool: of the texts "no" and "yes" both would count as true.
    """

    output_info: Any
    tripwire_triggered: bool

    def __post_init__(self) -> None:
        if type(self.tripwire_triggered) is bool:
            return
        if type(self.tripwire_triggered).__name__ not in ("bool", "bool_"):  # what an array library compares to
            checking.flag("GuardrailFunctionOutput", "tripwire_triggered", self.tripwire_triggered)
        object.__setattr__(self, "tripwire_triggered", bool(self.tripwire_triggered))


GuardrailFunction = Callable[
    [RunContextWrapper[Any], Any, str], GuardrailFunctionOutput | Awaitable[GuardrailFunctionOutput]
]


@dataclass(frozen=True)
class _Guardrail(Generic[TContext]):
    """What input and output guardrails have in common."""

    guardrail_function: GuardrailFunction
    name: str | None = None
    mode: GuardrailMode | Mode = field(default=GuardrailMode.INTERRUPT, kw_only=True)
    on_error: Policy = field(default="open", kw_only=True)
    on_unavailable: Policy = field(default="open", kw_only=True)
    policy_hint: str | None = field(default=None, kw_only=True)
    replacement: str | None = field(default=None, kw_only=True)
    executor: GuardrailExecutor = field(default="auto", kw_only=True)

    _KIND: ClassVar[str] = "guardrail"

    def __post_init__(self) -> None:
        if not callable(self.guardrail_function):
            raise UserError(
                f"guardrail_function of an {self._KIND} must be a function, not {self.guardrail_function!r}"
            )
        if not takes(self.guardrail_function, 3):
            raise self._wrong("guardrail_function", "must take the context, the agent and the text", self.get_name())
        if self.name is not None and (not isinstance(self.name, str) or not self.name):
            raise UserError(f"{self._KIND} name must be a non-empty string, not {self.name!r}")
        try:
            mode = GuardrailMode(self.mode)
        except ValueError:
            known = ", ".join(mode.value for mode in GuardrailMode)
            raise self._wrong("mode", f"must be one of {known}", self.mode) from None
        for policy in ("on_error", "on_unavailable"):
            if getattr(self, policy) not in ("open", "closed"):
                raise self._wrong(policy, "must be 'open' or 'closed'", getattr(self, policy))
        for text in ("policy_hint", "replacement"):
            given = getattr(self, text)
            if given is not None and (not isinstance(given, str) or not given.strip()):
                raise self._wrong(text, "must be a non-empty string", given)
        if self.executor not in ("auto", "process"):
            raise self._wrong("executor", "must be 'auto' or 'process'", self.executor)
        if self.executor == "process":
            check_apart(self._KIND, self.get_name(), self.guardrail_function)
        object.__setattr__(self, "mode", mode)

    def get_name(self) -> str:
        """`name`, else the function's own."""
        return self.name or name_of(self.guardrail_function)

    @property
    def is_async(self) -> bool:
        """Whether the function runs on the event loop; others run in a thread."""
        function = self.guardrail_function
        return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004

    def _check_budget(self, value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
            raise self._wrong("budget_ms", "must be a whole number of ms above 0", value)

    def _wrong(self, argument: str, rule: str, value: object) -> UserError:
        return UserError(f"{self._KIND} {self.get_name()!r}: {argument} {rule}, not {value!r}")


@dataclass(frozen=True)
class OutputGuardrail(_Guardrail[TContext]):
    """Judges the text of an answer: `guardrail_function(context, agent, text)`, `text` all that was said so far.

    `mode`: `interrupt` stops a forbidden answer, `hold` lets nothing of it be heard before it was judged whole,
    `observe` only reports it. `on_error` and `on_unavailable` say what a guardrail that raised, or that nobody answered
    for in time, counts as: `open` passes, `closed` trips. Once it tripped, the model is told so, with `policy_hint`,
    what to keep to, and answers anew; with `replacement` it says exactly that instead. `executor`: async functions run
    on the event loop and others in a thread (`auto`), or in a process of their own (`process`), for what takes long to
    compute; the function must be one of a module then, and gets a copy of the context and an agent with its name alone.

    `hold_window_ms`, with `hold`: speech is heard once so much later audio (ms) has come and all text that came with it
    was let pass. That is sooner than the whole, and safe as long as the model's transcript comes less than that behind
    its audio; where it is seen not to, the rest of the part is held whole.

    `budget_ms` is how long one check may take (ms), from the text on until the verdict is there, after which
    `on_unavailable` decides; None is as long as the process gives all of them (`VOICEBUS_GUARDRAIL_TIMEOUT`).

    A class derived from this one judges by its own `run`, if it has one.

    Raises:
        UserError: an argument of the wrong type or with an unknown value.
    """

    _KIND: ClassVar[str] = "output guardrail"

    hold_window_ms: int | None = field(default=None, kw_only=True)
    budget_ms: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.budget_ms is not None:
            self._check_budget(self.budget_ms)
        if self.hold_window_ms is None:
            return
        check_window(f"{self._KIND} {self.get_name()!r}: hold_window_ms", self.hold_window_ms)
        if self.mode is not GuardrailMode.HOLD:
            raise self._wrong("hold_window_ms", "needs mode='hold'", self.hold_window_ms)

    async def run(self, context: RunContextWrapper[TContext], agent: Any, agent_output: Any) -> "OutputGuardrailResult":
        """Judge `agent_output`, which `agent` said.

        Raises:
            UserError: the function returned no `GuardrailFunctionOutput`.
            Exception: what the function raised.
        """
        output = await evaluate(self, context, agent, agent_output)
        return OutputGuardrailResult(guardrail=self, agent_output=agent_output, agent=agent, output=output)


@dataclass(frozen=True)
class OutputGuardrailResult:
    """What `guardrail` found about `agent_output`, said by `agent`."""

    guardrail: OutputGuardrail[Any]
    agent_output: Any
    agent: Any
    output: GuardrailFunctionOutput


@dataclass(frozen=True)
class InputGuardrail(_Guardrail[TContext]):
    """Judges what the user said, whole: `guardrail_function(context, agent, text)`, speech by its transcript.

    `mode`: `interrupt` lets the model answer meanwhile and stops it, `hold` lets it answer only after the verdict,
    `observe` only reports. `budget_ms` is how long a turn is held back at most (ms), after which `on_unavailable`
    decides; speech that could not be transcribed counts as unavailable. The rest is as for `OutputGuardrail`.

    Raises:
        UserError: an argument of the wrong type or with an unknown value.
    """

    budget_ms: int = field(default=DEFAULT_INPUT_BUDGET_MS, kw_only=True)

    _KIND: ClassVar[str] = "input guardrail"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_budget(self.budget_ms)

    async def run(
        self,
        agent: Any,
        input: str,  # noqa: A002 - its name elsewhere
        context: RunContextWrapper[TContext],
    ) -> "InputGuardrailResult":
        """Judge `input`, which was said to `agent`.

        Raises:
            UserError: the function returned no `GuardrailFunctionOutput`.
            Exception: what the function raised.
        """
        return InputGuardrailResult(guardrail=self, output=await evaluate(self, context, agent, input))


@dataclass(frozen=True)
class InputGuardrailResult:
    """What `guardrail` found about what the user said."""

    guardrail: InputGuardrail[Any]
    output: GuardrailFunctionOutput


def check_window(what: str, value: object) -> None:
    """Raise `UserError` for what is no window of a guardrail that holds."""
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise UserError(f"{what} must be a whole number of ms above 0, not {value!r}")


text_is_final: Final[ContextVar[bool]] = ContextVar("text_is_final", default=True)
"""Whether more may be said after the text that is judged now; for rules that judge by words."""


@dataclass(frozen=True)
class Rooms:
    """Where functions of guardrails run that are not async: in `executor` (None: the loop's default one), those of
    `executor="process"` in the pool that `processes` gives, where there is one.
    """

    executor: Executor | None = None
    processes: Callable[[], ProcessPool] | None = None


_ANYWHERE: Final = Rooms()

rooms: Final[ContextVar[Rooms]] = ContextVar("rooms", default=_ANYWHERE)
"""Those of the process that judges. No argument: between it and `evaluate` may stand a `run` of the author's own."""


async def evaluate(
    guardrail: OutputGuardrail[Any] | InputGuardrail[Any], context: RunContextWrapper[Any], agent: Any, text: Any
) -> GuardrailFunctionOutput:
    """Call a guardrail's function.

    Raises:
        UserError: it returned no `GuardrailFunctionOutput`.
        ToolProcessError: its process died, or something cannot be sent there or back.
        Exception: what it raised.
    """
    function, where = guardrail.guardrail_function, rooms.get()
    if guardrail.executor == "process" and where.processes is not None:
        output: Any = await call_apart(where.processes(), function, context, agent, text)
    else:
        output = await call_function(
            function, (context, agent, text), {},
            is_async=guardrail.is_async, executor=where.executor, what="guardrail",
        )  # fmt: skip
    if not isinstance(output, GuardrailFunctionOutput):
        returned = type(output).__name__
        raise UserError(f"guardrail {guardrail.get_name()!r} returned {returned}, not GuardrailFunctionOutput")
    return output


@overload
def output_guardrail(func: GuardrailFunction) -> OutputGuardrail[Any]: ...


@overload
def output_guardrail(
    func: None = None,
    *,
    name: str | None = None,
    mode: GuardrailMode | Mode = "interrupt",
    on_error: Policy = "open",
    on_unavailable: Policy = "open",
    policy_hint: str | None = None,
    replacement: str | None = None,
    executor: GuardrailExecutor = "auto",
    hold_window_ms: int | None = None,
    budget_ms: int | None = None,
) -> Callable[[GuardrailFunction], OutputGuardrail[Any]]: ...


def output_guardrail(
    func: GuardrailFunction | None = None,
    *,
    name: str | None = None,
    mode: GuardrailMode | Mode = "interrupt",
    on_error: Policy = "open",
    on_unavailable: Policy = "open",
    policy_hint: str | None = None,
    replacement: str | None = None,
    executor: GuardrailExecutor = "auto",
    hold_window_ms: int | None = None,
    budget_ms: int | None = None,
) -> OutputGuardrail[Any] | Callable[[GuardrailFunction], OutputGuardrail[Any]]:
    """Make a function an output guardrail: `@output_guardrail` or `@output_guardrail(...)`.

    Raises:
        UserError: an argument of the wrong type or with an unknown value.
    """

    def make(function: GuardrailFunction) -> OutputGuardrail[Any]:
        return OutputGuardrail(
            function, name_of(function) if name is None else name,
            mode=mode, on_error=on_error, on_unavailable=on_unavailable, policy_hint=policy_hint,
            replacement=replacement, executor=executor, hold_window_ms=hold_window_ms, budget_ms=budget_ms,
        )  # fmt: skip

    return make if func is None else make(func)


@overload
def input_guardrail(func: GuardrailFunction) -> InputGuardrail[Any]: ...


@overload
def input_guardrail(
    func: None = None,
    *,
    name: str | None = None,
    mode: GuardrailMode | Mode = "interrupt",
    on_error: Policy = "open",
    on_unavailable: Policy = "open",
    policy_hint: str | None = None,
    replacement: str | None = None,
    executor: GuardrailExecutor = "auto",
    budget_ms: int = DEFAULT_INPUT_BUDGET_MS,
) -> Callable[[GuardrailFunction], InputGuardrail[Any]]: ...


def input_guardrail(
    func: GuardrailFunction | None = None,
    *,
    name: str | None = None,
    mode: GuardrailMode | Mode = "interrupt",
    on_error: Policy = "open",
    on_unavailable: Policy = "open",
    policy_hint: str | None = None,
    replacement: str | None = None,
    executor: GuardrailExecutor = "auto",
    budget_ms: int = DEFAULT_INPUT_BUDGET_MS,
) -> InputGuardrail[Any] | Callable[[GuardrailFunction], InputGuardrail[Any]]:
    """Make a function an input guardrail: `@input_guardrail` or `@input_guardrail(...)`.

    Raises:
        UserError: an argument of the wrong type or with an unknown value.
    """

    def make(function: GuardrailFunction) -> InputGuardrail[Any]:
        return InputGuardrail(
            function, name_of(function) if name is None else name,
            mode=mode, on_error=on_error, on_unavailable=on_unavailable, policy_hint=policy_hint,
            replacement=replacement, executor=executor, budget_ms=budget_ms,
        )  # fmt: skip

    return make if func is None else make(func)
