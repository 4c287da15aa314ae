"""Short-lived secrets, in a real Redis."""

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from support.waiting import wait_until
from voicebus.adapters.redis.client import RedisConnection, connect
from voicebus.adapters.redis.clock import RedisClock
from voicebus.contracts.streams import Keys
from voicebus_services.access.authenticator import Authenticator, Presented
from voicebus_services.access.client_secrets import ClientSecrets
from voicebus_services.access.keystore import KeyStore
from voicebus_services.access.principal import Kind, Limits, Principal
from voicebus_services.http import ProblemError

ACME = Principal("acme", "acme:1", Kind.API_KEY, limits=Limits(sessions=3))


@pytest.fixture
async def bus(redis_url: str) -> AsyncIterator[RedisConnection]:
    async with await connect(redis_url) as connection:
        yield connection


@pytest.fixture
async def secrets(bus: RedisConnection, stream_prefix: str) -> ClientSecrets:
    clock = RedisClock(bus)
    await clock.synchronise()
    return ClientSecrets(bus, Keys(stream_prefix), clock)


async def test_a_secret_opens_its_agent_within_its_limits_and_the_minters(secrets: ClientSecrets) -> None:
    minted = await secrets.mint(
        ACME, agent="desk", limits=Limits(sessions=9, idle_time=60), seconds=10, session={"include": []}
    )
    assert minted.value.startswith("ek_")
    for _ in range(2):  # several sessions, as with the provider's
        found = await secrets.find(minted.value)
        assert found is not None
        principal = found.principal
        assert (principal.tenant, principal.key_id, principal.kind) == ("acme", "acme:1", Kind.CLIENT_SECRET)
        assert (principal.agents, principal.session) == (frozenset({"desk"}), {"include": []})
        assert principal.limits == Limits(sessions=3, idle_time=60)
    assert await secrets.find("ek_another") is None


async def test_redis_holds_the_digest_alone_and_forgets_it_in_time(
    secrets: ClientSecrets, bus: RedisConnection, stream_prefix: str
) -> None:
    minted = await secrets.mint(ACME, agent="desk", limits=Limits(), seconds=10, session={})
    (name,) = await bus.call("KEYS", f"{stream_prefix}:secret:*")
    assert minted.value not in name + await bus.call("GET", name)
    assert 0 < await bus.call("PTTL", name) <= 10_000
    assert minted.expires_at <= time.time() + 10


async def test_no_secret_outlives_the_credential_that_minted_it(secrets: ClientSecrets) -> None:
    soon = replace(ACME, expires_at=time.time() + 1.5)
    minted = await secrets.mint(soon, agent="desk", limits=Limits(), seconds=600, session={})
    assert minted.expires_at <= time.time() + 1.5

    async def gone() -> bool:
        return await secrets.find(minted.value) is None

    await wait_until(gone, description="the secret's end")


@pytest.mark.parametrize("apart_s", [-2400, 2400])
async def test_a_secret_opens_gateways_whose_clocks_are_wrong_and_ends_by_that_of_redis(
    secrets: ClientSecrets, apart_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = time.time()
    monkeypatch.setattr(time, "time", lambda: right + apart_s)
    minted = await secrets.mint(ACME, agent="desk", limits=Limits(), seconds=60, session={})
    assert minted.expires_at == pytest.approx(right + 60, abs=30)
    for elsewhere_s in (-apart_s, apart_s, 0):
        monkeypatch.setattr(time, "time", lambda off=elsewhere_s: right + off)
        assert await secrets.find(minted.value) is not None


@pytest.mark.parametrize("others", ["other:other-key", "acme:new-key"])  # gone, and replaced in its place
async def test_a_secret_goes_with_the_key_that_minted_it(secrets: ClientSecrets, tmp_path: Path, others: str) -> None:
    file = tmp_path / "keys"
    file.write_text("acme:acme-key\n", encoding="utf-8")
    keys = KeyStore(file)
    access = Authenticator(keys, secrets=secrets)
    maker = keys.find("acme-key")
    assert maker is not None
    minted = await secrets.mint(maker, agent="desk", limits=Limits(), seconds=60, session={})
    presented = Presented({"sec-websocket-protocol": f"realtime, openai-insecure-api-key.{minted.value}"}, "10.0.0.7")
    assert (await access.authenticate(presented)).kind is Kind.CLIENT_SECRET
    file.write_text(f"# changed\n{others}\n", encoding="utf-8")
    await keys.refresh()
    with pytest.raises(ProblemError, match="not any more") as refused:
        await access.authenticate(presented)
    assert refused.value.status == 401


@pytest.mark.parametrize("kind", [Kind.LOCAL, Kind.JWT])
async def test_a_secret_goes_with_the_kind_of_credential_that_minted_it(
    secrets: ClientSecrets, tmp_path: Path, kind: Kind
) -> None:
    file = tmp_path / "keys"
    file.write_text("acme:acme-key\n", encoding="utf-8")
    minted = await secrets.mint(replace(ACME, kind=kind), agent="desk", limits=Limits(), seconds=60, session={})
    with pytest.raises(ProblemError, match="not any more"):
        await Authenticator(KeyStore(file), secrets=secrets).authenticate(
            Presented({"authorization": f"Bearer {minted.value}"}, "10.0.0.7")
        )
