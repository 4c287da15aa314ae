"""A tool gets a newer schema while conversations go on and its workers are exchanged one after another."""

import json
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import pytest

from services.gateway.clients import TestClient, native
from services.gateway.conftest import Gateways
from support.tasks import running
from support.waiting import wait_until
from voicebus import FunctionTool, ToolWorker, function_tool

pytestmark = pytest.mark.timeout(180)


@function_tool(queue="depot", name_override="stock")
async def stock_1(item: str) -> str:
    """Tell how much of an item is in stock."""
    return f"1: {item}"


@function_tool(queue="depot", name_override="stock", version="2")
async def stock_2(item: str, place: str = "here") -> str:
    """Tell how much of an item is in a place."""
    return f"2: {item} {place}"


class Talk:
    """A conversation whose model calls the tool again and again, by the schema that it was told last."""

    def __init__(self, client: TestClient) -> None:
        self._client = client
        self.turns: list[tuple[str, str]] = []
        """What was asked, and what the tool answered."""

    def schema(self) -> Any:
        """The parameters of the tool that the model knows now; None while it knows none."""
        for event in reversed(self._client.events("raw_model_event")):
            if event["event"]["type"] == "session.updated":
                known = {tool["name"]: tool["parameters"]["properties"] for tool in event["event"]["session"]["tools"]}
                return known.get("stock")
        return None

    async def run(self) -> None:
        while self.schema() is None:
            await self._client.until("raw_model_event")
        while True:
            arguments = {"item": "nuts", **({"place": "Rome"} if "place" in self.schema() else {})}
            text = json.dumps(arguments)
            await self._client.send("send_message", text=f"[[call: stock {text}]][[next]][[say: {{outputs}}]]")
            end = await self._client.until("tool_end")
            assert end["outcome"] == "ok", end
            said = await self._client.until("item_recorded", role="assistant")
            assert said["text"] == end["output"]
            self.turns.append((text, end["output"]))


async def test_conversations_lose_and_mis_run_no_call_while_the_workers_of_a_tool_are_exchanged(
    gateways: Gateways, redis_url: str, stream_prefix: str
) -> None:
    async def hired(tool: FunctionTool) -> AsyncExitStack:
        stack = AsyncExitStack()
        await stack.enter_async_context(ToolWorker([tool], redis_url=redis_url, stream_prefix=stream_prefix))
        return stack

    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(gateways("support.depot"))
        old = [await hired(stock_1) for _ in range(2)]
        clients = [await stack.enter_async_context(native(gateway, "?agent=keeper&raw=1")) for _ in range(3)]
        talks = [Talk(client) for client in clients]

        async def further(count: int) -> None:
            goals = [len(talk.turns) + count for talk in talks]
            await wait_until(
                lambda: all(len(talk.turns) >= goal for talk, goal in zip(talks, goals, strict=True)),
                description=f"{count} turns more of each conversation", timeout=60,
            )  # fmt: skip

        async with running(*(talk.run() for talk in talks)):
            await further(3)
            new = []
            for leaving in old:
                new.append(await hired(stock_2))
                await further(3)
                await leaving.aclose()
            await wait_until(
                lambda: all("place" in talk.schema() for talk in talks), description="the new schema", timeout=60
            )
            await further(3)
        ran = Counter(turn for talk in talks for turn in talk.turns)
        for leaving in new:
            await leaving.aclose()
    before, after = '{"item": "nuts"}', '{"item": "nuts", "place": "Rome"}'
    assert set(ran) - {(before, "2: nuts here")} == {(before, "1: nuts"), (after, "2: nuts Rome")}
