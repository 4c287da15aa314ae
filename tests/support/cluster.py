"""A whole Voicebus cluster of real processes for a test: any number of each service, on free ports, one Redis."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from support.servers import free_port
from support.waiting import wait_until
from voicebus_services.dev.processes import Child, is_ready, service_arguments

ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass
class Service:
    """One running service process."""

    child: Child
    command: str
    ops_port: int
    http_port: int | None = None

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def port(self) -> int:
        assert self.http_port is not None, f"{self.command} has no public port"
        return self.http_port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It does nothing while the block runs, and does not know: SIGSTOP, then SIGCONT."""
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)


@dataclass
class ClusterUnderTest:
    """The running services by command name; more can be started and each can be stopped or killed."""

    environment: dict[str, str]
    targets: list[str]
    services: dict[str, list[Service]] = field(default_factory=dict)
    own: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Variables of one service alone, by its command."""

    async def start(self, command: str, *arguments: str, **settings: Any) -> Service:
        """Start one more service and wait until it is ready; `settings` become VOICEBUS_* variables."""
        ops_port = free_port()
        is_served = command in ("gateway", "transcript-archiver", "model-simulator")
        http_port = settings.get("http_port", free_port()) if is_served else None
        environment = {
            **self.environment,
            **self.own.get(command, {}),
            "VOICEBUS_OPS_PORT": str(ops_port),
            **({"VOICEBUS_HTTP_PORT": str(http_port)} if http_port else {}),
            **{f"VOICEBUS_{name.upper()}": str(value) for name, value in settings.items()},
        }
        takes_targets = command in ("gateway", "tool-worker", "guardrail-worker")
        given = [*arguments, *(self.targets if takes_targets else [])]
        child = await Child.start(command, service_arguments(command, *given), environment=environment)
        service = Service(child, command, ops_port, http_port)
        self.services.setdefault(command, []).append(service)
        await child.until_ready(ops_port, timeout_s=60)
        return service

    async def stop(self, service: Service) -> None:
        """SIGTERM, and wait for the end."""
        await service.child.stop()
        self.services[service.command].remove(service)

    async def kill(self, service: Service) -> None:
        """SIGKILL, and wait for the end."""
        service.signal(signal.SIGKILL)
        await service.child.wait()
        await self.stop(service)

    async def until_not_ready(self, service: Service) -> None:
        async def down() -> bool:
            return not await asyncio.to_thread(is_ready, service.ops_port)

        await wait_until(down, description=f"{service.command} to say that it is not ready")

    @property
    def gateway(self) -> Service:
        return self.services["gateway"][0]

    @property
    def archiver(self) -> Service:
        return self.services["transcript-archiver"][0]

    @property
    def simulator(self) -> Service:
        return self.services["model-simulator"][0]


@asynccontextmanager
async def running_cluster(
    *,
    redis_url: str,
    database_url: str,
    stream_prefix: str,
    targets: Sequence[str] = ("examples.front_desk",),
    gateways: int = 1,
    tool_workers: int = 1,
    guardrail_workers: int = 1,
    archivers: int = 1,
    simulator: Sequence[str] = (),
    own: Mapping[str, Mapping[str, str]] | None = None,
    **settings: Any,
) -> AsyncIterator[ClusterUnderTest]:
    """Run a cluster for as long as the block; `settings` become VOICEBUS_* variables of every service.

    `simulator` are arguments of the model-simulator, `own` variables of one service alone, by its command. The
    database is migrated first.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VOICEBUS_", "OPENAI_"))}
    environment = {
        **kept,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        "VOICEBUS_REDIS_URL": redis_url,
        "VOICEBUS_DATABASE_URL": database_url,
        "VOICEBUS_STREAM_PREFIX": stream_prefix,
        "VOICEBUS_LOG_LEVEL": "warning",
        **{f"VOICEBUS_{name.upper()}": str(value) for name, value in settings.items()},
    }
    cluster = ClusterUnderTest(environment, list(targets), own=own or {})
    try:
        migration = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "voicebus_services.cli", "migrate", env=environment, stdout=asyncio.subprocess.DEVNULL
        )
        if await migration.wait():
            raise RuntimeError("voicebus migrate failed; its sentence stands above")
        model = await cluster.start("model-simulator", *simulator)
        cluster.environment["VOICEBUS_MODEL_URL"] = f"ws://127.0.0.1:{model.http_port}/v1/realtime"
        cluster.environment["VOICEBUS_MODEL_API_KEY"] = "simulator"
        counts = {
            "gateway": gateways,
            "tool-worker": tool_workers,
            "guardrail-worker": guardrail_workers,
            "transcript-archiver": archivers,
        }
        async with asyncio.TaskGroup() as starting:
            for command, count in counts.items():
                for _ in range(count):
                    starting.create_task(cluster.start(command), name=f"start {command}")
        yield cluster
    finally:
        # clients of the bus first, so that nothing complains about what has gone
        for command in ("gateway", "tool-worker", "guardrail-worker", "transcript-archiver", "model-simulator"):
            services = list(cluster.services.get(command, []))
            await asyncio.gather(*(cluster.stop(service) for service in services))
