"""`ToolWorker` inside another program: a FastAPI app, any event loop, with or without Redis at the start."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from support.servers import RedisServer
from support.tool_calls import calling
from support.waiting import wait_until
from voicebus import ToolWorker, UserError, function_tool
from voicebus.contracts.streams import Keys
from voicebus.contracts.tools import Outcome
from voicebus.errors import BusError, SettingsError

NOWHERE = "redis://127.0.0.1:1/0"


@function_tool(queue="default")
async def add(a: int, b: int) -> int:
    """Add."""
    return a + b


async def test_an_app_of_another_team_serves_its_pages_its_tools_and_its_probes(redis_url: str, keys: Keys) -> None:
    worker = ToolWorker([add], redis_url=redis_url, stream_prefix=keys.prefix)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with worker:
            yield

    app = FastAPI(lifespan=lifespan)
    app.mount("/tools", worker.probes)
    app.get("/")(lambda: "a page")
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://app") as client:
        assert (await client.get("/tools/readyz")).status_code == 503
        async with app.router.lifespan_context(app), calling(redis_url, keys) as caller:
            ready = await client.get("/tools/readyz")
            assert (ready.status_code, ready.json()["conditions"]) == (200, {"redis": True, "working": True})
            assert (await client.get("/tools/livez")).status_code == 200
            assert (await client.get("/tools/other")).status_code == 404
            assert (await client.get("/")).json() == "a page"
            caller.call("add", '{"a": 1, "b": 2}')
            result = await caller.result()
            assert (result.output, result.worker) == ("3", worker.id)
        assert (await client.get("/tools/readyz")).status_code == 503
    assert worker.id is None


async def test_it_takes_no_signals(redis_url: str, keys: Keys) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    async with ToolWorker([add], redis_url=redis_url, stream_prefix=keys.prefix):
        assert [signal.getsignal(number) for number in numbers] == before


async def test_after_the_block_nothing_is_left_of_it(redis_url: str, keys: Keys) -> None:
    async with calling(redis_url, keys) as caller:
        worker = ToolWorker([add], redis_url=redis_url, stream_prefix=keys.prefix)
        left = []
        for call in ("c1", "c2"):  # and it may begin again
            async with worker:
                name = worker.id
                caller.call("add", '{"a": 1, "b": 2}', call_id=call)
                await caller.result(call)
            left.append(asyncio.all_tasks())
            assert await caller.bus.call("EXISTS", keys.worker(str(name))) == 0
            assert await caller.bus.call("XINFO", "CONSUMERS", keys.tools("default"), "workers") == []
        assert left[0] == left[1], "only the caller's own go on"


async def test_one_that_runs_is_not_begun_a_second_time_but_may_be_again(redis_url: str, keys: Keys) -> None:
    worker = ToolWorker([add], redis_url=redis_url, stream_prefix=keys.prefix)
    async with worker:
        with pytest.raises(UserError, match="runs already"):
            async with worker:
                pass
        assert worker.health.ready
    async with worker:
        assert worker.health.ready


async def test_it_can_begin_before_redis_is_there(keys: Keys) -> None:
    server = RedisServer()
    server.start()
    server.kill()
    try:
        async with ToolWorker([add], redis_url=server.url, stream_prefix=keys.prefix, wait_for_redis=True) as worker:
            assert not worker.health.ready
            server.start()
            await wait_until(lambda: worker.health.ready, description="readiness")
            async with calling(server.url, keys) as caller:
                caller.call("add", '{"a": 1, "b": 2}')
                assert (await caller.result()).outcome is Outcome.OK
    finally:
        server.kill()


async def test_a_program_that_ends_before_redis_came_is_not_held_up() -> None:
    async with asyncio.timeout(10):
        async with ToolWorker([add], redis_url=NOWHERE, wait_for_redis=True) as worker:
            await asyncio.sleep(0.1)
            assert not worker.health.ready
    with pytest.raises(BusError):
        async with ToolWorker([add], redis_url=NOWHERE):
            pytest.fail("began without Redis")


# --- settings -------------------------------------------------------------------------------------


async def test_what_is_not_given_comes_from_the_environment(
    redis_url: str, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    @function_tool
    async def subtract(a: int, b: int) -> int:
        """Subtract."""
        return a - b

    monkeypatch.setenv("VOICEBUS_REDIS_URL", redis_url)
    monkeypatch.setenv("VOICEBUS_STREAM_PREFIX", keys.prefix)
    monkeypatch.setenv("VOICEBUS_QUEUE", "from-environment")
    monkeypatch.setenv("VOICEBUS_TOOL_TIMEOUT", "5s")
    async with ToolWorker([subtract]), calling(redis_url, keys) as caller:
        caller.call("subtract", '{"a": 3, "b": 2}', queue="from-environment")
        assert (await caller.result()).output == "1"
        text = await caller.bus.call("HGET", keys.registry_tools, "subtract")
        assert '"timeout_ms":5000' in text


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ({"concurrency": 0}, "ToolWorker: concurrency cannot be 0: input should be greater than or equal to 1"),
        ({"concurrency": "many"}, "ToolWorker: concurrency cannot be 'many'"),
        ({"tool_timeout": 0}, "ToolWorker: tool_timeout cannot be"),
        ({"queue": "a b"}, "ToolWorker: queue cannot be 'a b'"),
        ({"queue": "inbox"}, "ToolWorker: queue cannot be 'inbox': a name other than events, guardrails, inbox is"),
        ({"redis_url": b"redis://:secret@x"}, "ToolWorker: redis_url cannot be a bytes"),
        ({"redis_url": "http://:secret@x"}, "ToolWorker: redis_url cannot be an address"),
        ({"stream_prefix": "{"}, "ToolWorker: stream_prefix cannot be '{'"),
    ],
)
def test_a_wrong_argument_is_told_with_its_value(argument: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as refused:
        ToolWorker([add], **argument)
    assert str(refused.value).startswith(sentence)
    assert "secret" not in str(refused.value)


def test_a_wrong_variable_is_told_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICEBUS_CONCURRENCY", "many")
    with pytest.raises(SettingsError, match="VOICEBUS_CONCURRENCY: 'many' was read, but"):
        ToolWorker([add])


def test_a_mounted_file_gives_what_its_variable_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "redis"
    secret.write_text("redis://elsewhere:6379/0\n")
    monkeypatch.setenv("VOICEBUS_REDIS_URL_FILE", str(secret))
    monkeypatch.delenv("VOICEBUS_REDIS_URL", raising=False)
    assert ToolWorker([add])._redis_url == "redis://elsewhere:6379/0"
    assert ToolWorker([add], redis_url=NOWHERE)._redis_url == NOWHERE
    monkeypatch.setenv("VOICEBUS_REDIS_URL_FILE", str(tmp_path / "none"))
    with pytest.raises(SettingsError, match=r"VOICEBUS_REDIS_URL_FILE: .* cannot be read"):
        ToolWorker([add])
