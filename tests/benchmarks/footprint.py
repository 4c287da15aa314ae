"""What each service costs at rest: memory (PSS, which shares out what processes share) and time from start to ready.

python -m benchmarks.footprint [SERVICE ...]
"""

import argparse
import asyncio
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from support.cluster import ROOT, ClusterUnderTest
from support.servers import RedisServer
from voicebus_services.dev.processes import service_arguments

LIMIT_MB = 150
READY_S = 3.0
SERVICES = ("model-simulator", "gateway", "tool-worker", "guardrail-worker", "transcript-archiver")


def pss_mb(pid: int) -> float:
    """A process's proportional set size."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"no Pss of process {pid}")


async def measure(services: Sequence[str]) -> list[tuple[str, float, float]]:
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
                ready_s = time.monotonic() - began
                await asyncio.sleep(1.0)  # at rest: what starting needed has been given back
                rows.append((name, pss_mb(service.pid), ready_s))
        finally:
            for running in list(cluster.services.values()):
                for service in list(running):
                    await cluster.stop(service)
        return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("services", nargs="*", help="all of them by default")
    options = parser.parse_args()
    print(f"{'service':22}{'PSS MB':>8}{'ready s':>9}")
    worst = 0
    for name, memory, ready_s in asyncio.run(measure(options.services or SERVICES)):
        good = memory < LIMIT_MB and ready_s < READY_S
        worst |= not good
        print(f"{name:22}{memory:8.1f}{ready_s:9.2f}{'' if good else '  over the limit'}")
    raise SystemExit(worst)


if __name__ == "__main__":
    main()
