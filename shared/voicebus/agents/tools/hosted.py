"""Tools that the model's own side runs: MCP servers that it reaches itself."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NotRequired, TypeAlias, TypedDict

from voicebus.agents.context import RunContextWrapper
from voicebus.errors import UserError

_PLACES: Final = ("server_url", "connector_id", "tunnel_id")
_KEYS: Final = frozenset(
    {
        "type", "server_label", *_PLACES, "authorization", "headers", "allowed_tools", "require_approval",
        "server_description", "defer_loading", "allowed_callers",
    }
)  # fmt: skip


@dataclass(frozen=True)
class MCPApprovalRequest:
    """A call that a hosted MCP server's tool waits with. `arguments` is the model's JSON text."""

    id: str
    server_label: str
    name: str
    arguments: str


@dataclass(frozen=True)
class MCPToolApprovalRequest:
    """What an `on_approval_request` is given."""

    ctx_wrapper: RunContextWrapper[Any]
    data: MCPApprovalRequest


class MCPToolApprovalFunctionResult(TypedDict):
    """`reason` is what the model is told of a call that was not approved."""

    approve: bool
    reason: NotRequired[str]


MCPToolApprovalFunction: TypeAlias = Callable[
    [MCPToolApprovalRequest], MCPToolApprovalFunctionResult | Awaitable[MCPToolApprovalFunctionResult]
]
"""Decides about calls of a hosted MCP server's tools; may be async."""


@dataclass(frozen=True)
class HostedMCPTool:
    """An MCP server that the model's provider reaches itself.

    `tool_config` is the protocol's object: `server_label`, one of `server_url`, `connector_id` and `tunnel_id`, and
    what else the server needs (`authorization`, `headers`, `allowed_tools`, `require_approval`, ...).
    `on_approval_request` decides about calls that need approval; without it a person does (`approve_tool_call`).

    Raises:
        UserError: the configuration cannot be.
    """

    tool_config: Mapping[str, Any]
    on_approval_request: MCPToolApprovalFunction | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.tool_config, Mapping):
            raise UserError(f"HostedMCPTool tool_config must be an object, not {self.tool_config!r}")
        label = self.tool_config.get("server_label")
        if not isinstance(label, str) or not label:
            raise UserError(f"HostedMCPTool tool_config needs a server_label, a non-empty string, not {label!r}")
        unknown = sorted(str(key) for key in set(self.tool_config) - _KEYS)
        if unknown:
            raise UserError(f"HostedMCPTool {label!r}: tool_config has unknown keys: {', '.join(unknown)}")
        if self.tool_config.get("type", "mcp") != "mcp":
            raise UserError(f"HostedMCPTool {label!r}: type must be 'mcp', not {self.tool_config['type']!r}")
        places = [place for place in _PLACES if self.tool_config.get(place) is not None]
        if len(places) != 1 or not isinstance(self.tool_config[places[0]], str):
            raise UserError(f"HostedMCPTool {label!r}: tool_config needs exactly one of {', '.join(_PLACES)}, a string")
        approval = self.tool_config.get("require_approval", "always")
        if approval not in ("always", "never") and not isinstance(approval, Mapping):
            raise UserError(
                f"HostedMCPTool {label!r}: require_approval must be 'always', 'never' or an object, not {approval!r}"
            )
        if self.on_approval_request is not None and not callable(self.on_approval_request):
            raise UserError(f"HostedMCPTool {label!r}: on_approval_request must be a function")

    @property
    def name(self) -> str:
        """`hosted_mcp`, whatever the server is called."""
        return "hosted_mcp"

    @property
    def server_label(self) -> str:
        """Tells the agent's servers apart, and stands before the tools' names: `label.tool`."""
        return str(self.tool_config["server_label"])

    @property
    def wire(self) -> dict[str, Any]:
        """As the model is told."""
        return {**self.tool_config, "type": "mcp"}
