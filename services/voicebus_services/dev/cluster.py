"""`voicebus dev`: the whole cluster on this machine, each service a process of its own."""

import asyncio
import importlib.util
import os
import shlex
import ssl
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from voicebus.agents.targets import load_targets
from voicebus.errors import TargetError, UsageError, VoicebusError
from voicebus.runtime.lifecycle import stop_event
from voicebus_services.call import wav
from voicebus_services.dev.demo import DEMO_QUESTION, DEMO_WAV, Demo, StepFailedError
from voicebus_services.dev.processes import (
    Child,
    ChildError,
    Ports,
    bound_to_parent,
    service_arguments,
)
from voicebus_services.dev.redis_server import find_redis_server
from voicebus_services.tls import CERT_SETTING, KEY_SETTING, Certificate, trusting_certificate

DATA: Final = Path(".voicebus")
EXAMPLE: Final = "examples.front_desk"
_READY_TIMEOUT_S: Final = 60.0

T = TypeVar("T")

_OPS_OFFSET: Final = {
    "gateway": 0,
    "tool-worker": 1,
    "guardrail-worker": 2,
    "transcript-archiver": 3,
    "model-simulator": 4,
}


@dataclass
class DevOptions:
    """What `voicebus dev` was asked for. Ports of 0 are chosen freely."""

    targets: list[str]
    gateways: int = 1
    tool_workers: int = 1
    guardrail_workers: int = 1
    archivers: int = 1
    http_port: int = 8080
    archiver_port: int = 8081
    simulator_port: int = 8090
    ops_port: int = 9460
    demo: bool = False
    once: bool = False
    wav: Path | None = None
    question: str | None = None
    speech: bool | None = None


@dataclass(frozen=True)
class _Started:
    child: Child
    ops_port: int


@dataclass
class Cluster:
    """The running processes. `report` prints the result lines (stdout); logs go to stderr."""

    options: DevOptions
    report: Callable[[str], None]
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    children: list[Child] = field(default_factory=list)
    gateway_url: str = ""
    archiver_url: str = ""
    chosen: dict[str, str] = field(default_factory=dict)
    """Variables that were not set, and what they are here: commands in other terminals need them."""
    tls: ssl.SSLContext | None = None
    _ports: Ports = field(default_factory=Ports)

    async def start(self) -> None:
        """Start everything, in the order in which things need each other, and wait until it is ready.

        Raises:
            StepFailedError: a service did not come up.
            SettingsError: a port is in use, or no Redis server can be found.
        """
        options = self.options
        gateway_port = self._ports.take(options.http_port, what="gateway", option="--http-port")
        archiver_port = self._ports.take(options.archiver_port, what="archiver", option="--archiver-port")
        chain, key = (self.environment.get(setting) for setting in (CERT_SETTING, KEY_SETTING))
        if Certificate.of(Path(chain) if chain else None, Path(key) if key else None) and chain:
            self.tls = trusting_certificate(Path(chain))
        self.gateway_url = f"{'https' if self.tls else 'http'}://127.0.0.1:{gateway_port}"
        self.archiver_url = f"http://127.0.0.1:{archiver_port}"
        DATA.mkdir(exist_ok=True)
        if "VOICEBUS_DATABASE_URL" not in self.environment:
            self._choose("VOICEBUS_DATABASE_URL", f"sqlite:///{(DATA / 'voicebus.db').resolve()}")

        await self._redis()
        simulator = await self._model()
        migration = await Child.start("migrate", service_arguments("migrate"), environment=self.environment)
        self.children.append(migration)
        wanted: list[tuple[str, str, int, int | None, list[str]]] = [
            ("gateway", "gateway", options.gateways, gateway_port, options.targets),
            ("tool-worker", "tool-worker", options.tool_workers, None, options.targets),
            ("guardrail-worker", "guardrail-worker", options.guardrail_workers, None, options.targets),
            ("archiver", "transcript-archiver", options.archivers, archiver_port, []),
        ]
        started: dict[str, list[_Started]] = {}
        for step, command, count, port, arguments in wanted:
            if command == "transcript-archiver":
                await self._migrated(migration)
            # the first of its kind has the known port, the others any free one
            ports = [port, *([None if port is None else 0] * (count - 1))]
            started[step] = [await self._service(command, each, arguments, number) for number, each in enumerate(ports)]
        watches = {
            step: asyncio.create_task(self._ready(step, group), name=f"ready {step}") for step, group in started.items()
        }
        try:
            if simulator is not None:
                await self._ready("gateway", [simulator])
            for step, watch in watches.items():
                self._passed(step, await watch)
        finally:
            for watch in watches.values():
                watch.cancel()
            await asyncio.gather(*watches.values(), return_exceptions=True)

    async def stop(self) -> None:
        """End every process, services first, Redis last."""
        services, redis = self.children[1:], self.children[:1]
        if self.children and self.children[0].name != "redis":
            services, redis = self.children, []
        await asyncio.gather(*(child.stop() for child in services))
        for child in redis:
            await child.stop()
        self._ports.close()

    def _choose(self, variable: str, value: str) -> None:
        self.chosen[variable] = self.environment[variable] = value

    async def until_one_ends(self) -> Child:
        """The first service that ends by itself."""
        alive = {
            asyncio.create_task(child.wait(), name=f"wait {child.name}"): child
            for child in self.children
            if child.running
        }
        try:
            done, _ = await asyncio.wait(alive, return_when=asyncio.FIRST_COMPLETED)
            return alive[done.pop()]
        finally:
            for task in alive:
                task.cancel()

    def _passed(self, step: str, seconds: float) -> None:
        self.report(f"ok {step} {seconds * 1000:.0f} ms")

    async def _redis(self) -> None:
        began = time.monotonic()
        if not self.environment.get("VOICEBUS_REDIS_URL"):
            binary = find_redis_server()
            port = self._ports.take(0, what="Redis", option="redis")
            folder = str(DATA.resolve())  # it writes nothing there: what it holds is gone with it
            settings = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder]
            child = await Child.start("redis", bound_to_parent(str(binary), *settings), environment=self.environment)
            self.children.append(child)
            self._choose("VOICEBUS_REDIS_URL", f"redis://127.0.0.1:{port}/0")
        from voicebus_services.doctor import check_redis

        deadline = time.monotonic() + _READY_TIMEOUT_S
        while True:
            try:
                await check_redis(self.environment["VOICEBUS_REDIS_URL"])
                break
            except VoicebusError as error:
                own = bool(self.children)
                if not own or not self.children[0].running or time.monotonic() > deadline:
                    raise StepFailedError("redis", str(error)) from error
                await asyncio.sleep(0.02)
        self._passed("redis", time.monotonic() - began)

    async def _migrated(self, migration: Child) -> None:
        if await migration.wait() != 0:
            await migration.stop()
            raise StepFailedError("archiver", migration.explain_end())

    async def _model(self) -> _Started | None:
        """Start the model-simulator, unless a model was configured: it is never chosen silently then."""
        configured = ("VOICEBUS_MODEL_URL", "OPENAI_API_KEY", "VOICEBUS_MODEL_API_KEY", "VOICEBUS_MODEL_API_KEY_FILE")
        if any(self.environment.get(name) for name in configured):
            return None
        port = self._ports.take(self.options.simulator_port, what="model-simulator", option="--simulator-port")
        speech = has_speech() if self.options.speech is None else self.options.speech
        sys.stderr.write(
            "no model is configured (OPENAI_API_KEY, VOICEBUS_MODEL_URL): a model-simulator answers, "
            + ("with speech\n" if speech else "without speech (install voicebus[speech] for it)\n")
        )
        started = await self._service("model-simulator", port, ["--speech"] if speech else [], 0)
        self._choose("VOICEBUS_MODEL_URL", f"ws://127.0.0.1:{port}/v1/realtime")
        self._choose("VOICEBUS_MODEL_API_KEY", "simulator")
        return started

    async def _service(self, command: str, port: int | None, arguments: list[str], number: int) -> _Started:
        # the first of each kind has the known ops port, counted from --ops-port, the others any free one
        known = self.options.ops_port + _OPS_OFFSET[command] if self.options.ops_port and number == 0 else 0
        ops_port = self._ports.take(known, what=f"{command}'s operations", option="--ops-port")
        environment = {**self.environment, "VOICEBUS_OPS_PORT": str(ops_port), "VOICEBUS_OPS_HOST": "127.0.0.1"}
        if port is not None:
            environment["VOICEBUS_HTTP_PORT"] = str(port)
        name = command if number == 0 else f"{command}-{number + 1}"
        child = await Child.start(name, service_arguments(command, *arguments), environment=environment)
        self.children.append(child)
        return _Started(child, ops_port)

    async def _ready(self, step: str, group: Sequence[_Started]) -> float:
        """Wait until every one of `group` is ready; returns how long the slowest took, in s."""
        try:
            for started in group:
                await started.child.until_ready(started.ops_port, timeout_s=_READY_TIMEOUT_S)
        except ChildError as error:
            raise StepFailedError(step, str(error)) from error
        return max(started.child.ready_after_s for started in group)


async def run_dev(options: DevOptions, *, report: Callable[[str], None]) -> bool:
    """Run the cluster as `options` say; returns whether the demo conversation (if any) worked.

    Raises:
        TargetError: nothing to serve, or a target that cannot be loaded.
        UsageError: a WAV that cannot be used.
    """
    if not options.targets:
        options.targets = _example_target()
    load_targets(options.targets)  # what is wrong with them is said once, before five processes say it
    samples = _question(options) if options.demo or options.once else None
    stopped = stop_event()
    async with AsyncExitStack() as stack:
        cluster = Cluster(options, report)
        stack.push_async_callback(cluster.stop)
        worked = await _until(stopped, _begin(cluster, samples, report))
        if worked is None:
            return True
        if options.once or not cluster.gateway_url or (not worked and not options.demo):
            return worked
        stack.enter_context(_told_to_other_terminals(cluster.chosen, report))
        report(f"serving: {cluster.gateway_url}/ (transcripts: {cluster.archiver_url}/v1/transcripts); Ctrl-C stops")
        ended = await _until(stopped, cluster.until_one_ends())
        if ended is not None:
            raise ChildError(f"{ended.name}: {ended.explain_end()}")
        return worked


@contextmanager
def _told_to_other_terminals(chosen: Mapping[str, str], report: Callable[[str], None]) -> Iterator[None]:
    """A file that sets what this cluster chose, for shells, while the block runs."""
    text = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in chosen.items())
    file = DATA / "env"
    if text:
        file.write_text(text, encoding="utf-8")
        for name, value in chosen.items():
            report(f"{name}={value}")
        report(f"in other terminals, for workers and for commands such as `voicebus top`:  . {file}")
    try:
        yield
    finally:
        if text and file.exists() and file.read_text(encoding="utf-8") == text:  # not another cluster's
            file.unlink()


async def _begin(cluster: Cluster, samples: bytes | None, report: Callable[[str], None]) -> bool:
    """Start the cluster and hold the demo conversation if one is wanted."""
    demo_wanted = cluster.options.demo or cluster.options.once
    try:
        await cluster.start()
        if demo_wanted:
            demo = Demo(
                gateway_url=cluster.gateway_url,
                archiver_url=cluster.archiver_url,
                samples=samples,
                question=cluster.options.question or DEMO_QUESTION,
                answer_wav=DATA / "demo-answer.wav",
                report=report,
                headers=_key_header(cluster.environment),
                tls=cluster.tls,
            )
            await demo.run()
            if demo.audio:
                report(f"   the answer: {demo.answer_wav} ({len(demo.audio) / wav.BYTES_PER_MS / 1000:.1f} s)")
    except StepFailedError as error:
        report(f"FAILED {error.step}: {error}")
        if not demo_wanted:
            raise ChildError(f"{error.step}: {error}") from error
        report("demo: failed")
        return False
    if demo_wanted:
        report("demo: ok")
    return True


def _example_target() -> list[str]:
    if not Path("examples/front_desk.py").exists():
        raise TargetError("no TARGET was given; name a module, or module:attribute, that defines your agents")
    return [EXAMPLE]


def _question(options: DevOptions) -> bytes | None:
    """The samples to ask with: a WAV, or None where the question can only be typed."""
    if options.wav is not None:
        return wav.read(options.wav)
    if options.question is None and DEMO_WAV.exists() and options.speech is not False and has_speech():
        return wav.read(DEMO_WAV)
    return None


def has_speech() -> bool:
    """Whether the extra voicebus[speech] is installed."""
    return all(importlib.util.find_spec(name) for name in ("faster_whisper", "espeakng_loader", "webrtcvad"))


def _key_header(environment: dict[str, str]) -> dict[str, str]:
    path = environment.get("VOICEBUS_API_KEYS_FILE")
    if not path:
        return {}
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UsageError(f"VOICEBUS_API_KEYS_FILE: {path!r} cannot be read ({error.strerror})") from error
    keys = [line.partition(":")[2].strip() for line in lines if ":" in line and not line.lstrip().startswith("#")]
    return {"Authorization": f"Bearer {keys[0]}"} if keys else {}


async def _until(stopped: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of `work`, or None when the stop came first; `work` is cancelled then."""
    working = asyncio.create_task(work, name="work")
    stopping = asyncio.create_task(stopped.wait(), name="stop")
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)
