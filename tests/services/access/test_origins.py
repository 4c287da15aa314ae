"""Which pages may use a port."""

from collections.abc import AsyncIterator

import httpx2
import pytest
from fastapi import FastAPI

from voicebus_services.access.origins import Origins

LISTED = Origins(frozenset({"https://app.example"}))


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        ("https://app.example", True),
        ("https://voice.example:8080", True),
        ("https://evil.example", False),
        ("https://app.example.evil.example", False),
        ("http://app.example", False),
        ("null", False),
        ("http://[::1", False),
        ("", False),
    ],
)
def test_listed_pages_and_those_of_the_port_itself_are_allowed(origin: str | None, allowed: bool) -> None:
    headers = {"host": "voice.example:8080"} | ({} if origin is None else {"origin": origin})
    assert LISTED.allows(headers) == allowed


def test_without_a_list_any_page_may_show_its_credential() -> None:
    assert Origins().allows({"origin": "https://anywhere.example", "host": "voice.example"})


@pytest.fixture
async def page() -> AsyncIterator[httpx2.AsyncClient]:
    """A page of the one origin that is listed."""
    app = FastAPI()
    LISTED.share(app)

    @app.post("/v1/realtime/calls", status_code=201)
    def call() -> None:
        return None

    transport = httpx2.ASGITransport(app)
    headers = {"Origin": "https://app.example"}
    async with httpx2.AsyncClient(transport=transport, base_url="http://voice.example", headers=headers) as client:
        yield client


@pytest.mark.parametrize(
    "brings",
    [
        "authorization,content-type,x-openai-agents-sdk",  # @openai/agents, to begin a call
        "authorization,content-type,x-stainless-lang,x-stainless-retry-count",  # openai, in a browser
        "authorization,idempotency-key,last-event-id,range",
    ],
)
async def test_a_listed_page_may_bring_the_headers_that_its_client_brings(
    page: httpx2.AsyncClient, brings: str
) -> None:
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": brings}
    answer = await page.options("/v1/realtime/calls", headers=asks)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "https://app.example")
    allowed = {name.strip() for name in answer.headers["access-control-allow-headers"].lower().split(",")}
    assert set(brings.split(",")) <= allowed


async def test_a_listed_page_may_read_where_its_call_is(page: httpx2.AsyncClient) -> None:
    answer = await page.post("/v1/realtime/calls")
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert {"Location", "Retry-After", "Idempotency-Replayed"} <= {
        name.strip() for name in answer.headers["access-control-expose-headers"].split(",")
    }


async def test_another_page_may_not(page: httpx2.AsyncClient) -> None:
    asks = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    answer = await page.options("/v1/realtime/calls", headers=asks)
    assert answer.status_code == 400
    assert "access-control-allow-origin" not in answer.headers


async def test_without_a_list_no_page_is_told_that_it_may_read() -> None:
    app = FastAPI()
    Origins().share(app)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://voice.example") as client:
        answer = await client.get("/openapi.json", headers={"Origin": "https://app.example"})
    assert "access-control-allow-origin" not in answer.headers
