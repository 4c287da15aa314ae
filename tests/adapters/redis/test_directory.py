"""The sessions of the cluster, listed and shown, on a real Redis: as owners write them, in every state."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from support.tasks import running
from voicebus.adapters.redis import directory as module
from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.clock import RedisClock
from voicebus.adapters.redis.directory import Page, SessionDirectory, Status
from voicebus.adapters.redis.journal import RedisJournal
from voicebus.contracts.journal import EventType, SessionEnded
from voicebus.contracts.streams import HEARTBEAT_TTL_S, INDEX_KEPT_S, SESSION_TTL_S, Keys
from voicebus.engine.outputs import Record
from voicebus.ports import SessionRef


@dataclass
class Clock:
    """The time that owners write, in ms."""

    now: int

    def monotonic(self) -> float:
        return self.now / 1000

    def at_ms(self) -> int:
        return self.now


@dataclass
class Owner:
    """Gateway `g1`, which is alive, and opens sessions at the time that its clock tells."""

    bus: RedisConnection
    keys: Keys
    clock: Clock
    journal: RedisJournal
    epochs: dict[str, int] = field(default_factory=dict)

    async def begin(self, session: str, *, tenant: str = "acme", agent: str = "desk", at: int | None = None) -> None:
        self.clock.now = at if at is not None else self.clock.now + 1
        self.epochs[session] = await self.journal.open(session, state={"tenant": tenant, "agent": agent})

    async def end(self, session: str) -> None:
        ended = SessionEnded(reason="hangup", duration_ms=1)
        ref = SessionRef(session, self.epochs[session])
        self.journal.append(ref, Record(1, EventType.SESSION_ENDED, ended), self.clock.at_ms())
        await self.journal.close(ref)

    async def beat(self) -> None:
        await self.bus.call("HSET", self.keys.gateway("g1"), "at", 1)
        await self.bus.call("EXPIRE", self.keys.gateway("g1"), HEARTBEAT_TTL_S)

    async def die(self) -> None:
        await self.bus.call("DEL", self.keys.gateway("g1"))

    async def set(self, session: str, **fields: str | int) -> None:
        flat = [text for pair in fields.items() for text in pair]
        await self.bus.call("HSET", self.keys.session_state(session), *flat)


@pytest.fixture
async def owner(bus: RedisConnection, clock: RedisClock, keys: Keys) -> AsyncIterator[Owner]:
    at = Clock(clock.at_ms())
    journal = RedisJournal(bus, at, keys, owner="g1", on_stale=lambda error: None)
    async with running(journal.run()):
        made = Owner(bus, keys, at, journal)
        await made.beat()
        yield made


@pytest.fixture
def directory(owner: Owner) -> SessionDirectory:
    return SessionDirectory(owner.bus, owner.keys, owner.clock, resume_grace_s=60)


def ids(page: Page) -> list[str]:
    return [one.id for one in page.sessions]


async def pages(directory: SessionDirectory, *, limit: int, tenant: str = "acme") -> list[list[str]]:
    read: list[list[str]] = []
    page = await directory.page(tenant, limit=limit)
    read.append(ids(page))
    while page.after is not None:
        page = await directory.page(tenant, limit=limit, after=page.after)
        read.append(ids(page))
    return read


async def test_a_session_is_shown_as_its_owner_wrote_it(owner: Owner, directory: SessionDirectory) -> None:
    await owner.begin("s1")
    seen = await directory.show("acme", "s1")
    assert seen is not None
    assert (seen.id, seen.agent, seen.status, seen.gateway, seen.seq) == ("s1", "desk", Status.ACTIVE, "g1", 0)
    assert (seen.started_at, seen.ended_at, seen.end_reason) == (owner.clock.now, None, None)
    owner.clock.now += 5
    await owner.end("s1")
    ended = await directory.show("acme", "s1")
    assert ended is not None
    assert (ended.status, ended.ended_at, ended.end_reason, ended.seq) == (
        Status.ENDED, owner.clock.now, "hangup", 1,
    )  # fmt: skip
    assert ended.started_at == seen.started_at


async def test_another_tenants_session_is_neither_shown_nor_listed(owner: Owner, directory: SessionDirectory) -> None:
    await owner.begin("mine")
    await owner.begin("theirs", tenant="other")
    assert await directory.show("acme", "theirs") is None
    assert await directory.show("acme", "none") is None
    assert ids(await directory.page("acme", limit=10)) == ["mine"]
    assert ids(await directory.page("other", limit=10)) == ["theirs"]
    assert ids(await directory.page("nobody", limit=10)) == []


async def test_pages_are_newest_first_and_hold_each_session_once(owner: Owner, directory: SessionDirectory) -> None:
    names = [f"s{number:03}" for number in range(45)]
    for name in names:
        await owner.begin(name)
    read = await pages(directory, limit=10)
    assert [len(page) for page in read] == [10, 10, 10, 10, 5]
    assert [name for page in read for name in page] == names[::-1]
    assert ids(await directory.page("acme", limit=45)) == names[::-1]
    assert (await directory.page("acme", limit=45)).after is None


async def test_sessions_that_begin_meanwhile_move_no_page(owner: Owner, directory: SessionDirectory) -> None:
    for number in range(6):
        await owner.begin(f"s{number}")
    first = await directory.page("acme", limit=3)
    for number in range(6, 20):
        await owner.begin(f"s{number}")
    second = await directory.page("acme", limit=3, after=first.after)
    assert ids(first) + ids(second) == ["s5", "s4", "s3", "s2", "s1", "s0"]
    assert second.after is None


async def test_sessions_of_one_millisecond_are_told_apart(owner: Owner, directory: SessionDirectory) -> None:
    names = [f"s{number:03}" for number in range(60)]
    for name in names:
        await owner.begin(name, at=1_000_000_000_000 + owner.clock.now % 1)
    assert [name for page in await pages(directory, limit=7) for name in page] == names[::-1]


async def test_a_filter_that_few_pass_goes_on_from_page_to_page(
    owner: Owner, directory: SessionDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_EXAMINED", 10)
    for number in range(25):
        await owner.begin(f"s{number:02}", agent="rare" if number == 0 else "desk")

    page = await directory.page("acme", limit=5, wanted=lambda seen: seen.agent == "rare")
    assert (ids(page), page.after is None) == ([], False)
    for _ in range(3):
        page = await directory.page("acme", limit=5, after=page.after, wanted=lambda seen: seen.agent == "rare")
        if page.after is None:
            break
    assert (ids(page), page.after) == (["s00"], None)


async def test_what_a_dead_owner_held_is_idle_while_it_may_be_resumed_and_then_interrupted(
    owner: Owner, directory: SessionDirectory
) -> None:
    await owner.begin("s1")
    await owner.die()
    assert [one.status for one in (await directory.page("acme", limit=1)).sessions] == [Status.IDLE]
    owner.clock.now += 60_000
    assert [one.status for one in (await directory.page("acme", limit=1)).sessions] == [Status.INTERRUPTED]


async def test_a_session_without_a_client_or_without_an_owner_is_idle(
    owner: Owner, directory: SessionDirectory
) -> None:
    for name in ("left", "made"):
        await owner.begin(name)
    await owner.set("left", status="idle")
    await owner.set("made", owner="", status="idle")
    made, left = (await directory.page("acme", limit=2)).sessions
    assert (left.status, left.gateway) == (Status.IDLE, "g1")
    assert (made.status, made.gateway) == (Status.IDLE, None)


async def test_another_owner_changes_neither_when_it_began_nor_its_place(
    owner: Owner, directory: SessionDirectory
) -> None:
    await owner.begin("s1")
    began = owner.clock.now
    await owner.begin("s2")
    await owner.begin("s1")
    assert owner.epochs["s1"] == 2
    page = await directory.page("acme", limit=5)
    assert ids(page) == ["s2", "s1"]
    assert page.sessions[1].started_at == began


async def test_the_index_ends_with_what_it_lists(owner: Owner, directory: SessionDirectory) -> None:
    index = owner.keys.sessions(owner.keys.event_shard("s1"), "acme")
    await owner.begin("s1", at=1_000_000_000_000)
    assert SESSION_TTL_S < int(await owner.bus.call("TTL", index)) <= INDEX_KEPT_S
    same_shard = next(
        name for name in (f"t{n}" for n in range(1000)) if owner.keys.event_shard(name) == owner.keys.event_shard("s1")
    )
    await owner.begin(same_shard, at=1_000_000_000_000 + INDEX_KEPT_S * 1000 + 1)
    assert await owner.bus.call("ZRANGE", index, 0, -1) == [same_shard]
    await owner.bus.call("DEL", owner.keys.session_state(same_shard))
    assert ids(await directory.page("acme", limit=5)) == []


async def test_a_session_that_redis_forgot_is_listed_again_with_its_next_record(
    owner: Owner, directory: SessionDirectory
) -> None:
    await owner.begin("s1")
    shard = owner.keys.event_shard("s1")
    await owner.bus.call("DEL", owner.keys.session_state("s1"), owner.keys.sessions(shard, "acme"))
    assert await directory.show("acme", "s1") is None
    began = owner.clock.now
    owner.clock.now += 1000
    await owner.end("s1")
    (seen,) = (await directory.page("acme", limit=5)).sessions
    assert (seen.id, seen.status, seen.started_at) == ("s1", Status.ENDED, began)
