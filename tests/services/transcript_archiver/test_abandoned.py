"""When an archiver ends a session that its gateway has left, and when it leaves that to others."""

import contextlib
from types import SimpleNamespace
from typing import Any, cast

import pytest

from support.tasks import running
from support.waiting import wait_until
from voicebus.adapters.database.store import TranscriptStore
from voicebus.adapters.redis.journal import RedisJournal
from voicebus.adapters.redis.takeover import RedisTakeover
from voicebus.contracts.streams import Keys
from voicebus.errors import BusError
from voicebus.ports import Clock
from voicebus_services.transcript_archiver.abandoned import Abandoned
from voicebus_services.transcript_archiver.forgotten import Forgotten

GRACE_S = 2.0


class Archive:
    """One open session of the gateway `g`, as Redis tells of it; `taken` is when this archiver wanted to end it.

    The master of `others` is away.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.told = True
        self.is_reachable = True
        self.looks = 0
        self.state: dict[str, Any] = {"lives_for_ms": 0, "released": False, "ended": False, "seq": 3}
        self.is_known = True
        self.unknown: list[list[str]] = []
        """Of each look those that Redis did not know."""
        self.taken: list[float] = []
        self.others: list[str] = []
        self.abandoned = Abandoned(
            cast("TranscriptStore", self),
            cast("RedisTakeover", self),
            cast("RedisJournal", None),
            cast("Clock", None),
            Keys("tried", event_shards=1),
            lambda: [0],
            forgotten=cast("Forgotten", self),
            is_dead=lambda gateway: self.told and gateway == "g",
            grace_s=GRACE_S,
            on_ended=lambda tenant, session: None,
            monotonic=lambda: self.now,
        )

    async def at(self, *moments: float) -> list[float]:
        for self.now in moments:
            with contextlib.suppress(BusError):
                await self.abandoned.look()
        return self.taken

    # --- TranscriptStore

    async def unfinished(self) -> list[str]:
        return [*self.others, "s"]

    # --- RedisTakeover

    async def look(self, session: str) -> Any:
        self.looks += 1
        if not self.is_reachable or session in self.others:
            raise BusError("away")
        if not self.is_known:
            return None
        return SimpleNamespace(session=session, owner="g", epoch=1, **self.state)

    async def take(self, session: str, epoch: int, *, owner: str) -> None:
        self.taken.append(self.now)  # another one was quicker

    # --- Forgotten

    def begin(self) -> None:
        self.unknown.append([])

    async def see_to(self, session: str) -> None:
        self.unknown[-1].append(session)


@pytest.fixture
def archive() -> Archive:
    return Archive()


async def test_a_session_is_ended_once_its_gateway_has_been_dead_for_the_grace(archive: Archive) -> None:
    assert await archive.at(0.0, 1.0, 1.9) == []
    archive.state["lives_for_ms"] = 100
    assert await archive.at(2.0) == []
    archive.state["lives_for_ms"] = 0
    assert await archive.at(2.1, 4.0) == []
    assert await archive.at(4.1) == [4.1]


async def test_no_gateway_counts_as_dead_while_it_may_be_redis_that_took_no_heartbeats(archive: Archive) -> None:
    archive.told = False
    assert await archive.at(0.0, 1.0, 5.0) == []
    archive.told = True
    assert await archive.at(6.0, 7.9) == []
    archive.told = False
    assert await archive.at(9.0) == []
    archive.told = True
    assert await archive.at(9.1) == [9.1]


async def test_a_session_that_was_given_up_needs_no_heartbeats_for_it(archive: Archive) -> None:
    archive.told = False
    archive.state["released"] = True
    assert await archive.at(0.0, 2.0) == [2.0]


async def test_a_session_whose_master_is_away_keeps_nobody_elses_from_being_ended(archive: Archive) -> None:
    archive.others = ["first"]
    assert await archive.at(0.0, 1.0, 2.0) == [2.0]


async def test_who_could_not_come_back_while_redis_was_away_is_given_the_grace_anew(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voicebus_services.transcript_archiver.abandoned.EVERY_S", 0.01)
    async with running(archive.abandoned.run()):
        await wait_until(lambda: archive.looks >= 2, description="two looks")
        archive.is_reachable = False
        seen = archive.looks
        await wait_until(lambda: archive.looks >= seen + 2, description="two more that find nothing")
        archive.now = 5.0
        archive.is_reachable = True
        seen = archive.looks
        await wait_until(lambda: archive.looks >= seen + 3, description="looks that find the session")
        assert archive.taken == []
        archive.now = 7.0
        await wait_until(lambda: archive.taken, description="the end of the session")


async def test_what_redis_does_not_know_is_seen_to_and_what_it_knows_again_is_not(archive: Archive) -> None:
    archive.is_known = False
    await archive.at(0.0)
    archive.is_known = True
    await archive.at(1.0)
    assert (archive.unknown, archive.taken) == ([["s"], []], [])
