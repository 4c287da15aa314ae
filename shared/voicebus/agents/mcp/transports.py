"""The MCP servers by how they are reached: a process of ours, streamable HTTP, HTTP with server-sent events."""

from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict

from voicebus.agents.mcp.server import MCPClientServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class MCPServerStdioParams(TypedDict):
    """A program to start, spoken to by its standard input and output."""

    command: str
    args: NotRequired[list[str]]
    env: NotRequired[dict[str, str]]
    cwd: NotRequired[str | Path]
    encoding: NotRequired[str]
    encoding_error_handler: NotRequired[Literal["strict", "ignore", "replace"]]


class MCPServerStreamableHttpParams(TypedDict):
    """`timeout` (default 5 s) for a request to begin to be answered, `sse_read_timeout` (default 5 min) between events.

    `httpx_client_factory(headers=..., timeout=..., auth=...)` makes the HTTP client.
    """

    url: str
    headers: NotRequired[dict[str, str]]
    timeout: NotRequired[timedelta | float]
    sse_read_timeout: NotRequired[timedelta | float]
    terminate_on_close: NotRequired[bool]
    httpx_client_factory: NotRequired[Any]
    auth: NotRequired[Any]


class MCPServerSseParams(TypedDict):
    """As of `MCPServerStreamableHttpParams`."""

    url: str
    headers: NotRequired[dict[str, str]]
    timeout: NotRequired[timedelta | float]
    sse_read_timeout: NotRequired[timedelta | float]
    httpx_client_factory: NotRequired[Any]
    auth: NotRequired[Any]


class MCPServerStdio(MCPClientServer[MCPServerStdioParams]):
    __doc__ = f"A server that runs as a process of ours. {MCPClientServer.__doc__}"

    _ALLOWED = frozenset(MCPServerStdioParams.__annotations__)
    _REQUIRED = "command"
    _KIND = "stdio"

    def _transport(self) -> AbstractAsyncContextManager[Any]:
        return _stdio(self._params)


class MCPServerStreamableHttp(MCPClientServer[MCPServerStreamableHttpParams]):
    __doc__ = f"A server that is reached by streamable HTTP. {MCPClientServer.__doc__}"

    _ALLOWED = frozenset(MCPServerStreamableHttpParams.__annotations__)
    _REQUIRED = "url"
    _KIND = "streamable_http"

    def _transport(self) -> AbstractAsyncContextManager[Any]:
        return _streamable_http(self._params)


class MCPServerSse(MCPClientServer[MCPServerSseParams]):
    __doc__ = f"A server that is reached by HTTP with server-sent events. {MCPClientServer.__doc__}"

    _ALLOWED = frozenset(MCPServerSseParams.__annotations__)
    _REQUIRED = "url"
    _KIND = "sse"

    def _transport(self) -> AbstractAsyncContextManager[Any]:
        from mcp.client.sse import sse_client

        given: dict[str, Any] = {key: _seconds(value) for key, value in self._params.items()}
        return sse_client(**given)


@asynccontextmanager
async def _stdio(params: MCPServerStdioParams) -> "AsyncIterator[Any]":
    from mcp import StdioServerParameters, stdio_client

    async with AsyncExitStack() as stack:
        try:
            streams = await stack.enter_async_context(stdio_client(StdioServerParameters(**params)))
        except OSError as error:  # which does not name the program on every event loop
            raise OSError(f"{params['command']!r} cannot be started: {error.strerror or error}") from error
        yield streams


@asynccontextmanager
async def _streamable_http(params: MCPServerStreamableHttpParams) -> "AsyncIterator[Any]":
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    make = params.get("httpx_client_factory") or httpx2.AsyncClient
    timeout = httpx2.Timeout(_seconds(params.get("timeout", 5.0)), read=_seconds(params.get("sse_read_timeout", 300.0)))
    async with (
        make(headers=params.get("headers"), timeout=timeout, auth=params.get("auth")) as http,
        streamable_http_client(
            params["url"], http_client=http, terminate_on_close=params.get("terminate_on_close", True)
        ) as streams,
    ):
        yield streams


def _seconds(value: Any) -> Any:
    return value.total_seconds() if isinstance(value, timedelta) else value
