"""`voicebus tool-worker --mcp`: MCP servers whose tools a worker offers, as processes."""

import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from support.mcp_servers import http_server, stdio_program
from support.processes import service
from support.tool_calls import Caller
from support.waiting import wait_until
from voicebus import UserError
from voicebus_services.settings import ToolWorkerSettings
from voicebus_services.tool_worker.mounting import Mounts

pytestmark = pytest.mark.timeout(90)


@pytest.fixture
def environment(redis_url: str, stream_prefix: str) -> dict[str, str]:
    return {"VOICEBUS_REDIS_URL": redis_url, "VOICEBUS_STREAM_PREFIX": stream_prefix}


@pytest.fixture
def rates(tmp_path: Path) -> str:
    """The command of a server."""
    params = stdio_program(tmp_path)
    return shlex.join([params["command"], *params["args"]])


async def registered(caller: Caller, name: str) -> None:
    async def known() -> Any:
        return await caller.bus.call("HGET", caller.keys.registry_tools, name)

    await wait_until(known, description=f"the registration of {name}", timeout=20)


async def test_the_tools_of_a_server_are_tools_of_the_worker_and_so_are_those_that_it_learns(
    caller: Caller, environment: dict[str, str], rates: str
) -> None:
    async with service("tool-worker", "--mcp", rates, "support.house", environment=environment) as worker:
        await worker.ready()
        await registered(caller, "rate")
        caller.call("rate", '{"currency": "EUR"}')
        assert (await caller.result()).output == "EUR: 1.25"
        caller.call("room_price", '{"nights": 2}', call_id="own", queue="house")
        assert (await caller.result("own")).output == "2 nights cost 240 euros."
        caller.call("broken", call_id="broken")
        failed = await caller.result("broken")
        assert failed.error is not None
        assert failed.error.kind == "raised"
        caller.call("learn", '{"name": "later"}', call_id="learn")
        assert (await caller.result("learn")).output == "learnt"
        await registered(caller, "later")
        caller.call("later", call_id="later")
        assert (await caller.result("later")).output == "later"


async def test_several_servers_are_told_apart_by_prefix(
    caller: Caller, environment: dict[str, str], rates: str
) -> None:
    sources = ("--mcp", f"bank={rates}", "--mcp", f"shop={rates}")
    async with service("tool-worker", *sources, "--mcp-prefix", environment=environment) as worker:
        await worker.ready()
        for n, name in enumerate(("mcp_bank__rate", "mcp_shop__rate")):
            await registered(caller, name)
            caller.call(name, '{"currency": "EUR"}', call_id=f"c{n}")
            assert (await caller.result(f"c{n}")).output == "EUR: 1.25"


async def test_what_cannot_be_mounted_stops_the_start_with_a_sentence(environment: dict[str, str], rates: str) -> None:
    for sources, sentence in (
        ((f"a={rates}", f"b={rates}"), "MCP servers 'a' and 'b' both offer a tool"),
        (("http://127.0.0.1:1/mcp",), "MCP server '127_0_0_1'"),
        (("nosuchprogram x",), "'nosuchprogram' cannot be started: No such file or directory"),
        (('"unclosed',), "is neither an http(s) address nor a command"),
    ):
        options = [word for source in sources for word in ("--mcp", source)]
        async with service("tool-worker", *options, environment=environment) as worker:
            assert await worker.ended() in (1, 2)
            await wait_until(lambda: worker.lines, description="the error")
            assert worker.lines[-1].startswith("voicebus: ")
            assert sentence in worker.lines[-1]


async def test_a_server_that_says_nothing_stops_the_start_once_its_time_is_over(environment: dict[str, str]) -> None:
    mute = shlex.join(["mute=" + sys.executable, "-c", "import sys; sys.stdin.read()"])
    options = ("--mcp", mute, "--mcp-connect-timeout", "500ms")
    async with service("tool-worker", *options, environment=environment) as worker:
        assert await worker.ended() == 1
        await wait_until(lambda: worker.lines, description="the error")
        assert "MCP server 'mute' cannot be reached: it opened no session within 0.5 s" in worker.lines[-1]


async def test_a_tool_whose_schema_changes_gets_a_newer_version(tmp_path: Path) -> None:
    params = stdio_program(tmp_path)
    mounts = Mounts([shlex.join([params["command"], *params["args"]])], prefixed=False, timeout_s=10)
    async with mounts.opened():
        before = {tool.name: tool for tool in await mounts.tools()}
        assert {tool.version for tool in before.values()} == {"1"}
        mounts._known["rate"] = before["broken"]  # as if it had had another schema
        after = {tool.name: tool for tool in await mounts.tools()}
        assert int(after["rate"].version) > 1
        assert after["broken"].version == "1"
        assert {tool.name: tool.version for tool in await mounts.tools()}["rate"] == after["rate"].version


@pytest.mark.parametrize(
    ("text", "sources"),
    [
        ("http://a/mcp", ("http://a/mcp",)),
        ("http://a/mcp\n rates=python rates.py\n", ("http://a/mcp", "rates=python rates.py")),
        ('["python a.py", "b"]', ("python a.py", "b")),
        ("", ()),
    ],
)
def test_sources_are_read_from_the_environment(
    text: str, sources: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOICEBUS_MCP", text)
    assert ToolWorkerSettings().mcp == sources


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("python rates.py", "rates"),
        ("python -m rates", "rates"),
        ("npx -y @acme/rates", "rates"),
        ("/opt/bin/rates", "rates"),
        ("https://rates.example.com/mcp", "rates_example_com"),
        ("rates=python -m other", "rates"),
    ],
)
def test_a_source_that_gives_no_name_is_called_by_what_it_runs_or_by_its_host(source: str, name: str) -> None:
    (server,) = Mounts([source], prefixed=True, timeout_s=1)._servers
    assert server.name == name


def test_a_source_without_a_host_is_refused() -> None:
    with pytest.raises(UserError, match="names no host"):
        Mounts(["http:///mcp"], prefixed=False, timeout_s=1)


async def test_headers_go_with_every_request_to_the_server_of_that_name(
    caller: Caller, environment: dict[str, str], tmp_path: Path
) -> None:
    secret = tmp_path / "headers"
    secret.write_text('{"rates": {"X-Team": "desk"}}\n')
    async with http_server(tmp_path) as server:
        environment |= {"VOICEBUS_MCP": f"rates={server.url}", "VOICEBUS_MCP_HEADERS_FILE": str(secret)}
        async with service("tool-worker", environment=environment) as worker:
            await worker.ready()
            await registered(caller, "header")
            caller.call("header", '{"name": "x-team"}')
            assert (await caller.result()).output == "desk"


@pytest.mark.parametrize("source", ["https://news.example.com/mcp", "rates=python rates.py"])
def test_headers_for_no_server_that_is_reached_by_http_are_refused(source: str) -> None:
    with pytest.raises(UserError, match="VOICEBUS_MCP_HEADERS: 'rates' is no MCP server that is reached by HTTP"):
        Mounts([source], prefixed=False, timeout_s=1, headers={"rates": {"X-Team": "desk"}})
