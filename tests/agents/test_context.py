"""What callbacks are given: one context per session, and one per tool call that shares it."""

from typing import Any

import pytest

from voicebus import RealtimeAgent, RealtimeModelToolCallEvent, RunContextWrapper, ToolContext, Usage, UserError


def test_a_wrapper_holds_the_programs_object_and_counts_from_nothing() -> None:
    wrapper = RunContextWrapper({"guest": "Ada"})
    assert (wrapper.context, wrapper.usage, wrapper.tool_input) == ({"guest": "Ada"}, Usage(), None)


def test_a_tools_context_takes_its_fields_in_the_known_order() -> None:
    usage = Usage(requests=2)
    context = ToolContext("ours", usage, "look", "c1", '{"a": 1}')
    assert (context.context, context.usage) == ("ours", usage)
    assert (context.tool_name, context.tool_call_id, context.tool_arguments) == ("look", "c1", '{"a": 1}')
    assert (context.tool_call, context.agent, context.run_config, context.tool_input) == (None, None, None, None)
    assert (context.session, context.deadline_s, context.state) == ("", None, {})


@pytest.mark.parametrize(
    ("given", "missing"),
    [({}, "tool_name"), ({"tool_name": "look"}, "tool_call_id"), ({"tool_name": 3, "tool_call_id": "c"}, "tool_name")],
)
def test_a_call_without_name_or_id_is_refused(given: dict[str, Any], missing: str) -> None:
    with pytest.raises(UserError, match=f"ToolContext needs {missing}"):
        ToolContext(None, **given)


def test_the_context_of_a_call_shares_the_sessions_object_and_usage() -> None:
    session: RunContextWrapper[dict[str, str]] = RunContextWrapper({"guest": "Ada"}, tool_input="asked")
    agent: RealtimeAgent[Any] = RealtimeAgent("concierge")
    call = ToolContext.from_agent_context(
        session, "c1", None, agent, tool_name="look", tool_arguments="{}", session="s1", deadline_s=3.0,
        state={"room": 1},
    )  # fmt: skip
    assert call.context is session.context
    assert call.usage is session.usage
    assert (call.agent, call.tool_input, call.idempotency_key) == (agent, "asked", "s1:c1")
    assert (call.deadline_s, call.state) == (3.0, {"room": 1})
    session.usage.add(Usage(requests=1))
    assert call.usage.requests == 1


def test_the_context_of_a_call_is_named_by_the_call_where_nothing_else_is_said() -> None:
    session, asked = RunContextWrapper[Any](None), RealtimeModelToolCallEvent("look", "c1", '{"place": "x"}')
    call = ToolContext.from_agent_context(session, "c1", asked)
    assert (call.tool_name, call.qualified_tool_name, call.tool_arguments) == ("look", "look", '{"place": "x"}')
    other = ToolContext.from_agent_context(session, "c1", asked, tool_name="see", tool_arguments="{}")
    assert (other.tool_name, other.tool_arguments, other.tool_call) == ("see", "{}", asked)
    with pytest.raises(ValueError, match="ToolContext needs tool_name"):
        ToolContext.from_agent_context(session, "c1")
