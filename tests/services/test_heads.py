"""HEAD wherever there is a GET."""

from collections.abc import AsyncIterator

import httpx2
import pytest
from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from voicebus_services.http import serving
from voicebus_services.openapi import new_app


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    app = new_app("things", "All things.", secured=False)
    router = APIRouter(prefix="/v1")

    @router.get("/things")
    async def things() -> list[str]:
        return ["one", "two"]

    @router.post("/others")
    async def others() -> None:
        return None

    @router.get("/stream", response_class=StreamingResponse)
    async def stream() -> StreamingResponse:
        async def forever() -> AsyncIterator[bytes]:
            while True:
                yield b": still here\n\n"

        return StreamingResponse(forever(), media_type="text/event-stream")

    async def own(request: Request) -> Response:
        return Response(headers={"X-Asked": request.method})

    router.add_api_route("/own", own, methods=["GET"])
    router.add_api_route("/own", own, methods=["HEAD"])
    app.include_router(router)
    async with (
        serving(app, host="127.0.0.1", port=0) as server,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client,
    ):
        yield client


@pytest.mark.parametrize("path", ["/v1/things", "/openapi.json", "/docs", "/v1/nowhere"])
async def test_a_head_is_answered_as_a_get_without_its_body(client: httpx2.AsyncClient, path: str) -> None:
    whole, head = await client.get(path), await client.head(path)
    assert (head.status_code, head.content) == (whole.status_code, b"")
    for name in ("content-type", "content-length"):
        assert head.headers[name] == whole.headers[name]
    assert (await client.get(path)).content == whole.content, "the connection goes on"


async def test_the_head_of_a_stream_ends_at_once(client: httpx2.AsyncClient) -> None:
    head = await client.head("/v1/stream")
    assert (head.status_code, head.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert (await client.get("/v1/things")).json() == ["one", "two"]


async def test_an_answer_of_its_own_is_left_alone(client: httpx2.AsyncClient) -> None:
    assert (await client.head("/v1/own")).headers["x-asked"] == "HEAD"


async def test_where_there_is_no_get_there_is_no_head(client: httpx2.AsyncClient) -> None:
    answer = await client.head("/v1/others")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert (await client.post("/v1/things")).headers["allow"] == "GET, HEAD"
