"""What a session's former owner has left on the way."""

import asyncio
from collections.abc import Mapping

import pytest

from support.waiting import wait_until
from voicebus.adapters.redis import former
from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.former import FormerInboxes, in_hand
from voicebus.adapters.redis.gateway_calls import GatewayCalls
from voicebus.contracts.envelope import Entry
from voicebus.contracts.streams import Keys


def entry(session: str, call_id: str, *, type_: str = "tool.call", deadline: int | None = None) -> list[str]:
    made = Entry(
        id=f"{session}-{call_id}", type=type_, session=session, epoch=1, at=1, deadline=deadline,
        data={"call_id": call_id},
    )  # fmt: skip
    return [text for pair in made.fields().items() for text in pair]


async def write(bus: RedisConnection, stream: str, fields: list[str]) -> None:
    await bus.call("XADD", stream, "*", *fields)
    await bus.call("EXPIRE", stream, 60)


async def check_following(bus: RedisConnection, keys: Keys) -> None:
    """What was there and what comes is brought, of the sessions that are followed; shared with the topologies."""
    got: list[str] = []

    async def late(fields: Mapping[str, str]) -> None:
        got.append(Entry.parse(fields).data["call_id"])

    stream, inboxes = keys.inbox("gone"), FormerInboxes(bus, keys, late)
    await write(bus, stream, entry("s1", "before"))
    await write(bus, stream, entry("s2", "of another"))
    try:
        inboxes.follow("gone", "s1")
        await wait_until(lambda: got == ["before"], description="what was there")
        await write(bus, stream, entry("s1", "after"))
        await wait_until(lambda: got == ["before", "after"], description="what came")
        inboxes.follow("gone", "s2")
        await wait_until(lambda: "of another" in got, description="what was there for the next session")
    finally:
        await inboxes.aclose()


async def check_in_hand(bus: RedisConnection, keys: Keys) -> None:
    """Calls that stand in their queue without a claim; shared with the topologies."""
    for queue, session, call_id in (("q", "s", "waits"), ("q", "s", "claimed"), ("q", "x", "absent"), ("r", "s", "r1")):
        await write(bus, keys.tools(queue), entry(session, call_id, deadline=77 if call_id == "waits" else None))
    claim = keys.call("q", "s", "claimed")
    await bus.call("HSET", claim, "state", "running")
    await bus.call("EXPIRE", claim, 60)
    calls = [("waits", "q"), ("claimed", "q"), ("absent", "q"), ("r1", "r"), ("never", "nowhere")]
    assert await in_hand(bus, keys, "s", calls) == {"waits": 77, "r1": 0}


async def check_calls(bus: RedisConnection, keys: Keys) -> None:
    """The calls of gateways; shared with the topologies."""
    ours, theirs = GatewayCalls(bus, keys, "me"), GatewayCalls(bus, keys, "other")
    await ours.add("c1")
    await ours.add("c2")
    ours.remove("c1")
    await bus.call("ZADD", keys.gateways, 1, "me", 1, "other")
    await bus.call("EXPIRE", keys.gateways, 60)
    assert await theirs.of("me") == ["c2"]
    assert await theirs.others() == ["me"]
    assert await theirs.standing("me") == (0, False)
    await bus.call("HSET", keys.gateway("me"), "draining", "1")
    await bus.call("EXPIRE", keys.gateway("me"), 5)
    lives_ms, stops = await theirs.standing("me")
    assert (lives_ms > 2000, stops) == (True, True)


def is_read() -> bool:
    return any(task.get_name() == "former-inbox-gone" for task in asyncio.all_tasks())


async def test_answers_that_are_on_their_way_to_a_former_owner_are_brought(bus: RedisConnection, keys: Keys) -> None:
    await check_following(bus, keys)


async def test_a_call_in_its_queue_that_nobody_has_claimed_is_in_hand(bus: RedisConnection, keys: Keys) -> None:
    await check_in_hand(bus, keys)


async def test_a_gateways_calls_are_known_to_the_others(bus: RedisConnection, keys: Keys) -> None:
    await check_calls(bus, keys)


async def test_an_inbox_is_read_no_longer_than_it_is_of_use(
    bus: RedisConnection, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(former, "LATE_S", 0.0)
    monkeypatch.setattr(former, "_POLL_S", 0.01)

    async def late(_: Mapping[str, str]) -> None:
        raise AssertionError("nothing was written")

    FormerInboxes(bus, keys, late).follow("gone", "s", for_s=0.05)
    assert is_read()
    await wait_until(lambda: not is_read(), description="the reader to end")
