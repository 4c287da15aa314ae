"""Nobody is told of a session before its start is written: a gateway that dies then leaves none that nobody knows."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from websockets.asyncio.server import ServerConnection, serve

from services.gateway.clients import TestClient, connected
from services.gateway.conftest import Gateways
from services.gateway.models import ScriptedModel
from support.servers import RedisServer
from support.waiting import wait_until
from voicebus.agents.local.ports import LocalClock
from voicebus_services.access.principal import LOCAL
from voicebus_services.gateway.faces.native import NativeFace
from voicebus_services.gateway.faces.sideband import SidebandFace
from voicebus_services.gateway.wiring import Gateway


@dataclass
class Door:
    """A model's, at which who dials waits until it is open."""

    url: str = ""
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    open: asyncio.Event = field(default_factory=asyncio.Event)


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    door, model = Door(), ScriptedModel()
    model.released.set()

    async def wait(socket: ServerConnection, request: Any) -> None:
        door.asked.set()
        await door.open.wait()

    async with serve(model.serve, "127.0.0.1", 0, process_request=wait, max_size=None) as server:
        door.url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/v1/realtime"
        yield door
        door.open.set()


@asynccontextmanager
async def written_late(gateway: Gateway, server: RedisServer, door: Door) -> AsyncIterator[None]:
    """A session is opened in Redis, which stands still in the block while the session goes on."""
    await door.asked.wait()
    server.pause()
    try:
        door.open.set()
        await wait_until(lambda: all(_is_live(held) for held in gateway.sessions), description="the session to be live")
        yield
    finally:
        server.resume()


def _is_live(held: Any) -> bool:
    driver = held.face.driver
    return driver is not None and driver._gate.open and not driver._gate.inputs and held.face.recorded.last > 0


async def everything_sent(client: TestClient) -> None:
    """Return once all that the gateway has sent so far is read; somebody reads."""
    for _ in range(2):
        await (await client.socket.ping())


@pytest.mark.parametrize(
    ("path", "greeting", "next_one"),
    [
        ("/v1/sessions/connect", "session_started", "history_updated"),
        ("/v1/realtime", "session.created", "session.updated"),
    ],
)
async def test_a_client_hears_of_its_session_once_that_is_written(
    gateways: Gateways, door: Door, path: str, greeting: str, next_one: str
) -> None:
    with RedisServer(persistent=True) as server:
        async with gateways(redis_url=server.url, model_url=door.url) as gateway, connected(gateway, path) as client:
            if path == "/v1/realtime":
                await client.send("session.update", session={"type": "realtime"})
            reading = asyncio.create_task(client.until(next_one))
            async with written_late(gateway, server, door):
                await everything_sent(client)
                assert client.seen == []
            await reading
            assert client.types[0] == greeting


async def test_who_makes_a_session_is_told_of_it_once_that_is_written(gateways: Gateways, door: Door) -> None:
    with RedisServer(persistent=True) as server:
        async with (
            gateways(redis_url=server.url, model_url=door.url) as gateway,
            httpx2.AsyncClient(base_url=f"http://127.0.0.1:{gateway.port}") as http,
        ):
            making = asyncio.create_task(http.post("/v1/sessions", json={}))
            async with written_late(gateway, server, door):
                assert (await http.get("/v1/agents")).status_code == 200  # which is asked for later
                assert not making.done()
            made = await making
            assert made.status_code == 201
            query = httpx2.URL(made.json()["url"]).query.decode()
            async with connected(gateway, f"/v1/sessions/connect?{query}") as client:
                await client.until("session_started")


async def test_who_makes_a_session_has_all_of_the_grace_to_enter_it_however_long_its_model_takes(
    gateways: Gateways, door: Door
) -> None:
    async with (
        gateways(model_url=door.url, resume_grace=1) as gateway,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{gateway.port}", timeout=60) as http,
    ):
        making = asyncio.create_task(http.post("/v1/sessions", json={}))
        await door.asked.wait()
        await asyncio.sleep(1.5)
        assert not making.done()
        opened_at = datetime.now(UTC)
        door.open.set()
        made = (await making).json()
        assert datetime.fromisoformat(made["expires_at"]) > opened_at + timedelta(seconds=0.8)  # by Redis' clock
        await wait_until(lambda: not list(gateway.sessions), description="the end of a session that nobody enters")


async def test_a_session_whose_maker_has_left_before_it_began_ends(gateways: Gateways, door: Door) -> None:
    async with gateways(model_url=door.url) as gateway:
        face = NativeFace(gateway.sessions, LOCAL, LocalClock(), agent="reception", grace_s=3600)
        face.ticket = await gateway.sessions.admit(LOCAL)
        making = asyncio.create_task(gateway.sessions.create(face))
        await door.asked.wait()
        making.cancel()
        await wait_until(lambda: not list(gateway.sessions), description="the end of a session that nobody knows")


async def test_who_calls_is_answered_once_the_session_of_the_call_is_written() -> None:
    class Driver:
        def once_written(self, then: Any) -> None:
            self.then = then

    async def hang_up() -> None: ...

    nobody: Any = None
    driver: Any = Driver()
    face = SidebandFace(nobody, nobody, agent="desk", hang_up=hang_up)
    face.driver = driver
    face.ready()
    assert not face.up.is_set()
    driver.then()
    assert face.up.is_set()
