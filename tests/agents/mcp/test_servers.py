"""MCP servers as an agent has them: what is listed, what a call says, what is refused; real server processes."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import pytest

from support.mcp_servers import http_server, stdio_program
from support.servers import free_port
from support.waiting import wait_until
from voicebus import (
    FunctionTool,
    MCPServerError,
    MCPServerSse,
    MCPServerStdio,
    MCPServerStreamableHttp,
    RealtimeAgent,
    RunContextWrapper,
    ToolContext,
    UserError,
)
from voicebus.agents.mcp.server import Joined
from voicebus.agents.tools.invoke import invoke
from voicebus.contracts.tools import Outcome

ANY: Any = {"command": "true"}


@pytest.fixture
async def rates(tmp_path: Path) -> AsyncIterator[MCPServerStdio]:
    async with MCPServerStdio(stdio_program(tmp_path), name="rates") as server:
        yield server


@asynccontextmanager
async def reached(way: Literal["stdio", "streamable-http", "sse"], folder: Path, **options: Any) -> AsyncIterator[Any]:
    """The server, over one transport or the other."""
    headers: Any = {key: options.pop(key) for key in ("headers",) if key in options}
    if way == "stdio":
        async with MCPServerStdio(stdio_program(folder), **options) as server:
            yield server
        return
    kind: Any = MCPServerSse if way == "sse" else MCPServerStreamableHttp
    async with http_server(folder, transport=way) as process:
        async with kind({"url": process.url, **headers}, **options) as server:
            yield server


async def tool_of(server: MCPServerStdio, name: str, **config: Any) -> FunctionTool:
    agent = RealtimeAgent[Any]("a", mcp_config=config)  # type: ignore[arg-type]
    return next(tool for tool in await server.list_tools(RunContextWrapper(None), agent) if tool.name == name)


async def run(tool: FunctionTool, arguments: str = "{}") -> Any:
    context = ToolContext[Any](None, tool_name=tool.name, tool_call_id="call_1", tool_arguments=arguments)
    return await invoke(tool, context, arguments, timeout=30)


async def test_results_become_text_and_errors_of_the_server_errors_of_the_tool(rates: MCPServerStdio) -> None:
    chart = await run(await tool_of(rates, "chart"))
    assert (chart.outcome, chart.output) == (Outcome.OK, "here\n[image: image/png, 3 bytes]")
    broken = await run(await tool_of(rates, "broken"))
    assert (broken.outcome, broken.error.kind) == (Outcome.ERROR, "raised")
    worded = await tool_of(rates, "broken", failure_error_function=lambda _, error: f"sorry: {error}")
    assert (await run(worded)).output.startswith("sorry: ")
    assert (await run(await tool_of(rates, "broken", failure_error_function=None))).error.kind == "raised_unhandled"
    assert (await run(await tool_of(rates, "rate"), "[]")).error.kind == "invalid_arguments"


async def test_schemas_are_made_strict_where_they_can_be(rates: MCPServerStdio) -> None:
    assert not (await tool_of(rates, "rate")).strict_json_schema
    strict = await tool_of(rates, "rate", convert_schemas_to_strict=True)
    assert strict.params_json_schema["additionalProperties"] is False
    assert not (await tool_of(rates, "open_ended", convert_schemas_to_strict=True)).strict_json_schema


async def test_a_process_that_died_is_started_again_by_the_next_call(rates: MCPServerStdio) -> None:
    process = await tool_of(rates, "process")
    first = int((await run(process)).output)
    os.kill(first, signal.SIGKILL)
    await wait_until(lambda: not (rates._connection and rates._connection.alive), description="the hang-up")
    second = await run(process)
    assert second.outcome is Outcome.OK
    assert int(second.output) != first


async def test_a_server_that_does_not_answer_in_time_fails_the_call(tmp_path: Path) -> None:
    async with http_server(tmp_path) as process:
        params: Any = {"url": process.url}
        async with MCPServerStreamableHttp(params, client_session_timeout_seconds=1.5) as server:
            with pytest.raises(MCPServerError, match=r"'slow' got no answer in 1\.5 s"):
                await server.call_tool("slow", {})
            assert (await server.call_tool("rate", {"currency": "EUR"})).structured_content == {"rate": 1.25}


async def test_a_limit_of_zero_is_none(tmp_path: Path) -> None:
    """As programs of openai-agents have it for the time of an answer."""
    async with http_server(tmp_path) as process:
        params: Any = {"url": process.url}
        async with MCPServerStreamableHttp(
            params, client_session_timeout_seconds=0, connect_timeout_seconds=0, retry_backoff_seconds_max=0
        ) as server:
            assert (await server.call_tool("rate", {"currency": "EUR"})).structured_content == {"rate": 1.25}


async def test_the_list_is_cached_until_it_is_invalidated(tmp_path: Path) -> None:
    async with MCPServerStdio(stdio_program(tmp_path), cache_tools_list=True) as server:
        asked: list[Any] = []
        ask = server._list

        async def counted(client: Any) -> Any:
            asked.append(client)
            return await ask(client)

        server._list = counted  # type: ignore[method-assign]
        await server.list_tools()
        await server.list_tools()
        assert len(asked) == 1
        server.invalidate_tools_cache()
        await server.list_tools()
        assert len(asked) == 2


@pytest.mark.parametrize("way", ["stdio", "streamable-http", "sse"])
async def test_a_tool_that_the_server_gains_is_listed_although_the_list_is_cached(way: Any, tmp_path: Path) -> None:
    async with reached(way, tmp_path, cache_tools_list=True) as server:
        assert "sing" not in [tool.name for tool in await server.list_tools()]
        await server.call_tool("learn", {"name": "sing"})

        async def is_listed() -> bool:
            return "sing" in [tool.name for tool in await server.list_tools()]

        await wait_until(is_listed, description="the new tool")


async def test_a_list_that_was_asked_for_before_a_change_is_not_kept(rates: MCPServerStdio) -> None:
    rates.cache_tools_list = True
    ask = rates._list

    async def changed_meanwhile(client: Any) -> Any:
        listed = await ask(client)
        rates.invalidate_tools_cache()
        return listed

    rates._list = changed_meanwhile  # type: ignore[method-assign]
    assert await rates.list_tools()
    assert rates._listed is None


async def test_a_server_over_sse_answers_calls_and_has_its_headers(tmp_path: Path) -> None:
    async with reached("sse", tmp_path, headers={"x-tenant": "acme"}) as server:
        assert (await server.call_tool("rate", {"currency": "EUR"})).structured_content == {"rate": 1.25}
        assert (await server.call_tool("header", {"name": "x-tenant"})).content[0].text == "acme"


async def test_a_call_whose_connection_breaks_is_made_again_as_often_as_the_program_wants(tmp_path: Path) -> None:
    params = stdio_program(tmp_path)
    async with MCPServerStdio(params, max_retry_attempts=1, retry_backoff_seconds_base=0.01) as server:
        again = await server.call_tool("die_once", {"mark": str(tmp_path / "first")})
        assert again.content[0].text == "alive again"  # type: ignore[union-attr]
        with pytest.raises(MCPServerError, match="'die': the connection was lost"):
            await server.call_tool("die", {})
    async with MCPServerStdio(params) as server:
        with pytest.raises(MCPServerError, match=r"the connection was lost .*the next call connects again"):
            await server.call_tool("die_once", {"mark": str(tmp_path / "second")})
        assert (await server.call_tool("die_once", {"mark": str(tmp_path / "second")})).content


async def test_a_call_waits_for_a_server_that_is_started_again(tmp_path: Path) -> None:
    port = free_port()
    url: Any = {"url": f"http://127.0.0.1:{port}/mcp"}
    server = MCPServerStreamableHttp(url, max_retry_attempts=-1, retry_backoff_seconds_base=0.02)
    async with http_server(tmp_path, port):
        await server.connect()
    calling = asyncio.create_task(server.call_tool("rate", {"currency": "EUR"}), name="call")
    try:
        await asyncio.wait({calling}, timeout=0.2)
        assert not calling.done()
        async with http_server(tmp_path, port):
            assert (await calling).structured_content == {"rate": 1.25}
            await server.cleanup()
    finally:
        calling.cancel()


async def test_a_failure_is_an_answer_and_is_not_asked_for_again(tmp_path: Path) -> None:
    async with MCPServerStdio(stdio_program(tmp_path), max_retry_attempts=-1) as server:
        assert (await server.call_tool("nobody", {})).is_error
        assert (await server.call_tool("broken", {})).is_error


async def test_a_function_decides_which_calls_wait_for_a_person(tmp_path: Path) -> None:
    asked: list[Any] = []

    async def policy(context: Any, agent: Any, tool: Any) -> bool:
        asked.append((context.context, agent.name, tool.name))
        return bool(tool.name == "die")

    async with MCPServerStdio(stdio_program(tmp_path), require_approval=policy) as server:
        for name, waits in (("rate", False), ("die", True)):
            needed: Any = (await tool_of(server, name)).needs_approval
            assert await needed(RunContextWrapper("caller"), {}, "call_1") is waits
    assert asked == [("caller", "a", "rate"), ("caller", "a", "die")]


async def test_a_filter_may_be_a_function_and_one_that_fails_leaves_the_tool_out(tmp_path: Path) -> None:
    async def wanted(context: Any, tool: Any) -> bool:
        if tool.name == "die":
            raise RuntimeError("no idea")
        return bool(tool.name == "rate" and context.server_name == "s" and context.agent.name == "a")

    async with MCPServerStdio(stdio_program(tmp_path), tool_filter=wanted, name="s") as server:
        listed = await server.list_tools(RunContextWrapper(None), RealtimeAgent("a"))
        assert [tool.name for tool in listed] == ["rate"]
        with pytest.raises(UserError, match="needs run_context and agent"):
            await server.list_tools()


@pytest.mark.parametrize(
    "names",
    [
        {"allowed_tool_names": ["rate", "die", "nobody"], "blocked_tool_names": ["die"]},
        {"allowed_tool_names": ["rate"], "blocked_tool_names": None},
    ],
)
async def test_a_filter_by_names_offers_what_is_allowed_and_not_blocked(names: Any, tmp_path: Path) -> None:
    async with MCPServerStdio(stdio_program(tmp_path), tool_filter=names) as server:
        assert [tool.name for tool in await server.list_tools()] == ["rate"]


async def test_the_last_session_closes_what_no_program_has_opened(tmp_path: Path) -> None:
    server = MCPServerStdio(stdio_program(tmp_path))
    with pytest.raises(UserError, match="is not connected"):
        await server.list_tools()
    one, other = Joined(), Joined()
    one.join([server])
    other.join([server])
    assert await server.list_tools()
    await one.aclose()
    assert server._connection is not None
    await other.aclose()
    assert server._connection is None


async def test_a_server_that_cannot_be_started_is_named() -> None:
    params: Any = {"command": "/no/such/program"}
    with pytest.raises(MCPServerError, match="MCP server 'crm' cannot be reached"):
        await MCPServerStdio(params, name="crm").connect()


@pytest.mark.parametrize("way", ["stdio", "streamable-http", "sse"])
async def test_a_server_that_says_nothing_has_one_limit_for_all_of_its_beginning(
    way: Literal["stdio", "streamable-http", "sse"],
) -> None:
    """And not one for each question that is asked in it."""

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as silent:
        url = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}/mcp"
        options: Any = {"name": "mute", "connect_timeout_seconds": 0.5, "client_session_timeout_seconds": None}
        server: MCPServerStdio | MCPServerStreamableHttp | MCPServerSse
        if way == "stdio":
            program = "import sys; sys.stdin.read()"
            server = MCPServerStdio({"command": sys.executable, "args": ["-c", program]}, **options)
        elif way == "sse":
            server = MCPServerSse({"url": url, "timeout": 3600}, **options)
        else:
            server = MCPServerStreamableHttp({"url": url, "timeout": 3600}, **options)
        with pytest.raises(MCPServerError, match=r"'mute' cannot be reached: it opened no session within 0\.5 s"):
            await server.connect()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"params": {}}, "params needs command"),
        ({"params": {"command": "x", "shell": True}}, "unknown keys: shell"),
        ({"params": ANY, "tool_filter": {"only": []}}, "tool_filter has unknown keys: only"),
        ({"params": ANY, "tool_meta_resolver": print}, "tool_meta_resolver cannot be honoured"),
        ({"params": ANY, "require_approval": "sometimes"}, "require_approval must be"),
        ({"params": ANY, "max_retry_attempts": -2}, "max_retry_attempts must be"),
        ({"params": ANY, "client_session_timeout_seconds": -1}, "client_session_timeout_seconds must be"),
        ({"params": ANY, "connect_timeout_seconds": -1}, "connect_timeout_seconds must be"),
    ],
)
def test_what_cannot_be_honoured_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        MCPServerStdio(**arguments)


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    with pytest.raises(UserError, match=r"install voicebus\[mcp\]"):
        MCPServerStdio(ANY)
