"""Hooks are told what happens, in order, and harm nobody."""

import asyncio
from typing import Any

import pytest

from support.waiting import wait_until
from voicebus.agents.agent import RealtimeAgent
from voicebus.agents.context import RunContextWrapper
from voicebus.agents.hooks import HookRunner, RealtimeAgentHooks, RealtimeRunHooks

Told = list[tuple[Any, ...]]


class Run(RealtimeRunHooks[Any]):
    def __init__(self, told: Told) -> None:
        self.told = told

    async def on_agent_start(self, context: Any, agent: Any) -> None:
        self.told.append(("run start", context, agent.name))

    async def on_agent_end(self, context: Any, agent: Any, output: Any) -> None:
        self.told.append(("run end", agent.name, output))

    async def on_handoff(self, context: Any, from_agent: Any, to_agent: Any) -> None:
        self.told.append(("run handoff", from_agent.name, to_agent.name))

    async def on_tool_start(self, context: Any, agent: Any, tool: Any) -> None:
        self.told.append(("run tool", context, agent.name, tool))

    async def on_tool_end(self, context: Any, agent: Any, tool: Any, result: Any) -> None:
        self.told.append(("run tool end", agent.name, tool, result))


class Own(RealtimeAgentHooks[Any]):
    def __init__(self, told: Told) -> None:
        self.told = told

    async def on_start(self, context: Any, agent: Any) -> None:
        self.told.append(("start", context, agent.name))

    async def on_end(self, context: Any, agent: Any, output: Any) -> None:
        self.told.append(("end", agent.name, output))

    async def on_handoff(self, context: Any, agent: Any, source: Any) -> None:
        self.told.append(("handoff", agent.name, source.name))

    async def on_tool_start(self, context: Any, agent: Any, tool: Any) -> None:
        self.told.append(("tool", context, agent.name, tool))

    async def on_tool_end(self, context: Any, agent: Any, tool: Any, result: Any) -> None:
        self.told.append(("tool end", agent.name, tool, result))


class Troubles(list[tuple[str, str]]):
    def __call__(self, code: str, message: str) -> None:
        self.append((code, message))


@pytest.fixture
def told() -> Told:
    return []


@pytest.fixture
def troubles() -> Troubles:
    return Troubles()


CONTEXT = RunContextWrapper("c")
CALL = RunContextWrapper("call")


async def test_hooks_of_the_run_and_of_the_agent_are_told_everything_in_order(told: Told, troubles: Troubles) -> None:
    first, second = RealtimeAgent[Any]("a", hooks=Own(told)), RealtimeAgent[Any]("b", hooks=Own(told))
    runner = HookRunner(Run(told), CONTEXT, trouble=troubles)
    runner.agent_start(first)
    runner.tool_start(first, "tool", context=CALL)
    runner.tool_end(first, "tool", "sunny", context=CALL)
    runner.handoff(first, second)
    runner.agent_end(second, "hello")
    await runner.aclose()
    assert told == [
        ("run start", CONTEXT, "a"),
        ("start", CONTEXT, "a"),
        ("run tool", CALL, "a", "tool"),
        ("tool", CALL, "a", "tool"),
        ("run tool end", "a", "tool", "sunny"),
        ("tool end", "a", "tool", "sunny"),
        ("run handoff", "a", "b"),
        ("handoff", "b", "a"),
        ("run end", "b", "hello"),
        ("end", "b", "hello"),
    ]
    assert troubles == []


async def test_hooks_that_nobody_overrides_do_nothing(troubles: Troubles) -> None:
    agent = RealtimeAgent[Any]("a", hooks=RealtimeAgentHooks())
    runner = HookRunner(RealtimeRunHooks(), CONTEXT, trouble=troubles)
    runner.agent_start(agent)
    runner.agent_end(agent, "x")
    runner.handoff(agent, agent)
    runner.tool_start(agent, "t")
    runner.tool_end(agent, "t", "r")
    await runner.aclose()
    assert troubles == []


async def test_without_hooks_nothing_is_started(troubles: Troubles) -> None:
    before = asyncio.all_tasks()
    runner = HookRunner(None, CONTEXT, trouble=troubles)
    runner.agent_start(RealtimeAgent[Any]("a"))
    assert asyncio.all_tasks() == before
    await runner.aclose()


async def test_a_hook_that_raises_becomes_an_error_and_the_next_one_is_called(told: Told, troubles: Troubles) -> None:
    class Broken(Run):
        async def on_agent_start(self, context: Any, agent: Any) -> None:
            raise ValueError("no")

        def on_agent_end(self, context: Any, agent: Any, output: Any) -> Any:
            self.told.append(("not async",))

        async def on_handoff(self, context: Any, from_agent: Any, to_agent: Any) -> None:
            raise asyncio.CancelledError

    agent = RealtimeAgent[Any]("a")
    runner = HookRunner(Broken(told), CONTEXT, trouble=troubles)
    runner.agent_start(agent)
    runner.handoff(agent, agent)
    runner.agent_end(agent, "x")
    await runner.aclose()
    assert troubles == [
        ("hook_failed", "The hook Broken.on_agent_start failed: ValueError: no"),
        ("hook_failed", "The hook Broken.on_handoff failed: RuntimeError: it cancelled itself"),
    ]
    assert told == [("not async",)]


class Stuck(Run):
    def __init__(self, told: Told) -> None:
        super().__init__(told)
        self.running = asyncio.Event()
        self.release = asyncio.Event()

    async def on_agent_start(self, context: Any, agent: Any) -> None:
        self.running.set()
        await self.release.wait()
        self.told.append(("released",))


async def test_more_than_the_queue_holds_is_left_out_and_said_once(told: Told, troubles: Troubles) -> None:
    stuck, agent = Stuck(told), RealtimeAgent[Any]("a")
    runner = HookRunner(stuck, CONTEXT, trouble=troubles, queue_size=2)
    runner.agent_start(agent)
    await stuck.running.wait()
    for output in "abcd":
        runner.agent_end(agent, output)
    assert [code for code, _ in troubles] == ["hooks_overflow"]
    stuck.release.set()
    await runner.aclose()
    assert [entry[2] for entry in told[1:]] == ["a", "b"]


async def test_after_room_was_found_again_the_next_overflow_is_said_anew(told: Told, troubles: Troubles) -> None:
    stuck, agent = Stuck(told), RealtimeAgent[Any]("a")
    runner = HookRunner(stuck, CONTEXT, trouble=troubles, queue_size=1)
    for _ in range(2):
        stuck.release.clear()
        stuck.running.clear()
        runner.agent_start(agent)
        await stuck.running.wait()
        for output in "ab":
            runner.agent_end(agent, output)
        stuck.release.set()
        await wait_until(lambda: told[-1:] == [("run end", "a", "a")], description="the hooks went on")
        told.clear()
    assert [code for code, _ in troubles] == ["hooks_overflow"] * 2
    await runner.aclose()


async def test_what_has_not_ended_by_the_deadline_is_cancelled_and_said(told: Told, troubles: Troubles) -> None:
    stuck = Stuck(told)
    runner = HookRunner(stuck, CONTEXT, trouble=troubles, close_timeout_s=0.01)
    runner.agent_start(RealtimeAgent[Any]("a"))
    await stuck.running.wait()
    await runner.aclose()
    assert [code for code, _ in troubles] == ["hooks_unfinished"]
    assert told == []


async def test_nothing_is_told_after_the_end(told: Told, troubles: Troubles) -> None:
    runner = HookRunner(Run(told), CONTEXT, trouble=troubles)
    await runner.aclose()
    runner.agent_start(RealtimeAgent[Any]("a"))
    await runner.aclose()
    assert told == []


async def test_a_hook_can_be_told_from_whoever_else_asks(told: Told, troubles: Troubles) -> None:
    class Asking(Run):
        async def on_agent_start(self, context: Any, agent: Any) -> None:
            self.told.append((runner.runs_here(),))

    runner = HookRunner(Asking(told), CONTEXT, trouble=troubles)
    assert not runner.runs_here()
    runner.agent_start(RealtimeAgent[Any]("a"))
    await runner.aclose()
    assert told == [(True,)]
    assert not runner.runs_here()
