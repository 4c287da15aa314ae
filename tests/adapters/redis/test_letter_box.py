"""Dead letters: found, read, put back so that nothing takes effect twice, dropped."""

import json
from typing import Any

import pytest

from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.clock import RedisClock
from voicebus.adapters.redis.dead_letters import write_dead_letter
from voicebus.adapters.redis.letter_box import DeadLetter, LetterBox, NotReplayedError, NotThereError
from voicebus.adapters.redis.scripts import CLAIM
from voicebus.contracts.streams import Keys
from voicebus.errors import UsageError


@pytest.fixture
def box(bus: RedisConnection, keys: Keys, clock: RedisClock) -> LetterBox:
    return LetterBox(bus, keys, clock)


async def write(
    bus: RedisConnection, keys: Keys, queue: str = "default", *, reason: str = "too_many_deliveries",
    stream: str | None = None, data: str | None = None, **changed: Any,
) -> None:  # fmt: skip
    call = {"call_id": "c1", "tool": "pay", "idempotent": False, "hops": 2, "attempt": 1} | changed
    fields = {
        "v": "1", "id": "m1", "type": "tool.call", "session": "s1", "epoch": "3", "at": "1000", "deadline": "6000",
        "data": json.dumps(call) if data is None else data,
    }  # fmt: skip
    await write_dead_letter(
        bus, keys.dead(queue), fields, stream=stream or keys.tools(queue), entry_id="1-0", deliveries=5,
        reason=reason, error="it never ended", kept={"history": '[{"worker": "w1", "at": 1000}]'},
    )  # fmt: skip


async def all_of(box: LetterBox, **chosen: Any) -> list[DeadLetter]:
    return [letter async for letter in box.letters(**chosen)]


async def test_letters_are_found_by_queue_and_reason(bus: RedisConnection, keys: Keys, box: LetterBox) -> None:
    assert await all_of(box) == []
    await write(bus, keys, "a")
    await write(bus, keys, "b", reason="malformed", data="no json")
    await write(bus, keys, "b")
    assert await box.queues() == ["a", "b"]
    assert [letter.queue for letter in await all_of(box)] == ["a", "b", "b"]
    assert [letter.reason for letter in await all_of(box, queue="b")] == ["malformed", "too_many_deliveries"]
    (broken,) = await all_of(box, reason="malformed")
    assert (broken.data, broken.is_call) == ({}, False)
    letter = await box.get((await all_of(box, queue="a"))[0].id)
    assert (letter.data["tool"], letter.history, letter.stream) == (
        "pay", [{"worker": "w1", "at": 1000}], keys.tools("a"),
    )  # fmt: skip


async def test_an_id_that_is_none_is_refused(box: LetterBox) -> None:
    for wrong in ("1-0", "default/", "default/1", "default/x-0", "/1-0"):
        with pytest.raises(UsageError, match="no id of a dead letter"):
            await box.get(wrong)
    with pytest.raises(NotThereError, match="there is no dead letter default/1-0"):
        await box.get("default/1-0")


async def test_a_call_goes_back_under_its_ids_with_as_much_time_as_it_had(
    bus: RedisConnection, keys: Keys, clock: RedisClock, box: LetterBox
) -> None:
    await write(bus, keys, idempotent=True)
    record = keys.call("default", "s1", "c1")
    await bus.call("HSET", record, "state", "finished", "result", "{}", "started_at", "1", "worker", "w1")
    (letter,) = await all_of(box)
    before = clock.at_ms()
    entry = await box.replay(letter)
    ((found, fields),) = await bus.call("XRANGE", keys.tools("default"), "-", "+")
    assert found == entry
    assert {name: fields[name] for name in ("id", "session", "epoch", "at")} == {
        "id": "m1", "session": "s1", "epoch": "3", "at": "1000",
    }  # fmt: skip
    assert 5000 <= int(fields["deadline"]) - before < 15_000
    data = json.loads(fields["data"])
    assert (data["call_id"], data["hops"], data["replayed"]) == ("c1", 0, True)
    assert not {"reason", "error", "deliveries", "origin", "history"} & set(fields)
    assert await bus.call("EXISTS", record) == 0
    assert await all_of(box) == []
    with pytest.raises(NotThereError):
        await box.replay(letter)
    assert await bus.call("XLEN", keys.tools("default")) == 1


async def test_the_deadline_is_the_operators_where_one_is_given(
    bus: RedisConnection, keys: Keys, clock: RedisClock, box: LetterBox
) -> None:
    await write(bus, keys, idempotent=True)
    (letter,) = await all_of(box)
    before = clock.at_ms()
    await box.replay(letter, deadline_ms=90_000)
    ((_, fields),) = await bus.call("XRANGE", keys.tools("default"), "-", "+")
    assert 90_000 <= int(fields["deadline"]) - before < 100_000


async def test_a_call_that_had_started_is_not_started_twice_unless_forced(
    bus: RedisConnection, keys: Keys, box: LetterBox
) -> None:
    await write(bus, keys)
    arguments = ("w1", 3, "inbox", "", 0, 60, "")
    await bus.script(CLAIM, [keys.call("default", "s1", "c1")], *arguments)
    (letter,) = await all_of(box)
    with pytest.raises(NotReplayedError, match=r"call c1 was started by w1, .*'pay' is not marked idempotent.*--force"):
        await box.replay(letter)
    assert await bus.call("XLEN", keys.tools("default")) == 0
    await box.replay(letter, force=True)
    assert await bus.call("XLEN", keys.tools("default")) == 1


@pytest.mark.parametrize(("reason", "goes"), [("expired", True), ("handler_failed", False)])
async def test_a_call_without_a_record_goes_back_where_its_reason_says_that_it_never_started(
    bus: RedisConnection, keys: Keys, box: LetterBox, reason: str, goes: bool
) -> None:
    await write(bus, keys, reason=reason)
    (letter,) = await all_of(box)
    if goes:
        await box.replay(letter)
    else:
        with pytest.raises(NotReplayedError, match="may have been started: its record is gone"):
            await box.replay(letter)
    assert len(await all_of(box)) == (0 if goes else 1)


async def test_other_entries_go_back_to_the_stream_that_they_came_from(
    bus: RedisConnection, keys: Keys, box: LetterBox
) -> None:
    stream = keys.events(3)
    await write(bus, keys, "events", stream=stream, data='{"odd": 1}')
    (letter,) = await all_of(box, queue="events")
    with pytest.raises(NotReplayedError, match="is gone; drop it instead"):
        await box.replay(letter)
    await bus.call("XADD", stream, "*", "v", "1")
    await box.replay(letter)
    assert (await bus.call("XRANGE", stream, "-", "+"))[1][1]["data"] == '{"odd": 1}'
    assert await all_of(box) == []


async def test_a_dropped_letter_is_gone(bus: RedisConnection, keys: Keys, box: LetterBox) -> None:
    await write(bus, keys)
    (letter,) = await all_of(box)
    assert [await box.drop(letter), await box.drop(letter)] == [True, False]
    assert await all_of(box) == []
