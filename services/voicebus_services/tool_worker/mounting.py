"""MCP servers whose tools a worker offers: opened at its start, and followed when their tools change."""

import asyncio
import contextlib
import dataclasses
import re
import shlex
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import PurePath
from types import MappingProxyType, SimpleNamespace
from typing import Any, Final
from urllib.parse import urlsplit

from voicebus.agents.mcp.connection import CONNECT_S
from voicebus.agents.mcp.server import MCPClientServer
from voicebus.agents.mcp.transports import MCPServerStdio, MCPServerStreamableHttp
from voicebus.agents.tools.function_tool import FunctionTool
from voicebus.agents.tools.worker import ToolWorker
from voicebus.contracts.tools import ToolRegistration, version_key
from voicebus.errors import BusError, MCPServerError, UserError
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

LOOK_EVERY_S: Final = 60.0
"""A server that says nothing of a change is asked so often, as one that was restarted may have other tools."""

_NAMED: Final = re.compile(r"([A-Za-z0-9_-]{1,32})=(.+)")


class Mounts:
    """The servers of `sources`, each `http(s)://…` or a command, with `NAME=` before it or not.

    `prefixed`: tools are called `mcp_NAME__TOOL`. `connect_s` is for a server to open a session, `timeout_s` for an
    answer of it. `headers` go with every request to the server of that name.

    Raises:
        UserError: a source is neither, headers are for none of those reached by HTTP, or `voicebus[mcp]` is not
            installed.
    """

    def __init__(
        self,
        sources: Iterable[str],
        *,
        prefixed: bool,
        connect_s: float = CONNECT_S,
        timeout_s: float,
        headers: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self._headers = headers or {}
        self._changed = asyncio.Event()
        self._limits = {"connect_timeout_seconds": connect_s, "client_session_timeout_seconds": timeout_s}
        # What an agent says of its servers' tools.
        self._wishes = SimpleNamespace(mcp_config={"include_server_in_tool_names": prefixed})
        self._servers = [self._server(source) for source in sources]
        self._known: dict[str, FunctionTool] = {}
        reached = sorted(one.name for one in self._servers if isinstance(one, MCPServerStreamableHttp))
        for name in sorted(self._headers.keys() - set(reached)):
            raise UserError(
                f"VOICEBUS_MCP_HEADERS: {name!r} is no MCP server that is reached by HTTP"
                f" (those are: {', '.join(reached) or 'none'})"
            )

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Connected for as long as the block runs.

        Raises:
            MCPServerError: a server cannot be reached.
        """
        async with contextlib.AsyncExitStack() as stack:
            for server in self._servers:
                await stack.enter_async_context(server)
            yield

    async def tools(
        self, registered: Mapping[str, Sequence[ToolRegistration]] = MappingProxyType({})
    ) -> list[FunctionTool]:
        """Their tools now. One whose schema has changed since the last time has a newer version: the one under which
        another worker has `registered` that schema (by tool, its versions), if any.

        Raises:
            MCPServerError: a server does not answer.
            UserError: two of them offer a tool of one name.
        """
        found: dict[str, FunctionTool] = {}
        owners: dict[str, str] = {}
        for server in self._servers:
            for tool in await server.list_tools(agent=self._wishes):
                if tool.name in found:
                    raise UserError(
                        f"MCP servers {owners[tool.name]!r} and {server.name!r} both offer a tool {tool.name!r}; "
                        "mount them with --mcp-prefix, each as NAME=…"
                    )
                owners[tool.name] = server.name
                found[tool.name] = self._versioned(tool, registered.get(tool.name, ()))
        self._known = found
        return list(found.values())

    def look(self) -> None:
        """Have `follow` look now."""
        self._changed.set()

    async def follow(self, worker: ToolWorker, own: Sequence[FunctionTool]) -> None:
        """Have `worker` offer what there is, beside its `own` tools, until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._changed.wait()
            self._changed.clear()
            before = self._shown()
            try:
                tools = await self.tools(await worker.registered(list(self._known)))
                if self._shown() != before:
                    log.info("tools of MCP servers changed", tools=sorted(self._known))
                    await worker.offer([*own, *tools])
            except (MCPServerError, UserError, BusError) as error:
                log.warning("tools of MCP servers not followed", error=str(error))

    def _shown(self) -> dict[str, tuple[str, dict[str, Any], str]]:
        return {name: (tool.description, tool.params_json_schema, tool.version) for name, tool in self._known.items()}

    def _versioned(self, tool: FunctionTool, registered: Sequence[ToolRegistration]) -> FunctionTool:
        known = self._known.get(tool.name)
        last = tool.version if known is None else known.version
        # Workers that mount one server learn of its change one after another: the first makes the version, the others
        # take it over, or it alone would be given the calls. Where two were first, both take the newer one.
        shared = [
            other.version
            for other in registered
            if other.parameters == tool.params_json_schema and version_key(other.version) >= version_key(last)
        ]
        if shared:
            return dataclasses.replace(tool, version=max(shared, key=version_key))
        if known is None or known.params_json_schema == tool.params_json_schema:
            return dataclasses.replace(tool, version=last)
        numbers = [(*version_key(version), 0)[0] for version in (last, *(other.version for other in registered))]
        return dataclasses.replace(tool, version=str(max(int(time.time()), max(numbers) + 1)))

    def _server(self, source: str) -> MCPClientServer[Any]:
        match = _NAMED.fullmatch(source)
        name, where = (match[1], match[2]) if match is not None else (None, source)
        options: dict[str, Any] = {**self._limits, "message_handler": self._heard}
        if where.startswith(("http://", "https://")):
            if not urlsplit(where).hostname:
                raise UserError(f"--mcp: {source!r} names no host")
            name = name or re.sub(r"[^A-Za-z0-9_-]", "_", str(urlsplit(where).hostname))
            headers = dict(self._headers.get(name, {}))
            return MCPServerStreamableHttp({"url": where, "headers": headers}, name=name, **options)
        try:
            command, *arguments = shlex.split(where)
        except ValueError as error:
            raise UserError(f"--mcp: {source!r} is neither an http(s) address nor a command ({error})") from error
        runs = next((word for word in arguments if not word.startswith("-")), command)
        name = name or re.sub(r"[^A-Za-z0-9_-]", "_", PurePath(runs).stem)
        return MCPServerStdio({"command": command, "args": arguments}, name=name, **options)

    async def _heard(self, message: Any) -> None:
        if "ToolListChanged" in type(getattr(message, "root", message)).__name__:
            self._changed.set()
