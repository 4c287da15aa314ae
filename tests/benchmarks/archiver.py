"""What one archiver process on one core writes into PostgreSQL, beside the bare COPY of the same events.

python -m benchmarks.archiver [--events 1000000] [--rate 5000] [--seconds 20]

A backlog is drained, then events arrive at a steady rate. PostgreSQL syncs each commit to disk. The archiver has one
core for itself where there are two; Redis, PostgreSQL and whoever records share the rest. Exit status 1 where it does
not keep up, or where its memory grows with the backlog.
"""

import argparse
import asyncio
import contextlib
import itertools
import os
import re
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import redis.asyncio

from benchmarks.capacity import cpu_seconds
from support.processes import Service, service
from support.servers import PostgresServer, RedisServer
from support.waiting import wait_until
from voicebus.adapters.database import migrate
from voicebus.contracts.envelope import entry_fields
from voicebus.contracts.streams import ARCHIVER_GROUP, Keys

LEAST = 5_000
"""Events a second that one process must keep up with."""
MOST_MB = 300
"""Resident memory of the archiver, whatever the backlog."""

_TURNS = 12
_AT_ONCE = 500
_CHUNK = 1_000
_KEYS = Keys()
_DATA: dict[str, dict[str, Any]] = {
    "session_started": {
        "agent": "front_desk", "tenant": "acme", "model": "gpt-realtime", "face": "native",
        "audio": {"input": {"type": "audio/pcm", "rate": 24000}, "output": {"type": "audio/pcm", "rate": 24000}},
    },
    "user": {"role": "user", "agent": "front_desk", "text": "What is the weather in Paris on the day after tomorrow?"},
    "assistant": {
        "role": "assistant", "agent": "front_desk", "text": "It will be sunny in Paris, with 24 degrees. " * 3,
    },
    "tool": {
        "tool": "get_weather", "arguments": '{"city": "Paris", "day": "2026-12-01"}', "agent": "front_desk",
        "started_ms": 100,
    },
    "turn": {
        "agent": "front_desk", "status": "completed",
        "latencies": {"total": 2311.5, "first_audio": 401.2, "first_text": 322.1},
        "usage": {
            "total_tokens": 900, "input_tokens": 700, "output_tokens": 200,
            "input_token_details": {"text_tokens": 300, "audio_tokens": 400, "cached_tokens": 256},
            "output_token_details": {"text_tokens": 50, "audio_tokens": 150},
        },
    },
}  # fmt: skip


def _conversation() -> list[tuple[str, dict[str, Any]]]:
    told: list[tuple[str, dict[str, Any]]] = [("session_started", _DATA["session_started"])]
    for turn in range(_TURNS):
        place = {"started_ms": 4_000 * turn, "ended_ms": 4_000 * turn + 1_500}
        told.append(("item_recorded", {**_DATA["user"], **place, "item_id": f"item_{turn}_user"}))
        if turn % 3 == 0:
            call = {**_DATA["tool"], "call_id": f"call_{turn}", "item_id": f"item_{turn}_call"}
            told.append(("tool_start", call))
            ends = {"output": '{"sky": "sunny"}', "outcome": "ok", "worker": "worker-1-abcdef", "ended_ms": 140}
            told.append(("tool_end", {**call, **ends}))
        told.append(("item_recorded", {**_DATA["assistant"], **place, "item_id": f"item_{turn}_assistant"}))
        told.append(("turn_ended", {**_DATA["turn"], "response_id": f"resp_{turn}"}))
    told.append(("session_ended", {"reason": "hangup", "duration_ms": 4_000 * _TURNS}))
    return told


def entries(run: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Shard and fields of one event after the other, of conversations that go on side by side; without end."""
    script = [(type_, msgspec.json.encode(data).decode()) for type_, data in _conversation()]
    for wave in itertools.count():
        names = [f"sess_{run}_{wave}_{number}" for number in range(_AT_ONCE)]
        shards = [_KEYS.event_shard(name) for name in names]
        for seq, (type_, data) in enumerate(script, start=1):
            for name, shard in zip(names, shards, strict=True):
                at = time.time_ns() // 1_000_000
                yield shard, entry_fields(f"{name}-{seq}", type_, name, 1, at, data, seq=seq)


def chunks(source: Iterator[tuple[int, dict[str, str]]], count: int) -> Iterator[list[tuple[int, dict[str, str]]]]:
    wanted = itertools.islice(source, count)
    while chunk := list(itertools.islice(wanted, _CHUNK)):
        yield chunk


async def record(url: str, source: Iterator[tuple[int, dict[str, str]]], count: int) -> None:
    """Put so many events on the streams as fast as Redis takes them."""
    async with redis.asyncio.from_url(url) as client:
        for chunk in chunks(source, count):
            async with client.pipeline(transaction=False) as pipe:
                for shard, fields in chunk:
                    pipe.xadd(_KEYS.events(shard), fields)  # type: ignore[arg-type]
                await pipe.execute()


async def waiting(client: Any) -> int:
    """Events that are not archived and acknowledged yet."""
    left = 0
    for shard in range(_KEYS.event_shards):
        stream = _KEYS.events(shard)
        groups = await client.xinfo_groups(stream) if await client.exists(stream) else []
        ours = [group for group in groups if group["name"].decode() == ARCHIVER_GROUP]
        left += sum((group["lag"] or 0) + group["pending"] for group in ours) if ours else await client.xlen(stream)
    return left


@dataclass(frozen=True)
class Spent:
    seconds: float
    cpu_s: float
    peak_mb: float


async def drained(url: str, running: Service) -> Spent:
    began, used = time.monotonic(), cpu_seconds(running.pid)
    async with redis.asyncio.from_url(url) as client:

        async def done() -> bool:
            return not await waiting(client)

        await wait_until(done, description="everything to be archived", timeout=1_800, interval=0.5)
    return Spent(time.monotonic() - began, cpu_seconds(running.pid) - used, peak_mb(running.pid))


def peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


def bare_copy(url: str) -> float:
    """Seconds of a COPY of the archived events into a table without keys, as one command and one commit."""
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        rows = connection.execute("SELECT session, seq, type, at, data::text FROM events").fetchall()
        connection.execute("CREATE TABLE bare (session text, seq integer, type text, at bigint, data json)")
        connection.commit()
        began = time.monotonic()
        with connection.cursor().copy("COPY bare FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        connection.commit()
        seconds = time.monotonic() - began
        connection.execute("DROP TABLE bare")
        return seconds


@contextlib.asynccontextmanager
async def archiver(url: str, database: str) -> AsyncIterator[Service]:
    environment = {
        "VOICEBUS_REDIS_URL": url, "VOICEBUS_DATABASE_URL": database, "VOICEBUS_HTTP_PORT": "0",
        "VOICEBUS_LOG_LEVEL": "info",
    }  # fmt: skip
    async with service("transcript-archiver", environment=environment) as running:
        os.sched_setaffinity(running.pid, sorted(os.sched_getaffinity(0))[:1])
        yield running


async def steady(url: str, running: Service, rate: int, seconds: float) -> tuple[float, float]:
    """Record at a rate; the most that waited, and how long the archiver still needed at the end."""
    source, most = entries("steady"), 0
    tick = 0.05
    async with redis.asyncio.from_url(url) as client:
        began = time.monotonic()
        for number in range(round(seconds / tick)):
            await record(url, source, round(rate * tick))
            if number % 20 == 0:
                most = max(most, await waiting(client))
            await asyncio.sleep(max(0.0, began + (number + 1) * tick - time.monotonic()))
    return most, (await drained(url, running)).seconds


async def measure(events: int, rate: int, seconds: float) -> bool:
    with RedisServer() as bus, PostgresServer(durable=True) as postgres:
        migrate.upgrade(postgres.url)
        await record(bus.url, entries("backlog"), events)
        async with archiver(bus.url, postgres.url) as running:
            spent = await drained(bus.url, running)
            copied = bare_copy(postgres.url)
            most, late = await steady(bus.url, running, rate, seconds)
    per_second = events / spent.seconds
    own = (
        f"{spent.cpu_s / events * 1e6:.0f} us of processor time each ({events / spent.cpu_s:,.0f} events/s of one core)"
    )
    print(f"backlog of {events:,} events: {per_second:,.0f} events/s, {own}, memory at most {spent.peak_mb:.0f} MB")
    print(f"bare COPY of the same events: {events / copied:,.0f} events/s, {spent.seconds / copied:.1f} times as fast")
    print(f"steady {rate:,} events/s for {seconds:g} s: at most {most:,} waited, done {late:.1f} s after the last")
    return per_second >= LEAST and late < seconds / 10 and spent.peak_mb < MOST_MB


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rate", type=int, default=LEAST)
    parser.add_argument("--seconds", type=float, default=20.0)
    given = parser.parse_args()
    return 0 if asyncio.run(measure(given.events, given.rate, given.seconds)) else 1


if __name__ == "__main__":
    raise SystemExit(main())
