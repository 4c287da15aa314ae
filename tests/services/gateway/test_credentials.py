"""The table of credentials: what each of them opens on every face, of a real gateway and a real archiver's API."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as aioredis
from msgspec.structs import replace

from services.gateway.clients import native, realtime
from services.gateway.conftest import Gateways
from services.gateway.doors import DOORS, HTTP_DOORS, OPENED, SESSION_DOORS, asking
from support.issuer import AUDIENCE, ISSUER, Issuer, running_issuer
from support.recorded import conversation, recorded
from voicebus.adapters.database import migrate
from voicebus.adapters.database.store import TranscriptStore
from voicebus.contracts.streams import Keys
from voicebus_services import watched
from voicebus_services.access import jwks
from voicebus_services.access.keyfile import digest
from voicebus_services.access.wiring import Credentials, open_access
from voicebus_services.gateway.wiring import Gateway
from voicebus_services.http import serving
from voicebus_services.settings import ArchiverSettings
from voicebus_services.transcript_archiver.app import create_app

ACME, OTHER, EXPIRED, REVOKED, PORTER = "acme-key", "other-key", "expired-key", "revoked-key", "porter-key"
KEYS = f"""
acme:{ACME}
other:{OTHER}
{{"id": "expired", "tenant": "acme", "sha256": "{digest(EXPIRED).hex()}", "expires": "2020-01-01T00:00:00Z"}}
{{"id": "porter", "tenant": "acme", "sha256": "{digest(PORTER).hex()}", "agents": ["porter"]}}
"""


@dataclass
class Place:
    """A gateway and an archiver with the same credentials."""

    gateway: Gateway
    archiver: int
    issuer: Issuer
    keys_file: Path
    redis: aioredis.Redis
    prefix: str

    async def secret(self, key: str = ACME, **asked: object) -> str:
        async with asking(self.gateway.port, key) as client:
            answer = await client.post("/v1/realtime/client_secrets", json=asked)
            assert answer.status_code == 200, answer.text
            return str(answer.json()["value"])


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with running_issuer() as running:
        yield running


@pytest.fixture
async def place(
    gateways: Gateways,
    issuer: Issuer,
    tmp_path: Path,
    redis_url: str,
    stream_prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Place]:
    monkeypatch.setattr(watched, "POLL_S", 0.02)
    monkeypatch.setattr(jwks, "RETRY_S", 0.0)
    file = tmp_path / "keys"
    file.write_text(f"{KEYS}gone:{REVOKED}\n", encoding="utf-8")
    database = f"sqlite:///{tmp_path}/calls.db"
    migrate.upgrade(database)
    door = {"api_keys_file": file, "jwt_issuer": ISSUER, "jwt_audience": AUDIENCE, "jwt_jwks": issuer.url}
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(gateways(**door))
        store = await stack.enter_async_context(TranscriptStore(database))
        first, *others = conversation("foreign")
        theirs = replace(first, data={**first.data, "tenant": "other"})
        await store.write(recorded(theirs, *others))
        access = await stack.enter_async_context(open_access(Credentials.of(ArchiverSettings.model_validate(door))))
        server = await stack.enter_async_context(serving(create_app(store, access), host="127.0.0.1", port=0))
        client = await stack.enter_async_context(aioredis.Redis.from_url(redis_url, decode_responses=True))
        yield Place(gateway, server.port, issuer, file, client, stream_prefix)


def refusals(code: str | None) -> dict[str, str]:
    """What each face says to a credential that opens nothing."""
    return {
        **dict.fromkeys(("realtime, header", "realtime, subprotocol"), f"3000 {code}"),
        **dict.fromkeys(("native, header", "native, subprotocol"), "1008 credentials"),
        **dict.fromkeys(HTTP_DOORS, "401 unauthorized"),
    }


async def said_to(place: Place, credential: str | None) -> dict[str, str]:
    return {name: await door(place.gateway, place.archiver, credential) for name, door in DOORS.items()}


async def test_no_credential(place: Place) -> None:
    assert await said_to(place, None) == refusals(None)


@pytest.mark.parametrize(
    "credential", ["wrong", EXPIRED, "ek_never-minted", "a.b.c", ACME.upper(), f"x{ACME}", "vb_" + 43 * "x"]
)
async def test_a_wrong_or_expired_key_opens_no_face(place: Place, credential: str) -> None:
    assert await said_to(place, credential) == refusals("invalid_api_key")


@pytest.mark.parametrize(
    "claims",
    [{"lives_s": -3600}, {"aud": "another"}, {"iss": "https://elsewhere.example"}, {"tenant": None}, {"kid": "x"}],
)
async def test_a_token_that_is_expired_or_for_others_opens_no_face(place: Place, claims: dict[str, object]) -> None:
    assert await said_to(place, place.issuer.token(**claims)) == refusals("invalid_api_key")  # type: ignore[arg-type]


async def test_valid_keys_and_tokens_open_every_face(place: Place) -> None:
    for credential in (ACME, place.issuer.token(), place.issuer.token(algorithm="EdDSA", tenant="t2")):
        assert set((await said_to(place, credential)).values()) == {OPENED}


async def test_a_revoked_key_opens_nothing_any_more_and_neither_do_its_secrets(place: Place) -> None:
    secret = await place.secret(REVOKED)
    assert (await said_to(place, REVOKED))["sessions"] == OPENED
    place.keys_file.write_text(KEYS, encoding="utf-8")
    deadline = time.monotonic() + 30
    while (await said_to(place, REVOKED)) != refusals("invalid_api_key"):
        assert time.monotonic() < deadline, "the revoked key still opens something"
    assert await said_to(place, secret) == refusals("invalid_api_key")


async def test_a_client_secret_opens_sessions_and_nothing_else_until_it_expires(place: Place) -> None:
    secret = await place.secret()
    # Used again and again: an expiry bounds when sessions begin, as with the provider's secrets.
    for _ in range(2):
        said = await said_to(place, secret)
        assert {said[name] for name in SESSION_DOORS} == {OPENED}
        # A WebRTC call is a session; the archiver takes no secrets at all.
        assert said.pop("WebRTC") == OPENED
        assert (said.pop("transcripts"), said.pop("transcript")) == ("401 unauthorized", "401 unauthorized")
        assert {said[name] for name in said.keys() - SESSION_DOORS.keys()} == {"403 forbidden"}
    await place.redis.delete(*await place.redis.keys(f"{place.prefix}:secret:*"))  # as Redis does at its expiry
    assert await said_to(place, secret) == refusals("invalid_api_key")


async def test_a_key_opens_its_own_agents_only_and_a_secret_its_own_one(place: Place) -> None:
    secret = await place.secret(agent="reception")
    for credential, own, foreign in ((PORTER, "porter", "reception"), (secret, "reception", "porter")):
        headers: dict[str, Any] = {"additional_headers": {"Authorization": f"Bearer {credential}"}}
        async with native(place.gateway, **headers) as client:
            assert (await client.until("session_started"))["agent"] == own
            await client.until("history_updated")
            await client.send("update_agent", id="1", agent=foreign)
            assert (await client.until("error"))["code"] == "unknown_agent"
        async with native(place.gateway, f"?agent={foreign}", **headers) as client:
            assert (await client.until("error"))["code"] == "unknown_agent"
            assert await client.closed() == 1008
        async with realtime(place.gateway, f"?agent={foreign}", **headers) as client:
            assert (await client.until("error"))["error"]["code"] == "invalid_model"
            assert await client.closed() == 4000
    async with asking(place.gateway.port, PORTER) as asker:
        assert [agent["name"] for agent in (await asker.get("/v1/agents")).json()["data"]] == ["porter"]
        answer = await asker.post("/v1/realtime/client_secrets", json={"agent": "reception"})
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_agent")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("GET", "/events"),
        ("POST", "/messages"),
        ("POST", "/interrupt"),
        ("POST", "/agent"),
        ("POST", "/end"),
        ("POST", "/tool-calls/c1/approve"),
        ("POST", "/tool-calls/c1/reject"),
    ],
)
async def test_another_tenants_session_is_no_session_at_all(place: Place, method: str, path: str) -> None:
    async with realtime(place.gateway, additional_headers={"Authorization": f"Bearer {OTHER}"}) as client:
        await client.until("session.created")
        async with asking(place.gateway.port, OTHER) as owner:
            (shown,) = (await owner.get("/v1/sessions")).json()["data"]
        bodies = {"/messages": {"text": "hello"}, "/agent": {"agent": "porter"}}
        async with asking(place.gateway.port, ACME) as stranger:
            assert (await stranger.get("/v1/sessions")).json()["data"] == []
            real, invented = [
                await stranger.request(method, f"/v1/sessions/{session}{path}", json=bodies.get(path))
                for session in (shown["id"], "01INVENTED")
            ]
        assert (real.status_code, real.json()["code"]) == (404, "unknown_session")
        assert real.json() | {"detail": ""} == invented.json() | {"detail": ""}


async def test_another_tenants_session_is_neither_observed_nor_resumed(place: Place) -> None:
    theirs: dict[str, Any] = {"additional_headers": {"Authorization": f"Bearer {OTHER}"}}
    ours: dict[str, Any] = {"additional_headers": {"Authorization": f"Bearer {ACME}"}}
    async with native(place.gateway, **theirs) as client:
        session = (await client.until("session_started"))["session"]
        for name, code in ((session, 4404), ("01INVENTED", 4404)):
            async with native(place.gateway, f"?session={name}&observe=1", **ours) as stranger:
                assert (await stranger.until("error"))["code"] == "unknown_session"
                assert await stranger.closed() == code
        # A wrong token beside a valid key tells no more than that: whether it is there is its tenant's to know.
        for name in (session, "01INVENTED"):
            async with native(place.gateway, f"?session={name}&token=guessed", **ours) as stranger:
                assert (await stranger.until("error"))["code"] == "unknown_session"
                assert await stranger.closed() == 4404
        async with native(place.gateway, f"?session={session}&observe=1", **theirs) as observer:
            await observer.until("session_started", "session_resumed")


async def test_a_session_whose_gateway_is_dead_is_none_for_another_tenant(place: Place) -> None:
    theirs: dict[str, Any] = {"additional_headers": {"Authorization": f"Bearer {OTHER}"}}
    ours: dict[str, Any] = {"additional_headers": {"Authorization": f"Bearer {ACME}"}}
    session = "01LEFT"
    left: Any = {
        "owner": "gone-1-abcdef",
        "epoch": 1,
        "status": "active",
        "face": "native",
        "tenant": "other",
        "seq": 1,
    }
    state = Keys(place.prefix).session_state(session)
    await place.redis.hset(state, mapping=left)
    await place.redis.expire(state, 60)
    for query, headers, code in (
        ("&observe=1", ours, "unknown_session"),
        ("&observe=true", ours, "unknown_session"),
        ("", ours, "unknown_session"),
        ("&token=guessed", ours, "unknown_session"),
        ("&observe=1", theirs, "owner_gone"),
        ("", theirs, "credentials"),
        ("&token=guessed&observe=1", theirs, "credentials"),
    ):
        async with native(place.gateway, f"?session={session}{query}", **headers) as client:
            assert (await client.until("error"))["code"] == code, (query, code)


async def test_pages_of_other_origins_are_refused_on_every_face(gateways: Gateways, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"acme:{ACME}\n", encoding="utf-8")
    page, evil = "https://app.example", "https://evil.example"
    async with gateways(api_keys_file=file, allowed_origins=page) as gateway:
        for origin, refused in ((page, False), (evil, True)):
            headers: dict[str, Any] = {
                "additional_headers": {"Authorization": f"Bearer {ACME}"}, "origin": origin,
            }  # fmt: skip
            async with realtime(gateway, **headers) as client:
                event = await client.until("session.created", "error")
                assert (event["type"] == "error") == refused
                if refused:
                    assert event["error"]["code"] == "origin_not_allowed"
                    assert await client.closed() == 3000
            async with native(gateway, **headers) as client:
                event = await client.until("session_started", "error")
                assert (event["type"] == "error") == refused
                if refused:
                    assert await client.closed() == 1008
            async with asking(gateway.port, ACME) as asker:
                answer = await asker.get("/v1/sessions", headers={"Origin": origin})
                assert answer.status_code == (403 if refused else 200)
                assert answer.headers.get("access-control-allow-origin") == (None if refused else page)
                asks = {"Origin": origin, "Access-Control-Request-Method": "POST"}
                preflight = await asker.options("/v1/sessions", headers=asks)
                assert preflight.headers.get("access-control-allow-origin") == (None if refused else page)


@pytest.mark.parametrize("path", ["", ".txt", ".jsonl"])
async def test_another_tenants_transcript_is_none_at_all(place: Place, path: str) -> None:
    async with asking(place.archiver, OTHER) as owner:
        assert (await owner.get(f"/v1/transcripts/foreign{path}")).status_code == 200
    async with asking(place.archiver, ACME) as stranger:
        assert (await stranger.get("/v1/transcripts")).json()["data"] == []
        answer = await stranger.get(f"/v1/transcripts/foreign{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_session")


async def test_no_credential_is_in_a_log_or_in_redis(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    token, secret = place.issuer.token(), await place.secret()
    for credential in (ACME, "wrong-credential", token, secret, place.issuer.token(aud="another")):
        await said_to(place, credential)
    # The clients of this test log what they send themselves.
    ours = [record for record in caplog.records if not record.name.startswith(("websockets", "httpx", "httpcore"))]
    assert ours
    kept = [record.getMessage() for record in ours]
    async for name in place.redis.scan_iter(match=f"{place.prefix}:*"):
        kind = await place.redis.type(name)
        kept.append(name)
        if kind == "string":
            kept.append(str(await place.redis.get(name)))
        elif kind == "hash":
            kept.append(str(await place.redis.hgetall(name)))
        elif kind == "stream":
            kept.append(str(await place.redis.xrange(name)))
    everything = "\n".join(kept)
    for credential in (ACME, "wrong-credential", token.split(".")[2], secret):
        assert credential not in everything
