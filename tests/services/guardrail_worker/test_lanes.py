"""What one guardrail may take of its worker, and when it is asked no more."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from prometheus_client import REGISTRY

from support.tasks import running
from voicebus import GuardrailFunctionOutput, OutputGuardrail, RunContextWrapper, output_guardrail
from voicebus.contracts.guardrails import GuardrailResult
from voicebus_services.guardrail_worker.lanes import Lane, Lanes, Text


@output_guardrail(name="of_a_lane")
def rule(context: RunContextWrapper[Any], agent: Any, text: str) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput(None, tripwire_triggered=False)


def hang(begun: threading.Barrier, go: threading.Event) -> None:
    begun.wait()
    go.wait()


class Judging:
    """A guardrail that judges when it is told to. `began` are the limits (s) that it was given."""

    def __init__(self) -> None:
        self.began: list[float] = []
        self.may_end = asyncio.Event()

    async def __call__(self, seconds: float) -> GuardrailResult:
        self.began.append(seconds)
        await self.may_end.wait()
        return GuardrailResult(name="of_a_lane", tripped=False)


async def hung(seconds: float) -> GuardrailResult:
    return GuardrailResult(name="of_a_lane", tripped=False, error="it took longer", timed_out=True)


async def judged(seconds: float) -> GuardrailResult:
    return GuardrailResult(name="of_a_lane", tripped=False)


def text(answer: str, length: int = 1, *, final: bool = False) -> Text:
    return Text(answer, length, final, frozenset({"of_a_lane"}), [f"{answer}{length}"])


def rests() -> float:
    return REGISTRY.get_sample_value("voicebus_guardrail_rests", {"rule": "of_a_lane"}) or 0.0


async def ready() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_more_texts_than_there_are_slots_wait_for_one() -> None:
    lane, judging = Lane(rule, 2), Judging()
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(lane.judge(text(f"a{number}"), 60, judging)) for number in range(5)]
        await ready()
        assert len(judging.began) == 2
        judging.may_end.set()
    assert len(judging.began) == 5
    assert all(one.result() is not None for one in asked)


async def test_of_one_answer_only_the_newest_text_waits() -> None:
    lane, judging = Lane(rule, 1), Judging()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(lane.judge(text("a", 1), 60, judging))
        await ready()
        older = group.create_task(lane.judge(text("a", 2), 60, judging))
        other = group.create_task(lane.judge(text("b", 2), 60, judging))
        await ready()
        newest = text("a", 3, final=True)
        newer = group.create_task(lane.judge(newest, 60, judging))
        late = group.create_task(lane.judge(text("a", 2), 60, judging))
        await ready()
        assert (older.result(), late.result()) == (None, None)
        assert newest.checks == ["a3", "a2"], "what its verdict answers"
        judging.may_end.set()
    assert None not in (first.result(), other.result(), newer.result())


async def test_a_newer_text_of_an_answer_waits_in_the_place_of_the_older_one() -> None:
    lane, go, order = Lane(rule, 1), asyncio.Event(), list[str]()

    def judging(name: str) -> Callable[[float], Awaitable[GuardrailResult]]:
        async def judge(seconds: float) -> GuardrailResult:
            await go.wait()
            order.append(name)
            return await judged(seconds)

        return judge

    async with asyncio.TaskGroup() as group:
        for answer, length in (("busy", 1), ("a", 1), ("b", 1), ("a", 2), ("c", 1), ("a", 3)):
            group.create_task(lane.judge(text(answer, length), 60, judging(f"{answer}{length}")))
            await ready()
        go.set()
    assert order == ["busy1", "a3", "b1", "c1"], "who talks on is judged, too"


async def test_a_text_that_gets_no_slot_within_its_limit_is_not_judged_in_time() -> None:
    lane, judging = Lane(rule, 1), Judging()
    async with running(lane.judge(text("a"), 60, judging)):
        await ready()
        result = await lane.judge(text("b"), 0.01, judging)
        assert result is not None
        assert (result.timed_out, result.tripped) == (True, False)
        judging.may_end.set()
    assert await lane.judge(text("b"), 60, judged) is not None


async def test_a_text_that_was_given_up_while_it_waited_keeps_nobody_waiting() -> None:
    lane, judging = Lane(rule, 1), Judging()
    async with asyncio.TaskGroup() as group:
        group.create_task(lane.judge(text("a"), 60, judging))
        await ready()
        given_up = group.create_task(lane.judge(text("b"), 60, judging))
        last = group.create_task(lane.judge(text("c"), 60, judging))
        await ready()
        given_up.cancel()
        judging.may_end.set()
    assert last.result() is not None
    assert len(judging.began) == 2


async def test_a_text_beyond_those_that_may_wait_is_answered_at_once() -> None:
    lane, judging = Lane(rule, 1), Judging()
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(lane.judge(text(f"a{number}"), 60, judging)) for number in range(33)]
        await ready()
        result = await lane.judge(text("one more"), 60, judging)
        assert result is not None
        assert result.timed_out
        judging.may_end.set()
    assert all(one.result() is not None for one in waiting)


async def test_a_guardrail_that_hangs_rests_and_is_tried_until_it_judges_again() -> None:
    now = 0.0
    lane = Lane(rule, 4, clock=lambda: now)
    judging = Judging()
    judging.may_end.set()
    for number in range(3):
        assert rests() == 0
        await lane.judge(text(f"a{number}"), 60, hung)
    assert rests() == 1
    refused = await lane.judge(text("b"), 60, judging)
    assert refused is not None
    assert (refused.timed_out, judging.began) == (True, [])
    now += 0.51
    await lane.judge(text("c"), 60, hung)
    now += 0.51
    await lane.judge(text("d"), 60, judging)
    assert judging.began == [], "the rest has become longer with the try that failed"
    now += 0.5
    await lane.judge(text("e"), 60, judging)
    assert (judging.began, rests()) == ([60], 0)
    await lane.judge(text("f"), 60, judging)
    assert judging.began == [60, 60]


async def test_one_answer_on_which_it_hangs_does_not_make_a_guardrail_rest() -> None:
    lane = Lane(rule, 4)
    for length in range(9):
        await lane.judge(text("a", length), 60, hung)
    assert rests() == 0
    await lane.judge(text("b"), 60, judged)
    await lane.judge(text("c"), 60, hung)
    await lane.judge(text("d"), 60, hung)
    assert rests() == 0


async def test_a_worker_is_stuck_once_none_of_its_guardrails_has_a_thread_left() -> None:
    go = threading.Event()
    rules = {name: OutputGuardrail(rule.guardrail_function, name=name) for name in ("first", "second")}
    lanes = Lanes(rules, 1, service="guardrail-worker")
    try:
        for left, name in enumerate(["first", "first", "second", "second"], start=1):
            assert not lanes.stuck
            lane, begun = lanes.get(name), threading.Barrier(2)
            assert lane is not None
            future = lane.executor.submit(hang, begun, go)
            await asyncio.to_thread(begun.wait)
            future.cancel()
            assert REGISTRY.get_sample_value("voicebus_threads_stuck", {"service": "guardrail-worker"}) == left
        assert lanes.stuck
    finally:
        go.set()
        lanes.close()


async def test_texts_that_wait_for_a_guardrail_that_turns_out_to_hang_are_not_given_to_it() -> None:
    lane, go, began = Lane(rule, 3), asyncio.Event(), 0

    async def hangs(seconds: float) -> GuardrailResult:
        nonlocal began
        began += 1
        await go.wait()
        return await hung(seconds)

    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(lane.judge(text(f"a{number}"), 60, hangs)) for number in range(30)]
        await ready()
        go.set()
    assert began == 3
    assert all(result is not None and result.timed_out for result in (one.result() for one in asked))
