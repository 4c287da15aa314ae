"""The circuit breaker of checks: when it opens, and what closes it."""

import asyncio

from support.tasks import running
from support.waiting import wait_until
from voicebus.adapters.redis.guardrail_circuit import GuardrailCircuit


class Watch:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_it_opens_when_three_checks_have_passed_their_time_and_none_was_answered() -> None:
    watch = Watch()
    circuit = GuardrailCircuit(2, watch)
    assert [circuit.asks() for _ in range(3)] == [True] * 3
    watch.now = 1.9
    assert circuit.asks()
    watch.now = 2.1
    assert not circuit.asks()
    assert "2 s" in circuit.why


def test_one_lost_check_opens_nothing_however_long_ago() -> None:
    watch = Watch()
    circuit = GuardrailCircuit(2, watch)
    circuit.asks()
    watch.now = 100
    assert [circuit.asks() for _ in range(50)] == [True] * 50


def test_an_answer_closes_it() -> None:
    watch = Watch()
    circuit = GuardrailCircuit(2, watch)
    for _ in range(3):
        circuit.asks()
    watch.now = 3
    assert not circuit.asks()
    circuit.answered()
    assert circuit.asks()
    assert not circuit.is_open


async def test_the_group_is_asked_now_and_then_while_it_is_open_and_only_then() -> None:
    watch, probes = Watch(), list[float]()
    circuit = GuardrailCircuit(2, watch)
    async with running(circuit.run(lambda: probes.append(watch.now))):
        await asyncio.sleep(0)
        assert probes == []
        for _ in range(3):
            circuit.asks()
        watch.now = 3
        circuit.asks()
        await wait_until(lambda: len(probes) >= 2, description="two probes")


async def test_it_opens_in_time_so_that_no_later_check_pays_for_an_outage_that_is_over() -> None:
    watch, probes = Watch(), list[float]()

    def probe() -> None:
        probes.append(watch.now)
        circuit.answered()  # the worker is back

    circuit = GuardrailCircuit(2, watch)
    async with running(circuit.run(probe)):
        for _ in range(3):
            assert circuit.asks()
        watch.now = 3
        await wait_until(lambda: probes, description="the group to be asked")
        watch.now = 1000
        assert circuit.asks()
        assert not circuit.is_open
