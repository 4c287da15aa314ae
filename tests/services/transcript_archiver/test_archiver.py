"""The archiver on a real Redis: nothing lost, nothing twice, whatever fails."""

import asyncio
import json
from collections.abc import Collection, Sequence

import pytest
from msgspec.structs import replace

from services.transcript_archiver.conftest import Bus, StartArchiver
from support.recorded import conversation, ended, entry, recorded, said, started
from support.servers import PostgresServer, RedisServer
from support.waiting import wait_until
from voicebus.adapters.database import migrate
from voicebus.adapters.database.ingest import Written
from voicebus.adapters.database.lines import Claim, RecordedEvent
from voicebus.adapters.database.store import TranscriptStore
from voicebus.adapters.redis import portions
from voicebus.adapters.redis.client import connect
from voicebus.adapters.redis.portions import FIRST
from voicebus.contracts.streams import ARCHIVER_GROUP, Keys
from voicebus.telemetry import metrics
from voicebus_services.transcript_archiver.shards import EventShards


async def words(store: TranscriptStore, session: str) -> list[str | None]:
    transcript = await store.transcript(session, tenant="local")
    return [item.text or item.output for item in transcript.items] if transcript else []


WORDS = ["What is the weather in Paris?", "sunny", "It is sunny in Paris.", "Thanks, bye."]


async def test_recorded_events_become_a_transcript_and_are_acknowledged(
    bus: Bus, store: TranscriptStore, start_archiver: StartArchiver
) -> None:
    await bus.record(*conversation("before the archiver started"))
    async with start_archiver() as running:
        await bus.record(*conversation("after"))
        await wait_until(lambda: running.health.ready, description="readiness")
        await bus.wait_idle()
        assert await words(store, "before the archiver started") == WORDS
        assert await words(store, "after") == WORDS


async def test_an_entry_on_the_stream_twice_is_one_line(
    bus: Bus, store: TranscriptStore, start_archiver: StartArchiver
) -> None:
    async with start_archiver():
        for _ in range(3):
            await bus.record(*conversation("s1"))
        await bus.wait_idle()
        assert await words(store, "s1") == WORDS


async def test_a_stream_that_cannot_be_trimmed_keeps_no_other_from_it(
    bus: Bus, start_archiver: StartArchiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voicebus_services.transcript_archiver.archiver.UPKEEP_S", 0.05)
    sessions = {bus.keys.event_shard(f"s{number}"): f"s{number}" for number in range(50)}
    await bus.connection.call("SET", bus.keys.events(0), "no stream")
    others = [shard for shard in sessions if shard]
    for shard in others:
        await bus.record(*conversation(sessions[shard]))

    async def are_trimmed() -> bool:
        return all([await bus.connection.call("XLEN", bus.keys.events(shard)) == 1 for shard in others])  # the last one

    async with start_archiver():
        await wait_until(are_trimmed, description="what was archived to be gone")


class StopsBeforeCommit(TranscriptStore):
    async def write(self, batch: Sequence[RecordedEvent], *, kept: Collection[Claim] = ()) -> Written:
        await asyncio.Event().wait()
        raise AssertionError


class StopsAfterCommit(TranscriptStore):
    async def write(self, batch: Sequence[RecordedEvent], *, kept: Collection[Claim] = ()) -> Written:
        await super().write(batch, kept=kept)
        await asyncio.Event().wait()
        raise AssertionError


@pytest.mark.parametrize(("doomed", "kept"), [(StopsBeforeCommit, []), (StopsAfterCommit, WORDS)])
async def test_what_a_killed_archiver_had_not_acknowledged_is_archived_by_the_next(
    bus: Bus,
    store: TranscriptStore,
    database: str,
    start_archiver: StartArchiver,
    doomed: type[TranscriptStore],
    kept: list[str],
) -> None:
    await bus.record(*conversation("s1"))
    async with doomed(database) as first_store, start_archiver("first", on=first_store) as first:
        await wait_until(bus.pending, description="the entries to be delivered")
        if kept:
            await wait_until(lambda: store.transcript("s1", tenant="local"), description="the commit")
        await first.kill()
        assert await words(store, "s1") == kept
        assert await bus.pending() == 8, "nothing is acknowledged before its commit is known"
    async with start_archiver("second"):
        await bus.wait_idle()
        assert await words(store, "s1") == WORDS


async def test_of_a_backlog_of_large_events_a_few_at_a_time_are_in_hand(
    bus: Bus, store: TranscriptStore, database: str, start_archiver: StartArchiver
) -> None:
    sessions = [f"s{number}" for number in range(16)]
    large = "x" * 262_144
    for session in sessions:
        await bus.record(*(replace(event, data={**event.data, "more": large}) for event in conversation(session)))
    for name in ("first", "killed for its memory"):
        async with StopsBeforeCommit(database) as full_store, start_archiver(name, on=full_store) as archiver:
            await wait_until(lambda: len(archiver.archiver.shards) == 4, description="every shard to be read")
            await wait_until(bus.pending, description="entries to be delivered")
            await archiver.kill()
        assert await bus.pending() <= 4 * FIRST
    async with start_archiver("last"):
        await bus.wait_idle()
    for session in sessions:
        assert await words(store, session) == WORDS


async def test_two_archivers_share_the_shards_and_each_line_arrives_once(
    bus: Bus, store: TranscriptStore, start_archiver: StartArchiver
) -> None:
    sessions = [f"s{number}" for number in range(40)]
    async with start_archiver("first") as first:
        await wait_until(lambda: len(first.archiver.shards) == 4, description="the only archiver to read every shard")
        async with start_archiver("second") as second:
            await bus.record(*(event for session in sessions for event in conversation(session)))

            def shared() -> bool:
                return len(first.archiver.shards) == 2 and len(second.archiver.shards) == 2

            await wait_until(shared, description="two shards each")
            assert {*first.archiver.shards, *second.archiver.shards} == {0, 1, 2, 3}
            await bus.record(*(event for session in sessions for event in conversation(f"late {session}")))
            await bus.wait_idle()
    for session in sessions:
        assert await words(store, session) == WORDS
        assert await words(store, f"late {session}") == WORDS
    assert await bus.dead_letters() == []


async def test_an_archiver_that_stops_gives_its_shards_up_at_once(bus: Bus, start_archiver: StartArchiver) -> None:
    async with start_archiver("first") as first:
        await wait_until(lambda: len(first.archiver.shards) == 4, description="every shard to be read")
        await first.stop()
        assert first.health.draining
        leases = [bus.keys.archiver_lease(shard) for shard in range(4)]
        assert await bus.connection.call("EXISTS", *leases, bus.keys.archivers) == 0


async def test_stopping_finishes_the_batch_in_hand(
    bus: Bus, store: TranscriptStore, database: str, start_archiver: StartArchiver
) -> None:
    writing, go_on = asyncio.Event(), asyncio.Event()

    class Slow(TranscriptStore):
        async def write(self, batch: Sequence[RecordedEvent], *, kept: Collection[Claim] = ()) -> Written:
            writing.set()
            await go_on.wait()
            return await super().write(batch, kept=kept)

    await bus.record(*conversation("s1"))
    async with Slow(database) as slow, start_archiver(on=slow) as running:
        await writing.wait()
        stopping = asyncio.create_task(running.stop())
        await wait_until(lambda: running.health.draining, description="the drain to begin")
        go_on.set()
        await stopping
    assert await bus.idle()
    assert await words(store, "s1") == WORDS


async def test_a_drain_that_cannot_finish_ends_and_leaves_the_entries_to_the_next(
    bus: Bus, database: str, start_archiver: StartArchiver
) -> None:
    await bus.record(*conversation("s1"))
    async with StopsBeforeCommit(database) as stuck, start_archiver(on=stuck, drain_s=0.2) as running:
        await wait_until(bus.pending, description="the entries to be delivered")
        await running.stop()
    assert await bus.pending() == 8


async def test_what_cannot_be_understood_goes_to_the_dead_letters_and_holds_up_nothing(
    bus: Bus, store: TranscriptStore, start_archiver: StartArchiver
) -> None:
    shard = bus.keys.event_shard("s1")
    before = metrics.MESSAGES_DEADLETTERED.labels(service="transcript-archiver", reason="malformed")._value.get()
    newer = started("s1").fields() | {"v": "2", "future": "kept"}
    newer_id = await bus.add(shard, newer)
    await bus.add(shard, {"what": "is this"})
    await bus.record(
        entry("s1", 2, "item_recorded", {"role": "user"}),
        entry("s1", None, "session_started", {}),
        entry("s1", 2**40, "session_started", {}),
        said("s1", 3, "user", "Hello", start=10),
    )
    async with start_archiver():
        await bus.wait_idle()
        assert await words(store, "s1") == ["Hello"]
    letters = await bus.dead_letters()
    assert [letter["reason"] for letter in letters] == ["unsupported_version"] + 4 * ["malformed"]
    origin = f"{bus.keys.events(shard)}/{newer_id}"
    assert newer | {"reason": "unsupported_version", "deliveries": "1", "origin": origin} == {
        name: value for name, value in letters[0].items() if name != "error"
    }
    after = metrics.MESSAGES_DEADLETTERED.labels(service="transcript-archiver", reason="malformed")._value.get()
    assert after - before == 4


async def test_what_the_database_refuses_goes_to_the_dead_letters_and_holds_up_nothing(
    bus: Bus, store: TranscriptStore, start_archiver: StartArchiver
) -> None:
    events = conversation("s1")
    events[2] = said("s1", 3, "user", "far away", start=10**30)
    await bus.record(*events)
    async with start_archiver():
        await bus.wait_idle()
        assert await words(store, "s1") == WORDS[1:]
    assert [(letter["reason"], letter["seq"]) for letter in await bus.dead_letters()] == [("rejected_by_database", "3")]
    transcript = await store.transcript("s1", tenant="local")
    assert transcript is not None
    assert transcript.gaps == [(3, 3)]


async def test_of_two_events_with_one_seq_and_epoch_one_is_archived_and_the_other_a_dead_letter(
    bus: Bus, store: TranscriptStore, start_archiver: StartArchiver
) -> None:
    events = conversation("s1")
    rival = said("s1", 3, "user", "Of another owner", start=100)
    await bus.record(*events)
    async with start_archiver():
        await bus.wait_idle()
        await bus.record(replace(rival, at=rival.at + 7), *events)
        await bus.wait_idle()
        assert await words(store, "s1") == WORDS
    letters = [(letter["reason"], letter["seq"], letter["text"]) for letter in map(flat, await bus.dead_letters())]
    assert letters == [("seq_taken", "3", "Of another owner")]


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
async def test_what_a_former_owner_wrote_beside_the_next_one_is_a_dead_letter_and_in_no_transcript(
    bus: Bus, empty_database: str, start_archiver: StartArchiver, late: bool
) -> None:
    """It came `late`, or had been archived."""
    migrate.upgrade(empty_database)
    shared, beside = conversation("s1")[:5], conversation("s1")[5:]
    beside[1] = said("s1", 7, "user", "Of the former owner", start=1900)
    resumed = entry("s1", 6, "session_resumed", {"agent": "front_desk", "from_seq": 5})
    goes_on = [resumed, said("s1", 7, "user", "Thanks, bye.", start=1900), ended("s1", 8, "idle_time")]
    following = [replace(event, epoch=2, at=event.at + 50) for event in goes_on]
    async with TranscriptStore(empty_database) as store, start_archiver(on=store):
        for events in (shared, following, beside) if late else (shared, beside, following):
            await bus.record(*events)
            await bus.wait_idle()
        transcript = await store.transcript("s1", tenant="local")
        assert await words(store, "s1") == WORDS
        assert transcript is not None
        assert (transcript.end_reason, transcript.last_seq, transcript.gaps) == ("idle_time", 8, [])
    letters = [flat(letter) for letter in await bus.dead_letters()]
    assert [(letter["reason"], letter["seq"], letter["epoch"]) for letter in letters] == [
        ("outdated_owner", seq, "1") for seq in ("6", "7", "8")
    ]
    assert letters[1]["text"] == "Of the former owner"


async def test_what_is_to_go_stays_archived_while_it_cannot_become_a_dead_letter(
    bus: Bus, store: TranscriptStore, start_archiver: StartArchiver
) -> None:
    later = replace(entry("s1", 6, "session_resumed", {"agent": "front_desk", "from_seq": 5}), epoch=2)
    await bus.record(*conversation("s1"))
    async with start_archiver():
        await bus.wait_idle()
        # A dead letter is refused, and nothing else is.
        await bus.connection.call("SET", bus.keys.dead("events"), "in the way")
        kept = metrics.MESSAGES_DEADLETTERED.labels(service="transcript-archiver", reason="outdated_owner")
        before = kept._value.get()
        await bus.record(later)
        await wait_until(bus.pending, description="it to be delivered")
        assert await words(store, "s1") == WORDS
        await bus.connection.call("DEL", bus.keys.dead("events"))
        await bus.wait_idle()
        assert await words(store, "s1") == WORDS[:-1]
        assert kept._value.get() - before == 3
    assert [letter["seq"] for letter in await bus.dead_letters()] == ["6", "7", "8"]


def flat(letter: dict[str, str]) -> dict[str, str]:
    return {**json.loads(letter["data"]), **letter}


async def test_a_database_outage_loses_nothing(bus: Bus, start_archiver: StartArchiver) -> None:
    with PostgresServer() as server:
        migrate.upgrade(server.url)
        async with TranscriptStore(server.url) as store, start_archiver(on=store) as running:
            await bus.record(*conversation("before"))
            await bus.wait_idle()
            server.kill()
            await bus.record(*(event for number in range(10) for event in conversation(f"during-{number}")))
            await wait_until(lambda: not running.health.ready, description="readiness to be withdrawn")
            assert await bus.unfinished() == 80, "nothing is acknowledged while nothing is stored"
            server.start()
            await bus.record(*conversation("after"))
            await bus.wait_idle()
            await wait_until(lambda: running.health.ready, description="readiness")
            for session in ("before", *(f"during-{number}" for number in range(10)), "after"):
                assert await words(store, session) == WORDS


async def test_a_restart_of_redis_loses_nothing(
    store: TranscriptStore, start_archiver: StartArchiver, bus: Bus
) -> None:
    disruptions = metrics.REDIS_DISRUPTIONS.labels(service="transcript-archiver")
    before = disruptions._value.get()
    with RedisServer(persistent=True) as server:
        async with start_archiver(url=server.url) as running:
            await wait_until(lambda: running.health.ready, description="readiness")
            async with await connect(server.url) as connection:
                await Bus(connection, bus.keys).record(*conversation("before"))
            server.stop()
            await wait_until(lambda: not running.health.ready, description="readiness to be withdrawn")
            server.start()
            async with await connect(server.url) as connection:
                own = Bus(connection, bus.keys)
                await own.record(*conversation("after"))
                await wait_until(lambda: running.health.ready, description="readiness")
                await own.wait_idle()
            assert await words(store, "before") == await words(store, "after") == WORDS
    assert disruptions._value.get() - before >= 1


async def test_a_redis_that_forgot_everything_gets_its_groups_again(
    store: TranscriptStore, start_archiver: StartArchiver, bus: Bus
) -> None:
    async with start_archiver():
        await bus.record(*conversation("before"))
        await bus.wait_idle()
        for shard in range(4):
            await bus.connection.call("DEL", bus.keys.events(shard))
        await bus.record(*conversation("after"))

        async def archived() -> bool:
            return await words(store, "after") == WORDS

        await wait_until(archived, description="what was recorded since to be archived", timeout=20)


async def shards_of(bus: Bus, name: str) -> EventShards:
    shards = EventShards(bus.connection, bus.keys, name)
    for shard in range(4):
        await shards.create_group(shard)
    return shards


async def test_while_more_than_its_share_is_in_hand_of_one_shard_no_other_asks_for_many(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portions, "ALL_BYTES", 4_000)
    monkeypatch.setattr(portions, "LEAST_BYTES", 1)
    shards = await shards_of(bus, "me")
    for shard in (0, 1):
        for text in ["small"] * 3 * FIRST + ["x" * 1_000] * 3:
            await bus.add(shard, {"n": text})
        assert len(await shards.read(shard)) == FIRST
    entered: list[int] = []

    async def other() -> None:
        async with shards.turn(1):
            entered.append(1)

    async with shards.turn(0):
        assert len(await shards.read(0)) == 2 * FIRST
        await other()
        assert entered == [1], "small ones keep nobody waiting"
    async with asyncio.TaskGroup() as tasks:
        async with shards.turn(0):
            assert len(await shards.read(0)) == 3
            tasks.create_task(other())
            await asyncio.sleep(0)
            assert entered == [1]
    assert entered == [1, 1]


async def test_dead_consumers_are_forgotten_but_never_with_work(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voicebus_services.transcript_archiver.shards.CONSUMER_IDLE_MS", -1)
    stream = bus.keys.events(0)
    idle, busy, me = [await shards_of(bus, name) for name in ("idle", "busy", "me")]
    await bus.add(0, {"n": "1"})
    await idle.acknowledge(await idle.read(0))
    await bus.add(0, {"n": "2"})
    await busy.read(0)
    await me.forget_dead_consumers(0)
    consumers = await bus.connection.call("XINFO CONSUMERS", stream, ARCHIVER_GROUP)
    assert [consumer["name"] for consumer in consumers] == ["busy"]


async def test_more_archivers_than_shards_is_no_trouble(
    redis_url: str, bus: Bus, store: TranscriptStore, start_archiver: StartArchiver
) -> None:
    assert bus.keys == Keys(bus.keys.prefix, event_shards=4)
    async with (
        start_archiver("a") as a, start_archiver("b") as b, start_archiver("c") as c,
        start_archiver("d") as d, start_archiver("e") as e,
    ):  # fmt: skip

        def shared() -> bool:
            return sorted(len(one.archiver.shards) for one in (a, b, c, d, e)) == [0, 1, 1, 1, 1]

        await wait_until(shared, description="a shard each, and none for the last", timeout=20)
        await bus.record(*conversation("s1"))
        await bus.wait_idle()
    assert await words(store, "s1") == WORDS
    assert len(recorded(*conversation("s1"))) == 8
