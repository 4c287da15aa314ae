"""Room for sessions: slots of one gateway, and counts over all of them in a real Redis."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from support.waiting import wait_until
from voicebus.adapters.redis.client import RedisConnection, connect
from voicebus.contracts.streams import Keys
from voicebus_services.access.principal import Kind, Limits, Principal
from voicebus_services.gateway import admission
from voicebus_services.gateway.admission import Admission, Rules, Ticket
from voicebus_services.http import ProblemError

ACME = Principal("acme", "k1", Kind.API_KEY)
Another = Callable[..., Admission]


@pytest.fixture
async def bus(redis_url: str) -> AsyncIterator[RedisConnection]:
    async with await connect(redis_url) as connection:
        yield connection


@pytest.fixture
def gateway(bus: RedisConnection, stream_prefix: str) -> Another:
    """Another gateway's admission, of the same cluster."""
    return lambda **rules: Admission(bus, Keys(stream_prefix), Rules(**{"slots": 100, **rules}))


async def refused(asked: Admission, principal: Principal = ACME) -> tuple[int, str]:
    with pytest.raises(ProblemError) as problem:
        await asked.admit(principal)
    assert int(problem.value.headers["Retry-After"]) >= 1
    assert ("Connection" in problem.value.headers) == (problem.value.code in ("full", "draining"))
    return problem.value.status, problem.value.code


async def test_exactly_as_many_slots_are_given_as_there_are_however_many_ask_at_once(gateway: Another) -> None:
    asked = gateway(slots=20)
    answers = await asyncio.gather(*(asked.admit(ACME) for _ in range(50)), return_exceptions=True)
    tickets = [answer for answer in answers if isinstance(answer, Ticket)]
    assert (len(tickets), asked.free) == (20, 0)
    assert {answer.code for answer in answers if isinstance(answer, ProblemError)} == {"full"}
    tickets[0].release()
    tickets[0].release()
    assert asked.free == 1
    await asked.admit(ACME)


async def test_a_tenants_sessions_are_counted_over_all_gateways(gateway: Another) -> None:
    one, other = gateway(tenant_sessions=3), gateway(tenant_sessions=3)
    tickets = [await one.admit(ACME), await other.admit(replace(ACME, key_id="k2")), await one.admit(ACME)]
    assert await refused(other) == (429, "too_many_sessions")
    assert (one.free, other.free) == (98, 99)
    await other.admit(replace(ACME, tenant="other"))
    tickets[0].release()
    await other.admit(ACME)


async def test_at_once_over_two_gateways_a_key_gets_exactly_its_sessions(gateway: Another) -> None:
    limited = replace(ACME, limits=Limits(sessions=7))
    both = [gateway(key_sessions=50), gateway(key_sessions=50)]
    answers = await asyncio.gather(*(both[n % 2].admit(limited) for n in range(40)), return_exceptions=True)
    assert sum(isinstance(answer, Ticket) for answer in answers) == 7
    # Another key of the same tenant has the installation's limit.
    await both[0].admit(replace(ACME, key_id="k2"))


async def test_a_secrets_sessions_count_for_it_and_for_the_key_that_minted_it(gateway: Another) -> None:
    asked = gateway()
    secret = replace(ACME, kind=Kind.CLIENT_SECRET, secret_id="s1", key_sessions=3, limits=Limits(sessions=1))
    key = replace(ACME, limits=Limits(sessions=3))
    await asked.admit(key)
    await asked.admit(secret)
    assert await refused(asked, secret) == (429, "too_many_sessions")
    await asked.admit(replace(secret, secret_id="s2"))
    for full in (key, replace(secret, secret_id="s3")):
        assert await refused(asked, full) == (429, "too_many_sessions")


async def test_what_a_dead_gateway_held_stops_counting_and_what_a_living_one_holds_does_not(
    gateway: Another, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "LEASE_MS", 300)
    dead, living = gateway(tenant_sessions=2), gateway(tenant_sessions=2)
    await dead.admit(ACME)
    await living.admit(ACME)

    async def room() -> bool:
        await living.renew()
        try:
            await living.admit(ACME)
        except ProblemError:
            return False
        return True

    await wait_until(room, description="the dead gateway's lease to end")
    assert await refused(living) == (429, "too_many_sessions")


async def test_connections_beyond_the_rate_are_refused_and_told_when_to_come_back(gateway: Another) -> None:
    limited = replace(ACME, limits=Limits(connections_per_minute=5))
    one, other = gateway(), gateway()
    for asked in (one, other, one, other, one):
        (await asked.admit(limited)).release()
    assert await refused(other, limited) == (429, "too_many_connections")
    assert other.free == 100
    await other.admit(replace(ACME, key_id="k2"))


async def test_what_is_of_a_time_before_the_servers_clock_was_set_back_keeps_nobody_out(
    gateway: Another, bus: RedisConnection, stream_prefix: str
) -> None:
    asked = gateway(tenant_sessions=1, connections_per_minute=1)
    await asked.admit(ACME)
    assert (await refused(asked))[1] == "too_many_connections"
    seconds, _ = await bus.call("TIME")
    later = int(seconds) * 1000 + 3_600_000
    known = await bus.call("KEYS", f"{stream_prefix}:*")
    (bucket,) = (key for key in known if ":connections:" in key)
    await bus.call("HSET", bucket, "at", later)
    assert (await refused(asked))[1] == "too_many_sessions"
    (held,) = (key for key in known if key.endswith(":sessions"))
    await bus.call("DEL", bucket)
    await bus.call("ZADD", held, later, *(await bus.call("ZRANGE", held, 0, -1)))
    await asked.admit(ACME)


async def test_a_secrets_rate_is_its_own_and_the_keys_rate_counts_for_all_of_its_secrets(gateway: Another) -> None:
    asked = gateway()
    key = replace(ACME, limits=Limits(connections_per_minute=5))
    slow = replace(
        ACME, kind=Kind.CLIENT_SECRET, secret_id="s1", key_connections=5, limits=Limits(connections_per_minute=1)
    )
    await asked.admit(slow)
    assert await refused(asked, slow) == (429, "too_many_connections")
    for principal in (key, replace(slow, secret_id="s2"), key, key):
        await asked.admit(principal)
    for principal in (key, replace(slow, secret_id="s3")):
        assert await refused(asked, principal) == (429, "too_many_connections")


async def test_who_is_being_counted_when_a_drain_begins_is_not_admitted(gateway: Another) -> None:
    asked = gateway()
    entering = asyncio.create_task(refused(asked))
    await asyncio.sleep(0)
    assert asked.free == 99, "it waits for Redis, with a slot"
    asked.close()
    assert await entering == (503, "draining")


async def test_once_closed_nobody_is_admitted(gateway: Another) -> None:
    asked = gateway()
    asked.close()
    assert (await refused(asked), asked.free) == ((503, "draining"), 0)


async def test_whether_there_is_room_is_told_when_it_changes(bus: RedisConnection, stream_prefix: str) -> None:
    told: list[bool] = []
    asked = Admission(bus, Keys(stream_prefix), Rules(slots=2), on_change=told.append)
    first, second = await asked.admit(ACME), await asked.admit(ACME)
    assert told == [False]
    first.release()
    assert told == [False, True]
    second.release()
    assert told == [False, True]


async def test_without_redis_nobody_is_admitted_and_no_slot_is_lost(redis_url: str, stream_prefix: str) -> None:
    async with await connect(redis_url) as connection:
        asked = Admission(connection, Keys(stream_prefix), Rules(slots=1))
    assert await refused(asked) == (503, "session_unavailable")
    assert asked.free == 1
