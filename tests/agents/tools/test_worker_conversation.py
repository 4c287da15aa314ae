"""What a tool on a worker tells the conversation that it runs for."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from support.tool_calls import Caller, calling
from voicebus import ToolContext, ToolWorker, function_tool
from voicebus.contracts.streams import Keys
from voicebus.contracts.tools import TOOL_PROGRESS, TOOL_RESULT, TOOL_STARTED


@pytest.fixture
def keys(stream_prefix: str) -> Keys:
    return Keys(stream_prefix)


@pytest.fixture
async def caller(redis_url: str, keys: Keys) -> AsyncIterator[Caller]:
    async with calling(redis_url, keys) as caller:
        yield caller


def worker(url: str, keys: Keys, *tools: Any, **options: Any) -> ToolWorker:
    return ToolWorker(tools, redis_url=url, stream_prefix=keys.prefix, **options)


async def test_progress_reaches_the_gateway_between_start_and_result(
    redis_url: str, keys: Keys, caller: Caller
) -> None:
    @function_tool(queue="default")
    async def search(context: ToolContext[Any]) -> str:
        """Search."""
        await context.progress("begun")
        await context.progress("nearly there")
        return "found"

    @function_tool(queue="default")
    def count(context: ToolContext[Any]) -> str:
        """Count, in a thread."""
        context.progress("one")
        return "two"

    async with worker(redis_url, keys, search, count):
        caller.call("search")
        await caller.result()
        caller.call("count", call_id="c2")
        await caller.result("c2")
    told = [(entry.type, entry.data.get("text")) for entry in caller.received]
    assert told == [
        (TOOL_STARTED, None), (TOOL_PROGRESS, "begun"), (TOOL_PROGRESS, "nearly there"), (TOOL_RESULT, None),
        (TOOL_STARTED, None), (TOOL_PROGRESS, "one"), (TOOL_RESULT, None),
    ]  # fmt: skip
