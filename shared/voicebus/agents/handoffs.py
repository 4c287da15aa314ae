"""Handoffs: tools by which one agent passes the conversation on to another."""

import inspect
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from voicebus.agents.context import RunContextWrapper
from voicebus.agents.tools.schema import strict_schema
from voicebus.errors import ModelBehaviorError, UserError

if TYPE_CHECKING:
    from voicebus.agents.agent import RealtimeAgent

NO_INPUT: dict[str, Any] = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}


@dataclass(frozen=True, kw_only=True)
class Handoff:
    """A handoff as one agent offers it. Made by `realtime_handoff`, or from an agent listed in `handoffs`."""

    agent: "RealtimeAgent[Any]"
    tool_name: str
    tool_description: str
    input_json_schema: dict[str, Any]
    is_enabled: bool | Callable[[RunContextWrapper[Any], Any], bool | Awaitable[bool]] = True
    on_handoff: Callable[..., Any] | None = None
    input_adapter: TypeAdapter[Any] | None = None

    async def run(self, context: RunContextWrapper[Any], arguments: str) -> None:
        """Call `on_handoff`.

        Raises:
            ModelBehaviorError: the arguments do not fit `input_type`.
        """
        if self.on_handoff is None:
            return
        given: tuple[Any, ...] = (context,)
        if self.input_adapter is not None:
            try:
                given = (context, self.input_adapter.validate_json(arguments or "{}", strict=True))
            except ValidationError as error:
                first = error.errors(include_url=False, include_input=False)[0]
                where = ".".join(str(part) for part in first["loc"])
                raise ModelBehaviorError(f"Invalid arguments for {self.tool_name}: {where}: {first['msg']}") from error
        outcome = self.on_handoff(*given)
        if inspect.isawaitable(outcome):
            await outcome


def default_tool_name(agent: "RealtimeAgent[Any]") -> str:
    return "transfer_to_" + re.sub(r"[^A-Za-z0-9_]", "_", agent.name).lower()


def default_tool_description(agent: "RealtimeAgent[Any]") -> str:
    return f"Handoff to the {agent.name} agent to handle the request. {agent.handoff_description or ''}".strip()


def realtime_handoff(
    agent: "RealtimeAgent[Any]",
    *,
    tool_name_override: str | None = None,
    tool_description_override: str | None = None,
    on_handoff: Callable[..., Any] | None = None,
    input_type: Any = None,
    is_enabled: bool | Callable[[RunContextWrapper[Any], Any], bool | Awaitable[bool]] = True,
) -> Handoff:
    """Describe how the conversation passes to `agent`.

    `on_handoff(context)` runs in the gateway before the agent takes over; with `input_type` it is
    `on_handoff(context, input)`, the input validated strictly.

    Raises:
        UserError: `input_type` without `on_handoff`, or a callback with the wrong number of parameters.
    """
    schema, adapter = NO_INPUT, None
    if input_type is not None:
        if on_handoff is None:
            raise UserError(f"handoff to {agent.name!r}: input_type needs an on_handoff that receives it")
        adapter = TypeAdapter(input_type)
        schema = strict_schema(adapter.json_schema(), tool=f"handoff to {agent.name}")
    if on_handoff is not None:
        expected = 1 if input_type is None else 2
        if len(inspect.signature(on_handoff).parameters) != expected:
            raise UserError(f"handoff to {agent.name!r}: on_handoff must take {expected} argument(s)")
    return Handoff(
        agent=agent,
        tool_name=tool_name_override or default_tool_name(agent),
        tool_description=tool_description_override or default_tool_description(agent),
        input_json_schema=schema,
        is_enabled=is_enabled,
        on_handoff=on_handoff,
        input_adapter=adapter,
    )
