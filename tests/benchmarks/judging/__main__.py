"""How soon a forbidden word stops the model, and what holding costs, beside openai-agents in the same run.

    python -m benchmarks.judging [--sessions 50] [--seconds 10] [--speed 8]

Times are those of the model: from sending the delta that completes the word, or the one with which a check falls due,
to the client's `response.cancel`. Core 0 belongs to the gateway, or to openai-agents; core 1 to everything else: the
model, the clients, Redis and the guardrail worker.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.capacity import GATEWAY, guardrail_worker, port_of, process_on, settings_of, settle_on
from benchmarks.judging.model import Times, age_ms, model_server
from support.real_clients import ENVIRONMENT, CannotInstallError, ensure, installed
from support.servers import RedisServer
from voicebus.adapters.sockets import Socket
from voicebus.adapters.sockets.dialling import connect
from voicebus.runtime.lifecycle import run

TESTS: Final = Path(__file__).resolve().parents[2]
PEER: Final = Path(__file__).parent / "agents_peer.py"
DEBOUNCES: Final = (1, 100)
HOLDS: Final = {"interrupt": "clean", "hold_window_ms=500": "window", "hold": "hold"}
AGENTS: Final = """
from voicebus import GuardrailFunctionOutput, RealtimeAgent, RealtimeRunner, output_guardrail

def judge(context, agent, text):
    return GuardrailFunctionOutput(None, "vault" in text)

async def manners(context, agent, text):
    return judge(context, agent, text)

rule = output_guardrail(name="manners")(manners)
held = output_guardrail(name="held", mode="hold")(manners)
window = output_guardrail(name="window", mode="hold", hold_window_ms=500)(manners)
eager = RealtimeRunner(
    RealtimeAgent(name="debounce_1", instructions="debounce 1", output_guardrails=[rule]),
    config={"guardrails_settings": {"debounce_text_length": 1}},
)
usual = RealtimeRunner(RealtimeAgent(name="debounce_100", instructions="debounce 100", output_guardrails=[rule]))
clean = RealtimeAgent(name="clean", instructions="clean", output_guardrails=[rule])
window_agent = RealtimeAgent(name="window", instructions="clean", output_guardrails=[window])
hold_agent = RealtimeAgent(name="hold", instructions="clean", output_guardrails=[held])
"""


class Client:
    """A client of the native face that listens. `first` are the ages of each answer's first audio (ms)."""

    def __init__(self, first: list[float]) -> None:
        self._first = first
        self._begins = False
        self.talks = asyncio.Event()

    def opened(self, socket: Socket) -> None:
        """It says nothing."""

    def text(self, message: bytes) -> None:
        if b'"session_started"' in message:
            self.talks.set()
        elif b'"type":"audio"' in message or b'"type": "audio"' in message:
            self._begins = True

    def binary(self, message: bytes) -> None:
        if self._begins:
            self._begins = False
            self._first.append(age_ms(message))

    def closed(self, code: int, reason: str) -> None:
        """It ends when all do."""


async def listen(url: str, sessions: int, seconds: float, times: Times) -> list[float]:
    """Hold `sessions` conversations at `url`; the ages of first audio."""
    first: list[float] = []
    clients = [Client(first) for _ in range(sessions)]
    sockets = [await connect(url, client, headers={}, timeout_s=10) for client in clients]
    async with asyncio.timeout(30):
        await asyncio.gather(*(client.talks.wait() for client in clients))
    await timed(seconds, times)
    for socket in sockets:
        socket.close()
    await asyncio.gather(*(socket.wait_closed() for socket in sockets))
    return first


async def timed(seconds: float, times: Times) -> None:
    await asyncio.sleep(3)
    times.clear()
    times.on = True
    await asyncio.sleep(seconds)
    times.on = False


@contextmanager
def peer(url: str, sessions: int, debounce: int) -> Iterator[None]:
    """Sessions of openai-agents."""
    process = subprocess.Popen(
        [ENVIRONMENT / "bin" / "python", PEER, url, str(sessions), str(debounce)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: settle_on(0),  # noqa: PLW1509 - no threads here yet
    )
    try:
        yield
    finally:
        process.kill()
        process.communicate()


def told(values: Sequence[float]) -> str:
    if len(values) < 2:
        return f"{'-':>10}{'-':>10}"
    ordered = sorted(values)
    return f"{statistics.median(ordered):10.1f}{ordered[int(len(ordered) * 0.99)]:10.1f}"


def say(name: str, times: Times) -> None:
    stopped = len(times.word) + len(times.tail)
    sys.stdout.write(
        f"{name:34}{told(times.word)}{told(times.due)}{told(times.tail)}"
        f"{stopped:9}{times.missed:8}{times.tail_missed:6}/{times.tail_missed + len(times.tail):<5}{times.early:7}\n"
    )
    sys.stdout.flush()


async def benchmark(sessions: int, seconds: float, speed: float, redis_url: str, versions: dict[str, str]) -> None:
    times = Times()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "bench_agents.py").write_text(AGENTS)
        async with model_server(times, speed) as model:
            model_url = f"ws://127.0.0.1:{model.port}/v1/realtime"
            settings = settings_of(folder, redis_url, model_url)
            sys.stdout.write(
                f"{'ms, p50 and p99':34}{'word to stop':>20}{'check due to stop':>20}{'tail to stop':>20}"
                f"{'stopped':>9}{'missed':>8}  tails missed{'early':>5}\n"
            )
            with guardrail_worker(settings), process_on(0, [sys.executable, "-c", GATEWAY], **settings) as process:
                url = f"ws://127.0.0.1:{port_of(process)}/v1/sessions/connect"
                for debounce in DEBOUNCES:
                    await listen(f"{url}?agent=debounce_{debounce}", sessions, seconds, times)
                    say(f"voicebus, debounce {debounce}", times)
                held = {name: await listen(f"{url}?agent={agent}", 10, seconds, times) for name, agent in HOLDS.items()}
            for debounce in DEBOUNCES:
                with peer(model_url, sessions, debounce):
                    await asyncio.sleep(3)
                    await timed(seconds, times)
                    say(f"openai-agents {versions['openai-agents']}, debounce {debounce}", times)
    plain = statistics.median(held["interrupt"])
    for name, ages in held.items():
        median = statistics.median(ages)
        sys.stdout.write(f"first audio, {name:22}{median:10.0f} ms after the model's, {median - plain:+.0f} ms\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--speed", type=float, default=8.0, help="of transcripts, against speech")
    options = parser.parse_args()
    try:
        ensure()
    except CannotInstallError as error:
        sys.stderr.write(f"judging: {error}\n")
        return 2
    versions = installed()
    settle_on(max(os.sched_getaffinity(0)))
    with RedisServer() as server:
        run(benchmark(options.sessions, options.seconds, options.speed, server.url, versions))
    return 0


if __name__ == "__main__":
    sys.exit(main())
