"""`Idempotency-Key`: a write that comes again has one effect and one answer, whichever gateway it reaches."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import redis.asyncio as aioredis
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.clients import TestClient, native
from services.gateway.conftest import Gateways
from support.waiting import wait_until
from voicebus.adapters.redis import answers
from voicebus.adapters.redis.answers import Answer, InHand, KeptAnswers, Other, Ours
from voicebus.adapters.redis.client import connect
from voicebus.contracts.streams import ANSWER_TTL_S, Keys
from voicebus.errors import BusError
from voicebus_services.access.authenticator import KNOWN
from voicebus_services.access.principal import LOCAL
from voicebus_services.gateway.idempotency import IdempotentWrites
from voicebus_services.gateway.wiring import Gateway

SAY = {"text": "[[say: hello]]"}


def key(name: str) -> dict[str, str]:
    return {"Idempotency-Key": name}


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[TestClient]:
    async with native(gateway) as connected:
        await connected.until("history_updated")
        yield connected


@pytest.fixture
def session(client: TestClient) -> str:
    return str(client.events("session_started")[0]["session"])


@pytest.fixture
async def http(gateway: Gateway) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{gateway.port}/v1/sessions") as made:
        yield made


def problem(answer: httpx2.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


async def told(client: TestClient) -> int:
    """How many messages of the user the session has, once all that were sent have been taken in."""
    await client.send("send_message", text="[[say: over]]")
    await client.until("item_recorded", role="assistant", text="over")
    return len([item for item in client.events("item_recorded") if item["role"] == "user"]) - 1


async def test_a_request_that_comes_again_is_answered_again_without_a_second_effect(
    client: TestClient, session: str, http: httpx2.AsyncClient, gateways: Gateways
) -> None:
    first = await http.post(f"/{session}/messages", json=SAY, headers=key("one"))
    again = await http.post(f"/{session}/messages", json=SAY, headers=key("one"))
    async with gateways() as other:
        url = f"http://127.0.0.1:{other.port}/v1/sessions/{session}/messages"
        elsewhere = await http.post(url, json=SAY, headers=key("one"))
    assert [answer.status_code for answer in (first, again, elsewhere)] == [202, 202, 202]
    assert first.json() == again.json() == elsewhere.json()
    assert [answer.headers.get("idempotency-replayed") for answer in (first, again, elsewhere)] == [
        None, "true", "true",
    ]  # fmt: skip
    assert again.headers["content-type"] == first.headers["content-type"]
    await client.until("turn_ended")
    assert await told(client) == 1


async def test_another_key_or_none_is_another_request(
    client: TestClient, session: str, http: httpx2.AsyncClient
) -> None:
    for headers in (key("one"), key("two"), {}, {}):
        assert (await http.post(f"/{session}/messages", json=SAY, headers=headers)).status_code == 202
        await client.until("turn_ended")
    assert await told(client) == 4


async def test_a_key_used_for_another_body_is_refused(
    client: TestClient, session: str, http: httpx2.AsyncClient
) -> None:
    assert (await http.post(f"/{session}/messages", json=SAY, headers=key("one"))).status_code == 202
    other = await http.post(f"/{session}/messages", json={"text": "other"}, headers=key("one"))
    assert problem(other) == (422, "idempotency_key_reused")
    elsewhere = await http.post(f"/{session}/interrupt", headers=key("one"))
    assert elsewhere.status_code == 202, "a key belongs to the path it was given for"


async def test_requests_at_once_with_one_key_have_one_effect(
    client: TestClient, session: str, http: httpx2.AsyncClient
) -> None:
    answers = await asyncio.gather(
        *(http.post(f"/{session}/messages", json=SAY, headers=key("one")) for _ in range(10))
    )
    done = [answer for answer in answers if answer.status_code == 202]
    busy = [answer for answer in answers if answer.status_code == 409]
    assert done
    assert len(done) + len(busy) == 10
    assert len({answer.text for answer in done}) == 1
    assert {problem(answer)[1] for answer in busy} <= {"idempotency_in_progress"}
    await client.until("turn_ended")
    assert await told(client) == 1


async def test_a_request_that_nobody_answered_is_carried_out_once_when_it_comes_again(
    client: TestClient, session: str, http: httpx2.AsyncClient, redis_url: str, stream_prefix: str
) -> None:
    """The owner did it, its answer got lost: what was kept is released, and the session knows the command."""
    async with aioredis.Redis.from_url(redis_url) as bus:
        first = await http.post(f"/{session}/messages", json=SAY, headers=key("one"))
        async for name in bus.scan_iter(match=f"{stream_prefix}:answer:*"):
            await bus.delete(name)
    await client.until("turn_ended")
    again = await http.post(f"/{session}/messages", json=SAY, headers=key("one"))
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json()
    assert "idempotency-replayed" not in again.headers
    assert await told(client) == 1


async def test_a_session_is_created_once_with_one_token(gateway: Gateway, http: httpx2.AsyncClient) -> None:
    first = await http.post("", json={"agent": "porter"}, headers=key("one"), follow_redirects=True)
    again = await http.post("", json={"agent": "porter"}, headers=key("one"), follow_redirects=True)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert len(list(gateway.sessions)) == 1


async def test_a_refusal_is_answered_alike_and_a_passing_one_is_tried_again(http: httpx2.AsyncClient) -> None:
    for replayed in (None, "true"):
        answer = await http.post("/none/interrupt", headers=key("one"))
        assert problem(answer) == (404, "unknown_session")
        assert answer.headers.get("idempotency-replayed") == replayed


@pytest.mark.parametrize("wrong", ["", "x" * 256, "a\tb"])
async def test_a_key_that_is_none_is_refused_by_name(http: httpx2.AsyncClient, wrong: str) -> None:
    answer = await http.post("/none/interrupt", headers=key(wrong))
    assert problem(answer) == (422, "invalid_request")
    assert answer.json()["detail"].startswith("header.Idempotency-Key: ")


async def test_a_key_belongs_to_whoever_gave_it(gateways: Gateways, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("acme:right\nother:wrong\n")
    async with gateways(api_keys_file=keys) as gateway, httpx2.AsyncClient() as http:
        url = f"http://127.0.0.1:{gateway.port}/v1/sessions/none/messages"
        for secret, text in (("right", "one"), ("wrong", "two")):
            headers = {"Authorization": f"Bearer {secret}", **key("shared")}
            assert problem(await http.post(url, json={"text": text}, headers=headers)) == (404, "unknown_session")
        assert problem(await http.post(url, json=SAY, headers=key("shared"))) == (401, "unauthorized")


async def test_a_wrong_credential_counts_once_with_a_key_too(gateways: Gateways, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("acme:right\n")
    # A tenth of them with one credential.
    async with gateways(api_keys_file=keys, max_failed_credentials_per_minute=20) as gateway:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{gateway.port}/v1") as http:
            guessing = {"Authorization": "Bearer guessed", **key("shared")}
            for _ in range(2):
                assert problem(await http.post("/sessions", json={}, headers=guessing)) == (401, "unauthorized")


async def test_a_client_secret_is_not_given_the_answers_of_the_key_that_minted_it(
    gateways: Gateways, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("acme:right\n")
    async with gateways(api_keys_file=keys) as gateway:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{gateway.port}/v1") as http:
            mine = {"Authorization": "Bearer right", **key("shared")}
            assert (await http.post("/sessions", json={}, headers=mine)).status_code == 201
            minted = await http.post("/realtime/client_secrets", json={}, headers=mine)
            browser = {"Authorization": f"Bearer {minted.json()['value']}", **key("shared")}
            assert problem(await http.post("/sessions", json={}, headers=browser)) == (403, "forbidden")


async def test_what_is_kept_ends_and_tells_redis_nothing(redis_url: str, stream_prefix: str) -> None:
    keys, secret = Keys(stream_prefix), b"secret"
    token = Answer(201, {"content-type": "application/json"}, b'{"token": "T0K3N"}')
    async with await connect(redis_url) as bus, aioredis.Redis.from_url(redis_url, decode_responses=True) as raw:
        kept = KeptAnswers(bus, keys)
        ours = await kept.reserve(secret, "r1")
        assert isinstance(ours, Ours)
        assert await kept.reserve(secret, "r1") == InHand()
        assert await kept.reserve(secret, "r2") == Other()
        await kept.keep(secret, "r1", token, ours)
        assert await kept.reserve(secret, "r1") == token
        assert await kept.reserve(secret, "r2") == Other()
        (name,) = [name async for name in raw.scan_iter(match=f"{stream_prefix}:*")]
        value: Any = await raw.get(name)
        assert "T0K3N" not in value
        assert ANSWER_TTL_S - 60 < await raw.ttl(name) <= ANSWER_TTL_S
        await raw.set(name, value.replace('"answer": "', '"answer": "AAAA'), ex=60)
        assert await kept.reserve(secret, "r1") == Other(), "forged"
        await raw.delete(name)
        again = await kept.reserve(secret, "r2")
        assert isinstance(again, Ours)
        await kept.release(secret, again)
        assert isinstance(await kept.reserve(secret, "r2"), Ours)


async def test_a_request_that_took_too_long_leaves_the_key_to_the_one_that_has_it_now(
    redis_url: str, stream_prefix: str
) -> None:
    keys, secret, answer = Keys(stream_prefix), b"secret", Answer(201, {}, b"{}")
    async with await connect(redis_url) as bus, aioredis.Redis.from_url(redis_url, decode_responses=True) as raw:
        kept = KeptAnswers(bus, keys)
        slow = await kept.reserve(secret, "r")
        assert isinstance(slow, Ours)
        (name,) = [name async for name in raw.scan_iter(match=f"{stream_prefix}:*")]
        await raw.delete(name)  # its time is over
        next_one = await kept.reserve(secret, "r")
        assert isinstance(next_one, Ours)
        await kept.release(secret, slow)
        await kept.keep(secret, "r", Answer(500, {}, b"late"), slow)
        assert await kept.reserve(secret, "r") == InHand()
        await kept.keep(secret, "r", answer, next_one)
        assert await kept.reserve(secret, "r") == answer
        await raw.delete(name)
        await kept.keep(secret, "r", answer, slow)
        assert await kept.reserve(secret, "r") == answer, "nobody else has had it meanwhile"


async def test_a_gateway_that_dies_with_a_request_in_hand_leaves_its_key_free_within_seconds(
    redis_url: str, stream_prefix: str
) -> None:
    keys, secret = Keys(stream_prefix), b"secret"
    async with await connect(redis_url) as dying, await connect(redis_url) as bus:
        assert isinstance(await KeptAnswers(dying, keys).reserve(secret, "r"), Ours)
        other = KeptAnswers(bus, keys)
        assert await other.reserve(secret, "r") == InHand()

        async def is_free() -> bool:
            return isinstance(await other.reserve(secret, "r"), Ours)

        await wait_until(is_free, description="the key", timeout=10, interval=0.1)


def through(writes: ASGIApp) -> httpx2.AsyncClient:
    """Asks `writes` itself, as somebody who is let in."""

    async def let_in(scope: Scope, receive: Receive, send: Send) -> None:
        await writes({**scope, "state": {KNOWN: LOCAL}}, receive, send)

    return httpx2.AsyncClient(transport=httpx2.ASGITransport(let_in), base_url="http://gateway")


async def test_the_key_of_a_request_that_failed_is_free_at_once(
    redis_url: str, stream_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "_RENEWALS", 1_000_000)  # in all that time
    failures = [RuntimeError("no")]

    class Released(KeptAnswers):
        async def release(self, secret: bytes, ours: Ours) -> None:
            await super().release(secret, ours)
            for _ in range(10):  # a while in which whoever renews the lease would
                await bus.call("PING")

    async def fails_first(scope: Scope, receive: Receive, send: Send) -> None:
        if failures:
            await bus.call("PING")
            raise failures.pop()
        await Response("done", 201)(scope, receive, send)

    async with await connect(redis_url) as bus:
        async with through(IdempotentWrites(fails_first, answers=Released(bus, Keys(stream_prefix)))) as http:
            with pytest.raises(RuntimeError, match="no"):
                await http.post("/v1/sessions", headers=key("one"))
            assert (await http.post("/v1/sessions", headers=key("one"))).text == "done"


async def test_an_answer_that_redis_was_not_there_to_keep_is_sent_at_once_and_kept_once_redis_is_back(
    redis_url: str, stream_prefix: str
) -> None:
    carried_out: list[Scope] = []
    sent: list[Message] = []

    class Away(KeptAnswers):
        is_away = True

        async def keep(self, secret: bytes, request: str, answer: Answer, ours: Ours) -> None:
            if self.is_away:
                raise BusError("away")
            await super().keep(secret, request, answer, ours)

    async def carries_out(scope: Scope, receive: Receive, send: Send) -> None:
        carried_out.append(scope)
        await Response("done", 201)(scope, receive, send)

    async with await connect(redis_url) as bus, aioredis.Redis.from_url(redis_url, decode_responses=True) as raw:
        kept = Away(bus, Keys(stream_prefix), lease_s=1)
        writes = IdempotentWrites(carries_out, answers=kept)

        async def observed(scope: Scope, receive: Receive, send: Send) -> None:
            async def noted(message: Message) -> None:
                sent.append(message)
                await send(message)

            await writes(scope, receive, noted)

        async with through(observed) as http:
            first = asyncio.create_task(http.post("/v1/sessions", headers=key("one")))
            await wait_until(lambda: len(sent) == 2, description="the answer")

            async def is_free() -> bool:
                return not [name async for name in raw.scan_iter(match=f"{stream_prefix}:*")]

            await wait_until(is_free, description="the end of the lease")
            kept.is_away = False
            assert (await first).status_code == 201
            again = await http.post("/v1/sessions", headers=key("one"))
    assert again.status_code == 201
    assert again.headers["idempotency-replayed"] == "true"
    assert len(carried_out) == 1


async def test_a_request_is_in_hand_for_as_long_as_it_takes(redis_url: str, stream_prefix: str) -> None:
    busy, go_on = asyncio.Event(), asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        busy.set()
        await go_on.wait()
        await Response("done", 201)(scope, receive, send)

    async with await connect(redis_url) as bus, aioredis.Redis.from_url(redis_url, decode_responses=True) as raw:
        writes = IdempotentWrites(slow, answers=KeptAnswers(bus, Keys(stream_prefix), lease_s=1))
        async with through(writes) as http:
            first = asyncio.create_task(http.post("/v1/sessions", headers=key("one")))
            await asyncio.wait_for(busy.wait(), 10)
            (name,) = [name async for name in raw.scan_iter(match=f"{stream_prefix}:*")]
            for _ in range(3):
                await raw.expire(name, 100)

                async def is_renewed() -> bool:
                    return bool(await raw.ttl(name) <= 1)

                await wait_until(is_renewed, description="a renewal")
            assert problem(await http.post("/v1/sessions", headers=key("one"))) == (409, "idempotency_in_progress")
            go_on.set()
            assert (await first).status_code == 201
            again = await http.post("/v1/sessions", headers=key("one"))
            assert (again.text, again.headers["idempotency-replayed"]) == ("done", "true")
            assert await raw.ttl(name) > 100, "nobody renews the lease of what is kept"
