"""How a running tool learns that nobody waits for it any more, and which calls are not started at all."""

import asyncio
import threading
from typing import Any

import pytest

from support.tool_calls import Caller, worker
from support.waiting import wait_until
from voicebus import Cancellation, FunctionTool, ToolCancelledError, ToolContext, function_tool
from voicebus.agents.tools import calls
from voicebus.agents.tools.invoke import invoke
from voicebus.contracts.streams import Keys
from voicebus.contracts.tools import Outcome


class Watching:
    """A tool in a thread that waits for its cancellation, and tells what it saw."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.saw: list[tuple[bool, str | None]] = []

        @function_tool(queue="default", name_override="watch")
        def watch(context: ToolContext[Any]) -> str:
            """Watch."""
            self.began.set()
            context.cancellation.wait(20)
            self.saw.append((context.cancelled, context.cancellation.reason))
            context.cancellation.raise_if_cancelled()
            return "never"

        self.tool: FunctionTool = watch


class Noting:
    """An async tool that notes how it ended."""

    def __init__(self) -> None:
        self.starts = 0
        self.saw: list[str | None] = []

        @function_tool(queue="default", name_override="note")
        async def note(context: ToolContext[Any]) -> str:
            """Note."""
            self.starts += 1
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.saw.append(context.cancellation.reason)
                raise
            return "never"

        self.tool: FunctionTool = note


def context(tool: FunctionTool) -> ToolContext[Any]:
    return ToolContext(None, tool_name=tool.name, tool_call_id="c1", tool_arguments="{}", session="s1")


def test_a_cancellation_is_told_once_to_whoever_looks_and_waits() -> None:
    cancellation = Cancellation()
    cancellation.raise_if_cancelled()
    assert (cancellation.cancelled, cancellation.wait(0.001), cancellation.reason) == (False, False, None)
    cancellation.cancel("interrupted")
    cancellation.cancel("later")
    assert (cancellation.cancelled, cancellation.wait(), cancellation.reason) == (True, True, "interrupted")
    with pytest.raises(ToolCancelledError, match="interrupted"):
        cancellation.raise_if_cancelled()
    assert repr(cancellation) == "<Cancellation interrupted>"


async def test_a_thread_is_told_when_its_call_is_cancelled() -> None:
    watching = Watching()
    running = asyncio.create_task(invoke(watching.tool, context(watching.tool), "{}", timeout=20))
    await wait_until(watching.began.is_set, description="the start")
    running.cancel("session_ended")
    with pytest.raises(asyncio.CancelledError):
        await running
    await wait_until(lambda: watching.saw, description="the thread to see it")
    assert watching.saw == [(True, "session_ended")]


async def test_a_thread_is_told_when_its_time_is_over() -> None:
    watching = Watching()
    told = await invoke(watching.tool, context(watching.tool), "{}", timeout=0.1)
    assert told.outcome is Outcome.TIMEOUT
    await wait_until(lambda: watching.saw, description="the thread to see it")
    assert watching.saw == [(True, "timeout")]


async def test_an_async_tool_knows_why_it_is_cancelled() -> None:
    noting = Noting()
    running = asyncio.create_task(invoke(noting.tool, context(noting.tool), "{}", timeout=20))
    await wait_until(lambda: noting.starts, description="the start")
    running.cancel("interrupted")
    with pytest.raises(asyncio.CancelledError):
        await running
    await wait_until(lambda: noting.saw, description="the end")
    assert noting.saw == ["interrupted"]


# --- on a worker -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Watching, Noting])
async def test_a_cancel_reaches_the_tool_on_its_worker_and_says_why(
    redis_url: str, keys: Keys, caller: Caller, kind: type[Watching] | type[Noting]
) -> None:
    running = kind()
    async with worker(redis_url, keys, running.tool):
        caller.call(running.tool.name)
        started = await caller.started()
        if isinstance(running, Watching):
            await wait_until(running.began.is_set, description="the thread")
        caller.cancel(worker=started.worker)
        assert (await caller.result()).outcome is Outcome.CANCELLED
        await wait_until(lambda: running.saw, description="the tool to see it")
    assert running.saw in ([(True, "hangup")], ["hangup"])


async def test_a_call_whose_session_has_ended_meanwhile_is_not_started(
    redis_url: str, keys: Keys, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its gateway died, or lost Redis, before it could say so to the call."""
    monkeypatch.setattr(calls, "ORPHAN_AFTER_MS", 100)
    noting, end = Noting(), keys.session_end("s1")
    caller.call("note")
    caller.call("note", call_id="c2", idempotent=True)
    entries = await wait_until(lambda: caller.stream(keys.tools("default")), description="the calls")
    await caller.bus.call("SET", end, 1, "EX", 60)
    await wait_until(lambda: caller.clock.at_ms() > int(entries[-1]["at"]) + 200, description="a moment")
    async with worker(redis_url, keys, noting.tool):
        assert {(await caller.result(name)).outcome for name in ("c1", "c2")} == {Outcome.CANCELLED}
        assert noting.starts == 0
        await caller.bus.call("DEL", end)
        caller.call("note", call_id="c3")
        await caller.started("c3")
        caller.cancel("c3")
        await caller.result("c3")


async def test_an_operator_may_replay_a_call_of_a_session_that_has_ended(
    redis_url: str, keys: Keys, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "ORPHAN_AFTER_MS", 0)

    @function_tool(queue="default")
    async def late() -> str:
        """Come late."""
        return "done"

    caller.call("late")
    (fields,) = await wait_until(lambda: caller.stream(keys.tools("default")), description="the call")
    replayed = fields | {"id": "again", "data": fields["data"].replace('"replayed":false', '"replayed":true')}
    assert replayed["data"] != fields["data"]
    await caller.bus.call("SET", keys.session_end("s1"), 1, "EX", 60)
    await caller.bus.call("DEL", keys.tools("default"))
    await caller.bus.call("XADD", keys.tools("default"), "*", *(text for pair in replayed.items() for text in pair))
    async with worker(redis_url, keys, late):
        assert (await caller.result()).output == "done"
