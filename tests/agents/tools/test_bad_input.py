"""Calls and tools that go wrong in every way: each is answered, and harms no other call."""

import asyncio
import json
import threading
import time
from typing import Any

import pytest
from prometheus_client import REGISTRY

from support.tool_calls import Caller, worker
from support.waiting import wait_until
from voicebus import ToolContext, function_tool
from voicebus.agents.tools.invoke import MAX_OUTPUT_CHARS
from voicebus.contracts.streams import Keys
from voicebus.contracts.tools import TOOL_PROGRESS, Outcome

RAISED: dict[str, BaseException] = {
    "exit": SystemExit(3), "interrupt": KeyboardInterrupt(), "generator": GeneratorExit(), "stop": StopIteration(),
}  # fmt: skip


class Odd:
    """Cannot be written as JSON, or even as text."""

    def __repr__(self) -> str:
        raise RuntimeError("no words")


@function_tool(queue="default")
async def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@function_tool(queue="default")
async def odd(kind: str) -> Any:
    """Go wrong."""
    circle: list[Any] = []
    circle.append(circle)
    returned: dict[str, Any] = {
        "object": Odd(), "circle": circle, "surrogate": "\ud800", "nan": float("nan"), "bytes": b"\xff",
        "large": "x" * (MAX_OUTPUT_CHARS + 1), "set": {1}, "none": None,
    }  # fmt: skip
    if kind in returned:
        return returned[kind]
    raise RAISED[kind]


@function_tool(queue="default")
def odd_in_a_thread(kind: str) -> str:
    """Go wrong."""
    raise RAISED[kind]


@function_tool(queue="default")
async def cancels_itself() -> str:
    """Cancel."""
    raise asyncio.CancelledError


@function_tool(queue="default", circuit_breaker=None)
async def block() -> str:
    """Block the event loop."""
    time.sleep(0.6)  # noqa: ASYNC251 - that is what it is for
    return "blocked"


@pytest.mark.parametrize(
    "arguments",
    [
        '{"a": "many", "b": 1}',
        '{"a": 1}',
        "[1, 2]",
        "null",
        "no json",
        '{"a": 1, "b": ',
        '{"a": NaN, "b": 1}',
        '{"a": 1e999, "b": 1}',
        '{"a": 1, "b": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"a": 1, "b": "' + "9" * 2_000_000 + '"}',
    ],
    ids=lambda text: text[:20],
)
async def test_arguments_that_do_not_fit_are_told_and_harm_no_other_call(
    redis_url: str, keys: Keys, caller: Caller, arguments: str
) -> None:
    async with worker(redis_url, keys, add):
        caller.call("add", arguments)
        caller.call("add", '{"a": 2, "b": 3}', call_id="c2")
        result = await caller.result()
        assert (result.outcome, result.error and result.error.kind) == (Outcome.ERROR, "invalid_arguments")
        assert (await caller.result("c2")).output == "5"


@pytest.mark.parametrize(
    "kind",
    ["object", "circle", "surrogate", "nan", "bytes", "large", "set", "none", "exit", "interrupt", "generator", "stop"],
)
async def test_whatever_a_tool_returns_or_raises_is_answered_and_harms_no_other_call(
    redis_url: str, keys: Keys, caller: Caller, kind: str
) -> None:
    async with worker(redis_url, keys, add, odd):
        caller.call("odd", json.dumps({"kind": kind}))
        caller.call("add", '{"a": 2, "b": 3}', call_id="c2")
        result = await caller.result()
        raised = kind in ("exit", "interrupt", "generator", "stop", "large", "object")
        assert result.outcome is (Outcome.ERROR if raised else Outcome.OK), result
        assert (await caller.result("c2")).output == "5"


@function_tool(queue="default")
async def says_half_a_pair(context: ToolContext[Any]) -> str:
    """Say and keep half a surrogate pair, which no UTF-8 has."""
    await context.progress("\ud800 of 7")
    context.context["half"] = "\ud800"
    context.context["whole"] = "\U0001f389"
    return "done"


async def test_progress_and_context_that_no_utf8_can_carry_end_neither_the_worker_nor_the_call(
    redis_url: str, keys: Keys, caller: Caller
) -> None:
    async with worker(redis_url, keys, add, says_half_a_pair):
        caller.call("says_half_a_pair")
        result = await caller.result()
        caller.call("add", '{"a": 2, "b": 3}', call_id="c2")
        assert (await caller.result("c2")).output == "5"
    assert (result.outcome, result.output) == (Outcome.OK, "done")
    assert result.context == {"whole": {"after": "\U0001f389"}}
    assert [entry.data["text"] for entry in caller.received if entry.type == TOOL_PROGRESS] == ["? of 7"]


@pytest.mark.parametrize("kind", ["exit", "interrupt", "stop"])
async def test_a_thread_that_would_end_the_process_is_a_tool_that_failed(
    redis_url: str, keys: Keys, caller: Caller, kind: str
) -> None:
    async with worker(redis_url, keys, add, odd_in_a_thread, cancels_itself):
        caller.call("odd_in_a_thread", json.dumps({"kind": kind}))
        caller.call("cancels_itself", call_id="c2")
        caller.call("add", '{"a": 2, "b": 3}', call_id="c3")
        assert (await caller.result()).outcome is Outcome.ERROR
        assert (await caller.result("c2")).outcome is Outcome.ERROR
        assert (await caller.result("c3")).output == "5"


async def test_a_tool_that_blocks_the_loop_is_named_in_a_metric_and_its_worker_stays_alive(
    redis_url: str, keys: Keys, caller: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    def blocked() -> float:
        return REGISTRY.get_sample_value("voicebus_tool_loop_blocked_seconds_total", {"tool": "block"}) or 0.0

    before = blocked()
    async with worker(redis_url, keys, add, block):
        caller.call("block")
        caller.call("add", '{"a": 2, "b": 3}', call_id="c2")
        assert (await caller.result()).output == "blocked"
        assert (await caller.result("c2")).output == "5"
        await wait_until(lambda: blocked() > before, description="the metric")
    (line,) = [record.getMessage() for record in caplog.records if "event loop blocked" in record.getMessage()]
    assert "tool=block" in line
    assert "test_bad_input.py" in line


async def test_functions_that_hang_take_no_thread_from_other_tools_and_a_worker_full_of_them_is_not_live(
    redis_url: str, keys: Keys, caller: Caller
) -> None:
    go = threading.Event()

    @function_tool(queue="default")
    def hang() -> str:
        """Wait for somebody who does not answer."""
        go.wait(60)
        return "too late"

    @function_tool(queue="default")
    def answer() -> str:
        """Answer."""
        return "here"

    async def hang_twice(name: str) -> None:
        for call_id in (f"{name}1", f"{name}2"):
            caller.call("hang", call_id=call_id, timeout_ms=300)
        for call_id in (f"{name}1", f"{name}2"):
            assert (await caller.result(call_id)).outcome is Outcome.TIMEOUT

    try:
        async with worker(redis_url, keys, hang, answer, concurrency=2) as one:
            await hang_twice("a")
            caller.call("answer", call_id="b")
            assert (await caller.result("b")).output == "here"
            stuck = REGISTRY.get_sample_value("voicebus_threads_stuck", {"service": "tool-worker"})
            assert (stuck, one.health.live) == (2, True)
            await hang_twice("c")
            assert not one.health.live
            go.set()
            await wait_until(lambda: one.health.live, description="the threads to come back")
    finally:
        go.set()


async def test_a_call_that_cannot_be_read_is_answered_where_that_can_be_and_kept_with_its_reason(
    redis_url: str, keys: Keys, caller: Caller
) -> None:
    asked = {"call_id": "c1", "reply_to": caller.inbox.stream}
    envelope = {"v": "1", "id": "m1", "type": "tool.call", "session": "s1", "epoch": "1", "at": "1"}
    odd: dict[str, dict[str, str]] = {
        "no_tool": envelope | {"data": json.dumps(asked | {"call_id": "no_tool"})},
        "no_epoch": {
            name: value for name, value in envelope.items() if name != "epoch"
        } | {"data": json.dumps(asked | {"call_id": "no_epoch"})},
        "newer": envelope | {"v": "9", "data": json.dumps(asked | {"call_id": "newer"})},
        "nowhere": envelope | {"data": json.dumps(asked | {"reply_to": keys.events(0), "call_id": "nowhere"})},
        "no_json": envelope | {"data": "{"},
    }  # fmt: skip
    for fields in odd.values():
        await caller.bus.call("XADD", keys.tools("default"), "*", *(text for pair in fields.items() for text in pair))
    async with worker(redis_url, keys, add):
        for call_id in ("no_tool", "no_epoch", "newer"):
            result = await caller.result(call_id)
            assert (result.outcome, result.error and result.error.kind) == (Outcome.ERROR, "malformed")
            assert result.output == "The tool was not run: the call could not be read."

        async def kept() -> bool:
            return len(await caller.stream(keys.dead("default"))) == len(odd)

        await wait_until(kept, description="the dead letters")
    assert await caller.stream(keys.events(0)) == []
