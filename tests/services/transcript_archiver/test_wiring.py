"""The archiver as a process: started, asked, stopped, killed, and refused a start."""

import asyncio
import http.client
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
from msgspec.structs import replace

from services.transcript_archiver.conftest import Bus
from support.commands import environment, voicebus
from support.recorded import conversation
from support.recordings import write_parts
from support.servers import free_port
from support.sounds import parts
from support.waiting import wait_until
from voicebus.adapters.database import migrate
from voicebus.adapters.database.store import TranscriptStore
from voicebus.adapters.recordings.storage import RecordingStorage

# Its tests start up to a dozen commands one after another, which takes a busy machine long.
pytestmark = pytest.mark.timeout(180)


@dataclass
class ArchiverProcess:
    """A `voicebus transcript-archiver` of its own process."""

    process: asyncio.subprocess.Process
    http_url: str
    ops_url: str

    async def ready(self) -> bool:
        with suppress(httpx2.TransportError):
            async with httpx2.AsyncClient() as client:
                return (await client.get(f"{self.ops_url}/readyz")).status_code == 200
        assert self.process.returncode is None, "the archiver ended before it was ready"
        return False

    async def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return await self.process.wait()


@asynccontextmanager
async def archiver_process(log: Path, **settings: Any) -> AsyncIterator[ArchiverProcess]:
    http_port, ops_port = free_port(), free_port()
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "voicebus_services.cli", "transcript-archiver"),
            env=environment(http_port=http_port, ops_port=ops_port, **settings),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    started = ArchiverProcess(process, f"http://127.0.0.1:{http_port}", f"http://127.0.0.1:{ops_port}")
    try:
        await wait_until(started.ready, description="the archiver to be ready", timeout=30)
        yield started
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.fixture
def settings(redis_url: str, bus: Bus, database: str) -> dict[str, Any]:
    return {
        "redis_url": redis_url,
        "stream_prefix": bus.keys.prefix,
        "event_shards": bus.keys.event_shards,
        "database_url": database,
    }


async def test_a_process_archives_answers_and_ends_well_on_sigterm(
    bus: Bus, settings: dict[str, Any], tmp_path: Path
) -> None:
    async with (
        archiver_process(tmp_path / "log", **settings) as archiver,
        httpx2.AsyncClient(base_url=archiver.http_url) as client,
    ):
        await bus.record(*conversation("s1"))
        await bus.wait_idle()
        assert len((await client.get("/v1/transcripts/s1")).json()["items"]) == 4
        scraped = (await client.get(f"{archiver.ops_url}/metrics")).text
        assert "voicebus_transcript_write_lag_seconds_count 8.0" in scraped
        assert await archiver.terminate() == 0
    leases = [bus.keys.archiver_lease(shard) for shard in range(4)]
    assert await bus.connection.call("EXISTS", *leases) == 0
    assert "Traceback" not in (tmp_path / "log").read_text()


THEIRS = (
    "theirs", "theirs%20", "theirs%00", "theirs%2F", "THEIRS", ".%2Ftheirs", "..", ".", "%2e%2e", "...", "~", "%25",
    "../other/theirs", "..%2Fother%2Ftheirs", "%2e%2e%2fother%2ftheirs", "..%252Fother%252Ftheirs",
    "..%5Cother%5Ctheirs", "%c0%ae%c0%ae%c0%afother%c0%aftheirs", "..;/other/theirs", "mine/../theirs",
    "mine%2F..%2F..%2Fother%2Ftheirs",
    "%252E%252E", "%2Fetc%2Fpasswd", "/etc/passwd", "../../../../../../../../etc/passwd", "file:%2F%2F%2Fetc%2Fpasswd",
    "theirs'%20OR%20'1'='1", "%25theirs%25", "the_rs", "*",
)  # fmt: skip
"""What leads to another tenant's call, or to files, where something on the way is taken as more than a name."""


async def test_no_path_leads_to_another_tenants_call_or_to_a_file(
    bus: Bus, settings: dict[str, Any], tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("acme:right\nother:another\n")
    url = f"file://{tmp_path}/calls/recordings"
    storage = RecordingStorage.at(url)
    for tenant, session in (("acme", "mine"), ("acme", ".."), ("other", "theirs")):
        first, *events = conversation(session)
        await bus.record(replace(first, data={**first.data, "tenant": tenant}), *events)
        if session != "..":
            await write_parts(storage, tenant, session, parts(2))

    def asked(port: int, path: str, key: str = "right") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {key}"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def attack(port: int) -> None:
        for key, session in (("right", "mine"), ("another", "theirs")):
            assert asked(port, f"/v1/transcripts/{session}/recording", key)[1].startswith(b"OggS")
            assert b"sunny in Paris" in asked(port, f"/v1/transcripts/{session}", key)[1]
        # A session may have any name, which stays one.
        assert b"sunny in Paris" in asked(port, "/v1/transcripts/%2E%2E")[1]
        assert asked(port, "/v1/transcripts/%2E%2E/recording")[0] == 404
        for name in THEIRS:
            for path in (f"/v1/transcripts/{name}/recording", f"/v1/transcripts/{name}/events", f"/docs/assets/{name}"):
                status, body = asked(port, path)
                assert status in (404, 422) or name in ("..", "%2e%2e"), (path, status, body)
                assert b"OggS" not in body, path
                assert b"root:" not in body, path
            if name not in ("..", "%2e%2e"):
                status, body = asked(port, f"/v1/transcripts/{name}")
                assert status in (404, 422, 307 if name.endswith("%2F") else 404), (name, status, body)
                assert b"Paris" not in body, name

    running = {**settings, "api_keys_file": keys, "recordings_url": url}
    async with archiver_process(tmp_path / "log", **running) as archiver:
        await bus.wait_idle()
        await asyncio.to_thread(attack, int(archiver.http_url.rpartition(":")[2]))
    assert "Traceback" not in (tmp_path / "log").read_text()


async def test_the_shards_of_a_killed_process_move_and_each_line_arrives_once(
    bus: Bus, settings: dict[str, Any], store: TranscriptStore, tmp_path: Path
) -> None:
    async def holders() -> list[str]:
        leases = [bus.keys.archiver_lease(shard) for shard in range(4)]
        return [holder for lease in leases if (holder := await bus.connection.call("GET", lease))]

    sessions = [f"s{number}" for number in range(60)]
    async with (
        archiver_process(tmp_path / "first.log", **settings) as first,
        archiver_process(tmp_path / "second.log", **settings) as second,
    ):
        both = await wait_until(lambda: _two_each(holders), description="two shards each", timeout=20)
        doomed = next(holder for holder in both if f"-{first.process.pid}-" in holder)
        recording = asyncio.create_task(bus.record(*(event for name in sessions for event in conversation(name))))
        await wait_until(bus.pending, description="work in hand")
        first.process.kill()
        await first.process.wait()
        await recording

        async def moved() -> bool:
            now = await holders()
            return len(now) == 4 and doomed not in now

        await wait_until(moved, description="the survivor to hold every shard", timeout=15)
        await bus.record(*(event for name in sessions for event in conversation(f"late {name}")))
        await bus.wait_idle()
        assert await second.terminate() == 0
    for name in [*sessions, *(f"late {name}" for name in sessions)]:
        transcript = await store.transcript(name, tenant="local")
        assert transcript is not None
        assert (transcript.last_seq, transcript.gaps, len(transcript.items)) == (8, [], 4)


async def _two_each(holders: Any) -> list[str]:
    found: list[str] = await holders()
    return found if len(found) == 4 and sorted(found.count(one) for one in set(found)) == [2, 2] else []


async def test_a_database_that_is_not_migrated_stops_the_start(settings: dict[str, Any], tmp_path: Path) -> None:
    ran = await voicebus("transcript-archiver", **settings | {"database_url": f"sqlite:///{tmp_path / 'new.db'}"})
    assert ran.status == 1
    assert "is not migrated; run `voicebus migrate`" in ran.complaint


async def test_the_command_it_names_helps(settings: dict[str, Any], tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}"
    assert (await voicebus("migrate", database_url=url)).status == 0
    async with archiver_process(tmp_path / "log", **settings | {"database_url": url}) as archiver:
        assert await archiver.terminate() == 0


async def test_an_unreachable_database_stops_the_start_without_its_password_shown(settings: dict[str, Any]) -> None:
    url = "postgresql+psycopg://user:s3cret@127.0.0.1:1/calls"
    for command in ("transcript-archiver", "migrate"):
        ran = await voicebus(command, **settings | {"database_url": url})
        assert ran.status == 1
        assert "127.0.0.1:1/calls" in ran.complaint
        assert "s3cret" not in ran.out + ran.err


async def test_a_wrong_database_password_stops_the_start_without_the_password_shown(
    settings: dict[str, Any], postgres_url: str
) -> None:
    # The test server trusts everybody; a user who does not exist is refused at the same point.
    url = postgres_url.replace("//postgres@", "//nobody:s3cret@")
    ran = await voicebus("transcript-archiver", **settings | {"database_url": url})
    assert ran.status == 1
    assert "nobody" in ran.complaint
    assert "s3cret" not in ran.out + ran.err


async def test_a_port_in_use_stops_the_start(settings: dict[str, Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = await voicebus("transcript-archiver", **settings | {"http_port": port, "ops_port": 0})
    assert ran.status == 2
    assert f"VOICEBUS_HTTP_PORT: 127.0.0.1:{port} cannot be opened" in ran.complaint


async def test_other_shard_counts_than_the_installations_stop_the_start(bus: Bus, settings: dict[str, Any]) -> None:
    await bus.connection.call("HSET", bus.keys.config, "event_shards", 16)
    ran = await voicebus("transcript-archiver", **settings)
    assert ran.status == 2
    assert "VOICEBUS_EVENT_SHARDS" in ran.complaint


async def test_postgresql_serves_several_processes_too(
    bus: Bus, settings: dict[str, Any], postgres_database: str, tmp_path: Path
) -> None:
    migrate.upgrade(postgres_database)
    mine = settings | {"database_url": postgres_database}
    async with (
        archiver_process(tmp_path / "first.log", **mine) as first,
        archiver_process(tmp_path / "second.log", **mine) as second,
        httpx2.AsyncClient() as client,
    ):
        await bus.record(*(event for number in range(30) for event in conversation(f"s{number}")))
        await bus.wait_idle()
        for archiver in (first, second):
            listed = (await client.get(f"{archiver.http_url}/v1/transcripts?limit=100")).json()["data"]
            assert sorted(row["session"] for row in listed) == sorted(f"s{number}" for number in range(30))
            assert {row["items"] for row in listed} == {4}
        assert await first.terminate() == 0
        assert await second.terminate() == 0


async def test_a_database_that_hangs_does_not_keep_a_process_from_ending(
    bus: Bus, settings: dict[str, Any], postgres_database: str, tmp_path: Path
) -> None:
    migrate.upgrade(postgres_database)
    mine = settings | {"database_url": postgres_database, "drain_timeout": "500ms"}
    async with archiver_process(tmp_path / "log", **mine) as archiver:
        with psycopg.connect(postgres_database.replace("+psycopg", "")) as connection:
            connection.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
            await bus.record(*conversation("s1"))
            await wait_until(bus.pending, description="work in hand")
            assert await archiver.terminate() == 0
            assert await bus.unfinished() == 8, "nothing was acknowledged"
    async with archiver_process(tmp_path / "log", **mine):
        await bus.wait_idle()
