"""The at-least-once loop, driven by a group member in memory."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import pytest
from msgspec.structs import replace
from prometheus_client import REGISTRY

from support.waiting import wait_until
from voicebus.contracts.envelope import Entry
from voicebus.errors import BusError, ContractError
from voicebus.ports import Delivery, StreamConsumer
from voicebus.runtime.consumer import MAX_DELIVERIES, ConsumerLoop


class StoppedClock:
    def monotonic(self) -> float:
        return 0.0

    def at_ms(self) -> int:
        return 1


class MemoryMember:
    """A stream and its group in memory. `failing` makes that many reads fail first; `lost` are deliveries that a
    broken connection swallowed."""

    def __init__(self) -> None:
        self.new: list[Delivery] = []
        self.abandoned: list[Delivery] = []
        self.lost: list[Delivery] = []
        self.acknowledged: list[str] = []
        self.dead: list[tuple[str, str]] = []
        self.kept: list[Mapping[str, str]] = []
        self.counts: list[int] = []
        self.failing = 0

    def put(self, *names: str, deliveries: int = 1, **fields: str) -> None:
        for name in names:
            self.new.append(delivery(name, deliveries, **fields))

    async def read(self, *, count: int, block_ms: int) -> Sequence[Delivery]:
        if self.failing:
            self.failing -= 1
            raise BusError("the bus is away")
        self.counts.append(count)
        for _ in range(20 if block_ms else 1):
            if self.new:
                break
            await asyncio.sleep(0.005)
        taken, self.new = self.new[:count], self.new[count:]
        return taken

    async def read_own(self) -> Sequence[Delivery]:
        taken, self.lost = self.lost, []
        return taken

    async def acknowledge(self, delivery: Delivery) -> None:
        self.acknowledged.append(delivery.entry_id)

    async def dead_letter(
        self, delivery: Delivery, *, reason: str, error: str, kept: Mapping[str, str] | None = None
    ) -> None:
        self.dead.append((delivery.entry_id, reason))
        self.kept.append(kept or {})

    async def claim_abandoned(self, *, count: int) -> Sequence[Delivery]:
        taken, self.abandoned = self.abandoned[:count], self.abandoned[count:]
        return taken

    async def tidy(self) -> None: ...

    async def leave(self) -> None: ...


def delivery(name: str, deliveries: int = 1, *, cause: str | None = None, **changed: str) -> Delivery:
    fields = {"v": "1", "id": name, "type": "t", "session": "s", "epoch": "1", "at": "1", "data": "{}"} | changed
    return Delivery("stream", f"1-{name}", fields, deliveries, cause="dead" if cause else None)


class Running:
    """A loop over members with a handler, to be stopped."""

    def __init__(
        self,
        *members: MemoryMember,
        handle: Callable[[Entry, Delivery], Awaitable[bool | None]],
        concurrency: int = 10,
        portion: int | None = None,
    ) -> None:
        group: Sequence[StreamConsumer] = members
        self.reachable: list[bool] = []
        self.loop = ConsumerLoop(
            group, handle, clock=StoppedClock(), service="test", concurrency=concurrency,
            on_reachable=self.reachable.append, portion=portion,
        )  # fmt: skip
        self.stop = asyncio.Event()
        self.task = asyncio.create_task(self.loop.run(self.stop, drain_timeout=5))

    async def end(self) -> None:
        self.stop.set()
        await self.task


def redelivered() -> float:
    return REGISTRY.get_sample_value("voicebus_messages_redelivered_total", {"service": "test"}) or 0.0


async def nothing(entry: Entry, delivery: Delivery) -> None: ...


async def test_an_entry_is_acknowledged_after_its_effect_and_not_before() -> None:
    member, go = MemoryMember(), asyncio.Event()
    started: list[str] = []

    async def handle(entry: Entry, delivery: Delivery) -> None:
        started.append(entry.id)
        await go.wait()

    member.put("1")
    running = Running(member, handle=handle)
    await wait_until(lambda: started, description="the start")
    assert member.acknowledged == []
    go.set()
    await wait_until(lambda: member.acknowledged == ["1-1"], description="the acknowledgement")
    await running.end()


async def test_an_entry_that_its_handler_has_acknowledged_is_not_a_second_time() -> None:
    member = MemoryMember()

    async def handle(entry: Entry, delivery: Delivery) -> bool:
        return entry.id == "1"

    member.put("1")
    member.put("2")
    running = Running(member, handle=handle)
    await wait_until(lambda: member.acknowledged, description="the acknowledgement of the second")
    await running.end()
    assert member.acknowledged == ["1-2"]


async def test_no_more_is_read_than_there_is_room_for() -> None:
    member, go = MemoryMember(), asyncio.Event()
    most = now = 0

    async def handle(entry: Entry, delivery: Delivery) -> None:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await go.wait()
        now -= 1

    member.put(*(str(n) for n in range(10)))
    running = Running(member, handle=handle, concurrency=3)
    await wait_until(lambda: now == 3, description="three at once")
    assert len(member.new) == 7
    go.set()
    await wait_until(lambda: len(member.acknowledged) == 10, description="all of them")
    await running.end()
    assert most == 3
    assert max(member.counts) <= 3


async def test_what_is_set_aside_gives_its_room_and_its_slot_to_the_next() -> None:
    member, go = MemoryMember(), asyncio.Event()
    begun: list[Delivery] = []

    async def handle(entry: Entry, delivery: Delivery) -> None:
        begun.append(delivery)
        await go.wait()

    member.put(*(str(n) for n in range(10)))
    running = Running(member, handle=handle, concurrency=3)
    await wait_until(lambda: len(begun) == 3, description="three at once")
    for _ in range(2):
        running.loop.set_aside(begun[0])
    await wait_until(lambda: len(begun) == 4, description="the next")
    for _ in range(20):
        await asyncio.sleep(0)
    assert (len(begun), len(member.new)) == (4, 6), "of one that is set aside twice there is no more room"
    go.set()
    await wait_until(lambda: len(member.acknowledged) == 10, description="all of them")
    running.loop.set_aside(begun[0])
    go.clear()
    member.put(*(str(n) for n in range(10, 20)))
    await wait_until(lambda: len(begun) == 13, description="three at once again")
    assert len(member.new) == 7
    go.set()
    await running.end()


async def test_a_portion_is_begun_before_the_next_is_read_and_not_waited_for_to_its_end() -> None:
    member, go = MemoryMember(), asyncio.Event()
    started: list[str] = []

    async def handle(entry: Entry, delivery: Delivery) -> None:
        started.append(entry.id)
        await go.wait()

    member.put(*(str(n) for n in range(10)))
    running = Running(member, handle=handle, concurrency=9, portion=4)
    await wait_until(lambda: len(started) == 9, description="as many as there is room for")
    assert member.counts == [4, 4, 1]
    go.set()
    await wait_until(lambda: len(member.acknowledged) == 10, description="all of them")
    await running.end()


async def test_a_portion_that_is_done_makes_room_for_the_next() -> None:
    member = MemoryMember()
    member.put(*(str(n) for n in range(100)))
    running = Running(member, handle=nothing, concurrency=9, portion=4)
    await wait_until(lambda: len(member.acknowledged) == 100, description="all of them")
    await running.end()
    assert max(member.counts) <= 4


async def test_the_next_is_read_once_the_claim_of_what_came_is_told_and_also_where_it_never_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("voicebus.runtime.consumer._CLAIMED_S", 600)
    claims: list[asyncio.Future[int | None]] = [asyncio.get_running_loop().create_future() for _ in range(2)]
    member = MemoryMember()
    member.new.append(replace(delivery("told"), claimed_at=claims[0]))
    running = Running(member, handle=nothing)
    await wait_until(lambda: member.acknowledged, description="what came to be worked on")
    assert len(member.counts) == 1
    claims[0].set_result(1)
    await wait_until(lambda: len(member.counts) > 1, description="a second read")
    monkeypatch.setattr("voicebus.runtime.consumer._CLAIMED_S", 0.01)
    member.new.append(replace(delivery("untold"), claimed_at=claims[1]))
    member.new.append(delivery("next"))
    await wait_until(lambda: "1-next" in member.acknowledged, description="what came after it")
    await running.end()


async def test_several_streams_share_the_room() -> None:
    members = [MemoryMember() for _ in range(3)]
    now = most = 0

    async def handle(entry: Entry, delivery: Delivery) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001)
        now -= 1

    for number, member in enumerate(members):
        member.put(*(f"{number}{n}" for n in range(10)))
    running = Running(*members, handle=handle, concurrency=2)
    await wait_until(lambda: sum(len(member.acknowledged) for member in members) == 30, description="all of them")
    await running.end()
    assert most == 2


async def test_what_breaks_the_contract_goes_to_the_dead_letters_with_its_reason() -> None:
    member = MemoryMember()

    async def handle(entry: Entry, delivery: Delivery) -> None:
        raise ContractError("not for me", reason="unexpected_type")

    member.put("1")
    member.put("2", v="2")
    member.put("3", data="[")
    running = Running(member, handle=handle)
    await wait_until(lambda: len(member.dead) == 3, description="three dead letters")
    await running.end()
    assert set(member.dead) == {("1-1", "unexpected_type"), ("1-2", "unsupported_version"), ("1-3", "malformed")}
    assert member.acknowledged == []


async def test_a_failing_handler_is_tried_again_and_then_given_up() -> None:
    member = MemoryMember()
    tries: dict[str, int] = {}

    async def handle(entry: Entry, delivery: Delivery) -> None:
        tries[entry.id] = tries.get(entry.id, 0) + 1
        if entry.id == "poison" or tries[entry.id] < 2:
            raise RuntimeError("boom")

    member.put("poison", "flaky")
    running = Running(member, handle=handle)
    await wait_until(lambda: member.dead and member.acknowledged, description="both ends")
    await running.end()
    assert member.dead == [("1-poison", "handler_failed")]
    assert member.acknowledged == ["1-flaky"]
    assert tries == {"poison": MAX_DELIVERIES, "flaky": 2}


async def test_an_entry_that_killed_its_workers_is_not_started_again() -> None:
    member = MemoryMember()
    member.abandoned = [delivery("killer", MAX_DELIVERIES + 1, cause="dead")]
    running = Running(member, handle=nothing)
    await wait_until(lambda: member.dead, description="the dead letter")
    await running.end()
    assert member.dead == [("1-killer", "too_many_deliveries")]


async def test_abandoned_entries_are_taken_over() -> None:
    member = MemoryMember()
    member.abandoned = [delivery("orphan", 2, cause="dead")]
    before = redelivered()
    running = Running(member, handle=nothing)
    await wait_until(lambda: member.acknowledged == ["1-orphan"], description="the orphan")
    await running.end()
    assert redelivered() == before + 1


async def test_first_deliveries_are_not_counted_as_repeated() -> None:
    member = MemoryMember()
    member.put("1", "2")
    before = redelivered()
    running = Running(member, handle=nothing)
    await wait_until(lambda: len(member.acknowledged) == 2, description="both entries")
    await running.end()
    assert redelivered() == before


async def test_a_lost_bus_is_waited_out_and_lost_deliveries_are_found() -> None:
    member = MemoryMember()
    member.failing = 3
    member.lost = [delivery("swallowed")]
    member.put("next")
    running = Running(member, handle=nothing)
    await wait_until(lambda: len(member.acknowledged) == 2, description="both entries")
    await running.end()
    assert set(member.acknowledged) == {"1-swallowed", "1-next"}
    assert running.reachable[:4] == [False, False, False, True]


async def test_a_handler_that_misses_the_bus_is_tried_until_it_is_back() -> None:
    member = MemoryMember()
    misses = MAX_DELIVERIES + 2

    async def handle(entry: Entry, delivery: Delivery) -> None:
        nonlocal misses
        if misses:
            misses -= 1
            raise BusError("the bus is away")

    member.put("1")
    running = Running(member, handle=handle)
    await wait_until(lambda: member.acknowledged, description="the end", timeout=20)
    await running.end()
    assert member.dead == []


async def test_the_end_waits_for_what_is_in_hand() -> None:
    member, go = MemoryMember(), asyncio.Event()
    started = asyncio.Event()

    async def handle(entry: Entry, delivery: Delivery) -> None:
        started.set()
        await go.wait()

    member.put("1")
    running = Running(member, handle=handle)
    await started.wait()
    running.stop.set()
    await asyncio.sleep(0)
    assert not running.task.done()
    go.set()
    await running.task
    assert member.acknowledged == ["1-1"]
    assert running.loop.in_hand == 0


@pytest.mark.parametrize("drain_timeout", [0.05, 0.0])
async def test_what_is_not_done_by_the_deadline_is_cancelled_and_stays_pending(drain_timeout: float) -> None:
    member, ended = MemoryMember(), []

    async def handle(entry: Entry, delivery: Delivery) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(entry.id)

    member.put("1")
    stop = asyncio.Event()
    loop = ConsumerLoop([member], handle, clock=StoppedClock(), service="test", concurrency=1)
    task = asyncio.create_task(loop.run(stop, drain_timeout=drain_timeout))
    await wait_until(lambda: loop.in_hand, description="the entry in hand")
    stop.set()
    await task
    assert (ended, member.acknowledged, member.dead) == (["1"], [], [])


async def test_an_entry_that_came_just_before_the_end_is_not_forgotten() -> None:
    member = MemoryMember()
    running = Running(member, handle=nothing)
    await wait_until(lambda: member.counts, description="the first read")
    member.lost = [delivery("last")]
    await running.end()
    assert member.acknowledged == ["1-last"]


async def test_cancelling_the_loop_cancels_its_handlers() -> None:
    member, ended = MemoryMember(), []

    async def handle(entry: Entry, delivery: Delivery) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(entry.id)

    member.put("1", "2")
    running = Running(member, handle=handle)
    await wait_until(lambda: running.loop.in_hand == 2, description="two entries in hand")
    await asyncio.sleep(0)
    running.task.cancel()
    await asyncio.gather(running.task, return_exceptions=True)
    assert running.task.cancelled()
    assert sorted(ended) == ["1", "2"]


async def test_who_waits_is_told_of_an_entry_that_is_given_up_and_what_it_keeps_goes_with_the_letter() -> None:
    member, told = MemoryMember(), list[tuple[str, str]]()

    async def given_up(delivery: Delivery, reason: str, error: str) -> Mapping[str, str]:
        told.append((delivery.fields["id"], reason))
        if delivery.fields["id"] == "2":
            raise RuntimeError("no way to tell")
        return {"history": "[]"}

    async def broken(entry: Entry, delivery: Delivery) -> None:
        raise ContractError("no good", reason="malformed")

    member.put("1", "2")
    member.put("3", v="9")
    member.put("4", deliveries=3)
    loop = ConsumerLoop(
        [member], broken, clock=StoppedClock(), service="test", concurrency=1, given_up=given_up, max_deliveries=2
    )
    stop = asyncio.Event()
    task = asyncio.create_task(loop.run(stop, drain_timeout=5))
    await wait_until(lambda: len(member.dead) == 4, description="the dead letters")
    stop.set()
    await task
    assert told == [
        ("1", "malformed"), ("2", "malformed"), ("3", "unsupported_version"), ("4", "too_many_deliveries"),
    ]  # fmt: skip
    assert dict(zip(("1", "2", "3", "4"), member.kept, strict=True)) == {
        "1": {"history": "[]"}, "2": {}, "3": {"history": "[]"}, "4": {"history": "[]"},
    }  # fmt: skip


async def test_what_a_dead_member_leaves_is_taken_as_there_is_room_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voicebus.runtime.consumer.CLAIM_EVERY_S", 3600.0)
    member = MemoryMember()
    member.abandoned = [delivery(f"a{n}", 2) for n in range(100)]

    async def slow(entry: Entry, delivery: Delivery) -> None:
        await asyncio.sleep(0.02)

    running = Running(member, handle=slow, concurrency=10)
    await wait_until(lambda: len(member.acknowledged) == 100, description="all of them")
    await running.end()
