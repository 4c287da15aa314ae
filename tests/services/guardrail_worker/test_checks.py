"""Guardrail checks on a worker: they are answered, whatever the guardrails do."""

import asyncio
import json
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from support.judges import hanging_in_a_process, in_a_process
from support.tasks import running
from support.tool_calls import Caller
from support.waiting import wait_until
from voicebus import (
    GuardrailFunctionOutput,
    InputGuardrail,
    OutputGuardrail,
    RunContextWrapper,
    input_guardrail,
    output_guardrail,
)
from voicebus.adapters.redis.dispatch import new_entry
from voicebus.adapters.redis.membership import joined
from voicebus.agents.targets import Targets
from voicebus.contracts.envelope import Entry
from voicebus.contracts.guardrails import GUARDRAIL_CHECK, GuardrailCheck, GuardrailVerdict
from voicebus.contracts.streams import GUARDRAILS_QUEUE, WORKERS_GROUP, Keys
from voicebus.ports import Delivery
from voicebus.runtime.consumer import ConsumerLoop
from voicebus_services.guardrail_worker.checks import CheckRunner
from voicebus_services.guardrail_worker.lanes import Lanes
from voicebus_services.guardrail_worker.waiting import WAITING_ROOM, Waitlist

Context = RunContextWrapper[Any]
Judging = Callable[..., AbstractAsyncContextManager[None]]


def _of(tripped: bool, info: Any = None) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput(output_info=info, tripwire_triggered=tripped)


@output_guardrail
async def no_prices(context: Context, agent: Any, text: str) -> GuardrailFunctionOutput:
    return _of("euro" in text, {"agent": agent, "words": len(text.split())})


@output_guardrail
def in_a_thread(context: Context, agent: Any, text: str) -> GuardrailFunctionOutput:
    return _of(False, threading.current_thread().name)


@output_guardrail
def raising(context: Context, agent: Any, text: str) -> GuardrailFunctionOutput:
    raise ValueError("no dictionary")


@output_guardrail
async def endless(context: Context, agent: Any, text: str) -> GuardrailFunctionOutput:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


@output_guardrail(budget_ms=20)
async def hurried(context: Context, agent: Any, text: str) -> GuardrailFunctionOutput:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


@output_guardrail
def quitting(context: Context, agent: Any, text: str) -> GuardrailFunctionOutput:
    raise SystemExit(3)


@output_guardrail
async def quitting_on_the_loop(context: Context, agent: Any, text: str) -> GuardrailFunctionOutput:
    raise SystemExit(3)


@output_guardrail
def sloppy(context: Context, agent: Any, text: str) -> Any:
    return True


@output_guardrail
def odd_info(context: Context, agent: Any, text: str) -> GuardrailFunctionOutput:
    return _of(True, {1, 2} - {1})


@input_guardrail(mode="hold")
async def no_shouting(context: Context, agent: Any, text: str) -> GuardrailFunctionOutput:
    return _of(text.isupper())


JUDGED: list[str] = []


@output_guardrail
def slow(context: Context, agent: Any, text: str) -> GuardrailFunctionOutput:
    JUDGED.append(text)
    time.sleep(0.02)
    return _of(False)


GO = threading.Event()


@output_guardrail
def stuck_in_a_thread(context: Context, agent: Any, text: str) -> GuardrailFunctionOutput:
    GO.wait()
    return _of(False)


APART = (in_a_process, hanging_in_a_process)
RULES: list[OutputGuardrail[Any] | InputGuardrail[Any]] = [
    no_shouting,
    no_prices,
    in_a_thread,
    raising,
    quitting,
    quitting_on_the_loop,
    endless,
    sloppy,
    odd_info,
]


@pytest.fixture
def judging(redis_url: str, keys: Keys) -> Judging:
    """A worker that judges for the length of a block: `budget_s` for each check, at its end `drain_s` more; it has all
    guardrails `but` these.
    """

    @asynccontextmanager
    async def worker(budget_s: float = 0.5, drain_s: float = 5, but: Sequence[str] = ()) -> AsyncIterator[None]:
        rules = {rule.get_name(): rule for rule in (*RULES, slow, hurried, stuck_in_a_thread, *APART)}
        targets = Targets(guardrails={name: rule for name, rule in rules.items() if name not in but})

        def describe() -> dict[str, str]:
            return {"guardrails": json.dumps(list(targets.guardrails))}

        async with joined(redis_url, keys, service="guardrail-worker", describe=describe) as member:
            waitlist, lanes = Waitlist(4), Lanes(targets.guardrails, 2, service="guardrail-worker")
            await lanes.prepare()

            def set_aside(delivery: Delivery) -> None:
                loop.set_aside(delivery)

            runner = CheckRunner(
                member, targets, lanes=lanes, budget_s=budget_s, waitlist=waitlist,
                aside=set_aside,
            )  # fmt: skip
            streams = {keys.guardrails(shard): GUARDRAILS_QUEUE for shard in range(keys.guardrail_shards)}
            loop = ConsumerLoop(
                member.consume(streams), runner.handle, clock=member.clock, service="guardrail-worker",
                concurrency=4 + WAITING_ROOM, turn=waitlist.turn,
            )  # fmt: skip
            stop = asyncio.Event()
            async with running(loop.run(stop, drain_timeout=drain_s)):
                yield
                stop.set()
            lanes.close()

    return worker


async def test_all_named_guardrails_judge_and_their_failures_are_results(caller: Caller, judging: Judging) -> None:
    async with judging():
        caller.check(*(rule.get_name() for rule in RULES), "no_such_rule", text="That is 5 euro.")
        verdicts = await wait_until(lambda: whole(caller), description="the last verdict")
    results = {result.name: result for verdict in verdicts for result in verdict.results}
    assert {(verdict.check_id, verdict.response_id) for verdict in verdicts} == {("k1", "r1")}
    assert (results["no_prices"].tripped, results["no_prices"].info) == (True, {"agent": None, "words": 4})
    assert str(results["in_a_thread"].info).startswith("guardrail-")
    assert results["raising"].error == "ValueError: no dictionary"
    assert results["quitting"].error == "RuntimeError: the guardrail raised SystemExit"
    assert results["quitting_on_the_loop"].error == "RuntimeError: the guardrail raised SystemExit"
    assert (results["endless"].error, results["endless"].timed_out) == ("it took longer than 0.5 s", True)
    assert [name for name, result in results.items() if result.timed_out] == ["endless"]
    assert results["sloppy"].error == "UserError: guardrail 'sloppy' returned bool, not GuardrailFunctionOutput"
    assert (results["odd_info"].tripped, results["odd_info"].info) == (True, [2])
    assert results["no_such_rule"].error == "this worker's targets have no such guardrail"
    assert [name for name, result in results.items() if result.tripped] == ["no_prices", "odd_info"]


async def test_a_check_comes_to_a_worker_that_has_its_guardrails_whoever_reads_it_first(
    caller: Caller, judging: Judging
) -> None:
    async with judging(but=["no_prices"]), judging(but=["no_prices"]), judging(), judging(but=["in_a_thread"]):
        for number in range(30):
            caller.check("no_prices", "in_a_thread", text="5 euro", check_id=f"k{number}", response_id=f"r{number}")
        await wait_until(
            lambda: {one.check_id for one in caller.verdicts if not one.pending} == {f"k{n}" for n in range(30)},
            description="the verdicts",
        )
    results = [result for verdict in caller.verdicts for result in verdict.results]
    assert [result.error for result in results if result.error] == []
    assert len([result for result in results if result.tripped]) == 30


async def test_what_a_check_stands_for_goes_along_with_it(
    caller: Caller, judging: Judging, redis_url: str, keys: Keys
) -> None:
    stream = keys.guardrails(keys.guardrail_shard(caller.session.id))

    async def written() -> list[GuardrailCheck]:
        return [GuardrailCheck.of(Entry.parse(fields)) for fields in await caller.stream(stream)]

    for number in range(3):
        caller.check("no_prices", text="5 euro", check_id=f"k{number}", timeout_ms=60_000)

        async def sent(count: int = number + 1) -> bool:
            return len(await written()) == count

        await wait_until(sent, description="the check to be sent")

    def able() -> dict[str, str]:
        return {"guardrails": '["no_prices"]'}

    async def handed_back() -> list[GuardrailCheck]:
        return [check for check in await written() if check.hops]

    async with joined(redis_url, keys, service="guardrail-worker", describe=able) as other:
        await caller.bus.call("XGROUP", "CREATE", stream, WORKERS_GROUP, "0")
        await caller.bus.call("XGROUP", "CREATECONSUMER", stream, WORKERS_GROUP, other.id)
        async with judging(but=["no_prices"], drain_s=0):
            check, *_ = await wait_until(handed_back, description="the check to be handed back")
    assert (check.check_id, check.stands_for) == ("k2", ["k0", "k1"])


async def test_a_check_whose_guardrails_no_living_worker_has_is_answered_at_once(
    caller: Caller, judging: Judging
) -> None:
    async with judging(but=["no_prices"]), judging(but=["in_a_thread"]):
        caller.check("no_prices", "in_a_thread", text="5 euro")
        verdicts = await wait_until(lambda: whole(caller), description="the verdict")
    assert [result.error is None for verdict in verdicts for result in verdict.results].count(False) == 1


def whole(caller: Caller) -> list[GuardrailVerdict]:
    """The verdicts on a check, once all of its guardrails have judged."""
    verdicts = caller.verdicts
    return verdicts if verdicts and not verdicts[-1].pending else []


async def test_no_guardrail_of_a_check_waits_for_a_slower_one(caller: Caller, judging: Judging) -> None:
    async with judging():
        caller.check("no_prices", "endless", text="5 euro")
        first, *_, last = await wait_until(lambda: whole(caller), description="the last verdict")
    assert [(result.name, result.tripped) for result in first.results] == [("no_prices", True)]
    assert first.pending == ["endless"]
    assert [(result.name, result.timed_out) for result in last.results] == [("endless", True)]


@pytest.mark.parametrize("hanging", ["endless", "stuck_in_a_thread", "hanging_in_a_process"])
async def test_however_many_checks_hang_the_other_guardrails_judge(
    caller: Caller, judging: Judging, hanging: str
) -> None:
    GO.clear()
    try:
        async with judging(budget_s=600, drain_s=0):
            for number in range(40):  # ten times as many as there are slots
                caller.check(hanging, check_id=f"h{number}", response_id=f"h{number}", timeout_ms=600_000)
            for name in ("no_prices", "in_a_thread", "in_a_process"):
                caller.check(name, hanging, check_id=name, response_id=name, timeout_ms=600_000)
            await wait_until(lambda: len(caller.verdicts) == 3, description="the verdicts of the others")
            assert {verdict.check_id for verdict in caller.verdicts} == {"no_prices", "in_a_thread", "in_a_process"}
            assert all(verdict.pending == [hanging] for verdict in caller.verdicts)
    finally:
        GO.set()


async def test_a_gateway_that_takes_no_early_verdict_is_given_one_on_all(caller: Caller, judging: Judging) -> None:
    stream = caller.keys.guardrails(0)
    check = GuardrailCheck(
        check_id="k1", response_id="r1", item_id="i1", agent="greeter", guardrails=["no_prices", "endless"],
        text="5 euro", final=True, reply_to=caller.inbox.stream,
    )  # fmt: skip
    entry = new_entry(caller.session, GUARDRAIL_CHECK, check, caller.clock)
    async with judging():
        await caller.bus.call("XADD", stream, "*", *(part for pair in entry.fields().items() for part in pair))
        verdict = await caller.verdict()
    assert {result.name for result in verdict.results} == {"no_prices", "endless"}


async def test_a_guardrails_own_budget_ends_before_that_of_the_worker(caller: Caller, judging: Judging) -> None:
    async with judging():
        caller.check("hurried")
        verdict = await caller.verdict()
    assert [(result.error, result.timed_out) for result in verdict.results] == [("it took longer than 0.02 s", True)]


async def test_what_the_user_says_is_judged_by_input_guardrails(caller: Caller, judging: Judging) -> None:
    async with judging():
        caller.check("no_shouting", text="HELLO", stage="input")
        verdict = await caller.verdict()
    assert [(result.name, result.tripped) for result in verdict.results] == [("no_shouting", True)]


async def test_a_check_that_came_too_late_is_left_alone(caller: Caller, judging: Judging, keys: Keys) -> None:
    caller.check("no_prices", timeout_ms=50)
    stream = keys.guardrails(keys.guardrail_shard("s1"))
    (fields,) = await wait_until(lambda: caller.stream(stream), description="the check in its stream")
    await wait_until(lambda: caller.clock.at_ms() > int(fields["deadline"]), description="its deadline")
    async with judging():

        async def acknowledged() -> bool:
            # trimmed, as what was acknowledged is, and only that
            return not await caller.stream(stream)

        await wait_until(acknowledged, description="the check to be acknowledged")
    assert caller.received == []


async def test_what_is_no_check_goes_to_the_dead_letters(caller: Caller, judging: Judging, keys: Keys) -> None:
    stream = keys.guardrails(0)
    fields = ("v", "1", "id", "x", "type", "tool.call", "session", "s1", "epoch", "1", "at", "1", "data", "{}")
    await caller.bus.call("XADD", stream, "*", *fields)
    async with judging():
        (letter,) = await wait_until(lambda: caller.stream(keys.dead("guardrails")), description="the dead letter")
    assert letter["reason"] == "unexpected_type"


async def test_of_the_checks_of_one_answer_that_wait_only_the_newest_is_judged(
    caller: Caller, judging: Judging
) -> None:
    JUDGED.clear()
    stream = caller.keys.guardrails(caller.keys.guardrail_shard("s1"))
    for number in range(9):
        # Two leave the gateway together each time, as one.
        caller.check("slow", text="x" * (2 * number), check_id=f"k{2 * number}", timeout_ms=60_000)
        caller.check("slow", text="x" * (2 * number + 1), check_id=f"k{2 * number + 1}", timeout_ms=60_000)

        async def sent(count: int = number + 1) -> bool:
            return len(await caller.stream(stream)) == count

        await wait_until(sent, description="the check to be sent")
    async with judging():

        async def last() -> bool:
            return any(verdict.check_id == "k17" for verdict in caller.verdicts)

        await wait_until(last, description="the verdict on the newest check")
    answered = {verdict.check_id for verdict in caller.verdicts}
    stood_for = [check_id for verdict in caller.verdicts for check_id in verdict.supersedes]
    assert sorted([*answered, *stood_for], key=lambda one: int(one[1:])) == [f"k{number}" for number in range(18)]
    assert len(JUDGED) == len(answered) < 9


async def test_a_check_whose_guardrail_is_busy_is_answered_with_the_newer_one_that_stands_for_it(
    caller: Caller, judging: Judging
) -> None:
    GO.clear()
    try:
        async with judging(budget_s=600):
            for number in range(2):  # as many as it may judge at once
                caller.check("stuck_in_a_thread", check_id=f"b{number}", response_id=f"b{number}", timeout_ms=600_000)
            caller.check("stuck_in_a_thread", "no_prices", check_id="k1", text="No", timeout_ms=600_000)
            await wait_until(lambda: len(caller.verdicts) == 1, description="what can be judged of it")
            caller.check("stuck_in_a_thread", "no_prices", check_id="k2", text="No,", timeout_ms=600_000)
            await wait_until(lambda: len(caller.verdicts) == 2, description="what can be judged of the newer one")
            GO.set()
            await wait_until(lambda: len(caller.verdicts) == 5, description="the rest")
    finally:
        GO.set()
    *_, last = [verdict for verdict in caller.verdicts if verdict.response_id == "r1"]
    assert (last.check_id, last.supersedes, last.pending) == ("k2", ["k1"], [])
    assert [result.name for result in last.results] == ["stuck_in_a_thread"]


async def test_a_guardrail_may_have_a_process_of_its_own(caller: Caller, judging: Judging) -> None:
    async with judging():
        caller.check("in_a_process", text="in a process")
        (verdict,) = await wait_until(lambda: caller.verdicts, description="the verdict")
    (result,) = verdict.results
    assert (result.tripped, result.error) == (True, None)
    assert result.info["process"] != os.getpid()
    assert result.info["text"] == "in a process"


async def test_a_guardrail_that_hangs_in_its_process_is_killed_with_its_limit(caller: Caller, judging: Judging) -> None:
    async with judging():
        caller.check("hanging_in_a_process")
        (verdict,) = await wait_until(lambda: caller.verdicts, description="the verdict")
    assert "longer than" in (verdict.results[0].error or "")


async def test_a_check_for_nothing_is_answered(caller: Caller, judging: Judging) -> None:
    async with judging():
        caller.check()
        (verdict,) = await wait_until(lambda: caller.verdicts, description="the verdict")
    assert verdict.results == []
