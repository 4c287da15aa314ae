"""What each service costs at rest, and until it is ready: memory and CPU, which do not depend on what else runs.

python -m benchmarks.footprint [SERVICE ...]

Memory is RSS, which counts whole what processes share, so that a neighbour of the same kind makes it no smaller; PSS
beside it shares that out. CPU is what the kernel charged to the process from its start until it was ready: how long
that took on the clock is told and not judged, as on a busy machine it says more of the neighbours.
"""

import argparse
import asyncio
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.capacity import cpu_seconds
from support.cluster import ROOT, ClusterUnderTest
from support.servers import RedisServer
from voicebus_services.dev.processes import service_arguments

LIMIT_MB = 150
READY_CPU_S = 3.0
SERVICES = ("model-simulator", "gateway", "tool-worker", "guardrail-worker", "transcript-archiver")


@dataclass(frozen=True)
class Footprint:
    """Of one service: resident and proportional set size in MB, CPU and clock until it was ready in seconds."""

    service: str
    rss: float
    pss: float
    cpu_s: float
    clock_s: float

    @property
    def good(self) -> bool:
        return self.rss < LIMIT_MB and self.cpu_s < READY_CPU_S


def memory_mb(pid: int) -> tuple[float, float]:
    """A process's resident and proportional set size."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {name: int(rest.split()[0]) / 1024 for name, rest in (line.split(":", 1) for line in lines)}
    return sizes["Rss"], sizes["Pss"]


async def measure(services: Sequence[str]) -> list[Footprint]:
    with RedisServer() as redis, tempfile.TemporaryDirectory() as folder:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("VOICEBUS_", "OPENAI_"))},
            "PYTHONPATH": str(ROOT),
            "VOICEBUS_REDIS_URL": redis.url,
            "VOICEBUS_DATABASE_URL": f"sqlite:///{folder}/voicebus.db",
            "VOICEBUS_MODEL_URL": "ws://127.0.0.1:1/v1/realtime",
            "VOICEBUS_LOG_LEVEL": "warning",
        }
        cluster = ClusterUnderTest(environment, ["examples.front_desk"])
        rows = []
        try:
            if "transcript-archiver" in services:
                command = service_arguments("migrate")
                subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
            for name in services:
                began = time.monotonic()
                service = await cluster.start(name)
                clock_s, cpu_s = time.monotonic() - began, cpu_seconds(service.pid)
                await asyncio.sleep(1.0)  # at rest: what starting needed has been given back
                rows.append(Footprint(name, *memory_mb(service.pid), cpu_s, clock_s))
        finally:
            for running in list(cluster.services.values()):
                for service in list(running):
                    await cluster.stop(service)
        return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("services", nargs="*", help="all of them by default")
    options = parser.parse_args()
    found = asyncio.run(measure(options.services or SERVICES))
    print(f"{f'limits: {LIMIT_MB} MB, {READY_CPU_S:g} s':22}{'RSS MB':>8}{'PSS MB':>8}{'CPU s':>8}{'(clock)':>9}")
    for one in found:
        print(
            f"{one.service:22}{one.rss:8.1f}{one.pss:8.1f}{one.cpu_s:8.2f}{one.clock_s:9.2f}"
            f"{'' if one.good else '  over the limit'}"
        )
    raise SystemExit(not all(one.good for one in found))


if __name__ == "__main__":
    main()
