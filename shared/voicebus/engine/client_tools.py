"""Which tools are the server's, and so hidden from a client, and which the client declared itself."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from voicebus.engine.client_errors import invalid_type, invalid_value, unknown_tool
from voicebus.engine.config import AgentSpec
from voicebus.engine.offering import HOSTED, tool_key, wire_tools

_SECRET: Final = frozenset({"authorization", "headers"})


class Tools:
    """`server` are the wire definitions of the tools and handoffs of the agent in charge."""

    def __init__(self, agent: AgentSpec) -> None:
        self._offered: frozenset[str] = frozenset()
        self._definitions: Sequence[Mapping[str, Any]] = ()
        self._current: frozenset[str] = frozenset()
        self._earlier: set[str] = set()
        self._client: set[str] = set()
        self._declared: dict[str, Mapping[str, Any]] = {}
        self.replace_server(agent)

    @property
    def server(self) -> Sequence[Mapping[str, Any]]:
        """Those of the server's that are offered."""
        return [tool for tool in self._definitions if tool_key(tool) in self._offered]

    def replace_server(self, agent: AgentSpec) -> None:
        self._earlier |= self._current
        self._definitions = wire_tools(agent)
        self._current = frozenset(key for tool in self._definitions if (key := tool_key(tool)) is not None)
        self._offered = self._current
        self._chosen_by_client = agent.client.allows("server_tools")
        self._shown = "tools" in agent.client.may_see
        self._known_to_client = self._shown or self._chosen_by_client

    def select(self, tools: Sequence[Mapping[str, Any]]) -> frozenset[str] | None:
        """Which of the server's tools a client's list names, if it may choose; these are offered from now on."""
        if not self._chosen_by_client:
            return None
        self._offered = frozenset(key for tool in tools if (key := tool_key(tool)) in self._current and key)
        return self._offered

    def is_server(self, name: object) -> bool:
        """Whether the server has a tool of this name, or had one before a handoff and the client has none."""
        if not isinstance(name, str):
            return False
        return name in self._current or (name in self._earlier and name not in self._client)

    def is_servers_hosted(self, label: object) -> bool:
        """Whether the hosted MCP server of this label is one of the server's, by the same rule."""
        return isinstance(label, str) and self.is_server(HOSTED + label)

    def is_client(self, name: object) -> bool:
        """Whether a call of `name` is for the client. All others are the server's, also of tools that nobody has."""
        return isinstance(name, str) and name in self._client and name not in self._current

    def check(self, tools: object, param: str) -> list[Mapping[str, Any]]:
        """A client's list of tools. Raises `ClientEventError` where it is none, or takes a name of the server's.

        A client that knows the server's tools may name them; their definitions stay the server's.
        """
        if not isinstance(tools, list):
            raise invalid_type(param, "an array of objects", tools)
        for number, tool in enumerate(tools):
            if not isinstance(tool, Mapping):
                raise invalid_type(f"{param}[{number}]", "an object", tool)
            if self._known_to_client and tool_key(tool) in self._current:
                continue
            if self.is_server(name := tool.get("name")):
                where = f"{param}[{number}].name"
                raise invalid_value(where, f"Invalid value: '{name}'. The server has a tool of this name already.")
            if self.is_servers_hosted(label := tool.get("server_label")):
                where = f"{param}[{number}].server_label"
                raise invalid_value(
                    where, f"Invalid value: '{label}'. The server has an MCP server of this label already."
                )
        return tools

    def check_choice(self, choice: object, param: str) -> None:
        """Raises `ClientEventError` where a client's `tool_choice` names a tool of the server's that it cannot know."""
        if isinstance(choice, Mapping) and self.is_hidden_choice(choice):
            raise unknown_tool(param, str(choice.get("name") or choice.get("server_label")))

    def is_hidden_choice(self, choice: Mapping[str, Any]) -> bool:
        """Whether a `tool_choice` names a tool, or a hosted MCP server, of the server's that a client cannot know."""
        if self._known_to_client and tool_key(choice) in self._current:
            return False
        return self.is_server(choice.get("name")) or self.is_servers_hosted(choice.get("server_label"))

    def declare(self, tools: Sequence[Mapping[str, Any]], *, for_session: bool) -> None:
        """The client sends these, for the session (`own` then shows them as they are) or for one response."""
        for tool in tools:
            if key := tool_key(tool):
                self._client.add(key)
                if for_session:
                    self._declared[key] = tool

    def without_servers(self, tools: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Those that are the client's own."""
        return [tool for tool in tools if tool_key(tool) not in self._current]

    def own(self, tools: object) -> list[Any]:
        """Those of the model's `tools` that are the client's, as the client declared them."""
        if not isinstance(tools, list):
            return []
        return [
            self._declared.get(tool_key(tool) or "", tool)
            for tool in tools
            if isinstance(tool, Mapping) and not self.is_server(tool_key(tool))
        ]

    def visible(self, tools: object) -> list[Any]:
        """Those of the model's `tools` that the client is shown; of hosted servers without what opens them."""
        servers = [{key: value for key, value in tool.items() if key not in _SECRET} for tool in self.server]
        return [*(servers if self._shown else ()), *self.own(tools)]
