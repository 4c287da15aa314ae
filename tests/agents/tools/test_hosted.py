"""MCP servers that the model reaches itself are checked when they are named."""

from typing import Any

import pytest

from voicebus.agents.tools.hosted import HostedMCPTool
from voicebus.errors import UserError


def test_a_hosted_server_is_known_by_its_label_and_told_as_it_is() -> None:
    config = {"server_label": "crm", "connector_id": "c1", "require_approval": {"never": {"tool_names": ["find"]}}}
    tool = HostedMCPTool(config)
    assert (tool.name, tool.server_label) == ("hosted_mcp", "crm")
    assert tool.wire == {**config, "type": "mcp"}


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ("crm", "tool_config must be an object, not 'crm'"),
        ({"server_url": "u"}, "needs a server_label, a non-empty string, not None"),
        ({"server_label": "", "server_url": "u"}, "needs a server_label"),
        ({"server_label": "crm"}, "needs exactly one of server_url, connector_id, tunnel_id"),
        ({"server_label": "crm", "server_url": "u", "tunnel_id": "t"}, "needs exactly one of"),
        ({"server_label": "crm", "server_url": 7}, "needs exactly one of"),
        ({"server_label": "crm", "server_url": "u", "type": "function"}, "type must be 'mcp', not 'function'"),
        ({"server_label": "crm", "server_url": "u", "lbl": "x"}, "unknown keys: lbl"),
        ({"server_label": "crm", "server_url": "u", "require_approval": "maybe"}, "require_approval must be"),
    ],
)
def test_a_hosted_server_that_cannot_be_is_refused(config: Any, sentence: str) -> None:
    with pytest.raises(UserError) as refused:
        HostedMCPTool(config)
    assert sentence in str(refused.value)


def test_what_decides_about_a_hosted_servers_calls_is_a_function() -> None:
    with pytest.raises(UserError, match="on_approval_request must be a function"):
        HostedMCPTool({"server_label": "crm", "server_url": "u"}, "always")  # type: ignore[arg-type]
