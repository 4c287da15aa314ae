"""MCP servers that workers mount end, come back and change: their tools work again, and all workers call them alike."""

import os
import shlex
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from support.mcp_servers import http_server, stdio_program
from support.processes import service
from support.tasks import running
from support.tool_calls import Caller
from support.waiting import wait_until
from voicebus import ToolWorker
from voicebus.adapters.redis.registry import ToolRegistry
from voicebus.contracts.streams import Keys
from voicebus.contracts.tools import Outcome, ToolRegistration, ToolResult
from voicebus_services.tool_worker.mounting import Mounts

pytestmark = pytest.mark.timeout(90)


@pytest.fixture
def environment(redis_url: str, keys: Keys) -> dict[str, str]:
    return {"VOICEBUS_REDIS_URL": redis_url, "VOICEBUS_STREAM_PREFIX": keys.prefix}


@pytest.fixture
def rates(tmp_path: Path) -> str:
    """The command of a server."""
    params = stdio_program(tmp_path)
    return shlex.join([params["command"], *params["args"]])


class Asking:
    """Calls a tool again and again, each time under an id of its own."""

    def __init__(self, caller: Caller, tool: str, arguments: str = "{}") -> None:
        self._caller = caller
        self._tool = tool
        self._arguments = arguments
        self._asked = 0

    async def ask(self) -> ToolResult:
        self._asked += 1
        self._caller.call(self._tool, self._arguments, call_id=f"c{self._asked}")
        return await self._caller.result(f"c{self._asked}")

    async def works(self) -> list[ToolResult]:
        result = await self.ask()
        return [result] if result.outcome is Outcome.OK else []


async def test_a_server_over_http_that_was_restarted_serves_again(
    caller: Caller, environment: dict[str, str], tmp_path: Path
) -> None:
    asking = Asking(caller, "rate", '{"currency": "EUR"}')
    async with (
        http_server(tmp_path) as server,
        service("tool-worker", "--mcp", f"rates={server.url}", environment=environment) as worker,
    ):
        await worker.ready()
        assert (await asking.ask()).output == "EUR: 1.25"
        server.process.kill()
        server.process.wait()
        gone = await asking.ask()
        assert gone.error is not None
        assert "MCP server 'rates'" in gone.error.message
        async with http_server(tmp_path, urlsplit(server.url).port):
            (result,) = await wait_until(asking.works, description="an answer", timeout=20)
            assert result.output == "EUR: 1.25"


async def test_a_program_that_died_is_started_again(caller: Caller, environment: dict[str, str], rates: str) -> None:
    asking = Asking(caller, "process")
    async with service("tool-worker", "--mcp", f"rates={rates}", environment=environment) as worker:
        await worker.ready()
        first = (await asking.ask()).output
        os.kill(int(first), signal.SIGKILL)
        (result,) = await wait_until(asking.works, description="an answer", timeout=20)
        assert result.output != first


@asynccontextmanager
async def mounting(redis_url: str, keys: Keys, source: str) -> AsyncIterator[Mounts]:
    mounts = Mounts([source], prefixed=False, timeout_s=10)
    async with (
        mounts.opened(),
        ToolWorker(await mounts.tools(), redis_url=redis_url, stream_prefix=keys.prefix) as worker,
        running(mounts.follow(worker, [])),
    ):
        yield mounts


async def test_workers_that_mount_one_server_offer_a_changed_tool_as_one_version(
    redis_url: str, keys: Keys, caller: Caller, tmp_path: Path
) -> None:
    registry = ToolRegistry(caller.bus, keys, caller.clock)

    async def of_all(mounted: Sequence[Mounts]) -> list[str]:
        """The versions of `rate` once all offer it alike."""
        for mounts in mounted:
            mounts.look()  # as each minute, and at a server's word
        found = (await registry.lookup(["rate"]))["rate"]
        return [found.version] if len(found.workers) == len(mounted) and not found.older else []

    async with (
        http_server(tmp_path) as server,
        mounting(redis_url, keys, server.url) as first,
        mounting(redis_url, keys, server.url) as second,
    ):
        assert await of_all([first, second]) == ["1"]
        caller.call("change")
        assert (await caller.result()).output == "changed"

        async def newer() -> list[str]:
            return [version for version in await of_all([first, second]) if version != "1"]

        (version,) = await wait_until(newer, description="one newer version of both", timeout=30)
        async with mounting(redis_url, keys, server.url) as third:

            async def alike() -> list[str]:
                return await of_all([first, second, third])

            assert await wait_until(alike, description="one version of all three", timeout=30) == [version]
        caller.call("rate", '{"currency": "EUR", "bank": "ours"}', call_id="new", version=version)
        assert (await caller.result("new")).output == "ours: EUR"


async def test_a_tool_that_changed_is_newer_than_any_version_that_is_known(rates: str) -> None:
    mounts = Mounts([rates], prefixed=False, timeout_s=10)
    ahead = 999_999_999_998
    async with mounts.opened():
        before = {tool.name: tool for tool in await mounts.tools()}["rate"]
        other = ToolRegistration(
            name="rate", description="", parameters={"type": "object"}, queue="default", version=str(ahead),
            timeout_ms=1, at=0,
        )  # fmt: skip
        mounts._known["rate"] = replace(before, params_json_schema={"type": "object", "properties": {}})
        after = {tool.name: tool for tool in await mounts.tools({"rate": [other]})}["rate"]
        assert int(after.version) == ahead + 1, "a worker's own clock may be behind the one that made the version"
        alike = other.model_copy(update={"version": "3", "parameters": after.params_json_schema})
        assert {tool.name: tool for tool in await mounts.tools({"rate": [alike]})}["rate"].version == after.version
