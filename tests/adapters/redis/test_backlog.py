"""Back-pressure: how long a call would wait, and that one which would come too late is answered at once."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from support.tasks import running
from support.tool_calls import calling, worker
from support.waiting import wait_until
from voicebus import ToolWorker, function_tool
from voicebus.adapters.redis.backlog import Backlog, QueueState, _takes_ms
from voicebus.adapters.redis.dispatch import RedisToolDispatch
from voicebus.contracts.streams import Keys
from voicebus.contracts.tools import Outcome, ToolResult
from voicebus.engine.outputs import DispatchTool


def test_a_queue_that_nobody_waits_in_costs_no_time() -> None:
    state = QueueState()
    assert state.wait_ms(0) == 0
    state.seen(0, lag=0, read=10, oldest_ms=0)
    state.sent(0)
    assert state.wait_ms(100) == 0


def test_what_waits_is_divided_by_what_workers_take() -> None:
    state = QueueState()
    state.seen(0, lag=100, read=0, oldest_ms=700)
    assert state.wait_ms(0) == 700, "seen once, only the age of the oldest is known"
    state.seen(500, lag=100, read=50, oldest_ms=900)
    assert state.wait_ms(500) == 1000
    for _ in range(20):
        state.sent(500)
    assert state.wait_ms(500) == 1200
    assert state.wait_ms(700) == 1000
    state.seen(1000, lag=300, read=50, oldest_ms=900)
    assert state.wait_ms(1000) == 6000, "they were slower since"
    state.seen(1500, lag=0, read=350, oldest_ms=0)
    assert state.wait_ms(1500) == 0
    state.seen(2000, lag=5, read=350, oldest_ms=20)
    assert state.wait_ms(2000) == 20, "what was measured before the queue was empty counts no more"


def test_long_calls_that_are_taken_in_bursts_are_no_standstill() -> None:
    """Twenty at once that take eight seconds each: most of the time nobody takes anything."""
    state = QueueState()
    for at in range(0, 20_000, 500):
        state.seen(at, lag=10, read=20 * (1 + at // 8000), oldest_ms=2000)
        assert state.wait_ms(at) < 30_000


def test_where_nobody_takes_anything_the_oldest_tells() -> None:
    state = QueueState()
    state.seen(0, lag=5, read=7, oldest_ms=1000)
    state.seen(500, lag=5, read=7, oldest_ms=1500)
    assert state.wait_ms(600) == 1600
    state.seen(1000, lag=5, read=7, oldest_ms=2000, served=False)
    assert state.wait_ms(1000) == 0, "nobody is there, and the next worker may take it at once"


def test_where_every_slot_is_taken_by_calls_that_take_long_each_turn_of_them_lasts_as_long() -> None:
    """Ten slots, full since 3 s: what is sent behind 134 others waits for 13 turns of at least 3 s."""
    state = QueueState()
    for at in range(0, 3500, 500):
        state.seen(at, lag=134, read=10, oldest_ms=at, in_hand=10, slots=10)
    assert state.wait_ms(3000) == 40_200
    assert state.wait_ms(3100) == 40_100
    state.sent(3000)
    assert state.wait_ms(3000) == 40_500
    state.seen(3500, lag=134, read=10, oldest_ms=3500, in_hand=4, slots=10)
    assert state.wait_ms(3500) == 3500, "most slots are free: something else keeps them from taking"
    state.seen(4000, lag=134, read=10, oldest_ms=4000, in_hand=10, slots=0)
    assert state.wait_ms(4000) == 4000, "nobody knows how many slots there are"
    state.seen(4500, lag=124, read=20, oldest_ms=4500, in_hand=10, slots=10)
    assert state.wait_ms(4500) == 55_800, "ten in 4.5 s"


def test_a_turn_counts_from_when_something_was_taken_last() -> None:
    state = QueueState()
    state.seen(0, lag=20, read=0, oldest_ms=0, in_hand=2, slots=2)
    state.seen(9000, lag=18, read=2, oldest_ms=9000, in_hand=2, slots=2)
    for at in range(9500, 20_000, 500):
        state.seen(at, lag=18, read=2, oldest_ms=at, in_hand=2, slots=2)
    assert state.wait_ms(19_500) == 9 * 10_500


def test_a_flood_is_seen_with_its_first_calls_where_it_is_known_how_long_they_take() -> None:
    """Ten slots and calls of 4 s: what is sent behind 60 others waits for six turns, before anybody has looked."""
    state = QueueState()
    for _ in range(4):
        state.ended(4000)
    state.seen(0, lag=0, read=4, oldest_ms=0, in_hand=0, slots=10)
    for _ in range(10):
        assert state.wait_ms(0) == 0, "there is a slot for it"
        state.sent(0)
    assert state.wait_ms(0) == 4_200, "they have all just begun"
    for _ in range(50):
        state.sent(0)
    assert state.wait_ms(0) == 25_200
    assert state.wait_ms(300) == 24_900
    assert state.takes_ms() == 4000
    state.seen(500, lag=134, read=14, oldest_ms=400, in_hand=10, slots=10)
    assert state.wait_ms(500) == 54_600
    state.seen(1000, lag=134, read=14, oldest_ms=900, in_hand=10, slots=0)
    assert state.wait_ms(1000) == 900, "nobody knows how many slots there are"


def test_calls_that_take_all_slots_together_end_together() -> None:
    """Ten slots and calls of 4 s that begin 400 ms after somebody looked: the fifth turn begins after 16 s,
    and a little between the turns.
    """
    state = QueueState()
    for _ in range(4):
        state.ended(4000)
    state.seen(0, lag=0, read=4, oldest_ms=0, in_hand=0, slots=10)
    waits = []
    for _ in range(50):
        waits.append(state.wait_ms(400))
        state.sent(400)
    assert waits == [4200 * (place // 10) for place in range(50)]
    state.seen(500, lag=0, read=4, oldest_ms=0, in_hand=5, slots=10)
    for _ in range(10):
        state.sent(600)
    assert state.wait_ms(600) == 4200, "five may be done at any moment, the other five have just begun"


def test_where_quick_and_long_calls_are_mixed_most_of_their_mean_counts() -> None:
    """Ten slots, every second call takes 8 s: behind 200 others one waits for 20 turns of 4 s, or a little less."""
    state = QueueState()
    for number in range(32):
        state.ended(8000 if number % 2 else 0)
    state.seen(0, lag=0, read=32, oldest_ms=0, in_hand=10, slots=10)
    for _ in range(200):
        state.sent(0)
    assert round(state.wait_ms(0)) == 56_000
    assert round(state.wait_ms(1000)) == 55_000
    assert state.takes_ms() == 0, "the next one may be quick"


def test_what_is_known_of_how_long_calls_take_counts_while_the_queue_moves() -> None:
    """Ten slots and calls of 4 s, the first ten taken since the last look: the next ones are not taken as fast."""
    state = QueueState()
    for _ in range(4):
        state.ended(4000)
    state.seen(0, lag=50, read=4, oldest_ms=0, in_hand=0, slots=10)
    state.seen(500, lag=40, read=14, oldest_ms=500, in_hand=10, slots=10)
    assert state.wait_ms(500) == 16_800, "four turns; ten in half a second would be 2 s"


def test_what_is_known_of_how_long_calls_take_holds_no_quick_ones_up() -> None:
    state = QueueState()
    for _ in range(3):
        state.ended(60_000)
    state.seen(0, lag=0, read=3, oldest_ms=0, in_hand=20, slots=10)
    assert state.wait_ms(0) == 0, "three calls tell too little"
    for _ in range(2):
        state.ended(10)
    assert state.wait_ms(0) == 10.5, "one in three is quick"
    for _ in range(32):
        state.ended(1)
    for _ in range(1000):
        state.sent(0)
    assert round(state.wait_ms(0)) == 106, "the long ones have been forgotten"
    assert state.wait_ms(200) == 0, "they are done by now"


def test_a_gateway_that_has_seen_no_call_end_goes_by_what_the_workers_say() -> None:
    state = QueueState()
    state.seen(0, lag=0, read=0, oldest_ms=0, in_hand=0, slots=2, takes_ms=3000)
    for _ in range(8):
        state.sent(0)
    assert state.wait_ms(0) == 12_600
    for _ in range(4):
        state.ended(1000)
    assert state.wait_ms(0) == 4200, "what it has seen itself counts more"


@pytest.mark.parametrize(
    "said",
    [
        None,
        "",
        "5",
        "[]",
        "{",
        '{"q": -1}',
        '{"q": "5"}',
        '{"q": 1e400}',
        pytest.param(f'{{"q": 1{"0" * 400}}}', id="longer than the world lasts"),
        pytest.param("[" * 100_000, id="nested"),
    ],
)
def test_what_no_worker_can_say_of_its_queue_counts_for_nothing(said: str | None) -> None:
    assert _takes_ms(said, "q") is None
    assert _takes_ms('{"q": 5, "other": 1}', "q") == 5


def test_calls_that_had_taken_all_slots_for_long_before_others_came_are_no_quick_ones() -> None:
    """Ten slots, taken by the same ten calls for 30 s: those behind the next ten wait for a turn of that at least."""
    state = QueueState()
    for at in range(0, 30_500, 500):
        state.seen(at, lag=0, read=10, oldest_ms=0, in_hand=10, slots=10)
    for _ in range(10):
        state.sent(30_000)
    assert state.wait_ms(30_000) == 0, "the ten that run may be done at any moment"
    for _ in range(10):
        state.sent(30_000)
    assert state.wait_ms(30_000) == 30_000
    state.seen(30_500, lag=10, read=20, oldest_ms=100, in_hand=10, slots=10)
    for _ in range(20):
        state.sent(30_500)
    assert state.wait_ms(30_500) < 1000, "they were, and others have taken their slots"
    state.seen(60_000, lag=0, read=40, oldest_ms=0, in_hand=9, slots=10)
    state.seen(90_000, lag=0, read=40, oldest_ms=0, in_hand=9, slots=10)
    for _ in range(50):
        state.sent(90_000)
    assert state.wait_ms(90_000) == 0, "one slot takes whatever comes"


async def test_a_gateway_that_has_just_begun_knows_by_the_workers_how_long_calls_take(
    redis_url: str, keys: Keys
) -> None:
    go = asyncio.Event()

    @function_tool(queue="default")
    async def crawl(ms: int) -> str:
        """Crawl."""
        if ms:
            await asyncio.sleep(ms / 1000)
        else:
            await go.wait()
        return "done"

    call = DispatchTool("x", "crawl", "{}", "desk", "default", 1000, idempotent=True)
    async with calling(redis_url, keys) as caller, worker(redis_url, keys, crawl, concurrency=1):
        for n in range(4):
            caller.call("crawl", '{"ms": 100}', call_id=f"c{n}")
            await caller.result(f"c{n}")
        caller.call("crawl", '{"ms": 0}', call_id="held")
        await caller.started("held")
        backlog = Backlog(caller.bus, keys, caller.clock)
        assert backlog.refusal(call) is None
        async with running(backlog.run()):
            await wait_until(backlog._queues["default"].takes_ms, description="a word of the worker")
        assert any(backlog.refusal(call) is not None for _ in range(20)), "ten of a tenth of a second are a second"
        assert backlog.refusal(replace(call, timeout_ms=600_000)) is None, "it has time to wait"
        go.set()


async def test_a_call_behind_more_long_ones_than_its_deadline_allows_is_answered_at_once(
    redis_url: str, keys: Keys
) -> None:
    """Long before any of them has ended."""
    go = asyncio.Event()

    @function_tool(queue="default")
    async def crawl() -> str:
        """Crawl."""
        await go.wait()
        return "done"

    call = DispatchTool("x", "crawl", "{}", "desk", "default", 60_000, idempotent=True)
    async with calling(redis_url, keys) as caller, worker(redis_url, keys, crawl, concurrency=1):
        backlog = Backlog(caller.bus, keys, caller.clock)
        for n in range(201):
            caller.call("crawl", call_id=f"c{n}", timeout_ms=60_000)
        await caller.started("c0")
        assert backlog.refusal(call) is None
        async with running(backlog.run()):
            refusal = await wait_until(lambda: backlog.refusal(call), description="a refusal", timeout=25)
        assert refusal is not None
        assert refusal.kind == "overloaded"
        go.set()


async def test_a_call_that_is_known_to_take_longer_than_it_has_is_tried_where_nothing_is_ahead_of_it(
    redis_url: str, keys: Keys
) -> None:
    call = DispatchTool("x", "crawl", "{}", "desk", "default", 1000, idempotent=True)
    async with calling(redis_url, keys) as caller:
        backlog = Backlog(caller.bus, keys, caller.clock)
        assert backlog.refusal(call) is None
        for _ in range(4):
            backlog.ended(call, {"duration_ms": 2000, "outcome": "timeout"})
        assert backlog.refusal(call) is None


async def test_a_flood_of_calls_that_are_known_to_take_long_is_refused_from_the_first_that_would_come_too_late(
    redis_url: str, keys: Keys
) -> None:
    """The first look at the queue comes after all of them."""
    go, took = asyncio.Event(), {"duration_ms": 4000, "outcome": "ok"}

    @function_tool(queue="default")
    async def crawl() -> str:
        """Crawl."""
        await go.wait()
        return "done"

    call = DispatchTool("x", "crawl", "{}", "desk", "default", 20_000, idempotent=True)
    async with calling(redis_url, keys) as caller, worker(redis_url, keys, crawl, concurrency=2):
        backlog = Backlog(caller.bus, keys, caller.clock)
        assert backlog.refusal(call) is None
        for _ in range(4):
            backlog.ended(call, took)
        backlog.ended(call, {"duration_ms": 0, "outcome": "cancelled"})
        caller.call("crawl", call_id="c0")
        await caller.started("c0")
        async with running(backlog.run()):

            async def known() -> bool:
                return backlog._queues["default"]._slots == 2

            await wait_until(known, description="a look at the queue")
        refused = next(n for n in range(1000) if backlog.refusal(call) is not None)
        assert 8 <= refused <= 40, "two at once, and the fifth turn of four seconds does not end before twenty"
        assert backlog.refusal(replace(call, timeout_ms=600_000)) is None, "it has time to wait"
        go.set()


async def test_a_flooded_queue_has_late_calls_answered_at_once_and_takes_more_when_it_is_empty(
    redis_url: str, stream_prefix: str
) -> None:
    keys, go = Keys(stream_prefix), asyncio.Event()

    @function_tool(queue="default")
    async def crawl() -> str:
        """Crawl."""
        await go.wait()
        return "done"

    async with calling(redis_url, keys) as caller:
        backlog = Backlog(caller.bus, keys, caller.clock)
        answers: list[Any] = []
        dispatch = RedisToolDispatch(
            caller.bus, caller.tools._outbox, caller.clock, keys, reply_to=caller.inbox.stream, refusing=[backlog],
            answer=answers.append,
        )  # fmt: skip
        sent = 0

        def send(timeout_ms: int) -> None:
            nonlocal sent
            sent += 1
            call = DispatchTool(f"c{sent}", "crawl", "{}", "desk", "default", timeout_ms, idempotent=True)
            dispatch.dispatch(caller.session, call)

        async with (
            ToolWorker([crawl], redis_url=redis_url, stream_prefix=stream_prefix, concurrency=1),
            running(backlog.run()),
        ):
            for _ in range(5):
                send(60_000)

            def refused() -> list[Any]:
                send(1000)
                return answers

            await wait_until(refused, description="a refusal", timeout=20, interval=0.1)
            result = ToolResult.of(answers[0])
            assert (result.outcome, result.error and result.error.kind) == (Outcome.ERROR, "overloaded")
            assert "too busy" in result.output
            taken = sent
            send(600_000)
            assert len(answers) == len({answer.data["call_id"] for answer in answers}) <= taken, "it has time to wait"
            go.set()
            await caller.result("c5")

            async def empty() -> bool:
                return (
                    await caller.pending(keys.tools("default")) == 0
                    and backlog.refusal(DispatchTool("x", "crawl", "{}", "desk", "default", 1000, idempotent=True))
                    is None
                )

            await wait_until(empty, description="room in the queue", timeout=20)
