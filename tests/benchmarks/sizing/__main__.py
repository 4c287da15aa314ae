"""What one call costs Redis, gateways, workers, archivers and PostgreSQL, and what so many calls need.

    python -m benchmarks.sizing [--sessions 40] [--seconds 10] [--calls 2000] [--events 46000] [--json]

CPU is what the kernel charged to each process, so a busy machine changes little; conversations are counted in
session-seconds that were really carried, by their frames. What the idle cluster takes is left out. docs/operations.md
(*Sizing*) holds the figures of one run, and the plan that follows from them.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
import redis

from benchmarks.archiver import archiver, drained, entries, record
from benchmarks.capacity import AGENTS, GATEWAY, cpu_seconds, port_of, process_on, settings_of, settle_on
from benchmarks.load import Client, Measured, model_server
from benchmarks.sizing.plan import Figures, Habits, plan, rows
from support.servers import PostgresServer, RedisServer, free_port
from support.tool_calls import calling
from support.waiting import wait_until
from voicebus.adapters.database import migrate
from voicebus.adapters.sockets.dialling import connect
from voicebus.contracts.streams import Keys
from voicebus.contracts.tools import TOOL_RESULT
from voicebus_services.dev.processes import is_ready

FRAMES_PER_SESSION_SECOND: Final = 40
IN_FLIGHT: Final = 20
PLANS: Final = (1_000, 10_000, 100_000)


@dataclass(frozen=True)
class Redis:
    """What a server has done so far; `cpu` in s."""

    cpu: float
    commands: int
    read: int
    written: int
    memory: int

    def __sub__(self, other: "Redis") -> "Redis":
        return Redis(*(getattr(self, name) - getattr(other, name) for name in self.__dataclass_fields__))


def redis_so_far(url: str) -> Redis:
    with redis.Redis.from_url(url) as client:
        told: dict[str, Any] = client.info("all")
    return Redis(
        told["used_cpu_user"] + told["used_cpu_sys"],
        told["total_commands_processed"],
        told["total_net_input_bytes"],
        told["total_net_output_bytes"],
        told["used_memory"],
    )


@dataclass(frozen=True)
class Held:
    """What Redis holds of conversations beside their recorded events: bytes, and how many items these are for."""

    memory: int
    items: int


def held(url: str, keys: Keys) -> Held:
    with redis.Redis.from_url(url) as client:
        streams = [keys.events(shard) for shard in range(keys.event_shards)]
        waiting = sum(client.memory_usage(stream, samples=0) or 0 for stream in streams)
        items = sum(client.hlen(key) for key in client.scan_iter(f"{keys.prefix}:session:*:items", count=1_000))
        return Held(int(client.info("memory")["used_memory"]) - waiting, items)


def resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def family_cpu(parent: int) -> float:
    """CPU of a process and its children, also of those that have ended; PostgreSQL's are in groups of their own."""
    used = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, _, rest = stat.read_text().partition(" (")
        except OSError:  # it ended meanwhile
            continue
        fields = rest.rpartition(")")[2].split()
        if int(number) == parent:
            used += sum(int(one) for one in fields[11:15])
        elif int(fields[1]) == parent:
            used += int(fields[11]) + int(fields[12])
    return used / os.sysconf("SC_CLK_TCK")


@contextmanager
def worker(command: str, settings: dict[str, str]) -> Iterator[int]:
    """A worker process of the benchmark's agents; its pid, once it takes work."""
    ops_port = free_port()
    arguments = [sys.executable, "-m", "voicebus_services.cli", command, "bench_agents"]
    with process_on(1, arguments, **{**settings, "VOICEBUS_OPS_PORT": str(ops_port)}) as process:
        while not is_ready(ops_port):
            if process.poll() is not None:
                raise SystemExit(f"the {command} did not start; its complaint stands above")
            os.sched_yield()
        yield process.pid


async def conversations(redis_url: str, sessions: int, seconds: float) -> dict[str, float]:
    """What a second of one conversation costs, with a turn every five seconds, each judged and recorded."""
    measured = Measured()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "bench_agents.py").write_text(AGENTS)
        async with AsyncExitStack() as stack:
            model = await stack.enter_async_context(model_server(measured))
            settings = settings_of(folder, redis_url, f"ws://127.0.0.1:{model.port}/v1/realtime")
            judge = stack.enter_context(worker("guardrail-worker", settings))
            process = stack.enter_context(process_on(0, [sys.executable, "-c", GATEWAY], **settings))
            url = f"ws://127.0.0.1:{await asyncio.to_thread(port_of, process)}/v1/realtime"
            pids = {"gateway_ms": process.pid, "guardrail_ms": judge}
            await asyncio.sleep(2)
            began, empty_mb = redis_so_far(redis_url), resident_mb(process.pid)
            nothing = held(redis_url, Keys())
            used = {name: cpu_seconds(pid) for name, pid in pids.items()}
            await asyncio.sleep(seconds / 2)
            idle = redis_so_far(redis_url) - began
            idle_cpu = {name: cpu_seconds(pid) - used[name] for name, pid in pids.items()}
            clients = [Client(measured) for _ in range(sessions)]
            sockets = [await connect(url, client, headers={}, timeout_s=30) for client in clients]
            await asyncio.gather(*(client.talks.wait() for client in clients))
            await asyncio.sleep(3)
            early = held(redis_url, Keys())
            before, used = redis_so_far(redis_url), {name: cpu_seconds(pid) for name, pid in pids.items()}
            measured.on = True
            await asyncio.sleep(seconds)
            measured.on = False
            spent = redis_so_far(redis_url) - before
            carried = (len(measured.to_model) + len(measured.to_client)) / FRAMES_PER_SESSION_SECOND
            figures = {
                name: (cpu_seconds(pid) - used[name] - 2 * idle_cpu[name]) / carried * 1000
                for name, pid in pids.items()
            }
            full_mb, late = resident_mb(process.pid), held(redis_url, Keys())
            item = (late.memory - early.memory) / (late.items - early.items)
            for socket in sockets:
                socket.close()
            await asyncio.gather(*(socket.wait_closed() for socket in sockets))
    return {
        **figures,
        "gateway_mb": (full_mb - empty_mb) / sessions,
        "gateway_process_mb": empty_mb,
        "redis_ms": (spent.cpu - 2 * idle.cpu) / carried * 1000,
        "redis_commands": (spent.commands - 2 * idle.commands) / carried,
        "redis_in": (spent.read - 2 * idle.read) / carried,
        "redis_out": (spent.written - 2 * idle.written) / carried,
        "redis_state": (late.memory - nothing.memory - late.items * item) / sessions,
        "redis_item": item,
    }


async def tool_calls(redis_url: str, count: int) -> dict[str, float]:
    """What a tool call costs, twenty at once; the tool itself does nothing."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "bench_agents.py").write_text(AGENTS)
        with worker("tool-worker", settings_of(folder, redis_url, "ws://127.0.0.1:1/v1/realtime")) as pid:
            async with calling(redis_url, Keys()) as caller:
                before, used = redis_so_far(redis_url), cpu_seconds(pid)
                for first in range(0, count, IN_FLIGHT):
                    for number in range(first, first + IN_FLIGHT):
                        caller.call(
                            "look_up", '{"thing": "a"}', call_id=f"c{number}", queue="default", timeout_ms=60_000
                        )
                    done = first + IN_FLIGHT

                    def answered(wanted: int = done) -> bool:
                        return sum(entry.type == TOOL_RESULT for entry in caller.received) >= wanted

                    await wait_until(answered, description="the results", timeout=60, interval=0.001)
                spent, cpu = redis_so_far(redis_url) - before, cpu_seconds(pid) - used
    return {
        "call_worker_us": cpu / count * 1e6,
        "call_redis_us": spent.cpu / count * 1e6,
        "call_redis_commands": spent.commands / count,
        "call_redis_in": spent.read / count,
        "call_redis_out": spent.written / count,
        "call_redis_bytes": spent.memory / count,
    }


async def archive(count: int) -> dict[str, float]:
    """What a recorded event costs from its stream to the disk."""
    with RedisServer() as bus, PostgresServer(durable=True) as postgres:
        migrate.upgrade(postgres.url)
        empty = redis_so_far(bus.url).memory
        await record(bus.url, entries("sizing"), count)
        waiting = redis_so_far(bus.url).memory - empty
        size, used = database_bytes(postgres.url), family_cpu(postgres.pid)
        async with archiver(bus.url, postgres.url) as running:
            spent = await drained(bus.url, running)
        return {
            "event_archiver_us": spent.cpu_s / count * 1e6,
            "event_postgres_us": (family_cpu(postgres.pid) - used) / count * 1e6,
            "event_redis_bytes": waiting / count,
            "event_row_bytes": (database_bytes(postgres.url) - size) / count,
        }


def database_bytes(url: str) -> int:
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    assert row is not None
    return int(row[0])


async def measure(sessions: int, seconds: float, calls: int, events: int, rounds: int) -> Figures:
    """The median of each figure."""
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        with RedisServer(persistent=True) as bus:
            talk = await conversations(bus.url, sessions, seconds)
        with RedisServer(persistent=True) as bus:
            work = await tool_calls(bus.url, calls)
        for name, value in {**talk, **work, **await archive(events)}.items():
            found.setdefault(name, []).append(value)
    return Figures(**{name: statistics.median(values) for name, values in found.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=40, help="conversations at once")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--calls", type=int, default=2_000, help="tool calls")
    parser.add_argument("--events", type=int, default=46_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    settle_on(max(os.sched_getaffinity(0)))
    figures = asyncio.run(measure(given.sessions, given.seconds, given.calls, given.events, given.rounds))
    if given.json:
        print(json.dumps(asdict(figures)))
        return
    for name, value in asdict(figures).items():
        print(f"| `{name}` | {value:.4g} |")
    habits = Habits()
    print(f"\n| {habits.minutes:g} minutes a call | " + " | ".join(f"{calls:,}" for calls in PLANS) + " |")
    for name, values in rows([plan(calls, figures, habits) for calls in PLANS]):
        print(f"| {name} | " + " | ".join(values) + " |")


if __name__ == "__main__":
    main()
