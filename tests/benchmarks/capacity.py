"""How many conversations one gateway process carries on one core, beside a plain relay under the same load.

    python -m benchmarks.capacity [--sessions 100] [--seconds 20]

Core 0 belongs to what is measured (the gateway, then the relay), core 1 to everything else: the load, the model and
Redis. CPU is what the kernel charged to the measured process, so a busy machine changes latencies, not that figure.
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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.load import Measured, carry, model_server
from support.servers import RedisServer
from voicebus.runtime.lifecycle import run

TESTS = Path(__file__).resolve().parents[1]
AGENTS = """
from voicebus.agents.agent import RealtimeAgent
from voicebus.agents.tools.function_tool import function_tool

@function_tool
def look_up(thing: str) -> str:
    "Look something up."
    return thing

agent = RealtimeAgent(name="bench", instructions="Talk.", tools=[look_up])
"""
GATEWAY = """
from voicebus.runtime.lifecycle import run
from voicebus.telemetry.logging import configure
from voicebus_services.gateway.wiring import serve
from voicebus_services.settings import GatewaySettings
configure(service="gateway", level="warning")
run(serve(GatewaySettings(), ["bench_agents"], ready=lambda port: print(port, flush=True)))
"""


@dataclass(frozen=True, slots=True)
class Result:
    """One measured process. `cpu_ms` is CPU per session and second of conversation."""

    name: str
    sessions: int
    cpu_ms: float
    core_used: float
    p50_ms: float
    p99_ms: float

    @property
    def sessions_per_core(self) -> int:
        return int(1000 / self.cpu_ms)


@contextmanager
def measured_process(command: list[str], core: int, **environment: str) -> Iterator[tuple[int, int]]:
    """Run a process on one core; gives its pid and the port that it prints."""
    process = subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: settle_on(core),  # noqa: PLW1509 - no threads here yet
    )
    try:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def settle_on(core: int) -> None:
    """Bind this process to a core, ahead of the machine's other work where that is permitted."""
    os.sched_setaffinity(0, {core})
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -5)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(name: str, url: str, pid: int, sessions: int, seconds: float, measured: Measured) -> Result:
    measured.to_model.clear()
    measured.to_client.clear()
    cpu_s, wall_s = await carry(url, sessions, seconds, 3.0, lambda: cpu_seconds(pid), measured)
    ages = sorted(measured.to_model + measured.to_client)
    expected = sessions * wall_s / 0.05 * 2
    if len(ages) < 0.9 * expected:
        raise SystemExit(f"{name}: only {len(ages)} of {expected:.0f} frames arrived; the machine is too busy")
    return Result(
        name,
        sessions,
        cpu_ms=round(cpu_s / wall_s / sessions * 1000, 3),
        core_used=round(cpu_s / wall_s, 3),
        p50_ms=round(statistics.median(ages), 2),
        p99_ms=round(ages[int(len(ages) * 0.99)], 2),
    )


async def benchmark(sessions: int, seconds: float, redis_url: str) -> list[Result]:
    measured = Measured()
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "bench_agents.py").write_text(AGENTS)
        async with model_server(measured) as model:
            model_url = f"ws://127.0.0.1:{model.port}/v1/realtime"
            settings = {
                "PYTHONPATH": os.pathsep.join([folder, str(TESTS)]),
                "VOICEBUS_REDIS_URL": redis_url,
                "VOICEBUS_MODEL_URL": model_url,
                "VOICEBUS_HTTP_PORT": "0",
                "VOICEBUS_OPS_PORT": "0",
                "VOICEBUS_DRAIN_TIMEOUT": "0",
                "VOICEBUS_MAX_SESSIONS": "10000",
            }
            relay = [sys.executable, "-m", "benchmarks.relay", model_url]
            gateway = [sys.executable, "-c", GATEWAY]
            for name, command, path in (("websockets relay", relay, "/"), ("gateway", gateway, "/v1/realtime")):
                with measured_process(command, 0, **settings) as (pid, port):
                    url = f"ws://127.0.0.1:{port}{path}"
                    results.append(await measure(name, url, pid, sessions, seconds, measured))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sessions", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    settle_on(max(os.sched_getaffinity(0)))
    with RedisServer() as server:
        relay, gateway = run(benchmark(options.sessions, options.seconds, server.url))
    ratio = gateway.cpu_ms / relay.cpu_ms
    if options.json:
        print(json.dumps({"results": [asdict(relay), asdict(gateway)], "cpu_ratio": round(ratio, 3)}))
        return
    columns = ("sessions", "CPU ms/session-s", "core used", "p50 ms", "p99 ms", "sessions/core")
    print(" " * 18 + "".join(f"{column:>18}" for column in columns))
    for row in (relay, gateway):
        values = (row.sessions, row.cpu_ms, row.core_used, row.p50_ms, row.p99_ms, row.sessions_per_core)
        print(f"{row.name:18}" + "".join(f"{value:18}" for value in values))
    print(f"the gateway, with engine, Redis and checks of every frame, takes {ratio:.2f} of the relay's CPU")


if __name__ == "__main__":
    main()
