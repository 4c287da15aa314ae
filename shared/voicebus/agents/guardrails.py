"""Output guardrails: functions that judge what the model says."""

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, overload

from voicebus.agents.context import RunContextWrapper
from voicebus.engine.config import GuardrailMode
from voicebus.errors import UserError

Policy = Literal["open", "closed"]


@dataclass(frozen=True)
class GuardrailFunctionOutput:
    """A guardrail's finding. `output_info` must be JSON; it is shown to operators, not to the caller."""

    output_info: Any
    tripwire_triggered: bool


GuardrailFunction = Callable[
    [RunContextWrapper[Any], Any, str], GuardrailFunctionOutput | Awaitable[GuardrailFunctionOutput]
]


@dataclass(frozen=True)
class OutputGuardrail:
    """Judges the text of an answer: `guardrail_function(context, agent, text)`, `text` all that was said so far.

    `mode`: `interrupt` stops a forbidden answer, `observe` only reports it. `on_error` and `on_unavailable` say what
    a guardrail that raised, or that no worker answered for, counts as: `open` passes, `closed` trips.
    """

    guardrail_function: GuardrailFunction
    name: str | None = None
    mode: GuardrailMode | Literal["observe", "interrupt"] = GuardrailMode.INTERRUPT
    on_error: Policy = "open"
    on_unavailable: Policy = "open"

    def __post_init__(self) -> None:
        if not callable(self.guardrail_function):
            raise UserError(f"guardrail_function must be a function, not {self.guardrail_function!r}")
        try:
            mode = GuardrailMode(self.mode)
        except ValueError:
            raise UserError(
                f"guardrail {self.get_name()!r}: mode {self.mode!r} is none of observe, interrupt"
            ) from None
        if mode is GuardrailMode.HOLD:
            raise UserError(f"guardrail {self.get_name()!r}: mode 'hold' is not available yet; use 'interrupt'")
        for policy in ("on_error", "on_unavailable"):
            if getattr(self, policy) not in ("open", "closed"):
                raise UserError(f"guardrail {self.get_name()!r}: {policy} must be 'open' or 'closed'")
        object.__setattr__(self, "mode", mode)

    def get_name(self) -> str:
        return self.name or str(getattr(self.guardrail_function, "__name__", type(self.guardrail_function).__name__))

    @property
    def is_async(self) -> bool:
        function = self.guardrail_function
        return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


@overload
def output_guardrail(func: GuardrailFunction, /) -> OutputGuardrail: ...


@overload
def output_guardrail(
    *,
    name: str | None = None,
    mode: Literal["observe", "interrupt"] = "interrupt",
    on_error: Policy = "open",
    on_unavailable: Policy = "open",
) -> Callable[[GuardrailFunction], OutputGuardrail]: ...


def output_guardrail(
    func: GuardrailFunction | None = None,
    /,
    *,
    name: str | None = None,
    mode: Literal["observe", "interrupt"] = "interrupt",
    on_error: Policy = "open",
    on_unavailable: Policy = "open",
) -> OutputGuardrail | Callable[[GuardrailFunction], OutputGuardrail]:
    """Make a function an output guardrail: `@output_guardrail` or `@output_guardrail(...)`.

    Raises:
        UserError: a mode or a policy that does not exist.
    """

    def make(function: GuardrailFunction) -> OutputGuardrail:
        return OutputGuardrail(function, name=name, mode=mode, on_error=on_error, on_unavailable=on_unavailable)

    return make if func is None else make(func)
