"""Handoffs: tools by which one agent passes the conversation on to another."""

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, overload

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypeVar

from voicebus.agents import checking
from voicebus.agents.context import RunContextWrapper, TContext
from voicebus.agents.functions import answer_of, takes
from voicebus.agents.tools.schema import strict_schema
from voicebus.engine.handoffs import transfer_message
from voicebus.errors import ModelBehaviorError, UserError, WrongTypeError

if TYPE_CHECKING:
    from voicebus.agents.agent import RealtimeAgent

THandoffInput = TypeVar("THandoffInput")
TAgent = TypeVar("TAgent", default=Any)

OnHandoffWithoutInput: TypeAlias = Callable[[RunContextWrapper[Any]], Any]
OnHandoffWithInput: TypeAlias = Callable[[RunContextWrapper[Any], THandoffInput], Any]
Enabled: TypeAlias = bool | Callable[[RunContextWrapper[Any], Any], bool | Awaitable[bool]]
"""Whether something is offered to the model: always, never, or as `(run_context, agent)` finds (sync or async)."""

NO_INPUT: Final[dict[str, Any]] = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}

_NAME = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Handoff(Generic[TContext, TAgent]):
    """A handoff as one agent offers it. Made by `realtime_handoff`, or from an agent listed in `handoffs`.

    `on_invoke_handoff(run_context, arguments)` gets the model's JSON text and returns the agent that takes over.
    `agent` is that agent where it is known beforehand; a gateway serves those only. `is_enabled` is asked when the
    handoff is offered, and again when it is taken.

    Raises:
        UserError: a field that cannot be, or that a conversation cannot honour (`input_filter`).
    """

    tool_name: str
    tool_description: str
    input_json_schema: dict[str, Any]
    on_invoke_handoff: Callable[[RunContextWrapper[Any], str], Awaitable[TAgent]]
    agent_name: str
    input_filter: None = None
    nest_handoff_history: None = None
    strict_json_schema: bool = True
    is_enabled: Enabled = True
    agent: "RealtimeAgent[Any] | None" = field(default=None, kw_only=True, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.tool_name, str) or not _NAME.fullmatch(self.tool_name):
            raise UserError(
                f"handoff tool_name must be letters, digits, _ and -, not {self.tool_name!r}; give a tool_name_override"
            )
        if not isinstance(self.agent_name, str) or not self.agent_name:
            raise UserError(f"handoff {self.tool_name!r}: agent_name must be a non-empty string")
        if not isinstance(self.tool_description, str):
            raise UserError(f"handoff {self.tool_name!r}: tool_description must be text, not {self.tool_description!r}")
        if not callable(self.on_invoke_handoff):
            raise UserError(f"handoff {self.tool_name!r}: on_invoke_handoff must be a function")
        asked = callable(self.is_enabled) and takes(self.is_enabled, 2)
        if not isinstance(self.is_enabled, bool) and not asked:
            raise UserError(f"handoff {self.tool_name!r}: is_enabled must be a bool or a function (context, agent)")
        checking.mapping(f"handoff {self.tool_name!r}", "input_json_schema", self.input_json_schema)
        checking.flag(f"handoff {self.tool_name!r}", "strict_json_schema", self.strict_json_schema)
        for name in ("input_filter", "nest_handoff_history"):
            if getattr(self, name) is not None:
                raise UserError(
                    f"handoff {self.tool_name!r}: {name} is not supported; the model keeps the whole conversation"
                )

    @classmethod
    def default_tool_name(cls, agent: "RealtimeAgent[Any]") -> str:
        """What the model calls to reach `agent`, where nothing else is said."""
        return "transfer_to_" + re.sub(r"[^A-Za-z0-9_]", "_", agent.name).lower()

    @classmethod
    def default_tool_description(cls, agent: "RealtimeAgent[Any]") -> str:
        """What the model chooses `agent` by, where nothing else is said."""
        return f"Handoff to the {agent.name} agent to handle the request. {agent.handoff_description or ''}".strip()

    def get_transfer_message(self, agent: "RealtimeAgent[Any]") -> str:
        """What the model is told once `agent` has taken over."""
        return transfer_message(agent.name)

    async def run(self, context: RunContextWrapper[Any], arguments: str) -> "RealtimeAgent[Any]":
        """Hand off: run the callback, return the agent that takes over.

        Raises:
            ModelBehaviorError: the arguments do not fit `input_type`.
            UserError: what takes over is no `RealtimeAgent`.
            Exception: what the callback raised.
        """
        from voicebus.agents.agent import RealtimeAgent

        agent = await answer_of("it", self.on_invoke_handoff, context, arguments)
        if not isinstance(agent, RealtimeAgent):
            raise UserError(f"handoff {self.tool_name!r} returned {type(agent).__name__}, not a RealtimeAgent")
        return agent


@overload
def realtime_handoff(
    agent: "RealtimeAgent[Any]",
    tool_name_override: str | None = None,
    tool_description_override: str | None = None,
    on_handoff: None = None,
    input_type: None = None,
    is_enabled: Enabled = True,
) -> Handoff[Any]: ...


@overload
def realtime_handoff(
    agent: "RealtimeAgent[Any]",
    tool_name_override: str | None = None,
    tool_description_override: str | None = None,
    *,
    on_handoff: OnHandoffWithInput[THandoffInput],
    input_type: type[THandoffInput],
    is_enabled: Enabled = True,
) -> Handoff[Any]: ...


@overload
def realtime_handoff(
    agent: "RealtimeAgent[Any]",
    tool_name_override: str | None = None,
    tool_description_override: str | None = None,
    *,
    on_handoff: OnHandoffWithoutInput,
    is_enabled: Enabled = True,
) -> Handoff[Any]: ...


def realtime_handoff(
    agent: "RealtimeAgent[Any]",
    tool_name_override: str | None = None,
    tool_description_override: str | None = None,
    on_handoff: Callable[..., Any] | None = None,
    input_type: Any = None,
    is_enabled: Enabled = True,
) -> Handoff[Any]:
    """Describe how the conversation passes to `agent`.

    `on_handoff(run_context)`, sync or async, runs in the session's process before the agent takes over; with
    `input_type` it is `on_handoff(run_context, input)`, the model's input validated strictly (no coercion).

    Raises:
        UserError: `agent` is no `RealtimeAgent`, `input_type` comes without `on_handoff` or has no JSON schema, or the
            callback takes the wrong number of parameters.
    """
    from voicebus.agents.agent import RealtimeAgent

    if not isinstance(agent, RealtimeAgent):
        checking.refuse("realtime_handoff", "agent", "a RealtimeAgent", agent)
    where = f"handoff to {agent.name!r}"
    checking.text(where, "tool_name_override", tool_name_override, optional=True)
    checking.text(where, "tool_description_override", tool_description_override, optional=True)
    adapter = _adapter(agent.name, input_type, on_handoff)
    schema = NO_INPUT
    if adapter is not None:
        try:
            schema = strict_schema(adapter.json_schema(), where=f"{where}: input_type")
        except UserError:
            raise
        except Exception as error:  # pydantic has a dozen ways to say that a type has no schema
            raise UserError(f"handoff to {agent.name!r}: input_type has no JSON schema: {error}") from error
    name = tool_name_override or Handoff.default_tool_name(agent)

    async def invoke(context: RunContextWrapper[Any], arguments: str) -> "RealtimeAgent[Any]":
        if on_handoff is not None:
            given = (context,) if adapter is None else (context, _read(adapter, arguments, name))
            await answer_of("it", on_handoff, *given)
        return agent

    return Handoff(
        tool_name=name,
        tool_description=tool_description_override or Handoff.default_tool_description(agent),
        input_json_schema=schema,
        on_invoke_handoff=invoke,
        agent_name=agent.name,
        is_enabled=is_enabled,
        agent=agent,
    )


def as_handoffs(entries: Iterable[Any]) -> list[Handoff[Any]]:
    """The handoffs of a list that holds agents, too."""
    return [entry if isinstance(entry, Handoff) else realtime_handoff(entry) for entry in entries]


async def is_offered(flag: Enabled, context: RunContextWrapper[Any], agent: Any) -> bool:
    """Whether an `is_enabled` lets a tool or handoff of `agent` be used now."""
    if not callable(flag):
        return bool(flag)
    return bool(await answer_of("is_enabled", flag, context, agent))


def _adapter(agent: str, input_type: Any, on_handoff: Callable[..., Any] | None) -> TypeAdapter[Any] | None:
    if input_type is not None and on_handoff is None:
        raise UserError(f"handoff to {agent!r}: input_type needs an on_handoff that receives it")
    if on_handoff is not None:
        if not callable(on_handoff):
            raise WrongTypeError(f"handoff to {agent!r}: on_handoff must be a function, not {on_handoff!r}")
        given = "(context)" if input_type is None else "(context, input)"
        if len(inspect.signature(on_handoff).parameters) != given.count(",") + 1:
            raise UserError(f"handoff to {agent!r}: on_handoff must be a function {given}, not {on_handoff!r}")
    if input_type is None:
        return None
    try:
        return TypeAdapter(input_type)
    except Exception as error:  # pydantic has a dozen ways to say that a type has no schema
        raise UserError(f"handoff to {agent!r}: input_type has no schema: {error}") from error


def _read(adapter: TypeAdapter[Any], arguments: str, name: str) -> Any:
    try:
        return adapter.validate_json(arguments or "{}", strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        # Without the cause: it holds what the model sent, which is the user's data (parity 2.42).
        raise ModelBehaviorError(f"Invalid arguments for {name}: {where}: {first['msg']}") from None
