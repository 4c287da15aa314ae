"""Calls at a provider, by HTTP: what is asked, and what each answer comes to."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response

from support.connect_proxy import connect_proxy
from voicebus.adapters import openai_calls
from voicebus.adapters.model_key import Key
from voicebus.adapters.openai_calls import OpenAICalls
from voicebus.adapters.openai_realtime import OpenAIRealtimeConnector
from voicebus.errors import ModelCallError
from voicebus_services.http import serving

Answer = Callable[[Request], Response]


@asynccontextmanager
async def provider(
    answer: Answer, path: str = "/v1/realtime?model=x", *, key: Key = "k"
) -> AsyncIterator[tuple[OpenAICalls, list[Any]]]:
    """A provider that gives this answer to everything, and the requests that it got."""
    app = FastAPI()
    asked: list[Any] = []

    @app.post("/{rest:path}")
    async def take(rest: str, request: Request) -> Response:
        form = await request.form()
        parts = {name: await value.read() if hasattr(value, "read") else value for name, value in form.items()}
        asked.append((request.url.path, dict(request.headers), parts))
        return answer(request)

    async with serving(app, host="127.0.0.1", port=0) as server:
        url = f"ws://127.0.0.1:{server.port}{path}"
        calls = OpenAICalls(url, OpenAIRealtimeConnector(url, api_key=key).headers)
        try:
            yield calls, asked
        finally:
            await calls.aclose()


def created(location: str, body: bytes = b"v=0") -> Answer:
    return lambda _: Response(body, 201, {"Location": location}, media_type="application/sdp")


@pytest.mark.parametrize(
    "location", ["/v1/realtime/calls/rtc_1", "https://api.example.com/v1/realtime/calls/rtc_1?x=1"]
)
@pytest.mark.parametrize("path", ["/v1/realtime", "/v1/realtime/?model=m", "/openai/v1/realtime?model=deployed"])
async def test_a_call_is_made_beside_the_models_address(location: str, path: str) -> None:
    async with provider(created(location), path) as (calls, asked):
        call = await calls.create(b"v=0 offer", {"type": "realtime", "model": "m"})
    assert (call.id, call.answer) == ("rtc_1", b"v=0")
    ((where, headers, parts),) = asked
    assert where == path.partition("?")[0].rstrip("/") + "/calls"
    assert headers["authorization"] == "Bearer k"
    assert json.loads(parts["session"]) == {"type": "realtime", "model": "m"}
    assert parts["sdp"] in ("v=0 offer", b"v=0 offer")


async def test_a_provider_that_only_a_proxy_reaches_is_asked_through_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with provider(created("/calls/rtc_1")) as (calls, asked):
        await calls.create(b"v=0", {})
        async with connect_proxy(int(asked[0][1]["host"].rpartition(":")[2])) as proxy:
            monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
            url = "ws://models.example/v1/realtime"
            apart = OpenAICalls(url, OpenAIRealtimeConnector(url, api_key="k").headers)
            await apart.create(b"v=0", {})
            await apart.aclose()
    assert proxy.asked == ["POST http://models.example/v1/realtime/calls HTTP/1.1"]
    assert asked[1][1]["host"] == "models.example"


async def test_each_request_carries_the_key_of_its_moment() -> None:
    keys = iter(["first", "second"])
    async with provider(created("/calls/rtc_1"), key=lambda: next(keys)) as (calls, asked):
        await calls.create(b"v=0", {})
        await calls.hang_up("rtc_1")
    assert [headers["authorization"] for _, headers, _ in asked] == ["Bearer first", "Bearer second"]


async def test_a_key_that_cannot_be_had_refuses_the_call() -> None:
    async with provider(created("/calls/rtc_1"), key=lambda: "") as (calls, asked):
        with pytest.raises(ModelCallError, match="returned an empty string, no key"):
            await calls.create(b"v=0", {})
    assert asked == []


@pytest.mark.parametrize("location", ["", "/v1/realtime/calls/", "/v1/realtime/calls/a%20b", "/calls/" + "x" * 200])
async def test_a_call_without_an_id_is_none(location: str) -> None:
    async with provider(created(location)) as (calls, _):
        with pytest.raises(ModelCallError, match="without saying which"):
            await calls.create(b"v=0", {})


async def test_an_answer_without_end_is_not_read_to_its_end() -> None:
    async with provider(created("/calls/rtc_1", b"v" * (2 * 1024 * 1024))) as (calls, _):
        with pytest.raises(ModelCallError, match="answers with more than"):
            await calls.create(b"v=0", {})


@pytest.mark.parametrize("body", [b"", b"[]", b'{"error": 5}', b'{"error": {"code": 5, "message": null}}', b"\xff"])
async def test_a_refusal_is_one_whatever_it_says(body: bytes) -> None:
    async with provider(lambda _: Response(body, 418)) as (calls, _):
        with pytest.raises(ModelCallError, match=r"refused the call \(HTTP 418\)") as refused:
            await calls.create(b"v=0", {})
    assert (refused.value.status, refused.value.code) == (418, None)


@pytest.mark.parametrize(("status", "over"), [(200, True), (404, True), (409, True), (500, False)])
async def test_a_call_that_is_over_already_is_hung_up(status: int, over: bool) -> None:
    async with provider(lambda _: Response(status_code=status)) as (calls, asked):
        if over:
            await calls.hang_up("rtc_1")
        else:
            with pytest.raises(ModelCallError, match="HTTP 500"):
                await calls.hang_up("rtc_1")
    assert asked[0][0] == "/v1/realtime/calls/rtc_1/hangup"


async def test_a_provider_that_does_not_answer_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_calls, "HANG_UP_TIMEOUT_S", 1e-6)
    async with provider(lambda _: Response()) as (calls, _):
        with pytest.raises(ModelCallError, match="did not answer in time") as late:
            await calls.hang_up("rtc_1")
    assert late.value.code == "timeout"
