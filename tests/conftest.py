"""Fixtures for every test: real servers, a key prefix per test, and checks that no key and no task is left behind."""

import asyncio
import functools
import inspect
import logging
import os
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
import structlog
from hypothesis import settings
from xdist.scheduler import LoadGroupScheduling  # type: ignore[import-untyped]

from support import failed_tests
from support.delivery import IN_ORDER, delivering, modes_of
from support.key_leaks import keys_without_end, remove_keys
from support.servers import PostgresServer, RedisServer
from support.tool_calls import Caller, calling
from voicebus.adapters.database import migrate
from voicebus.adapters.database.store import TranscriptStore
from voicebus.contracts.streams import Keys
from voicebus.telemetry import logging as logs

# Tests that name no number of examples of their own run as many as the profile has: the machines that hold whole random
# conversations with the engine. `make soak` takes its time.
settings.register_profile("test", max_examples=500, deadline=None)
settings.register_profile("soak", max_examples=10_000, deadline=None)
settings.load_profile(os.environ.get("VOICEBUS_HYPOTHESIS_PROFILE", "test"))

pytest_runtest_makereport = failed_tests.pytest_runtest_makereport
pytest_runtest_protocol = failed_tests.pytest_runtest_protocol


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """The Redis server that tests share. A test that stops or freezes one starts a `RedisServer` of its own."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def redis_url(request: pytest.FixtureRequest) -> str:
    """`TEST_REDIS_URL`, else the address of the shared server."""
    given = os.environ.get("TEST_REDIS_URL")
    if given:
        return given
    server: RedisServer = request.getfixturevalue("redis_server")
    return server.url


@pytest.fixture
def stream_prefix(redis_url: str) -> Iterator[str]:
    """A key prefix that no other test uses; afterwards every key under it must have a TTL or a trim rule."""
    prefix = f"t{secrets.token_hex(5)}"
    yield prefix
    with redis.Redis.from_url(redis_url) as client:
        lasting = keys_without_end(client, prefix)
        remove_keys(client, prefix)
    assert not lasting, f"keys without TTL or trim rule: {lasting}"


@pytest.fixture
def keys(stream_prefix: str) -> Keys:
    """The keys under the test's own prefix."""
    return Keys(stream_prefix)


@pytest.fixture
async def caller(redis_url: str, keys: Keys) -> AsyncIterator[Caller]:
    """A session on a gateway's side of the bus, which calls tools and asks guardrails."""
    async with calling(redis_url, keys) as caller:
        yield caller


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_url(request: pytest.FixtureRequest) -> str:
    """`TEST_DATABASE_URL`, else the address of the shared server's database `postgres`."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        return given
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return server.url


@pytest.fixture
def postgres_database(postgres_url: str) -> Iterator[str]:
    """The address of an empty database, dropped after the test."""
    base, _, _ = postgres_url.rpartition("/")
    name = f"t{secrets.token_hex(5)}"
    admin = postgres_url.replace("postgresql+psycopg://", "postgresql://", 1)
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    yield f"{base}/{name}"
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a database without tables; a test that asks for it runs on both kinds."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'transcripts.db'}"
    url: str = request.getfixturevalue("postgres_database")
    return url


@pytest.fixture
def database(empty_database: str) -> str:
    """The address of a migrated database."""
    migrate.upgrade(empty_database)
    return empty_database


@pytest.fixture
async def store(database: str) -> AsyncIterator[TranscriptStore]:
    async with TranscriptStore(database) as store:
        yield store


@pytest.fixture
def delivery(request: pytest.FixtureRequest) -> Iterator[str]:
    """How the words of the test's models reach it: the mode's name."""
    mode: str = getattr(request, "param", IN_ORDER)
    with delivering(mode):
        yield mode


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with `delivery` that waits for a model, and chooses no mode itself, is run in more than one."""
    waits, chooses = inspect.iscoroutinefunction(metafunc.function), "mode" in metafunc.fixturenames
    takes_long = metafunc.definition.get_closest_marker("one_mode") is not None
    if "delivery" in metafunc.fixturenames and waits and not chooses and not takes_long:
        metafunc.parametrize("delivery", modes_of(metafunc.function.__name__), indirect=True)


@pytest.fixture
async def _tasks_end() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    if left:  # those that were just cancelled may still be on their way out
        await asyncio.wait(left, timeout=1.0)
    names = sorted(f"{task.get_name()}: {task.get_coro()}" for task in left if not task.done())
    assert not names, f"tasks left running: {names}"


@pytest.fixture(autouse=True)
def no_task_is_left_behind(request: pytest.FixtureRequest) -> None:
    """Every task that an async test or its fixtures start must have ended with them."""
    function = getattr(request, "function", None)
    if inspect.iscoroutinefunction(function):
        request.getfixturevalue("_tasks_end")


@pytest.fixture(autouse=True)
def logs_are_set_up_for_one_test_only() -> Iterator[None]:
    """A command that runs in the test's own process writes its log to that test's stderr, which is closed with it."""
    root, steps = logging.getLogger(), list(logs._STEPS)  # they have no other name: processes set them up once
    handlers, level = root.handlers[:], root.level
    yield
    if steps != logs._STEPS:
        logs._STEPS[:] = steps
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.contextvars.clear_contextvars()


class _Groups(LoadGroupScheduling):  # type: ignore[misc]
    """Keeps the tests of modules that name a group on one worker, with the servers that they share.

    The scheduler looks for the mark in a test's id, where pytest does not let it be written from 9.2 on.
    """

    def _split_scope(self, nodeid: str) -> str:
        return _group_of(nodeid.partition("::")[0]) or nodeid


@functools.cache
def _group_of(module: str) -> str | None:
    named = re.search(r'xdist_group\("([\w-]+)"\)', (Path(__file__).parents[1] / module).read_text(encoding="utf-8"))
    return None if named is None else named[1]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadGroupScheduling | None:
    """Of `--dist loadgroup`, which `make test` asks for."""
    return _Groups(config, log) if config.getvalue("dist") == "loadgroup" else None
