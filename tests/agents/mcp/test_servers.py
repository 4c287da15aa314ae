"""MCP servers as an agent has them: what is listed, what a call says, what is refused; real server processes."""

import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.mcp_servers import http_server, stdio_program
from support.waiting import wait_until
from voicebus import (
    FunctionTool,
    MCPServerError,
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"params": {}}, "params needs command"),
        ({"params": {"command": "x", "shell": True}}, "unknown keys: shell"),
        ({"params": ANY, "tool_filter": {"only": []}}, "tool_filter has unknown keys: only"),
        ({"params": ANY, "tool_meta_resolver": print}, "tool_meta_resolver cannot be honoured"),
        ({"params": ANY, "require_approval": "sometimes"}, "require_approval must be"),
        ({"params": ANY, "max_retry_attempts": -2}, "max_retry_attempts must be"),
        ({"params": ANY, "client_session_timeout_seconds": 0}, "client_session_timeout_seconds must be"),
    ],
)
def test_what_cannot_be_honoured_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        MCPServerStdio(**arguments)


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    with pytest.raises(UserError, match=r"install voicebus\[mcp\]"):
        MCPServerStdio(ANY)
