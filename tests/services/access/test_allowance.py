"""How often a credential may ask over HTTP, counted in a real Redis."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, cast

import httpx2
import pytest
from fastapi import Depends, FastAPI
from prometheus_client import REGISTRY

from voicebus.adapters.redis.client import RedisConnection, connect
from voicebus.contracts.streams import Keys
from voicebus_services.access import allowance
from voicebus_services.access.allowance import RequestRate
from voicebus_services.access.authenticator import Authenticator, caller
from voicebus_services.access.keystore import KeyStore
from voicebus_services.access.known_first import KnownFirst
from voicebus_services.access.principal import Kind, Limits, Principal
from voicebus_services.http import ProblemError, answer_with_problems, serving

ACME = Principal("acme", "k1", Kind.API_KEY)


@pytest.fixture
async def bus(redis_url: str) -> AsyncIterator[RedisConnection]:
    async with await connect(redis_url) as connection:
        yield connection


@pytest.fixture
def keys(stream_prefix: str) -> Keys:
    return Keys(stream_prefix)


async def refused(rate: RequestRate, principal: Principal = ACME) -> ProblemError:
    with pytest.raises(ProblemError) as problem:
        await rate.spend(principal)
    assert (problem.value.status, problem.value.code) == (429, "too_many_requests")
    return problem.value


async def test_a_credential_asks_as_often_as_it_may_over_all_services(bus: RedisConnection, keys: Keys) -> None:
    one, other = RequestRate(bus, keys, 3), RequestRate(bus, keys, 3)
    for service in (one, other, one):
        await service.spend(ACME)
    assert 1 <= int((await refused(other)).headers["Retry-After"]) <= 20
    await other.spend(replace(ACME, key_id="k2"))
    await other.spend(replace(ACME, tenant="other"))


async def test_a_credentials_own_limit_comes_first(bus: RedisConnection, keys: Keys) -> None:
    own = replace(ACME, limits=Limits(requests_per_minute=1))
    rate = RequestRate(bus, keys, 0)
    await rate.spend(own)
    await refused(rate, own)
    for _ in range(20):  # the installation has none
        await rate.spend(replace(ACME, key_id="k2"))


async def test_a_secrets_requests_are_not_its_makers(bus: RedisConnection, keys: Keys) -> None:
    rate = RequestRate(bus, keys, 1)
    secret = replace(ACME, kind=Kind.CLIENT_SECRET, secret_id="s1")
    await rate.spend(secret)
    await refused(rate, secret)
    await rate.spend(ACME)


async def test_where_redis_does_not_count_requests_pass_and_one_line_tells_of_it(
    bus: RedisConnection, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    rate = RequestRate(bus, keys, 1)
    await bus.aclose()
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            await rate.spend(ACME)
    assert len([line for line in caplog.messages if "requests cannot be counted" in line]) == 1


class _StandsStill:
    """A Redis that answers nothing and refuses nothing."""

    asked = 0

    async def script(self, *_: object) -> list[int]:
        self.asked += 1
        await asyncio.Event().wait()
        return [0, 0]


async def test_a_redis_that_stands_still_holds_up_one_request_and_none_behind_it(
    keys: Keys, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allowance, "_REST_S", 600.0)
    still = _StandsStill()
    rate = RequestRate(cast("RedisConnection", still), keys, 1)
    for _ in range(5):
        await rate.spend(ACME)
    assert still.asked == 1
    assert "no answer" in caplog.text


async def test_whoever_asks_too_often_is_told_when_to_come_back_whether_it_reads_or_writes(
    bus: RedisConnection, keys: Keys, tmp_path: Path
) -> None:
    path = tmp_path / "keys"
    path.write_text("acme:right\n", encoding="utf-8")
    access = Authenticator(KeyStore(path), requests=RequestRate(bus, keys, 4))
    app = FastAPI()
    answer_with_problems(app)
    app.add_middleware(KnownFirst, access=access)

    @app.api_route("/v1/notes", methods=["GET", "POST"])
    async def notes(principal: Annotated[Principal, Depends(caller(access))]) -> str:
        return principal.tenant

    def met() -> float:
        return REGISTRY.get_sample_value("voicebus_limits_reached_total", {"limit": "request_rate"}) or 0.0

    before = met()
    async with serving(app, host="127.0.0.1", port=0) as server:
        base = f"http://127.0.0.1:{server.port}/v1"
        async with httpx2.AsyncClient(base_url=base, headers={"Authorization": "Bearer right"}) as http:
            answers = [await http.request(method, "/notes") for method in ("GET", "POST", "GET", "POST", "GET", "POST")]
            wrong = await http.get("/notes", headers={"Authorization": "Bearer wrong"})
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 429, 429]
    assert answers[-1].headers["content-type"] == "application/problem+json"
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert answers[-1].json()["code"] == "too_many_requests"
    assert wrong.status_code == 401
    assert met() == before + 2
