"""MCP servers for tests, as real processes: a stdio one that `MCPServerStdio` starts, and ones over HTTP."""

import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from support.servers import free_port
from support.waiting import wait_until
from voicebus import MCPServerStdioParams

_PROGRAM = '''
import asyncio, os, sys
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.types import CallToolResult, ImageContent, TextContent

server = MCPServer("rates")

@server.tool()
def rate(currency: str) -> CallToolResult:
    """The exchange rate of a currency."""
    return CallToolResult(content=[TextContent(text=f"{currency}: 1.25")], structured_content={"rate": 1.25})

@server.tool()
def broken() -> str:
    raise RuntimeError("the rates are closed")

@server.tool()
def chart() -> CallToolResult:
    return CallToolResult(content=[TextContent(text="here"), ImageContent(data="AAAA", mime_type="image/png")])

@server.tool()
async def slow() -> str:
    await asyncio.sleep(60)
    return "late"

@server.tool()
def process() -> str:
    return str(os.getpid())

@server.tool()
def die() -> str:
    os._exit(3)

@server.tool()
def header(name: str, context: Context) -> str:
    return context.headers.get(name, "")

@server.tool()
def die_once(mark: str) -> str:
    if not os.path.exists(mark):
        open(mark, "w").close()
        os._exit(3)
    return "alive again"

@server.tool()
async def learn(name: str, context: Context) -> str:
    """Have one more tool from now on."""
    server.add_tool(lambda: name, name=name)
    await context.notify_tools_changed()
    await context.session.send_tool_list_changed()
    return "learnt"

@server.tool()
async def change(context: Context) -> str:
    """Have `rate` ask for a bank, too, from now on."""
    def rate(currency: str, bank: str) -> str:
        return bank + ": " + currency
    server.remove_tool("rate")
    server.add_tool(rate)
    await context.notify_tools_changed()
    await context.session.send_tool_list_changed()
    return "changed"

@server.tool()
def open_ended(fields: dict[str, str]) -> str:
    return ",".join(fields)

if sys.argv[1:]:
    server.run(sys.argv[1], host="127.0.0.1", port=int(sys.argv[2]))
else:
    server.run("stdio")
'''


def stdio_program(folder: Path) -> MCPServerStdioParams:
    """The `params` of a stdio server with the tools above."""
    program = folder / "rates.py"
    program.write_text(_PROGRAM)
    return {"command": sys.executable, "args": [str(program)]}


@dataclass
class HttpServer:
    url: str
    process: "subprocess.Popen[bytes]"


@asynccontextmanager
async def http_server(
    folder: Path, port: int | None = None, *, transport: Literal["streamable-http", "sse"] = "streamable-http"
) -> AsyncIterator[HttpServer]:
    """The same tools over HTTP, while the block runs."""
    program = folder / "rates_http.py"
    program.write_text(_PROGRAM)
    port = port or free_port()

    def answers() -> bool:
        assert process.poll() is None, f"the MCP server has ended: {(folder / 'http.log').read_text()}"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    with (folder / "http.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, str(program), transport, str(port)], stdout=log, stderr=log)
    try:
        await wait_until(answers, description="the MCP server", timeout=50)
        yield HttpServer(f"http://127.0.0.1:{port}/{'sse' if transport == 'sse' else 'mcp'}", process)
    finally:
        process.kill()
        process.wait()
