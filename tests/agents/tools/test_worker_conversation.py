"""What a tool on a worker tells the conversation that it runs for."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from support import computing
from support.computing import gone
from support.tool_calls import Caller, calling, worker
from support.waiting import wait_until
from voicebus import ToolContext, function_tool
from voicebus.adapters.redis.dispatch import new_entry
from voicebus.contracts.envelope import Entry
from voicebus.contracts.streams import INBOX_QUEUE, Keys
from voicebus.contracts.tools import TOOL_PROGRESS, TOOL_RESULT, TOOL_STARTED, Outcome, ToolFailure, ToolResult


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


async def test_progress_of_a_call_that_was_published_again_goes_to_its_new_owner(
    redis_url: str, keys: Keys, caller: Caller
) -> None:
    go = asyncio.Event()

    @function_tool(queue="default")
    async def search(context: ToolContext[Any]) -> str:
        """Search."""
        await go.wait()
        await context.progress("nearly there")
        return "found"

    async with worker(redis_url, keys, search), calling(redis_url, keys, "g2") as successor:
        caller.call("search")
        await caller.started()
        successor.call("search")

        async def followed() -> bool:
            groups = await caller.bus.call("XINFO", "GROUPS", keys.tools("default"))
            read = [dict(zip(group[::2], group[1::2], strict=True)) for group in groups]
            return [group["lag"] for group in read] == [0] and await caller.pending(keys.tools("default")) == 1

        await wait_until(followed, description="the second entry to be handled")
        go.set()
        await successor.result()
    assert [entry.data["text"] for entry in successor.received if entry.type == TOOL_PROGRESS] == ["nearly there"]
    assert [entry.type for entry in caller.received] == [TOOL_STARTED]


async def test_progress_goes_to_the_new_owner_also_where_another_worker_reads_the_call_again(
    redis_url: str, keys: Keys, caller: Caller
) -> None:
    go = asyncio.Event()

    @function_tool(queue="default")
    async def search(context: ToolContext[Any]) -> str:
        """Search."""
        while not go.is_set():
            await context.progress("still looking")
            await asyncio.sleep(0.02)
        return "found"

    def heard() -> list[Entry]:
        return [entry for entry in successor.received if entry.type == TOOL_PROGRESS]

    async with worker(redis_url, keys, search, concurrency=1), calling(redis_url, keys, "g2") as successor:
        caller.call("search")
        await caller.started()
        async with worker(redis_url, keys, search):
            successor.call("search")
            await wait_until(heard, description="progress at the new owner")
            go.set()
            assert (await successor.result()).output == "found"
    assert heard()[0].epoch == successor.session.epoch
    assert caller.results() == []


@function_tool(queue="default")
def novel(length: int) -> str:
    """Write."""
    return "é" * length


async def test_a_large_result_stays_in_the_calls_record_and_arrives_whole(
    redis_url: str, keys: Keys, caller: Caller
) -> None:
    async with worker(redis_url, keys, novel):
        caller.call("novel", '{"length": 100000}')
        result = await caller.result()
    assert (result.outcome, result.output, result.reference) == (Outcome.OK, "é" * 100_000, None)
    (entry,) = [fields for fields in await caller.stream(caller.inbox.stream) if fields["type"] == TOOL_RESULT]
    sent = json.loads(entry["data"])
    assert (sent["output"], sent["reference"]) == ("", keys.call("default", "s1", "c1"))
    assert await caller.bus.call("TTL", sent["reference"]) > 0


async def test_a_large_result_that_is_gone_is_an_error_to_the_model(redis_url: str, keys: Keys, caller: Caller) -> None:
    record = keys.call("default", "s1", "c1")
    result = ToolResult(call_id="c1", outcome=Outcome.OK, output="", worker="w", duration_ms=1, reference=record)
    entry = new_entry(caller.session, TOOL_RESULT, result, caller.clock)
    await caller.bus.call("XADD", caller.inbox.stream, "*", *(text for pair in entry.fields().items() for text in pair))
    lost = await caller.result()
    assert (lost.outcome, lost.output) == (Outcome.ERROR, "The tool's result was lost.")
    assert lost.error is not None
    assert lost.error.kind == "result_lost"


@pytest.mark.parametrize("foreign", ["{prefix}:call:{{default}}:s2:c1", "{prefix}:config", "elsewhere"])
async def test_a_reference_to_anything_but_the_calls_own_record_is_refused(
    redis_url: str, keys: Keys, caller: Caller, foreign: str
) -> None:
    key = foreign.format(prefix=keys.prefix)
    result = ToolResult(call_id="c1", outcome=Outcome.OK, output="", worker="w", duration_ms=1, reference=key)
    entry = new_entry(caller.session, TOOL_RESULT, result, caller.clock)
    await caller.bus.call("XADD", caller.inbox.stream, "*", *(text for pair in entry.fields().items() for text in pair))

    async def letters() -> list[dict[str, Any]]:
        return await caller.stream(keys.dead(INBOX_QUEUE))

    (letter,) = await wait_until(letters, description="the dead letter")
    told = await caller.result()
    assert (letter["reason"], told.outcome, told.reference) == ("malformed", Outcome.UNKNOWN, None)
    assert told.output.startswith("Its outcome is unknown")


class Guest(BaseModel):
    name: str
    nights: int = 1


@function_tool(queue="default")
async def extend(context: ToolContext[Guest], nights: int) -> str:
    """Extend the stay."""
    context.context.nights += nights
    context.logger.info("extended")
    assert context.caller is not None
    asked = f"{context.caller.subject} of {context.caller.tenant}"
    return f"{context.context.name} stays {context.context.nights}, asked by {asked}"


async def test_a_tool_finds_the_sessions_context_and_caller_and_its_changes_come_with_its_result(
    redis_url: str, keys: Keys, caller: Caller
) -> None:
    async with worker(redis_url, keys, extend, context="the worker's own"):
        given = {"name": "Ann", "nights": 2, "room": 7}
        caller.call("extend", '{"nights": 3}', context=given, caller=("hotel", "desk-key"))
        result = await caller.result()
    assert result.output == "Ann stays 5, asked by desk-key of hotel"
    assert result.context == {"nights": {"before": 2, "after": 5}}


async def test_a_context_that_does_not_fit_the_tool_is_an_error_that_says_so(
    redis_url: str, keys: Keys, caller: Caller
) -> None:
    async with worker(redis_url, keys, extend):
        caller.call("extend", '{"nights": 3}', context={"room": 7})
        result = await caller.result()
    assert (result.outcome, result.output) == (
        Outcome.ERROR, "The tool extend cannot be used in this conversation."
    )  # fmt: skip
    assert result.error is not None
    assert (result.error.kind, result.error.message) == (
        "invalid_context", "the context is no Guest: name: Field required"
    )  # fmt: skip


async def test_a_call_that_fails_changes_nothing_in_the_context(redis_url: str, keys: Keys, caller: Caller) -> None:
    @function_tool(queue="default")
    async def spoil(context: ToolContext[Any]) -> str:
        """Change the context and fail."""
        context.context["nights"] = 9
        raise ValueError("no")

    async with worker(redis_url, keys, spoil):
        caller.call("spoil", context={"nights": 1})
        result = await caller.result()
    assert (result.outcome, result.context) == (Outcome.ERROR, {})


async def test_what_a_tool_leaves_in_the_context_without_json_is_told_beside_its_result(
    redis_url: str, keys: Keys, caller: Caller
) -> None:
    @function_tool(queue="default")
    async def book(context: ToolContext[Any]) -> str:
        """Book a room."""
        context.context.update(nights=3, at=object())
        return "Booked."

    async with worker(redis_url, keys, book):
        caller.call("book", context={"nights": 2})
        result = await caller.result()
    assert (result.outcome, result.output) == (Outcome.OK, "Booked.")
    assert result.context == {"nights": {"before": 2, "after": 3}}
    assert result.error == ToolFailure(
        kind="context_not_json", message="what it put into the context as 'at' has no JSON, and is lost"
    )


async def test_the_programs_word_counts_for_tools_that_do_not_say_what_the_context_is(
    redis_url: str, keys: Keys, caller: Caller
) -> None:
    @function_tool(queue="default")
    async def who(context: ToolContext) -> str:
        """Tell the guest."""
        return repr(context.context)

    async with worker(redis_url, keys, who, context_models={"greeter": Guest}):
        caller.call("who", context={"name": "Ann"})
        assert (await caller.result()).output == "Guest(name='Ann', nights=1)"


async def test_a_process_that_dies_answers_its_call_and_the_worker_goes_on(
    redis_url: str, keys: Keys, caller: Caller
) -> None:
    async with worker(redis_url, keys, computing.fail, computing.later, processes=1):
        caller.call("fail", '{"how": "segfault"}', timeout_ms=60_000)
        died = await caller.result()
        caller.call("later", '{"number": 1}', call_id="c2", timeout_ms=60_000)
        assert (await caller.result("c2")).output == "2"
    assert died.error is not None
    assert (died.outcome, died.error.kind) == (Outcome.ERROR, "crashed")


async def test_a_cancel_kills_the_process_of_its_call(
    redis_url: str, keys: Keys, caller: Caller, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    async with worker(redis_url, keys, computing.spin, processes=1):
        caller.call("spin", json.dumps({"started": str(started)}), timeout_ms=60_000)
        await wait_until(lambda: started.exists() and started.read_text(), description="the start", timeout=30)
        caller.cancel(worker=(await caller.started()).worker)
        assert (await caller.result()).outcome is Outcome.CANCELLED
        await wait_until(lambda: gone(int(started.read_text())), description="the end of the process")
