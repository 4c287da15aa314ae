"""The journal: one fenced script per flush, safe to send again, and back to work after an outage."""

import asyncio
import json
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from support.servers import RedisServer
from support.tasks import running
from support.waiting import wait_until
from voicebus.adapters.redis import journal as journal_module
from voicebus.adapters.redis.client import RedisConnection, connect
from voicebus.adapters.redis.clock import RedisClock
from voicebus.adapters.redis.journal import RedisJournal
from voicebus.adapters.redis.journal_queue import CAPACITY
from voicebus.adapters.redis.scripts import FLUSH, Script
from voicebus.contracts.envelope import Entry
from voicebus.contracts.journal import EventType, ItemRecorded, SessionEnded, SessionStarted
from voicebus.contracts.streams import Keys
from voicebus.engine.outputs import Record
from voicebus.errors import StaleOwnerError
from voicebus.ports import Journal, SessionRef

STARTED = SessionStarted(agent="greeter", model="m", face="native", audio={})


def item(seq: int, text: str = "hello") -> Record:
    recorded = ItemRecorded(item_id=f"i{seq}", role="user", agent="greeter", text=text, started_ms=0, ended_ms=1)
    return Record(seq, EventType.ITEM_RECORDED, recorded)


async def entries(bus: RedisConnection, keys: Keys, session: str) -> list[Entry]:
    reply = await bus.call("XRANGE", keys.events(keys.event_shard(session)), "-", "+")
    return [entry for _, fields in reply if (entry := Entry.parse(fields)).session == session]


def new_journal(
    bus: RedisConnection, clock: RedisClock, keys: Keys, stale: list[StaleOwnerError] | None = None, owner: str = "g1"
) -> RedisJournal:
    journal = RedisJournal(bus, clock, keys, owner=owner, on_stale=(stale if stale is not None else []).append)
    _: Journal = journal
    return journal


async def test_events_and_the_state_they_change_arrive_together(
    bus: RedisConnection, clock: RedisClock, keys: Keys
) -> None:
    journal = new_journal(bus, clock, keys)
    async with running(journal.run()):
        epoch = await journal.open("s1", state={"token_hash": "abc"})
        session = SessionRef("s1", epoch, traceparent="00-trace")
        journal.append(session, Record(1, EventType.SESSION_STARTED, STARTED), 1000)
        journal.append(session, item(2), 1001)
        journal.append(session, Record(3, EventType.SESSION_ENDED, SessionEnded(reason="hangup", duration_ms=5)), 1002)
        await journal.close(session)
    written = await entries(bus, keys, "s1")
    assert [(entry.seq, entry.type, entry.epoch) for entry in written] == [
        (1, "session_started", 1), (2, "item_recorded", 1), (3, "session_ended", 1),
    ]  # fmt: skip
    assert written[0].traceparent == "00-trace"
    state = await bus.call("HGETALL", keys.session_state("s1"))
    assert int(state.pop("started_at")) <= clock.at_ms()
    assert state == {
        "id": "s1", "owner": "g1", "tenant": "local", "token_hash": "abc", "epoch": "1", "seq": "3", "audio": "{}",
        "agent": "greeter", "model": "m", "face": "native", "status": "ended", "ended_at": "1002",
        "end_reason": "hangup", "at": "1002",
    }  # fmt: skip
    items = await bus.call("HGETALL", keys.session_items("s1"))
    assert json.loads(items["i2"])["text"] == "hello"


async def test_what_the_archive_misses_is_sent_again_as_it_was_by_the_owner_alone(
    bus: RedisConnection, clock: RedisClock, keys: Keys
) -> None:
    journal = new_journal(bus, clock, keys)
    async with running(journal.run()):
        session = SessionRef("s1", await journal.open("s1", state={}))
        for seq in (1, 2, 3, 4):
            journal.append(session, item(seq), 1000 + seq)
        await journal.drain(5)
        assert await journal.resend("s1", 2, 3) == 2
        assert await journal.resend("s1", 9, 12) == await journal.resend("of another", 1, 2) == 0
        written = await entries(bus, keys, "s1")
        assert [entry.seq for entry in written] == [1, 2, 3, 4, 2, 3]
        assert written[4:] == written[1:3]
        assert await bus.call("HGET", keys.session_state("s1"), "seq") == "4"
        await new_journal(bus, clock, keys, owner="g2").open("s1", state={})
        assert await journal.resend("s1", 2, 3) == 0, "a stale owner writes nothing"
        journal.disown("s1")
        await journal.close(session)


async def test_a_change_that_no_event_brings_is_written_too_by_the_owner_alone(
    bus: RedisConnection, clock: RedisClock, keys: Keys
) -> None:
    stale: list[StaleOwnerError] = []
    journal = new_journal(bus, clock, keys, stale)
    async with running(journal.run()):
        session = SessionRef("s1", await journal.open("s1", state={"agent": "greeter"}))
        journal.append(session, item(1), 1)
        journal.update(session, {"agent": "porter"})
        await journal.drain(5)
        journal.update(session, {"agent": "waiter"})
        await journal.drain(5)
        assert await bus.call("HMGET", keys.session_state("s1"), "agent", "seq") == ["waiter", "1"]
        await new_journal(bus, clock, keys, owner="g2").open("s1", state={})
        journal.update(session, {"agent": "of the old owner"})
        await wait_until(lambda: stale, description="the stale owner to be told")
        await journal.close(session)
    assert await bus.call("HGET", keys.session_state("s1"), "agent") == "waiter"


async def test_of_changes_in_one_flush_the_later_word_counts(
    bus: RedisConnection, clock: RedisClock, keys: Keys
) -> None:
    journal = new_journal(bus, clock, keys)
    started = Record(1, EventType.SESSION_STARTED, STARTED)
    async with running(journal.run()):
        one, two = [SessionRef(name, await journal.open(name, state={})) for name in ("s1", "s2")]
        journal.append(one, started, 1)
        journal.update(one, {"status": "idle"})
        journal.update(two, {"status": "idle"})
        journal.append(two, started, 1)
        await journal.close(one)
        await journal.close(two)
    assert await bus.call("HGET", keys.session_state("s1"), "status") == "idle"
    assert await bus.call("HGET", keys.session_state("s2"), "status") == "active"


async def test_the_end_of_a_session_leaves_a_mark_for_those_who_may_not_read_its_state(
    bus: RedisConnection, clock: RedisClock, keys: Keys
) -> None:
    journal = new_journal(bus, clock, keys)
    async with running(journal.run()):
        session = SessionRef("s1", await journal.open("s1", state={}))
        journal.append(session, Record(1, EventType.SESSION_STARTED, STARTED), 1)
        await journal.drain(5)
        assert not await bus.call("EXISTS", keys.session_end("s1"))
        journal.append(session, Record(2, EventType.SESSION_ENDED, SessionEnded(reason="hangup", duration_ms=5)), 2)
        await journal.close(session)
    assert await bus.call("EXISTS", keys.session_end("s1"))
    # It is gone no later than the state: a session's id may come again after that.
    left = [await bus.call("TTL", key) for key in (keys.session_end("s1"), keys.session_state("s1"))]
    assert 0 < left[0] <= left[1]


async def test_sending_a_flush_again_writes_nothing_twice(bus: RedisConnection, keys: Keys) -> None:
    await bus.call("HSET", keys.session_state("s1"), "epoch", 1, "seq", 0)
    shard = keys.event_shard("s1")
    names = [keys.session_state("s1"), keys.session_items("s1"), keys.session_calls("s1"), keys.events(shard), "", ""]

    def flush(first: int, *texts: str, epoch: int = 1) -> Any:
        events = [part for text in texts for part in (2, "text", text)]
        return bus.script(FLUSH, names, epoch, first, 60, 0, len(texts), 0, 0, 0, 60, 0, *events)

    assert await flush(1, "one", "two") == ["ok", 2]
    assert await flush(1, "one", "two") == ["ok", 2]
    assert await flush(2, "two", "three") == ["ok", 3]
    assert await flush(5, "five") == ["behind", 3]
    assert await flush(4, "four", epoch=2) == ["unknown", 3]
    written = await bus.call("XRANGE", keys.events(shard), "-", "+")
    assert [fields["text"] for _, fields in written] == ["one", "two", "three"]


async def test_a_stale_owner_cannot_write_and_is_told_once(
    bus: RedisConnection, clock: RedisClock, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    stale: list[StaleOwnerError] = []
    journal = new_journal(bus, clock, keys, stale)
    successor = new_journal(bus, clock, keys, owner="g2")
    async with running(journal.run(), successor.run()):
        old = SessionRef("s1", await journal.open("s1", state={}))
        new = SessionRef("s1", await successor.open("s1", state={}))
        assert (old.epoch, new.epoch) == (1, 2)
        journal.append(old, item(1, "from the old owner"), 1)
        await wait_until(lambda: stale, description="the stale owner to be told")
        journal.append(old, item(2), 2)
        successor.append(new, item(1, "from the new owner"), 3)
        await successor.close(new)
        await journal.close(old)
    assert [(error.session, error.epoch, error.current) for error in stale] == [("s1", 1, 2)]
    assert "what a session's former owner had still to write is lost" in caplog.text
    assert [entry.data["text"] for entry in await entries(bus, keys, "s1")] == ["from the new owner"]
    assert await bus.call("HGET", keys.session_state("s1"), "owner") == "g2"


async def test_many_sessions_flush_in_order(bus: RedisConnection, clock: RedisClock, keys: Keys) -> None:
    journal = new_journal(bus, clock, keys)
    async with running(journal.run()):
        sessions = [SessionRef(f"s{n}", await journal.open(f"s{n}", state={})) for n in range(20)]
        for seq in range(1, 31):
            for session in sessions:
                journal.append(session, item(seq), seq)
            await asyncio.sleep(0)
        await asyncio.gather(*(journal.close(session) for session in sessions))
    for session in sessions:
        assert [entry.seq for entry in await entries(bus, keys, session.id)] == list(range(1, 31))


@pytest.mark.parametrize("persistent", [True, False])
async def test_what_was_queued_while_redis_was_away_is_written_when_it_is_back(persistent: bool) -> None:
    keys = Keys("vb")
    with RedisServer(persistent=persistent) as server:
        async with await connect(server.url) as bus:
            journal = new_journal(bus, RedisClock(bus), keys)
            async with running(journal.run()):
                session = SessionRef("s1", await journal.open("s1", state={"token_hash": "abc"}))
                journal.append(session, item(1), 1)
                await wait_until(journal._sessions["s1"].settled.is_set, description="the first flush")
                server.kill()
                journal.append(session, item(2), 2)
                journal.append(session, item(3), 3)
                server.start()
                await journal.close(session)
            # A Redis that lost everything gets again what the owner still has, and the session's state with it.
            assert [entry.seq for entry in await entries(bus, keys, "s1")] == [1, 2, 3]
            state = await bus.call("HGETALL", keys.session_state("s1"))
            assert (state["seq"], state["epoch"], state["token_hash"]) == ("3", "1", "abc")


async def test_a_session_that_ends_during_an_outage_is_written_to_its_end_and_then_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("voicebus.adapters.redis.journal.CLOSE_TIMEOUT_S", 0.1)
    keys = Keys("vb")
    with RedisServer(persistent=True) as server:
        async with await connect(server.url) as bus:
            journal = new_journal(bus, RedisClock(bus), keys)
            async with running(journal.run()):
                session = SessionRef("s1", await journal.open("s1", state={}))
                journal.append(session, item(1), 1)
                await wait_until(journal._sessions["s1"].settled.is_set, description="the first flush")
                server.kill()
                journal.append(session, item(2), 2)
                await journal.close(session)
                server.start()
                await journal.drain(20)
                await wait_until(lambda: not journal._sessions, description="the session to be forgotten")
            assert [entry.seq for entry in await entries(bus, keys, "s1")] == [1, 2]


async def test_a_full_journal_drops_the_oldest_and_goes_on(
    bus: RedisConnection, clock: RedisClock, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voicebus.adapters.redis.journal_queue.CAPACITY", 10)
    journal = new_journal(bus, clock, keys)
    session = SessionRef("s1", await journal.open("s1", state={}))
    for seq in range(1, 21):
        journal.append(session, item(seq), seq)
    async with running(journal.run()):
        await journal.close(session)
    assert [entry.seq for entry in await entries(bus, keys, "s1")] == list(range(11, 21))
    assert await bus.call("HGET", keys.session_state("s1"), "seq") == "20"


async def test_a_journal_is_full_by_the_bytes_of_its_events_too_and_says_so_once(
    bus: RedisConnection,
    clock: RedisClock,
    keys: Keys,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("voicebus.adapters.redis.journal_queue.MAX_BYTES", 50_000)
    journal = new_journal(bus, clock, keys)
    session = SessionRef("s1", await journal.open("s1", state={}))
    for seq in range(1, 21):
        journal.append(session, item(seq, text="x" * 10_000), seq)
    assert caplog.text.count("journal full") == 1
    async with running(journal.run()):
        await wait_until(journal._sessions["s1"].settled.is_set, description="the events that are left")
        # What Redis has makes room for what it does not have.
        for seq in range(21, 24):
            journal.append(session, item(seq, text="x" * 15_000), seq)
        await journal.close(session)
    assert [entry.seq for entry in await entries(bus, keys, "s1")] == [17, 18, 19, 20, 21, 22, 23]
    assert caplog.text.count("journal full") == 1


async def test_what_many_sessions_have_to_write_is_sent_a_part_at_a_time(
    bus: RedisConnection, clock: RedisClock, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "AT_ONCE_CHARS", 100_000)
    sent: list[int] = []
    scripts = bus.scripts

    async def counted(script: Script, calls: Sequence[tuple[list[str], Sequence[str | int]]]) -> list[Any]:
        sent.append(sum(len(str(argument)) for _, arguments in calls for argument in arguments))
        return await scripts(script, calls)

    monkeypatch.setattr(bus, "scripts", counted)
    journal = new_journal(bus, clock, keys)
    sessions = [SessionRef(name, await journal.open(name, state={})) for name in (f"s{n}" for n in range(20))]
    for session in sessions:
        for seq in range(1, 4):
            journal.append(session, item(seq, text="x" * 5_000), seq)
        journal.update(session, {"item:1": "y" * 10_000})
    async with running(journal.run()):
        await journal.drain(20)
        assert max(sent) < 150_000
        assert sum(sent) > 800_000
        for session in sessions:
            assert await bus.call("HGET", keys.session_state(session.id), "seq") == "3"
            told = json.loads(await bus.call("HGET", keys.session_items(session.id), "i3"))
            assert (told["type"], told["seq"], told["at"], len(told["text"])) == ("item_recorded", 3, 3, 5_000)
            await journal.close(session)


async def test_a_session_that_redis_refuses_however_much_it_has_to_write_holds_up_no_other(
    bus: RedisConnection, clock: RedisClock, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "AT_ONCE_CHARS", 10_000)
    journal = new_journal(bus, clock, keys)
    refused, other = [SessionRef(name, await journal.open(name, state={})) for name in ("refused", "other")]
    await bus.call("SET", keys.session_items("refused"), "no hash", "EX", 60)
    async with running(journal.run()):
        for seq in range(1, 4):
            journal.append(refused, item(seq, text="x" * 10_000), seq)
            journal.append(other, item(seq), seq)
        async with asyncio.timeout(20):
            while await bus.call("HGET", keys.session_state("other"), "seq") != "3":
                journal.append(refused, item(seq := seq + 1, text="x" * 10_000), seq)
                await asyncio.sleep(0.01)
        await bus.call("DEL", keys.session_items("refused"))
        await journal.drain(20)
    assert await bus.call("HGET", keys.session_state("refused"), "seq") == str(seq)


async def test_what_comes_after_a_write_is_done_in_order_once_redis_has_all_before_it(
    bus: RedisConnection, clock: RedisClock, keys: Keys
) -> None:
    journal = new_journal(bus, clock, keys)
    done: list[str] = []
    async with running(journal.run()):
        session = SessionRef("s1", await journal.open("s1", state={"agent": "greeter"}))
        journal.after(session, lambda: done.append("nothing was to be written"))
        journal.append(session, item(1), 1)
        journal.after(session, lambda: done.append("one"))
        journal.update(session, {"agent": "porter"})
        journal.after(session, lambda: done.append("two"))
        assert done == []
        await wait_until(lambda: len(done) == 3, description="what comes after")
        state = await bus.call("HGETALL", keys.session_state("s1"))
        await journal.close(session)
    assert done == ["nothing was to be written", "one", "two"]
    assert (state["seq"], state["agent"]) == ("1", "porter")


async def test_of_too_many_that_wait_for_a_write_the_oldest_are_forgotten_but_for_the_first(
    bus: RedisConnection, clock: RedisClock, keys: Keys
) -> None:
    journal = new_journal(bus, clock, keys)
    done: list[int] = []
    async with running(journal.run()):
        session = SessionRef("s1", await journal.open("s1", state={}))
        journal.append(session, item(1), 1)
        for number in range(CAPACITY + 10):
            journal.after(session, partial(done.append, number))
        await wait_until(lambda: CAPACITY + 9 in done, description="the newest")
        await journal.close(session)
    assert done == [0, *range(11, CAPACITY + 10)]


async def test_what_comes_after_a_write_is_never_done_by_an_owner_that_is_none_any_more(
    bus: RedisConnection, clock: RedisClock, keys: Keys
) -> None:
    stale: list[StaleOwnerError] = []
    journal, other = new_journal(bus, clock, keys, stale), new_journal(bus, clock, keys, owner="g2")
    done: list[str] = []
    async with running(journal.run()):
        for name in ("s1", "s2"):
            await journal.open(name, state={})
            await other.open(name, state={})
        quiet, busy = SessionRef("s1", 1), SessionRef("s2", 1)
        journal.append(busy, item(1), 1)
        journal.after(busy, lambda: done.append("busy"))
        journal.after(quiet, lambda: done.append("quiet"))
        await wait_until(lambda: len(stale) == 2, description="both to be known as stale")
        journal.after(quiet, lambda: done.append("later"))
        await journal.drain(5)
    assert done == []


async def test_a_master_that_lacks_the_last_of_a_session_is_given_it_though_nothing_is_said_any_more(
    bus: RedisConnection, clock: RedisClock, keys: Keys
) -> None:
    journal = new_journal(bus, clock, keys)
    async with running(journal.run()):
        for name in ("idle", "ended", "whole"):
            session = SessionRef(name, await journal.open(name, state={}))
            journal.append(session, Record(1, EventType.SESSION_STARTED, STARTED), 1)
            journal.append(session, item(2), 2)
            if name != "idle":
                end = SessionEnded(reason="hangup", duration_ms=5)
                journal.append(session, Record(3, EventType.SESSION_ENDED, end), 3)
                await journal.close(session)
        await journal.drain(5)
        # What a replica did not have yet when its master died.
        for name, last in (("idle", 1), ("ended", 2)):
            stream = keys.events(keys.event_shard(name))
            for entry_id, fields in await bus.call("XRANGE", stream, "-", "+"):
                if fields["session"] == name and int(fields["seq"]) > last:
                    await bus.call("XDEL", stream, entry_id)
            await bus.call("HSET", keys.session_state(name), "seq", last, "status", "active")
            await bus.call("DEL", keys.session_end(name))
        journal.restore(0.0)

        async def seqs(name: str) -> list[int | None]:
            return [entry.seq for entry in await entries(bus, keys, name)]

        async def told() -> bool:
            return (await seqs("idle"), await seqs("ended")) == ([1, 2], [1, 2, 3])

        await wait_until(told, description="what was lost")
        await journal.drain(5)
        assert await bus.call("HMGET", keys.session_state("ended"), "seq", "status") == ["3", "ended"]
        assert await bus.call("EXISTS", keys.session_end("ended")) == 1
        assert await seqs("whole") == [1, 2, 3]
        # What the archive misses of one that has ended is sent again, too.
        assert await journal.resend("whole", 2, 3) == 2


async def test_a_master_that_lacks_a_change_that_no_event_brought_is_given_it(
    bus: RedisConnection, clock: RedisClock, keys: Keys
) -> None:
    journal = new_journal(bus, clock, keys)
    state = keys.session_state("s1")
    async with running(journal.run()):
        session = SessionRef("s1", await journal.open("s1", state={}))
        journal.append(session, item(1), 1)
        journal.update(session, {"item:a": "said long ago"})
        await journal.drain(5)
        since = time.monotonic()
        journal.update(session, {"item:b": "said last", "work": "before"})
        journal.update(session, {"work": "now"})
        await journal.drain(5)
        await bus.call("HSET", state, "item:a", "as the replica has it", "work", "before")
        await bus.call("HDEL", state, "item:b")
        journal.restore(since)
        await journal.drain(5)
        fields = await bus.call("HMGET", state, "item:a", "item:b", "work")
        assert fields == ["as the replica has it", "said last", "now"]
        await journal.close(session)
        await bus.call("HDEL", state, "item:b")
        journal.restore(since)
        await journal.drain(5)
        assert await bus.call("HGET", state, "item:b") == "said last", "also of one that has ended"


async def test_a_master_that_lacks_a_takeover_gets_what_the_next_owner_wrote_and_not_what_the_former_did(
    bus: RedisConnection, clock: RedisClock, keys: Keys
) -> None:
    former, journal = new_journal(bus, clock, keys), new_journal(bus, clock, keys, owner="g2")
    async with running(former.run()), running(journal.run()):
        before = SessionRef("s1", await former.open("s1", state={}))
        former.append(before, item(1), 1)
        await former.drain(5)
        state = await bus.call("HGETALL", keys.session_state("s1"))
        journal.adopt("s1", {**state, "epoch": "2"})
        session = SessionRef("s1", 2)
        # The new master knows of no other owner, and the former one writes on.
        for seq in (2, 3, 4):
            former.append(before, item(seq, "of the former"), seq)
        await former.drain(5)
        for seq in (2, 3):
            journal.append(session, item(seq, "of the next"), seq)
        await journal.drain(5)
        assert await bus.call("HMGET", keys.session_state("s1"), "epoch", "seq") == ["2", "3"]
        written = [(entry.epoch, entry.seq) for entry in await entries(bus, keys, "s1")]
        assert written == [(1, 1), (1, 2), (1, 3), (1, 4), (2, 2), (2, 3)]
        assert json.loads(await bus.call("HGET", keys.session_items("s1"), "i3"))["text"] == "of the next"


async def test_ended_sessions_are_kept_for_another_master_up_to_a_size(
    bus: RedisConnection, clock: RedisClock, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "KEPT_CHARS", 5_500)
    journal = new_journal(bus, clock, keys)
    async with running(journal.run()):
        for number in range(10):
            session = SessionRef(f"s{number}", await journal.open(f"s{number}", state={}))
            journal.append(session, item(1, "x" * 1_000), 1)
            await journal.close(session)
    kept = [owned.id for *_, owned in journal._ended]
    assert len(kept) == len(set(kept)) > 1, "each once"
    assert len(kept) < 6
    assert 0 < journal._ended_chars <= 5_500
