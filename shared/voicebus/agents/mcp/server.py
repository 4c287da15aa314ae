"""`MCPClientServer`: what is the same for every MCP server that we reach ourselves, whatever it is reached through."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, NotRequired, Self, TypeAlias, TypedDict, TypeVar
from urllib.parse import urlsplit

from voicebus.agents import checking
from voicebus.agents.context import RunContextWrapper
from voicebus.agents.functions import answer_of, takes
from voicebus.agents.mcp.connection import CONNECT_S, Connection, first_of
from voicebus.agents.mcp.tools import (
    UNSET,
    Making,
    RequireApproval,
    Unset,
    check_require_approval,
)
from voicebus.agents.naming import unknown_keys
from voicebus.agents.tools.function_tool import FailureText, FunctionTool
from voicebus.agents.tools.guardrails import ToolInputGuardrail, ToolOutputGuardrail
from voicebus.errors import MCPServerError, UserError, WrongTypeError
from voicebus.telemetry.logging import get_logger, raised

if TYPE_CHECKING:
    from mcp import Client
    from mcp.types import CallToolResult
    from mcp.types import Tool as MCPTool

_log = get_logger(__name__)

_LIST_PAGES: Final = 100
"""Pages of a server's list of tools, at most."""

_BACKOFF_MAX_S: Final = 30.0

Params = TypeVar("Params", bound=Mapping[str, Any])
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class ToolFilterContext:
    """What a tool filter is asked with."""

    run_context: RunContextWrapper[Any]
    agent: Any
    server_name: str


class ToolFilterStatic(TypedDict):
    """Tools by name: those that are allowed (absent: all), less those that are blocked."""

    allowed_tool_names: NotRequired[list[str]]
    blocked_tool_names: NotRequired[list[str]]


ToolFilter: TypeAlias = ToolFilterStatic | Callable[[ToolFilterContext, Any], bool | Awaitable[bool]] | None


def create_static_tool_filter(
    allowed_tool_names: list[str] | None = None, blocked_tool_names: list[str] | None = None
) -> ToolFilterStatic | None:
    """A `tool_filter` by names; None where nothing is filtered.

    Raises:
        UserError: an argument is no list of names.
    """
    for argument, names in (("allowed_tool_names", allowed_tool_names), ("blocked_tool_names", blocked_tool_names)):
        checking.texts("create_static_tool_filter", argument, names, optional=True)
    made = ToolFilterStatic()
    if allowed_tool_names is not None:
        made["allowed_tool_names"] = allowed_tool_names
    if blocked_tool_names is not None:
        made["blocked_tool_names"] = blocked_tool_names
    return made or None


class MCPClientServer(ABC, Generic[Params]):
    """A server whose tools run in the process that holds the session.

    Enter it (`async with`), or `connect` and `cleanup` it: then it is open for as long as that. Sessions of agents
    that have it open it themselves where nobody has, and the last of them closes it. A server that hangs up is
    connected again by the next call.

    Args:
        params: how the server is reached.
        cache_tools_list: ask for its tools once, until `invalidate_tools_cache` or until it says that they changed.
        name: tells servers apart.
        client_session_timeout_seconds: s for an answer of the server, also of a tool; None or 0: no limit of its own.
        tool_filter: which of its tools are offered.
        use_structured_content: give the model the structured content of a result, where there is one.
        max_retry_attempts: how often a request is made again that got no answer; -1 for ever. A call whose answer
            was lost may have had its effect.
        retry_backoff_seconds_base: s before the first of them; each further wait is twice as long.
        message_handler: is awaited with each message of the server.
        require_approval: which tools wait for a person: 'always', 'never', a bool, by name, or a function
            `(context, agent, tool)`.
        failure_error_function: words a failed call for the model; None fails the call. Default: the agent's.
        retry_backoff_seconds_max: s, at most, between attempts; default 30.
        tool_input_guardrails, tool_output_guardrails: for each of its tools.
        max_list_pages: pages of its list of tools; default 100.
        connect_timeout_seconds: s to open a session, a program's start included; None or 0: as long as it takes.
        tool_meta_resolver, custom_data_extractor: there is nothing like them here; they are there to be refused.

    Raises:
        UserError: an argument cannot be, or `voicebus[mcp]` is not installed.
    """

    _ALLOWED: frozenset[str]
    _REQUIRED: str
    _KIND: str

    def __init__(
        self,
        params: Params,
        cache_tools_list: bool = False,
        name: str | None = None,
        client_session_timeout_seconds: float | None = 5,
        tool_filter: ToolFilter = None,
        use_structured_content: bool = False,
        max_retry_attempts: int = 0,
        retry_backoff_seconds_base: float = 1.0,
        message_handler: Callable[[Any], Awaitable[None]] | None = None,
        require_approval: RequireApproval = None,
        failure_error_function: FailureText | Unset | None = UNSET,
        tool_meta_resolver: None = None,
        custom_data_extractor: None = None,
        retry_backoff_seconds_max: float | None = None,
        *,
        tool_input_guardrails: list[ToolInputGuardrail[Any]] | None = None,
        tool_output_guardrails: list[ToolOutputGuardrail[Any]] | None = None,
        max_list_pages: int | None = None,
        connect_timeout_seconds: float | None = CONNECT_S,
    ) -> None:
        require_mcp()
        checking.text(self._KIND, "name", name, optional=True)
        self._params = self._checked(params)
        self._name = name or f"{self._KIND}: {self._params[self._REQUIRED]}"
        for what, given in (
            ("tool_meta_resolver", tool_meta_resolver), ("custom_data_extractor", custom_data_extractor),
        ):  # fmt: skip
            if given is not None:
                raise self._wrong(what, "cannot be honoured; leave it out")
        where = f"MCP server {self._name!r}"
        checking.number(where, "client_session_timeout_seconds", client_session_timeout_seconds, optional=True)
        checking.number(where, "connect_timeout_seconds", connect_timeout_seconds, optional=True)
        checking.number(where, "retry_backoff_seconds_base", retry_backoff_seconds_base)
        checking.number(where, "retry_backoff_seconds_max", retry_backoff_seconds_max, optional=True)
        if isinstance(max_retry_attempts, bool) or not isinstance(max_retry_attempts, int) or max_retry_attempts < -1:
            raise self._wrong("max_retry_attempts", f"must be a whole number from -1, not {max_retry_attempts!r}")
        if isinstance(tool_filter, Mapping):
            unknown = set(tool_filter) - set(ToolFilterStatic.__annotations__)
            if unknown:
                raise self._wrong("tool_filter", f"has unknown keys: {', '.join(sorted(map(str, unknown)))}")
            for key, names in tool_filter.items():
                checking.texts(where, f"tool_filter {key}", names, optional=True)
        elif tool_filter is not None and not (callable(tool_filter) and takes(tool_filter, 2)):
            raise self._wrong("tool_filter", f"must be an object or a function (context, tool), not {tool_filter!r}")
        check_require_approval(require_approval, self._name)
        checking.flag(where, "cache_tools_list", cache_tools_list)
        checking.flag(where, "use_structured_content", use_structured_content)
        checking.function(where, "message_handler", message_handler, optional=True)
        if not isinstance(failure_error_function, Unset):
            checking.function(where, "failure_error_function", failure_error_function, optional=True)
        checking.listed(where, "tool_input_guardrails", tool_input_guardrails, ToolInputGuardrail, optional=True)
        checking.listed(where, "tool_output_guardrails", tool_output_guardrails, ToolOutputGuardrail, optional=True)
        checking.whole(where, "max_list_pages", max_list_pages, optional=True, least=1)
        self.cache_tools_list = cache_tools_list
        self._connect_s = connect_timeout_seconds or None
        self._timeout_s = client_session_timeout_seconds or None
        self._filter = tool_filter
        self._attempts = max_retry_attempts
        self._backoff = (
            retry_backoff_seconds_base,
            _BACKOFF_MAX_S if retry_backoff_seconds_max is None else retry_backoff_seconds_max,
        )
        self._handler = message_handler
        self._pages = max_list_pages or _LIST_PAGES
        self._making = Making(
            self._name, self.call_tool, use_structured_content, require_approval, failure_error_function,
            tool_input_guardrails, tool_output_guardrails,
        )  # fmt: skip
        self._connection: Connection | None = None
        self._opening = asyncio.Lock()
        self._kept = False
        self._sessions = 0
        self._listed: list[MCPTool] | None = None
        self._changes = 0

    # --- open and close -----------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self._name

    async def connect(self) -> None:
        """Open the connection, until `cleanup`; nothing to do where it is open.

        Raises:
            MCPServerError: the server cannot be reached.
        """
        self._kept = True
        try:
            await self._open()
        except BaseException:  # also where it is cancelled: it is not kept open then
            self._kept = False
            raise

    async def cleanup(self) -> None:
        """Close the connection; nothing to do where there is none."""
        self._kept = False
        async with self._opening:
            connection, self._connection = self._connection, None
            self._listed = None
            if connection is not None:
                await connection.close()

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.cleanup()

    def join(self) -> None:
        """A session begins to use this server: from now on it is connected when it is first asked."""
        self._sessions += 1

    async def leave(self) -> None:
        """A session that has joined uses it no more; the last one closes what the program has not connected."""
        self._sessions -= 1
        if self._sessions == 0 and not self._kept:
            await self.cleanup()

    # --- tools --------------------------------------------------------------------------------------

    async def list_tools(
        self, run_context: RunContextWrapper[Any] | None = None, agent: Any = None
    ) -> list[FunctionTool]:
        """The tools that `agent` may use, in the server's order.

        Raises:
            MCPServerError: the server cannot be reached, or does not answer.
            UserError: it is not connected; or its filter is a function, and there is no context or agent to ask it.
        """
        listed = self._listed if self.cache_tools_list else None
        if listed is None:
            changes = self._changes
            listed = await self._ask("tools/list", self._list)
            if changes == self._changes:  # else it may be older than what the server told meanwhile
                self._listed = listed
        offered = [tool for tool in listed if await self._is_offered(tool, run_context, agent)]
        return [self._making.tool(tool, agent) for tool in offered]

    async def call_tool(
        self, tool_name: str, arguments: dict[str, Any] | None, meta: dict[str, Any] | None = None
    ) -> "CallToolResult":
        """Call a tool by the server's own name for it.

        Raises:
            MCPServerError: the server refused the call, cannot be reached, or did not answer in time.
            UserError: it is not connected.
        """

        async def call(client: "Client") -> "CallToolResult":
            return await client.call_tool(tool_name, arguments, meta=meta)  # type: ignore[arg-type]

        return await self._ask(f"tool {tool_name!r}", call)

    def invalidate_tools_cache(self) -> None:
        """List the tools anew when they are next asked for."""
        self._changes += 1
        self._listed = None

    # --- for each way to reach a server -------------------------------------------------------------

    @abstractmethod
    def _transport(self) -> AbstractAsyncContextManager[Any]:
        """A new way to the server: read and write stream."""

    # --- inside -------------------------------------------------------------------------------------

    async def _open(self) -> Connection:
        async with self._opening:
            if self._connection is not None and self._connection.alive:
                return self._connection
            if self._connection is not None:
                await self._connection.close()
                self._connection = None
            self._listed = None
            self._connection = await Connection.open(
                self._name, self._transport(), connect_s=self._connect_s, timeout_s=self._timeout_s,
                changed=self.invalidate_tools_cache, heard=self._handler,
            )  # fmt: skip
            return self._connection

    async def _ask(self, what: str, request: "Callable[[Client], Awaitable[Answer]]") -> Answer:
        if not (self._kept or self._sessions):
            raise UserError(f"MCP server {self._name!r} is not connected: enter it, or call connect()")
        attempt = 0
        while True:
            try:
                connection = await self._open()
                try:
                    return await request(connection.client)
                except Exception as error:  # transports and servers raise anything; it becomes our own error
                    raise self._failure(what, error, connection) from error
            except MCPServerError as failure:
                if not failure.unanswered or attempt == self._attempts:
                    raise
                _log.info("an MCP server is asked again", server=self._name, what=what, error=str(failure))
            first, most = self._backoff
            await asyncio.sleep(min(most, first * 2.0 ** min(attempt, 16)))
            attempt += 1

    def _failure(self, what: str, error: Exception, connection: Connection) -> MCPServerError:
        from mcp import MCPError
        from mcp.types import CONNECTION_CLOSED, REQUEST_TIMEOUT

        why = first_of(error)
        code = why.code if isinstance(why, MCPError) else None
        if code == REQUEST_TIMEOUT or isinstance(why, TimeoutError):
            return MCPServerError(
                f"MCP server {self._name!r}: {what} got no answer in {self._timeout_s} s", unanswered=True
            )
        if code is not None and code != CONNECTION_CLOSED:
            return MCPServerError(f"MCP server {self._name!r}: {what}: {why}")
        connection.drop()
        said = str(why) or type(why).__name__
        return MCPServerError(
            f"MCP server {self._name!r}: {what}: the connection was lost ({said}); the next call connects again",
            unanswered=True,
        )

    async def _list(self, client: "Client") -> "list[MCPTool]":
        listed: list[MCPTool] = []
        cursor: str | None = None
        for _ in range(self._pages):
            page = await client.list_tools(cursor=cursor)
            listed.extend(page.tools)
            cursor = page.next_cursor
            if cursor is None:
                return listed
        raise MCPServerError(f"MCP server {self._name!r} lists its tools on more than {self._pages} pages")

    async def _is_offered(self, tool: "MCPTool", run_context: RunContextWrapper[Any] | None, agent: Any) -> bool:
        wanted = self._filter
        if wanted is None:
            return True
        if isinstance(wanted, Mapping):
            allowed, blocked = wanted.get("allowed_tool_names"), wanted.get("blocked_tool_names") or ()
            return (allowed is None or tool.name in allowed) and tool.name not in blocked
        if run_context is None or agent is None:
            raise self._wrong("tool_filter", "is a function: list_tools needs run_context and agent to ask it")
        try:
            return bool(await answer_of("it", wanted, ToolFilterContext(run_context, agent, self._name), tool))
        except Exception as error:  # noqa: BLE001 - an author's function may raise anything
            _log.warning(
                "a tool filter failed, the tool is left out", server=self._name, tool=tool.name, **raised(error)
            )
            return False

    def _checked(self, params: Any) -> Params:
        kind = type(self).__name__
        if not isinstance(params, Mapping):
            raise WrongTypeError(f"{kind} params must be an object, not {params!r}")
        if unknown := unknown_keys(params, self._ALLOWED):
            raise UserError(f"{kind} params has unknown keys: {unknown}")
        if not isinstance(params.get(self._REQUIRED), str) or not params[self._REQUIRED]:
            raise UserError(
                f"{kind} params needs {self._REQUIRED}, a non-empty string, not {params.get(self._REQUIRED)!r}"
            )
        if self._REQUIRED == "url" and urlsplit(params["url"]).scheme not in ("http", "https"):
            raise UserError(f"{kind} params url must be an http: or https: address, not {params['url']!r}")
        return params  # type: ignore[return-value]

    def _wrong(self, what: str, why: str) -> UserError:
        return UserError(f"MCP server {self._name!r}: {what} {why}")


class Joined:
    """The servers that one session has joined; left by `aclose`."""

    def __init__(self) -> None:
        self._servers: list[MCPClientServer[Any]] = []

    def join(self, servers: list[Any]) -> None:
        for server in servers:
            if isinstance(server, MCPClientServer) and server not in self._servers:
                server.join()
                self._servers.append(server)

    async def aclose(self) -> None:
        servers, self._servers = self._servers, []
        await asyncio.gather(*(server.leave() for server in servers))


def require_mcp() -> None:
    """Raises:
    UserError: the `mcp` package is missing.
    """
    try:
        import mcp  # noqa: F401
    except ImportError as error:
        raise UserError("MCP servers need the mcp package; install voicebus[mcp]") from error
