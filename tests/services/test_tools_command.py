"""`voicebus tools`, beside a real worker."""

import json
from typing import Any

from support.commands import voicebus
from voicebus import ToolWorker, function_tool
from voicebus.adapters.redis.circuits import CircuitWatch
from voicebus.adapters.redis.client import connect
from voicebus.adapters.redis.clock import RedisClock
from voicebus.contracts.streams import Keys


@function_tool(queue="shops")
async def shop() -> str:
    """Shop."""
    return "sold"


async def test_tools_are_listed_and_those_that_rest_are_called_again(redis_url: str, stream_prefix: str) -> None:
    where: Any = {"redis_url": redis_url, "stream_prefix": stream_prefix}
    ran = await voicebus("tools", **where)
    assert (ran.status, ran.out, ran.complaint) == (0, "", "voicebus: no worker has registered a tool")
    async with ToolWorker([shop], **where), await connect(redis_url) as bus:
        watch = CircuitWatch(bus, Keys(stream_prefix), RedisClock(bus))
        await watch.open("shop", rest_ms=60_000, failures=3, worker="w", error="closed\ntoday")
        ran = await voicebus("tools", **where)
        assert ran.out.startswith("shop  queue shops  version 1  1 worker  rests until ")
        assert "(3 failures in a row: closed today)" in ran.out
        ran = await voicebus("tools", "list", "--json", **where)
        shown = json.loads(ran.out)
        assert (shown["name"], shown["circuit"]["state"], len(shown["workers"])) == ("shop", "open", 1)
        await watch.open("shop", rest_ms=1, failures=3, worker="w", error="closed")
        ran = await voicebus("tools", **where)
        assert "is tried by its next call, as it rested until 20" in ran.out
        ran = await voicebus("tools", "reset", "shop", **where)
        assert (ran.status, ran.out) == (0, "reset shop\n")
        assert await watch.read() == {}
        ran = await voicebus("tools", "reset", "shop", **where)
        assert (ran.status, ran.complaint) == (1, "voicebus: shop does not rest")


@function_tool(queue="shops", version="2", name_override="shop")
async def newer_shop(what: str) -> str:
    """Shop."""
    return f"sold {what}"


async def test_a_rollout_shows_who_runs_which_version(redis_url: str, stream_prefix: str) -> None:
    where: Any = {"redis_url": redis_url, "stream_prefix": stream_prefix}
    async with ToolWorker([shop], **where), ToolWorker([shop], **where):
        async with ToolWorker([newer_shop], **where):
            ran = await voicebus("tools", **where)
            assert ran.out.splitlines() == [
                "shop  queue shops  version 2  1 worker",
                "shop  queue shops  version 1  2 workers",
            ]
            ran = await voicebus("tools", "list", "--json", **where)
            shown = [json.loads(line) for line in ran.out.splitlines()]
            assert [(one["version"], len(one["workers"])) for one in shown] == [("2", 1), ("1", 2)]
        ran = await voicebus("tools", **where)
        assert ran.out == "shop  queue shops  version 1  2 workers\n"
