"""The public HTTP port: keys, problems, start and stop."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from fastapi import Depends, FastAPI, Query

from support.waiting import wait_until
from voicebus.errors import SettingsError
from voicebus_services.http import LOCAL_TENANT, ApiKeys, ProblemError, answer_with_problems, require_key, serving

LOCAL = {"host": "127.0.0.1:8080"}


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text("# who : what\n\nacme:acme-key\nother: other-key \n", encoding="utf-8")
    return path


def app_with(keys: ApiKeys) -> FastAPI:
    app = FastAPI()
    answer_with_problems(app)

    @app.get("/tenant")
    async def tenant(tenant: str = Depends(require_key(keys))) -> dict[str, str]:
        return {"tenant": tenant}

    @app.get("/bounded")
    async def bounded(limit: int = Query(ge=1, le=10)) -> int:
        return limit

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("the inside of the service")

    return app


@pytest.fixture
async def client(keys_file: Path) -> AsyncIterator[httpx2.AsyncClient]:
    async with (
        serving(app_with(ApiKeys.load(keys_file)), host="127.0.0.1", port=0) as server,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client,
    ):
        yield client


async def test_a_key_of_the_file_names_its_tenant(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/tenant", headers={"Authorization": "Bearer other-key"})
    assert (answer.status_code, answer.json()) == (200, {"tenant": "other"})


@pytest.mark.parametrize(
    "header", [None, "Bearer", "Bearer wrong", "Basic acme-key", "acme-key", "Bearer acme:acme-key"]
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


async def test_the_routers_and_the_validators_errors_are_problems_too(client: httpx2.AsyncClient) -> None:
    for path, status, code in [("/nowhere", 404, "not_found"), ("/bounded?limit=11", 422, "invalid_request")]:
        answer = await client.get(path)
        assert answer.headers["content-type"] == "application/problem+json"
        assert (answer.status_code, answer.json()["status"], answer.json()["code"]) == (status, status, code)
    assert "limit" in answer.json()["detail"]


async def test_an_unexpected_error_tells_the_client_nothing_of_the_inside(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/broken")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "inside" not in answer.text


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"])
def test_without_keys_this_machine_is_served(peer: str) -> None:
    assert ApiKeys().authenticate(LOCAL, peer) == LOCAL_TENANT


@pytest.mark.parametrize("peer", ["10.0.0.7", "::ffff:10.0.0.7", "2001:db8::1", "", None, "localhost"])
def test_without_keys_another_machine_is_refused_and_the_setting_named(peer: str | None) -> None:
    with pytest.raises(ProblemError, match="VOICEBUS_API_KEYS_FILE") as refused:
        ApiKeys().authenticate(LOCAL, peer)
    assert refused.value.status == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example:8080"},
        {},
        LOCAL | {"origin": "https://evil.example"},
        LOCAL | {"origin": "null"},
        {"host": "[::1"},
    ],
)
def test_without_keys_a_page_from_elsewhere_in_a_local_browser_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ProblemError):
        ApiKeys().authenticate(headers, "127.0.0.1")


def test_without_keys_a_local_page_is_served() -> None:
    assert ApiKeys().authenticate({"host": "localhost:8080", "origin": "http://localhost:3000"}, "::1") == LOCAL_TENANT


@pytest.mark.parametrize("text", ["", "# nothing\n", "no-colon\n", ":key\n", "tenant:\n", "tenant:ключ\n", "\x00\xff"])
def test_a_keys_file_that_is_none_stops_the_start(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys"
    path.write_bytes(text.encode("latin-1") if "\xff" in text else text.encode())
    with pytest.raises(SettingsError, match="VOICEBUS_API_KEYS_FILE"):
        ApiKeys.load(path)


def test_a_keys_file_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        ApiKeys.load(tmp_path / "none")


def test_no_key_shows_in_a_repr_or_in_the_sentence_about_a_bad_line(keys_file: Path) -> None:
    assert "acme-key" not in repr(ApiKeys.load(keys_file))
    keys_file.write_text("just-the-secret\n", encoding="utf-8")
    with pytest.raises(SettingsError) as refused:
        ApiKeys.load(keys_file)
    assert "just-the-secret" not in str(refused.value)


async def test_a_port_in_use_is_one_sentence_that_names_the_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"VOICEBUS_HTTP_PORT: 127\.0\.0\.1:{port} cannot be opened"):
            async with serving(FastAPI(), host="127.0.0.1", port=port):
                pass


async def test_a_request_in_hand_is_answered_before_the_server_stops() -> None:
    app, begun, answer_now = FastAPI(), asyncio.Event(), asyncio.Event()

    @app.get("/slow")
    async def slow() -> str:
        begun.set()
        await answer_now.wait()
        return "done"

    async with httpx2.AsyncClient() as client:
        async with serving(app, host="127.0.0.1", port=0) as server:
            request = asyncio.create_task(client.get(f"http://127.0.0.1:{server.port}/slow"))
            await begun.wait()
            asyncio.get_running_loop().call_later(0.1, answer_now.set)
        assert (await request).json() == "done"


async def test_a_request_that_never_ends_does_not_hold_the_stop_beyond_its_deadline() -> None:
    app, begun = FastAPI(), asyncio.Event()

    @app.get("/stuck")
    async def stuck() -> None:
        begun.set()
        await asyncio.Event().wait()

    async with httpx2.AsyncClient() as client:
        async with serving(app, host="127.0.0.1", port=0, stop_timeout_s=0) as server:
            request = asyncio.create_task(client.get(f"http://127.0.0.1:{server.port}/stuck"))
            await begun.wait()
        await wait_until(request.done, description="the stuck request to be cut off")
        assert request.exception() is not None or request.result().status_code >= 500


async def test_an_error_of_the_block_leaves_as_it_is_and_frees_the_port() -> None:
    ports: list[int] = []

    async def serve_and_fail() -> None:
        async with serving(FastAPI(), host="127.0.0.1", port=0) as server:
            ports.append(server.port)
            raise RuntimeError("wiring")

    with pytest.raises(RuntimeError, match="wiring"):
        await serve_and_fail()
    with socket.create_server(("127.0.0.1", ports[0])):
        pass
