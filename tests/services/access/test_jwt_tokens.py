"""Tokens of an identity provider, with its keys read over real HTTP."""

import asyncio
import base64
import hmac
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.issuer import AUDIENCE, ISSUER, Issuer, running_issuer
from voicebus.errors import SettingsError
from voicebus_services.access import jwks
from voicebus_services.access.jwks import KeySet, KeysUnavailableError
from voicebus_services.access.jwt_tokens import TokenError, TokenRules, Tokens
from voicebus_services.access.principal import Kind

RULES = TokenRules(ISSUER, AUDIENCE)


@pytest.fixture(scope="module")
def running() -> Iterator[Issuer]:
    with running_issuer() as issuer:
        yield issuer


@pytest.fixture
def issuer(running: Issuer) -> Issuer:
    running.published, running.broken, running.asked = ["RS256", "ES256", "EdDSA"], False, 0
    return running


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_a_valid_token_names_its_tenant_and_agents(issuer: Issuer, algorithm: str) -> None:
    token = issuer.token(algorithm=algorithm, agents=["desk"])
    principal = await Tokens(RULES, KeySet(issuer.url)).principal(token)
    assert (principal.tenant, principal.agents, principal.kind) == ("acme", frozenset({"desk"}), Kind.JWT)
    assert "someone" not in principal.key_id
    assert not principal.expired()


async def test_tenant_and_agents_may_lie_deep_in_the_claims(issuer: Issuer) -> None:
    rules = TokenRules(ISSUER, AUDIENCE, tenant_claim="org.id", agents_claim="https://voice.example/agents")
    claims: dict[str, Any] = {"https://voice.example/agents": ["a"]}
    token = issuer.token(tenant=None, org={"id": "t1"}, **claims)
    principal = await Tokens(rules, KeySet(issuer.url)).principal(token)
    assert (principal.tenant, principal.agents) == ("t1", frozenset({"a"}))


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"lives_s": -60}, "expired"),
        ({"aud": "another"}, "not valid here"),
        ({"iss": "https://elsewhere.example"}, "not valid here"),
        ({"exp": None}, "not valid here"),
        ({"nbf": 4_000_000_000}, "not valid here"),
        ({"exp": 10**400}, "not valid here"),
        ({"tenant": None}, "names no tenant"),
        ({"tenant": ""}, "names no tenant"),
        ({"tenant": ["acme"]}, "names no tenant"),
        ({"tenant": "x" * 200}, "names no tenant"),
        ({"agents": "desk"}, "no list of agents"),
        ({"kid": "unknown"}, "does not publish"),
        ({"algorithm": "RS256", "kid": "ES256"}, "not valid here"),
    ],
)
async def test_a_token_that_is_not_for_us_is_refused(issuer: Issuer, claims: dict[str, Any], why: str) -> None:
    with pytest.raises(TokenError, match=why):
        await Tokens(RULES, KeySet(issuer.url)).principal(issuer.token(**claims))


def unsigned(head: dict[str, str], claims: dict[str, Any]) -> str:
    parts = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (head, claims))
    return ".".join((*parts, ""))


async def test_neither_an_unsigned_token_nor_one_signed_with_the_public_key_gets_in(issuer: Issuer) -> None:
    claims = {"iss": ISSUER, "aud": AUDIENCE, "exp": 4_000_000_000, "tenant": "acme"}
    confused = unsigned({"alg": "HS256", "kid": "RS256"}, claims)
    mac = hmac.digest(issuer.public_pem(), confused.removesuffix(".").encode(), "sha256")
    for token in (
        unsigned({"alg": "none", "kid": "RS256"}, claims),
        confused + base64.urlsafe_b64encode(mac).rstrip(b"=").decode(),
    ):
        with pytest.raises(TokenError, match="algorithm is none of"):
            await Tokens(RULES, KeySet(issuer.url)).principal(token)
    with pytest.raises(TokenError, match="can be read"):
        await Tokens(RULES, KeySet(issuer.url)).principal("not.a.token")


async def test_an_altered_token_is_refused(issuer: Issuer) -> None:
    head, _, signature = issuer.token().split(".")
    _, other, _ = issuer.token(tenant="other").split(".")
    with pytest.raises(TokenError, match="not valid here"):
        await Tokens(RULES, KeySet(issuer.url)).principal(f"{head}.{other}.{signature}")


async def test_clocks_may_differ_by_the_leeway(issuer: Issuer) -> None:
    await Tokens(RULES, KeySet(issuer.url)).principal(issuer.token(lives_s=-10))


async def test_a_new_key_of_the_issuer_is_found_and_unknown_ones_do_not_drive_it(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer.published = ["RS256"]
    keys = KeySet(issuer.url)
    await Tokens(RULES, keys).principal(issuer.token())
    issuer.published = ["RS256", "ES256"]
    for _ in range(5):
        with pytest.raises(TokenError):
            await Tokens(RULES, keys).principal(issuer.token(algorithm="ES256"))
    assert issuer.asked == 1
    monkeypatch.setattr(jwks, "RETRY_S", 0.0)
    await Tokens(RULES, keys).principal(issuer.token(algorithm="ES256"))
    assert issuer.asked == 2


async def test_while_the_issuer_is_away_known_keys_stay_and_without_any_that_is_said(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "RETRY_S", 0.0)
    issuer.broken = True
    keys = KeySet(issuer.url)
    with pytest.raises(KeysUnavailableError):
        await Tokens(RULES, keys).principal(issuer.token())
    issuer.broken = False
    await Tokens(RULES, keys).principal(issuer.token())
    issuer.broken = True
    await keys.refresh()
    await Tokens(RULES, keys).principal(issuer.token())


async def test_keys_may_lie_in_a_file(issuer: Issuer, tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps(issuer.jwks()), encoding="utf-8")
    assert (await Tokens(RULES, KeySet(str(file))).principal(issuer.token())).tenant == "acme"


async def test_an_issuer_that_answers_no_http_is_away_and_its_keys_go_on_being_kept(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "RETRY_S", 0.0)

    async def garbage(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"no status line\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(garbage, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(KeysUnavailableError):
            await Tokens(RULES, KeySet(f"http://127.0.0.1:{port}/jwks")).principal(issuer.token())


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "[]",
        '{"keys": []}',
        '{"keys": [{"kty": "odd"}]}',
        '{"keys": [1]}',
        '{"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "s", "alg": "HS256"}]}',
        "[" * 100_000,
    ],
)
def test_a_file_without_keys_stops_the_start(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "jwks.json"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match="VOICEBUS_JWT_JWKS"):
        KeySet(str(file))
