"""Handoffs: how they are named, described, checked and taken."""

import json
from collections.abc import Callable
from typing import Any, get_origin

import pytest
from pydantic import BaseModel

from voicebus.agents.agent import RealtimeAgent
from voicebus.agents.context import RunContextWrapper
from voicebus.agents.handoffs import NO_INPUT, Handoff, as_handoffs, realtime_handoff
from voicebus.agents.tools.decorator import function_tool
from voicebus.errors import ModelBehaviorError, UserError

billing = RealtimeAgent[Any]("Billing & Refunds", handoff_description="Money matters.")


class Reason(BaseModel):
    priority: int


def refund(amount: int) -> None:
    """Pay it back."""


def test_a_handoff_is_named_and_described_after_its_agent() -> None:
    handoff = realtime_handoff(billing)
    assert handoff.tool_name == "transfer_to_billing___refunds"
    assert handoff.tool_description == "Handoff to the Billing & Refunds agent to handle the request. Money matters."
    assert handoff.input_json_schema == NO_INPUT
    assert (handoff.agent_name, handoff.agent) == ("Billing & Refunds", billing)


def test_a_handoff_takes_its_arguments_by_position() -> None:
    handoff = realtime_handoff(billing, "to_money", "Money.", lambda ctx, given: None, Reason, False)  # type: ignore[call-overload]
    assert (handoff.tool_name, handoff.tool_description, handoff.is_enabled) == ("to_money", "Money.", False)
    assert handoff.input_json_schema["required"] == ["priority"]
    assert handoff.input_json_schema["additionalProperties"] is False


def test_a_handoff_says_what_the_model_is_told_of_it() -> None:
    zoe = RealtimeAgent[Any]("Zoë Krüger", handoff_description="Bills.")
    assert Handoff.default_tool_name(zoe) == realtime_handoff(zoe).tool_name == "transfer_to_zo__kr_ger"
    told = "Handoff to the Zoë Krüger agent to handle the request. Bills."
    assert Handoff.default_tool_description(zoe) == realtime_handoff(zoe).tool_description == told
    assert json.loads(realtime_handoff(zoe).get_transfer_message(zoe)) == {"assistant": "Zoë Krüger"}


async def test_a_handoff_without_a_callback_gives_its_agent() -> None:
    assert await realtime_handoff(billing).run(RunContextWrapper(None), "") is billing


async def test_a_callback_is_given_the_sessions_context() -> None:
    seen: list[Any] = []
    context = RunContextWrapper({"caller": "Ann"})
    handoff = realtime_handoff(billing, on_handoff=seen.append)
    assert await handoff.run(context, "{}") is billing
    assert seen == [context]


async def test_a_handoffs_input_is_strict_and_reaches_its_callback() -> None:
    seen: list[Any] = []

    async def on_handoff(_: RunContextWrapper[Any], reason: Reason) -> None:
        seen.append(reason.priority)

    handoff = realtime_handoff(billing, on_handoff=on_handoff, input_type=Reason)
    await handoff.run(RunContextWrapper({}), '{"priority": 2}')
    for wrong in ('{"priority": "2"}', "", "{", "[]"):
        with pytest.raises(ModelBehaviorError, match="Invalid arguments for transfer_to_billing") as refused:
            await handoff.run(RunContextWrapper({}), wrong)
        assert refused.value.__cause__ is None
    assert seen == [2]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"agent": "b"}, "agent must be a RealtimeAgent, not 'b'"),
        ({"agent": function_tool(refund)}, "agent must be a RealtimeAgent, not FunctionTool(..., version='1')"),
        ({"input_type": int}, "needs an on_handoff that receives it"),
        ({"on_handoff": "x"}, "on_handoff must be a function, not 'x'"),
        ({"on_handoff": lambda: None}, "on_handoff must be a function (context), not <function"),
        ({"on_handoff": lambda ctx, more: None}, "on_handoff must be a function (context), not <function"),
        ({"on_handoff": lambda ctx: None, "input_type": int}, "on_handoff must be a function (context, input), not"),
        ({"on_handoff": lambda ctx, given: None, "input_type": object()}, "input_type has no schema"),
        ({"on_handoff": lambda ctx, given: None, "input_type": type(lambda: 0)}, "input_type has no"),
        (
            {"on_handoff": lambda ctx, given: None, "input_type": dict[str, int]},
            "input_type: its schema is an open",
        ),
        ({"on_handoff": lambda ctx, given: None, "input_type": Callable[[int], int]}, "input_type has no JSON schema"),
        ({"tool_name_override": "to money"}, "tool_name must be letters, digits, _ and -, not 'to money'"),
        ({"is_enabled": "yes"}, "is_enabled must be a bool or a function"),
        ({"is_enabled": lambda: True}, "is_enabled must be a bool or a function (context, agent)"),
    ],
)
def test_a_handoff_that_cannot_be_is_refused_when_it_is_built(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as refused:
        realtime_handoff(**{"agent": billing, **arguments})
    assert sentence in str(refused.value)


async def test_a_handoff_made_by_hand_says_who_takes_over_when_it_is_taken() -> None:
    async def choose(_: RunContextWrapper[Any], arguments: str) -> Any:
        return billing if arguments == "money" else "nobody"

    handoff = Handoff[Any]("route", "Choose.", NO_INPUT, choose, "whoever fits")
    assert handoff.agent is None
    assert await handoff.run(RunContextWrapper(None), "money") is billing
    with pytest.raises(UserError, match="handoff 'route' returned str, not a RealtimeAgent"):
        await handoff.run(RunContextWrapper(None), "else")


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"agent_name": ""}, "agent_name must be a non-empty string"),
        ({"tool_description": None}, "tool_description must be text"),
        ({"on_invoke_handoff": None}, "on_invoke_handoff must be a function"),
        ({"input_filter": len}, "input_filter is not supported"),
        ({"nest_handoff_history": True}, "nest_handoff_history is not supported"),
        ({"tool_name": 3}, "tool_name must be"),
    ],
)
def test_a_handoff_made_by_hand_is_checked(fields: dict[str, Any], sentence: str) -> None:
    right = {
        "tool_name": "t", "tool_description": "d", "input_json_schema": {}, "on_invoke_handoff": len, "agent_name": "a",
    }  # fmt: skip
    with pytest.raises(UserError, match=sentence):
        Handoff(**{**right, **fields})


def test_agents_in_a_list_are_wrapped_and_handoffs_kept() -> None:
    own = realtime_handoff(billing, "other_name")
    assert [handoff.tool_name for handoff in as_handoffs([billing, own])] == [
        "transfer_to_billing___refunds",
        "other_name",
    ]


def test_a_handoff_is_generic_in_its_context_and_its_agent_as_programs_write_it() -> None:
    kinds: list[Any] = [Handoff[Any], Handoff[Any, RealtimeAgent[Any]]]
    assert [get_origin(kind) for kind in kinds] == [Handoff, Handoff]
