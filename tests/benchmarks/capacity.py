"""What one gateway process takes of a core, and adds to a frame's way, beside plain relays under the same load.

    python -m benchmarks.capacity [--sessions 50 100] [--rounds 4]

Core 0 belongs to what is measured (the relays, then the gateway), core 1 to everything else: the load, the model, Redis
and the guardrail worker. All of it runs ahead of the machine's other work where that is permitted: held up, frames come
several at a time, and a frame among others costs half as much as one that comes alone, as it does in a call. What else
runs makes everything dearer even so, by caches and cores that are shared, and from one minute to the next by more than
what is to be told apart here. So all are started at once, with their conversations open, and take turns, there and back
in each round: only those of one speak at a time, for as long as a turn, so that each ends one turn and begins another.
Everything is on: the engine, streams, records, metrics, and a guardrail that judges every answer. Each figure is the
median of its rounds, and so is what the gateway takes of another's CPU in one round; what is added is counted from the
same load without anything between.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from benchmarks.load import FRAME_S, FRAMES_PER_TURN, Client, Measured, model_server
from support.servers import RedisServer, free_port
from voicebus.adapters.sockets import Socket
from voicebus.adapters.sockets.dialling import connect
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
GATEWAY_NAME: Final = "gateway"
# What an interpreter is given, and the path that clients ask for.
PROGRAMS: Final = {
    "websockets relay": (["-m", "benchmarks.relay"], "/"),
    "picows relay": (["-m", "benchmarks.picows_relay"], "/"),
    GATEWAY_NAME: (["-c", GATEWAY], "/v1/realtime"),
}

TURN_S: Final = FRAMES_PER_TURN * FRAME_S
SETTLE_S: Final = 1.0
SILENT_S: Final = 0.2
"""For what is on its way still."""


@dataclass(frozen=True, slots=True)
class Result:
    """One measured process. `cpu_ms` is CPU per session and second of conversation, ages of frames are in ms."""

    name: str
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


@dataclass(slots=True)
class Contender:
    """One way between client and model, with its own conversations: `pid` is that of the process between, if any."""

    name: str
    pid: int | None
    measured: Measured
    sockets: Sequence[Socket]


async def take_turn(contender: Contender) -> Result:
    """Have its conversations, and no others, go on for a while."""
    measured, sessions = contender.measured, len(contender.sockets)
    measured.goes_on.set()
    await asyncio.sleep(SETTLE_S)
    measured.to_model.clear()
    measured.to_client.clear()
    began, used = time.monotonic(), 0.0 if contender.pid is None else cpu_seconds(contender.pid)
    measured.on = True
    await asyncio.sleep(TURN_S)
    measured.on = False
    wall_s = time.monotonic() - began
    cpu_s = 0.0 if contender.pid is None else cpu_seconds(contender.pid) - used
    measured.goes_on.clear()
    ages = sorted(measured.to_model + measured.to_client)
    expected = sessions * wall_s / FRAME_S * 2
    if len(ages) < 0.9 * expected:
        raise SystemExit(f"{contender.name}: only {len(ages)} of {expected:.0f} frames came; the machine is too busy")
    await asyncio.sleep(SILENT_S)
    return Result(
        contender.name, cpu_s / wall_s / sessions * 1000, statistics.median(ages), ages[int(len(ages) * 0.99)]
    )


async def benchmark(sessions: int, rounds: int, redis_url: str) -> list[list[Result]]:
    """For each round what each has taken: nothing between first, which is measured before and behind all rounds, then
    `PROGRAMS`, each the mean of its two turns.
    """
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "bench_agents.py").write_text(AGENTS)
        async with contextlib.AsyncExitStack() as stack:
            contenders = [
                await contend(stack, name, sessions, settings_of(folder, redis_url, "")) for name in (DIRECT, *PROGRAMS)
            ]
            direct, *programs = contenders
            alone = [await take_turn(direct)]
            measured: list[list[Result]] = []
            for _ in range(rounds):
                # Nobody is silent for half a minute: a model that says no more of a response has lost it.
                there = [await take_turn(each) for each in programs]
                back = [await take_turn(each) for each in reversed(programs)]
                pairs = zip(there, reversed(back), strict=True)
                measured.append([_together(pair, statistics.fmean) for pair in pairs])
            alone.append(await take_turn(direct))
            for contender in contenders:
                contender.measured.goes_on.set()
            return [[_together(alone, statistics.fmean), *each] for each in measured]


async def contend(stack: contextlib.AsyncExitStack, name: str, sessions: int, settings: dict[str, str]) -> Contender:
    """Start a program, and open its conversations, which are silent until it is their turn."""
    measured = Measured()
    model = await stack.enter_async_context(model_server(measured))
    url, pid = f"ws://127.0.0.1:{model.port}/v1/realtime", None
    if name in PROGRAMS:
        command, path = PROGRAMS[name]
        settings["VOICEBUS_MODEL_URL"] = url
        if name == GATEWAY_NAME:
            stack.enter_context(guardrail_worker(settings))
        process = stack.enter_context(process_on(0, [sys.executable, *command, url], **settings))
        url, pid = f"ws://127.0.0.1:{await asyncio.to_thread(port_of, process)}{path}", process.pid
    clients = [Client(measured) for _ in range(sessions)]
    sockets = [await connect(url, client, headers={}, timeout_s=10) for client in clients]
    stack.push_async_callback(leave, sockets)
    async with asyncio.timeout(30):
        await asyncio.gather(*(client.talks.wait() for client in clients))
    await asyncio.sleep(SETTLE_S)
    measured.goes_on.clear()
    return Contender(name, pid, measured, sockets)


async def leave(sockets: Sequence[Socket]) -> None:
    for socket in sockets:
        socket.close()
    await asyncio.gather(*(socket.wait_closed() for socket in sockets))


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


def _together(results: Sequence[Result], of: Callable[[Iterable[float]], float]) -> Result:
    figures = {key: of([getattr(each, key) for each in results]) for key in ("cpu_ms", "p50_ms", "p99_ms")}
    return Result(results[0].name, **figures)


def report(sessions: int, rounds: Sequence[Sequence[Result]]) -> None:
    direct, *others = (_together(column, statistics.median) for column in zip(*rounds, strict=True))
    for row in others:
        added = f"{row.p50_ms - direct.p50_ms:18.2f}{row.p99_ms - direct.p99_ms:18.2f}"
        print(f"{row.name:18}{sessions:18}{row.cpu_ms:18.3f}{added}{1000 / row.cpu_ms:18.0f}")
    names = [DIRECT, *PROGRAMS]
    gateway = names.index(GATEWAY_NAME)
    for name in PROGRAMS:
        if name != GATEWAY_NAME:
            ratios = sorted(each[gateway].cpu_ms / each[names.index(name)].cpu_ms for each in rounds)
            print(
                f"{'':18}the gateway takes {statistics.median(ratios):.2f} of the {name}'s CPU"
                f" ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sessions", type=int, nargs="+", default=[50, 100])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    settle_on(max(os.sched_getaffinity(0)))
    come_first()
    if not options.json:
        columns = ("sessions", "CPU ms/session-s", "added p50 ms", "added p99 ms", "sessions/core")
        print(" " * 18 + "".join(f"{column:>18}" for column in columns))
    for sessions in options.sessions:
        with RedisServer() as server:
            rounds = run(benchmark(sessions, options.rounds, server.url))
        if options.json:
            print(json.dumps({"sessions": sessions, "rounds": [[asdict(each) for each in row] for row in rounds]}))
        else:
            report(sessions, rounds)


if __name__ == "__main__":
    main()
