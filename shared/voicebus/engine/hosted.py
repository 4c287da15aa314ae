"""Items of hosted MCP servers, whose tools the model's own side runs: what they mean to the program (parity 140).

Its tools and its calls become events of the native face. A request for approval is a call that waits: `toolcalls.py`
answers it with the decision. Nobody has said whether the model goes on by itself then, so it is asked to, as after any
call, in turn and once for all calls of the response; but where it does go on by itself, that stands for the answer.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from voicebus.engine import wire
from voicebus.engine.bounds import Recent
from voicebus.engine.calls import Call
from voicebus.engine.config import Face, HostedToolSpec, SessionConfig
from voicebus.engine.outbox import Outbox
from voicebus.engine.responses import Response
from voicebus.engine.settings import Settings
from voicebus.engine.toolcalls import ToolCalls


class HostedTools:
    """Reads finished items; those of other types mean nothing here."""

    def __init__(self, out: Outbox, calls: ToolCalls, settings: Settings, config: SessionConfig) -> None:
        self._out = out
        self._config = config
        self._calls = calls
        self._settings = settings
        # The model tells of each twice: as an item and as an output.
        self._finished = Recent()
        self._tools: dict[str, Sequence[Mapping[str, Any]]] = {}

    def finished(self, item: Mapping[str, Any], response: Response | None) -> None:
        """An item is done; `response` is what made it, None where no response runs."""
        match item.get("type"):
            case "mcp_approval_request" if response is not None:
                self._asked(item, response)
            case "mcp_call" if wire.text(item, "status") != "incomplete":
                self._called(item)
            case "mcp_list_tools":
                self._listed(item)

    def _asked(self, item: Mapping[str, Any], response: Response) -> None:
        """One of its tools is to be approved."""
        item_id, label = wire.text(item, "id"), wire.text(item, "server_label")
        name, arguments = f"{label}.{wire.text(item, 'name')}", wire.text(item, "arguments")
        spec = next((tool for tool in response.agent.hosted_tools if tool.label == label), None)
        is_clients = spec is None and self._config.face is Face.OPENAI
        if not (is_clients or self._config.calls_elsewhere or response.out_of_band):
            # A server that no agent of ours named (the program's raw message did): nobody but a person can decide.
            call = Call(item_id, item_id, name, arguments, response, spec or HostedToolSpec(label, {}))
            self._calls.begin_hosted(call)

    def _called(self, item: Mapping[str, Any]) -> None:
        item_id = wire.text(item, "id")
        if item_id in self._finished:
            return
        self._finished.add(item_id)
        self._out.emit("mcp_tool_call_completed", item=item)

    def _listed(self, item: Mapping[str, Any]) -> None:
        """One server's tools; the program is told all that the present agent has, each with its server's label."""
        label = wire.text(item, "server_label")
        tools = [{**tool, "server_label": label} for tool in wire.mappings(item, "tools")]
        if self._tools.get(label) == tools:
            return
        own = {server.label for server in self._settings.agent.hosted_tools}
        self._tools = {name: known for name, known in self._tools.items() if name in own} | {label: tools}
        self._out.emit("mcp_tools_changed", tools=[tool for known in self._tools.values() for tool in known])
