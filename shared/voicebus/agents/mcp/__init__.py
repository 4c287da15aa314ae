"""Tools from MCP servers: what an agent asks of a server. The servers themselves are elsewhere in this package."""

from collections.abc import Callable
from typing import Any, NotRequired, Protocol, TypedDict, runtime_checkable

from voicebus.agents.context import RunContextWrapper
from voicebus.agents.naming import unknown_keys
from voicebus.agents.tools.function_tool import FunctionTool
from voicebus.errors import UserError

__all__ = ["MCPConfig", "MCPServer", "check_mcp_config"]


@runtime_checkable
class MCPServer(Protocol):
    """A server whose tools an agent offers as its own. They run in the process that holds the session."""

    @property
    def name(self) -> str:
        """Tells servers apart, in messages and, where asked for, in the tools' names."""
        ...

    async def connect(self) -> None:
        """Open the connection; nothing to do where it is open."""
        ...

    async def cleanup(self) -> None:
        """Close the connection; nothing to do where there is none."""
        ...

    async def list_tools(self, run_context: RunContextWrapper[Any], agent: Any) -> list[FunctionTool]:
        """The tools that `agent` may use, filtered and made by its `mcp_config`. Connects where nobody has yet."""
        ...


class MCPConfig(TypedDict):
    """How an agent takes over the tools of its servers.

    `convert_schemas_to_strict` (default False) closes their schemas where that is possible.
    `failure_error_function` puts a failed call into words for the model; None fails the call.
    `include_server_in_tool_names` (default False) tells tools of the same name on several servers apart.
    """

    convert_schemas_to_strict: NotRequired[bool]
    failure_error_function: NotRequired[Any]
    include_server_in_tool_names: NotRequired[bool]


def check_mcp_config(config: object, where: str, wrong: Callable[[str, str, object], Exception]) -> None:
    """Refuse what is no `MCPConfig`.

    Raises:
        UserError: a key that does not exist.
        Exception: what `wrong(argument, rule, value)` makes, for a value that its key cannot have.
    """
    if not isinstance(config, dict):
        raise wrong("mcp_config", "must be a dictionary", config)
    if unknown := unknown_keys(config, MCPConfig.__annotations__):
        raise UserError(f"{where}: mcp_config has unknown keys: {unknown}")
    for flag in ("convert_schemas_to_strict", "include_server_in_tool_names"):
        if not isinstance(config.get(flag, False), bool):
            raise wrong(f"mcp_config.{flag}", "must be True or False", config[flag])
    wording = config.get("failure_error_function")
    if wording is not None and not callable(wording):
        raise wrong("mcp_config.failure_error_function", "must be a function or None", wording)
