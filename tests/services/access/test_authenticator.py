"""Who a request is from."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import httpx2
import pytest
from fastapi import Depends, FastAPI

from voicebus.contracts.journal import LOCAL_TENANT
from voicebus.errors import BusError
from voicebus.telemetry import metrics
from voicebus_services.access.authenticator import Authenticator, Presented, caller, manager
from voicebus_services.access.client_secrets import ClientSecrets, Found
from voicebus_services.access.failures import Failures
from voicebus_services.access.keyfile import StoredKey, digest
from voicebus_services.access.keystore import KeyStore
from voicebus_services.access.principal import Kind, Limits, Principal
from voicebus_services.http import ProblemError, answer_with_problems, serving

LOCAL = {"host": "127.0.0.1:8080"}


class Unreachable(ClientSecrets):
    """Client secrets whose Redis is away."""

    def __init__(self) -> None:
        """Needs none."""

    async def find(self, secret: str) -> Found | None:
        raise BusError("away")


def bearer(key: str, peer: str = "10.0.0.1") -> Presented:
    return Presented({"authorization": f"Bearer {key}"}, peer)


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text("acme:acme-key\nother:other-key\n", encoding="utf-8")
    return path


@pytest.fixture
async def client(keys_file: Path) -> AsyncIterator[httpx2.AsyncClient]:
    app = FastAPI()
    answer_with_problems(app)

    @app.get("/tenant")
    async def tenant(
        principal: Annotated[Principal, Depends(caller(Authenticator(KeyStore(keys_file))))],
    ) -> dict[str, str]:
        return {"tenant": principal.tenant}

    async with (
        serving(app, host="127.0.0.1", port=0) as server,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client,
    ):
        yield client


@pytest.mark.parametrize("header", [{"Authorization": "Bearer other-key"}, {"api-key": "other-key"}])
async def test_a_key_of_the_file_names_its_tenant(client: httpx2.AsyncClient, header: dict[str, str]) -> None:
    answer = await client.get("/tenant", headers=header)
    assert (answer.status_code, answer.json()) == (200, {"tenant": "other"})


@pytest.mark.parametrize(
    "header",
    [None, "Bearer", "Bearer wrong", "Basic acme-key", "acme-key", "Bearer acme:acme-key", "Bearer " + 600 * "x"],
)
async def test_anything_but_a_key_is_refused_with_a_problem(client: httpx2.AsyncClient, header: str | None) -> None:
    answer = await client.get("/tenant", headers={"Authorization": header} if header else {})
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json() | {"detail": ""} == {
        "type": "about:blank",
        "title": "Unauthorized",
        "status": 401,
        "detail": "",
        "code": "unauthorized",
    }


async def test_a_key_that_has_expired_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    stored = {"id": "k", "tenant": "acme", "sha256": digest("old").hex(), "expires": "2020-01-01T00:00:00Z"}
    path.write_text(StoredKey.model_validate(stored).line(), encoding="utf-8")
    with pytest.raises(ProblemError, match="expired") as refused:
        await Authenticator(KeyStore(path)).authenticate(Presented({"authorization": "Bearer old"}, "10.0.0.7"))
    assert refused.value.status == 401


@pytest.mark.parametrize(
    ("headers", "credential"),
    [
        ({"sec-websocket-protocol": "realtime, openai-insecure-api-key.abc"}, "abc"),
        ({"authorization": "Bearer x", "sec-websocket-protocol": "openai-insecure-api-key.abc"}, "x"),
        ({"authorization": "Basic x", "sec-websocket-protocol": "openai-insecure-api-key.abc"}, None),
        ({}, None),
    ],
)
def test_the_first_place_that_holds_a_credential_counts(headers: dict[str, str], credential: str | None) -> None:
    assert Presented(headers, None).credential == credential


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"])
async def test_without_keys_this_machine_is_served(peer: str) -> None:
    assert (await Authenticator().authenticate(Presented(LOCAL, peer))).tenant == LOCAL_TENANT


@pytest.mark.parametrize("peer", ["10.0.0.7", "::ffff:10.0.0.7", "2001:db8::1", "", None, "localhost"])
async def test_without_keys_another_machine_is_refused_and_the_setting_named(peer: str | None) -> None:
    with pytest.raises(ProblemError, match="VOICEBUS_API_KEYS_FILE") as refused:
        await Authenticator().authenticate(Presented(LOCAL, peer))
    assert refused.value.status == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example:8080"},
        {},
        LOCAL | {"origin": "https://evil.example"},
        LOCAL | {"origin": "null"},
        {"host": "[::1"},
        {"host": "127.0.0.1:8080, evil.example"},
    ],
)
async def test_without_keys_a_page_from_elsewhere_in_a_local_browser_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ProblemError):
        await Authenticator().authenticate(Presented(headers, "127.0.0.1"))


async def test_without_keys_a_local_page_is_served() -> None:
    page = Presented({"host": "localhost:8080", "origin": "http://localhost:3000"}, "::1")
    assert (await Authenticator().authenticate(page)).tenant == LOCAL_TENANT


async def test_a_client_secret_opens_sessions_and_manages_none() -> None:
    class Secrets(Authenticator):
        async def authenticate(self, presented: Presented) -> Principal:
            return Principal("acme", "k1", Kind.CLIENT_SECRET)

    app = FastAPI()
    answer_with_problems(app)
    app.get("/manage", dependencies=[Depends(manager(Secrets()))])(lambda: None)
    async with (
        serving(app, host="127.0.0.1", port=0) as server,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client,
    ):
        answer = await client.get("/manage")
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


def test_of_two_limits_the_tighter_counts() -> None:
    outer = Limits(sessions=3, idle_time=60)
    assert Limits(sessions=5, session_tokens=10).within(outer) == Limits(sessions=3, idle_time=60, session_tokens=10)


async def test_a_key_of_the_file_may_begin_as_client_secrets_do(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("acme:ek_of-my-own\n", encoding="utf-8")
    access = Authenticator(KeyStore(path), secrets=Unreachable())
    assert (await access.authenticate(bearer("ek_of-my-own"))).tenant == "acme"
    with pytest.raises(ProblemError, match="client secrets cannot be looked up now"):
        await access.authenticate(bearer("ek_of-another"))


async def test_credentials_that_fail_too_often_are_not_looked_at_for_a_while(
    keys_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now = 0.0
    access = Authenticator(KeyStore(keys_file), failures=Failures(60, clock=lambda: now))
    refused = metrics.CREDENTIALS_REFUSED.labels(reason="not_valid")._value.get

    async def status(key: str, peer: str = "10.0.0.1") -> int:
        try:
            await access.authenticate(bearer(key, peer))
        except ProblemError as problem:
            told = {401: ("unauthorized", False), 429: ("too_many_failures", True)}[problem.status]
            return problem.status if (problem.code, "Retry-After" in problem.headers) == told else 0
        return 200

    before = refused()
    assert [await status("acme-key-guessed") for _ in range(8)] == [401] * 6 + [429] * 2
    assert refused() - before == 6
    assert "address=10.0.0.1" in caplog.text
    assert await status("acme-key") == 429, "it begins as they did"
    assert await status("other-key") == 200
    assert await status("acme-key", "10.0.0.2") == 200
    now = 10.0
    assert await status("acme-key") == 200
    guesses = [await status(f"{number:08}") for number in range(80)]
    assert guesses == [401] * guesses.count(401) + [429] * guesses.count(429)
    assert guesses.count(401) == 60
    assert await status("other-key") == 429
    now = 11.0
    assert await status("other-key") == 200
