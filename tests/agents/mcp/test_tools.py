"""What the result of an MCP server's tool says to the model, which of its tools are offered, and which wait."""

from typing import Any

import pytest
from mcp.types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    EmbeddedResource,
    ResourceLink,
    TextContent,
    TextResourceContents,
    Tool,
)

from voicebus.agents.mcp.server import create_static_tool_filter
from voicebus.agents.mcp.tools import check_require_approval, needs_approval, result_text
from voicebus.errors import UserError

URI: Any = "file:///rates.txt"


@pytest.mark.parametrize(
    ("part", "read"),
    [
        (TextContent(text="EUR: 1.25"), "EUR: 1.25"),
        (AudioContent(data="AAAA", mime_type="audio/wav"), "[audio: audio/wav, 3 bytes]"),
        (EmbeddedResource(resource=TextResourceContents(uri=URI, text="EUR: 1.25")), "EUR: 1.25"),
        (
            EmbeddedResource(resource=BlobResourceContents(uri=URI, blob="AAAA")),
            "[resource: file:///rates.txt, binary]",
        ),
        (
            EmbeddedResource(resource=BlobResourceContents(uri=URI, blob="AAAA", mime_type="image/png")),
            "[resource: file:///rates.txt, image/png]",
        ),
        (ResourceLink(uri=URI, name="rates"), "[resource: rates, file:///rates.txt]"),
    ],
)
def test_what_a_voice_model_cannot_read_is_described(part: Any, read: str) -> None:
    result = CallToolResult(content=[TextContent(text="here"), part], structured_content={"rate": 1.25})
    assert result_text(result, structured=False) == f"here\n{read}"
    assert result_text(result, structured=True) == '{"rate": 1.25}'


def waiting(setting: Any) -> list[str]:
    """Which of two tools wait for a person."""
    check_require_approval(setting, "bank")
    tools = [Tool(name=name, input_schema={"type": "object"}) for name in ("pay", "look")]
    return [tool.name for tool in tools if needs_approval(setting, tool, None)]


@pytest.mark.parametrize(
    ("setting", "names"),
    [
        (None, []),
        ("never", []),
        ("always", ["pay", "look"]),
        (True, ["pay", "look"]),
        ({"pay": "always", "look": "never"}, ["pay"]),
        ({"pay": True, "look": False}, ["pay"]),
        ({"pay": "never"}, []),
        ({"always": {"tool_names": ["pay"]}, "never": {"tool_names": ["look"]}}, ["pay"]),
        ({"always": {}}, []),
    ],
)
def test_the_tools_that_wait_for_a_person_are_named_one_by_one_or_all_at_once(setting: Any, names: list[str]) -> None:
    assert waiting(setting) == names


@pytest.mark.parametrize("setting", ["ask", {"pay": "ask"}, {"always": {"tools": ["pay"]}}, {"always": ["pay"]}, 1.5])
def test_a_word_that_says_nothing_about_approval_is_refused(setting: Any) -> None:
    with pytest.raises(UserError, match="MCP server 'bank': require_approval must be"):
        check_require_approval(setting, "bank")


def test_a_filter_by_names_holds_the_lists_that_were_given() -> None:
    assert create_static_tool_filter() is None
    assert create_static_tool_filter(["pay"]) == {"allowed_tool_names": ["pay"]}
    assert create_static_tool_filter([], ["pay"]) == {"allowed_tool_names": [], "blocked_tool_names": ["pay"]}
