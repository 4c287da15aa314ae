"""Sessions of which Redis has lost everything together with their gateway: ended in the archive, never too soon."""

import pytest

from services.transcript_archiver.conftest import Bus, StartArchiver
from support.recorded import conversation, ended, said, started
from voicebus.adapters.database.store import TranscriptStore
from voicebus.adapters.database.transcripts import Transcript
from voicebus.contracts.streams import ARCHIVER_GROUP
from voicebus_services.transcript_archiver.forgotten import PATIENCE_S, Forgotten


class Looks:
    """Looks at `s1`, which is open in the archive, at moments (s) of its own; `told` is who was ended."""

    def __init__(self, bus: Bus, store: TranscriptStore) -> None:
        self.now = 0.0
        self.told: list[tuple[str, str]] = []
        self._store = store
        self.forgotten = Forgotten(
            store, bus.connection, bus.keys, grace_s=1.0,
            on_ended=lambda tenant, session: self.told.append((tenant, session)), monotonic=lambda: self.now,
        )  # fmt: skip

    async def at(self, *moments: float) -> Transcript:
        for self.now in moments:
            self.forgotten.begin()
            await self.forgotten.see_to("s1")
        found = await self._store.transcript("s1", tenant="local")
        assert found is not None
        return found


@pytest.fixture
def looks(bus: Bus, store: TranscriptStore) -> Looks:
    return Looks(bus, store)


async def archive_the_beginning(bus: Bus, start_archiver: StartArchiver) -> None:
    await bus.record(started("s1", at=1_000_000), said("s1", 2, "user", "Hello", start=10))
    async with start_archiver():
        await bus.wait_idle()


async def test_a_session_that_redis_has_lost_is_ended_where_it_was_heard_of_last(
    bus: Bus, start_archiver: StartArchiver, looks: Looks
) -> None:
    await archive_the_beginning(bus, start_archiver)
    assert (await looks.at(0.0, PATIENCE_S - 0.1)).status == "active"
    found = await looks.at(PATIENCE_S)
    assert (found.status, found.end_reason, found.last_seq, found.gaps) == ("interrupted", "interrupted", 3, [])
    assert looks.told == [("local", "s1")]


async def test_what_redis_knows_again_meanwhile_begins_anew(
    bus: Bus, start_archiver: StartArchiver, looks: Looks
) -> None:
    await archive_the_beginning(bus, start_archiver)
    await looks.at(0.0)
    looks.forgotten.begin()
    assert (await looks.at(PATIENCE_S, 2 * PATIENCE_S - 0.1)).status == "active"
    assert (await looks.at(2 * PATIENCE_S)).status == "interrupted"


async def test_a_session_whose_end_waits_in_its_shard_is_not_ended_before_it_is_read(
    bus: Bus, start_archiver: StartArchiver, looks: Looks
) -> None:
    await archive_the_beginning(bus, start_archiver)
    await bus.record(said("s1", 3, "assistant", "Bye", start=20), ended("s1", 4))
    assert (await looks.at(0.0, 2 * PATIENCE_S)).status == "active"
    stream = bus.keys.events(bus.keys.event_shard("s1"))
    await bus.connection.call("XREADGROUP", "GROUP", ARCHIVER_GROUP, "slow", "COUNT", 10, "STREAMS", stream, ">")
    assert (await looks.at(3 * PATIENCE_S)).status == "active", "delivered is not stored"
    async with start_archiver():
        await bus.wait_idle()
    found = await looks.at(4 * PATIENCE_S)
    assert (found.status, found.end_reason, found.last_seq) == ("ended", "hangup", 4)


async def test_a_session_with_a_gap_waits_for_what_is_found_of_it(
    bus: Bus, store: TranscriptStore, start_archiver: StartArchiver, looks: Looks
) -> None:
    await bus.record(*conversation("s1")[:2], *conversation("s1")[3:5])
    async with start_archiver():
        await bus.wait_idle()
    assert await store.with_gaps() == ["s1"]
    assert (await looks.at(0.0, 2 * PATIENCE_S)).status == "active"
