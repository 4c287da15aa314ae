"""The settings that a model alone begins with, and changes to them."""

from typing import Any, cast

import pytest

from voicebus.agents.agent import RealtimeAgent
from voicebus.agents.handoffs import realtime_handoff
from voicebus.agents.models.setup import agent_of, settings_patch
from voicebus.agents.tools.decorator import function_tool
from voicebus.agents.tools.hosted import HostedMCPTool
from voicebus.agents.tools.remote import RemoteTool
from voicebus.errors import UserError


@function_tool
def weather(city: str) -> str:
    """The weather in a city."""
    return city


MCP = HostedMCPTool({"type": "mcp", "server_label": "docs", "server_url": "https://x/mcp", "require_approval": "never"})
BILLING = RealtimeAgent(name="Billing")


def test_settings_without_anything_are_the_defaults() -> None:
    agent = agent_of({}, call_id=False)
    assert (agent.instructions, agent.tools, agent.hosted_tools) == (None, (), ())
    assert agent.session["audio"]["output"] == {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "ash"}
    assert agent.session["tracing"] == "auto"


def test_a_call_that_is_joined_keeps_its_formats() -> None:
    assert "format" not in agent_of({}, call_id=True).session["audio"]["input"]


def test_tools_and_handoffs_are_told_as_they_are_listed() -> None:
    handoffs = [BILLING, realtime_handoff(RealtimeAgent(name="FAQ"))]
    settings = {"instructions": "be kind", "tools": [weather, MCP], "handoffs": handoffs}
    agent = agent_of(settings, call_id=False)
    assert agent.instructions == "be kind"
    assert [tool.name for tool in agent.tools] == ["weather", "transfer_to_billing", "transfer_to_faq"]
    assert [tool.label for tool in agent.hosted_tools] == ["docs"]


def test_a_patch_holds_what_was_given_and_nothing_else() -> None:
    assert settings_patch({}) == {}
    assert settings_patch({"instructions": "new", "model_name": "m", "turn_detection": None}) == {
        "instructions": "new",
        "model": "m",
        "audio": {"input": {"turn_detection": None}},
    }
    assert settings_patch({"tracing": "auto", "tool_choice": "weather"}) == {
        "tracing": "auto",
        "tool_choice": {"type": "function", "name": "weather"},
    }


def test_a_patch_of_tools_is_what_the_model_is_told() -> None:
    patch = settings_patch({"tools": [weather, MCP], "handoffs": [BILLING]})
    assert [tool.get("name") for tool in patch["tools"]] == ["weather", "transfer_to_billing", None]
    assert patch["tools"][0]["parameters"]["properties"]["city"]["type"] == "string"
    assert patch["tools"][2] == MCP.wire
    assert settings_patch({"tools": []}) == {"tools": []}


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"tools": [weather, weather]}, "several tools or handoffs named weather"),
        ({"tools": [RemoteTool("elsewhere")]}, "cannot know the schema"),
        ({"tools": [5]}, "model_settings tools: 5"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        agent_of(settings, call_id=False)
    with pytest.raises(UserError, match=complaint):
        settings_patch(cast("Any", settings))
