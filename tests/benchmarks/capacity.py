"""What one gateway process takes of a core, and adds to a frame's way, beside plain relays under the same load.

    python -m benchmarks.capacity [--sessions 50 100] [--seconds 10] [--rounds 3]

Core 0 belongs to what is measured (the relays, then the gateway), core 1 to everything else: the load, the model, Redis
and the guardrail worker. All of it runs ahead of the machine's other work where that is permitted: held up, frames come
several at a time, and a frame among others costs half as much as one that comes alone, as it does in a call. What else
runs makes everything dearer even so, by caches and cores that are shared: compare what one run has measured. Everything
is on: the engine, streams, records, metrics, and a guardrail that judges every answer. Each figure is the median of its
rounds; what is added is counted from the same load without anything between.
"""

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from benchmarks.load import Measured, carry, model_server
from support.servers import RedisServer, free_port
from voicebus.runtime.lifecycle import run
from voicebus_services.dev.processes import is_ready

TESTS: Final = Path(__file__).resolve().parents[1]
AGENTS: Final = """
from voicebus import GuardrailFunctionOutput, RealtimeAgent, function_tool, output_guardrail

@function_tool
def look_up(thing: str) -> str:
    "Look something up."
    return thing

@output_guardrail
def manners(context, agent, text):
    return GuardrailFunctionOutput(None, "rude" in text)

agent = RealtimeAgent(name="bench", instructions="Talk.", tools=[look_up], output_guardrails=[manners])
"""
GATEWAY: Final = """
from voicebus.runtime.lifecycle import run
from voicebus.telemetry.logging import configure
from voicebus_services.gateway.wiring import serve
from voicebus_services.settings import GatewaySettings
configure(service="gateway", level="warning")
run(serve(GatewaySettings(), ["bench_agents"], ready=lambda port: print(port, flush=True)))
"""
DIRECT: Final = "nothing between"


@dataclass(frozen=True, slots=True)
class Result:
    """One measured process. `cpu_ms` is CPU per session and second of conversation, ages of frames are in ms."""

    name: str
    sessions: int
    cpu_ms: float
    p50_ms: float
    p99_ms: float


@contextmanager
def process_on(core: int, command: Sequence[str], **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run a process on one core; stopped at the end."""
    process = subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: settle_on(core),  # noqa: PLW1509 - no threads here yet
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def port_of(process: subprocess.Popen[str]) -> int:
    """The port that it prints."""
    assert process.stdout is not None
    return int(process.stdout.readline())


def settle_on(core: int) -> None:
    """Bind this process to a core, ahead of the machine's other work where that is permitted."""
    os.sched_setaffinity(0, {core})
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -5)


def come_first() -> None:
    """Run this process, and what it starts, as soon as there is something to do, where that is permitted."""
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(os.sched_get_priority_min(os.SCHED_FIFO)))


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(name: str, url: str, pid: int | None, sessions: int, seconds: float, measured: Measured) -> Result:
    measured.to_model.clear()
    measured.to_client.clear()
    used = (lambda: cpu_seconds(pid)) if pid is not None else (lambda: 0.0)
    cpu_s, wall_s = await carry(url, sessions, seconds, 3.0, used, measured)
    ages = sorted(measured.to_model + measured.to_client)
    expected = sessions * wall_s / 0.05 * 2
    if len(ages) < 0.9 * expected:
        raise SystemExit(f"{name}: only {len(ages)} of {expected:.0f} frames arrived; the machine is too busy")
    return Result(
        name, sessions, cpu_s / wall_s / sessions * 1000, statistics.median(ages), ages[int(len(ages) * 0.99)]
    )


async def benchmark(counts: Sequence[int], seconds: float, rounds: int, redis_url: str) -> list[Result]:
    measured = Measured()
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "bench_agents.py").write_text(AGENTS)
        async with model_server(measured) as model:
            model_url = f"ws://127.0.0.1:{model.port}/v1/realtime"
            settings = settings_of(folder, redis_url, model_url)
            relays = {
                "websockets relay": ([sys.executable, "-m", "benchmarks.relay", model_url], "/"),
                "picows relay": ([sys.executable, "-m", "benchmarks.picows_relay", model_url], "/"),
                "gateway": ([sys.executable, "-c", GATEWAY], "/v1/realtime"),
            }
            with guardrail_worker(settings):
                for _ in range(rounds):
                    for sessions in counts:
                        results.append(await measure(DIRECT, model_url, None, sessions, seconds, measured))
                        for name, (command, path) in relays.items():
                            with process_on(0, command, **settings) as process:
                                url = f"ws://127.0.0.1:{port_of(process)}{path}"
                                results.append(await measure(name, url, process.pid, sessions, seconds, measured))
    return [median(results, name, sessions) for sessions in counts for name in (DIRECT, *relays)]


def settings_of(folder: str, redis_url: str, model_url: str) -> dict[str, str]:
    """Of every process: the agents in `folder`, free ports, and a gateway that takes any number of sessions."""
    return {
        "PYTHONPATH": os.pathsep.join([folder, str(TESTS)]),
        "VOICEBUS_REDIS_URL": redis_url,
        "VOICEBUS_MODEL_URL": model_url,
        "VOICEBUS_HTTP_PORT": "0",
        "VOICEBUS_OPS_PORT": "0",
        "VOICEBUS_DRAIN_TIMEOUT": "0",
        "VOICEBUS_MAX_SESSIONS": "10000",
        "VOICEBUS_LOG_LEVEL": "warning",
    }


@contextmanager
def guardrail_worker(settings: dict[str, str]) -> Iterator[None]:
    """Somebody who judges, on the load's core."""
    ops_port = free_port()
    command = [sys.executable, "-m", "voicebus_services.cli", "guardrail-worker", "bench_agents"]
    with process_on(1, command, **{**settings, "VOICEBUS_OPS_PORT": str(ops_port)}) as process:
        while not is_ready(ops_port):
            if process.poll() is not None:
                raise SystemExit("the guardrail worker did not start; its complaint stands above")
            os.sched_yield()
        yield


def median(results: Sequence[Result], name: str, sessions: int) -> Result:
    same = [result for result in results if (result.name, result.sessions) == (name, sessions)]
    figures = {key: statistics.median(getattr(each, key) for each in same) for key in ("cpu_ms", "p50_ms", "p99_ms")}
    return Result(name, sessions, **figures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sessions", type=int, nargs="+", default=[50, 100])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    settle_on(max(os.sched_getaffinity(0)))
    come_first()
    with RedisServer() as server:
        results = run(benchmark(options.sessions, options.seconds, options.rounds, server.url))
    if options.json:
        print(json.dumps([asdict(result) for result in results]))
        return
    columns = ("sessions", "CPU ms/session-s", "added p50 ms", "added p99 ms", "sessions/core")
    print(" " * 18 + "".join(f"{column:>18}" for column in columns))
    for direct, *others in (results[start : start + 4] for start in range(0, len(results), 4)):
        for row in others:
            added = f"{row.p50_ms - direct.p50_ms:18.2f}{row.p99_ms - direct.p99_ms:18.2f}"
            print(f"{row.name:18}{row.sessions:18}{row.cpu_ms:18.3f}{added}{1000 / row.cpu_ms:18.0f}")
        websockets, picows, gateway = (row.cpu_ms for row in others)
        print(
            f"{'':18}the gateway takes {gateway / websockets:.2f} of the websockets relay's CPU"
            f" and {gateway / picows:.2f} of the picows relay's"
        )


if __name__ == "__main__":
    main()
