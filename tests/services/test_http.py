"""The public HTTP port: problems, start and stop."""

import asyncio
import errno
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI, Query, Request

from support.waiting import wait_until
from voicebus.errors import SettingsError
from voicebus_services.http import KEEP_ALIVE_S, answer_with_problems, asker, serving

ROOT = Path(__file__).parents[2]


def app_with_errors() -> FastAPI:
    app = FastAPI()
    answer_with_problems(app)

    @app.get("/bounded")
    async def bounded(limit: int = Query(ge=1, le=10)) -> int:
        return limit

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("the inside of the service")

    return app


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with (
        serving(app_with_errors(), host="127.0.0.1", port=0) as server,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client,
    ):
        yield client


async def test_the_routers_and_the_validators_errors_are_problems_too(client: httpx2.AsyncClient) -> None:
    for path, status, code in [("/nowhere", 404, "not_found"), ("/bounded?limit=11", 422, "invalid_request")]:
        answer = await client.get(path)
        assert answer.headers["content-type"] == "application/problem+json"
        assert (answer.status_code, answer.json()["status"], answer.json()["code"]) == (status, status, code)
    assert "limit" in answer.json()["detail"]


async def test_the_body_of_an_answer_does_not_wait_for_its_head_to_be_acknowledged() -> None:
    async with serving(app_with_errors(), host="127.0.0.1", port=0) as server:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
            await client.get("/bounded?limit=1")
            (connection,) = server.server_state.connections
            taken = connection.transport.get_extra_info("socket")
            assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_an_idle_connection_is_kept_for_longer_than_the_load_balancer_keeps_it() -> None:
    ingress = (ROOT / "helm/voicebus/templates/ingress.yaml").read_text()
    kept = re.search(r"idle_timeout\.timeout_seconds=(\d+)", ingress)
    assert kept is not None
    assert int(kept[1]) < KEEP_ALIVE_S
    async with serving(app_with_errors(), host="127.0.0.1", port=0) as server:
        assert server.config.timeout_keep_alive == KEEP_ALIVE_S


async def test_an_unexpected_error_tells_the_client_nothing_of_the_inside(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/broken")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "inside" not in answer.text


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "expected"),
    [
        ("127.0.0.1", None, "127.0.0.1"),
        ("127.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("::1", "127.0.0.1, 203.0.113.9, 127.0.0.1", "203.0.113.9"),
        ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("203.0.113.9", "127.0.0.1", "203.0.113.9"),
        (None, "127.0.0.1", None),
    ],
)
def test_a_proxy_on_this_machine_is_believed_and_nobody_else(
    peer: str | None, forwarded_for: str | None, expected: str | None
) -> None:
    assert asker(peer, forwarded_for) == expected


async def test_a_port_in_use_is_one_sentence_that_names_the_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"VOICEBUS_HTTP_PORT: 127\.0\.0\.1:{port} cannot be opened"):
            async with serving(FastAPI(), host="127.0.0.1", port=port):
                pass


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
async def test_every_address_is_served_and_each_peer_is_told_by_its_own() -> None:
    app = FastAPI()

    @app.get("/peer")
    async def peer(request: Request) -> str:
        assert request.client is not None
        return request.client.host

    async with serving(app, host="::", port=0) as server, httpx2.AsyncClient() as client:
        peers = [(await client.get(f"http://{host}:{server.port}/peer")).json() for host in ("127.0.0.1", "[::1]")]
    assert peers == ["127.0.0.1", "::1"]


@pytest.mark.parametrize("missing", [socket.AF_INET6, socket.AF_INET])
async def test_every_address_is_of_one_family_on_a_machine_that_has_no_other(
    missing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = socket.create_server

    def create_server(address: Any, *, family: int, **options: Any) -> socket.socket:
        if family == missing:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return create(address, family=family, **options)

    monkeypatch.setattr(socket, "create_server", create_server)
    async with serving(FastAPI(), host="::", port=0) as server, httpx2.AsyncClient() as client:
        host = "127.0.0.1" if missing == socket.AF_INET6 else "[::1]"
        assert (await client.get(f"http://{host}:{server.port}/")).status_code == 404


async def test_of_every_address_a_port_that_one_family_has_taken_is_refused() -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"VOICEBUS_HTTP_PORT: :::{port} cannot be opened"):
            async with serving(FastAPI(), host="::", port=port):
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
