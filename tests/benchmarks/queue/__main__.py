"""What a hop over the queue costs: send a call, run a no-op, see the answer; beside other queues on the same Redis.

    python -m benchmarks.queue [--low 1000] [--pause MS] [--load 10000] [--rounds 1] [--only voicebus --only faststream]

Ours runs with all that it promises: heartbeats, a claim before the start, the result kept before it is sent, the
acknowledgement after it. Each worker is started as its own documentation says, and all drivers run on the loop that a
service runs on (uvloop). Counted are round trips at low load (one call at a time, with a pause before each where one is
given: then processors sleep and caches are cold) and, under load, the messages per second of CPU that the one worker
process used, so that a busy machine changes little. Of several rounds, in each of which all have their turn, the median
of each figure and of each ratio counts.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.queue.peers import python_of
from support.servers import RedisServer

PROGRAMS: Final = Path(__file__).parent / "programs"


@dataclass(frozen=True)
class Queue:
    """One contestant. `worker` is its command; a `peer` runs in its own environment."""

    name: str
    program: str
    worker: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    peer: str | None = None

    def command(self, role: str, url: str, *more: str) -> list[str]:
        return [str(self.python), str(PROGRAMS / self.program), role, url, *more]

    @property
    def python(self) -> Path:
        return python_of(self.peer) if self.peer else Path(sys.executable)


VOICEBUS: Final = Queue(
    "voicebus", "voicebus_queue.py",
    ("{bin}/voicebus", "tool-worker", "voicebus_queue", "--redis-url", "{url}", "--concurrency", "200",
     "--ops-port", "0", "--log-level", "warning"),
)  # fmt: skip
RAW: Final = Queue(
    "raw-pipelined", "raw_streams.py", ("{python}", "raw_streams.py", "work", "{url}"), {"RAW_PIPELINED": "1"}
)
RAW_SINGLE: Final = Queue("raw-single", "raw_streams.py", ("{python}", "raw_streams.py", "work", "{url}"))
PEERS: Final = (
    Queue(
        "faststream", "on_faststream.py", ("{bin}/faststream", "run", "on_faststream:app"), peer="faststream"
    ),
    Queue(
        "taskiq", "on_taskiq.py",
        ("{bin}/taskiq", "worker", "--workers", "1", "--max-async-tasks", "200", "--log-level", "ERROR",
         "on_taskiq:broker"),
        peer="taskiq",
    ),
    Queue("docket", "on_docket.py", ("{python}", "on_docket.py", "work", "{url}"), peer="docket"),
    Queue("arq", "on_arq.py", ("{bin}/arq", "on_arq.WorkerSettings"), peer="arq"),
    Queue(
        "celery", "on_celery.py",
        ("{bin}/celery", "-A", "on_celery", "worker", "--concurrency", "1", "--loglevel", "ERROR"), peer="celery",
    ),
)  # fmt: skip
QUEUES: Final = (VOICEBUS, RAW, RAW_SINGLE, *PEERS)


@contextmanager
def working(queue: Queue, url: str) -> Iterator[int]:
    """One worker process of `queue`."""
    names = {"python": str(queue.python), "bin": str(queue.python.parent), "url": url}
    command = [part.format(**names) for part in queue.worker]
    environment = {**os.environ, **queue.environment, "BENCH_REDIS_URL": url, "PYTHONPATH": str(PROGRAMS)}
    process = subprocess.Popen(
        command, cwd=PROGRAMS, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def cpu_of(pid: int) -> float:
    """CPU seconds of a worker and what it started."""
    # Its children's are among what it has waited for only once they ended: those that live are asked themselves.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    ticks = sum(int(value) for value in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK") + sum(cpu_of(int(child)) for child in children)


def drive(queue: Queue, role: str, url: str, count: int) -> dict[str, Any]:
    environment = {**os.environ, **queue.environment, "BENCH_REDIS_URL": url}
    ran = subprocess.run(
        queue.command(role, url, str(count)), cwd=PROGRAMS, env=environment, stdout=subprocess.PIPE, text=True,
        check=True, timeout=600,
    )  # fmt: skip
    report: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return report


def measure(queue: Queue, *, low: int, load: int) -> dict[str, float]:
    with RedisServer() as server:
        url = server.url
        with working(queue, url) as worker:
            found: dict[str, float] = drive(queue, "low", url, low)
            if load:
                before = cpu_of(worker)
                loaded = drive(queue, "load", url, load)
                # What follows the last answer belongs to it too.
                time.sleep(0.5)
                used = cpu_of(worker) - before
                found |= {"per_s": load / loaded["wall_s"], "per_core_s": load / used}
    return found


def compared(ours: Sequence[dict[str, float]], others: Sequence[Sequence[dict[str, float]]]) -> str:
    """Ours to the best of the others in each round, in words."""
    rounds = list(zip(ours, *others, strict=True))
    latency = statistics.median(own["p50_ms"] / min(row["p50_ms"] for row in rows) for own, *rows in rounds)
    if "per_core_s" not in ours[0]:
        return f"p50 {latency:.2f} times"
    core = statistics.median(own["per_core_s"] / max(row["per_core_s"] for row in rows) for own, *rows in rounds)
    return f"p50 {latency:.2f} times, messages per core {core:.2f} times"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--low", type=int, default=1000, help="calls one after another")
    parser.add_argument("--pause", type=float, default=0.0, help="ms before each of these")
    parser.add_argument("--load", type=int, default=10_000, help="calls at once; 0: none")
    parser.add_argument("--rounds", type=int, default=1, help="how often each is measured, by turns")
    parser.add_argument("--only", action="append", choices=[queue.name for queue in QUEUES], help="instead of all")
    given = parser.parse_args()
    os.environ["BENCH_PAUSE_MS"] = str(given.pause)
    queues = [queue for queue in QUEUES if not given.only or queue.name in given.only]
    found: dict[str, list[dict[str, float]]] = {queue.name: [] for queue in queues}
    print(f"{'':16}{'p50 ms':>9}{'p99 ms':>9}{'per s':>9}{'per s and core':>16}")
    for number in range(given.rounds):
        for queue in queues if number % 2 == 0 else reversed(queues):
            rows = found[queue.name]
            rows.append(measure(queue, low=given.low, load=given.load))
            if len(rows) == given.rounds:
                row = {figure: statistics.median(each[figure] for each in rows) for figure in rows[0]}
                loaded = f"{row['per_s']:9.0f}{row['per_core_s']:16.0f}" if given.load else ""
                print(f"{queue.name:16}{row['p50_ms']:9.2f}{row['p99_ms']:9.2f}{loaded}", flush=True)
    for best, others in (("raw streams", (RAW, RAW_SINGLE)), ("the other queues", PEERS)):
        measured = [found[other.name] for other in others if other.name in found]
        if VOICEBUS.name in found and measured:
            print(f"ours to the best of {best}: {compared(found[VOICEBUS.name], measured)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
