"""`vb:registry:tools`: which tools live workers offer, and with which schema (contract section 1)."""

from collections.abc import Iterable, Sequence
from typing import Final

from pydantic import ValidationError

from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.heartbeat import living
from voicebus.adapters.redis.scripts import REGISTER
from voicebus.contracts.streams import REGISTRATION_KEPT_S, Keys
from voicebus.contracts.tools import ToolRegistration
from voicebus.errors import UserError
from voicebus.ports import Clock
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)


class ToolRegistry:
    """Reads and writes registrations. A worker publishes at its start and now and then, for as long as it lives."""

    def __init__(self, bus: RedisConnection, keys: Keys, clock: Clock) -> None:
        self._bus = bus
        self._keys = keys
        self._clock = clock

    async def publish(self, registration: ToolRegistration, *, worker: str) -> None:
        """Say that `worker` offers this tool; its heartbeat must beat already.

        Raises:
            UserError: another living worker offers a tool of this name with another schema or queue.
            BusError: Redis cannot be reached.
        """
        while True:
            text, known = await self._read(registration.name)
            others = await self._living(known, without=worker)
            if known is not None and others and not _same(known, registration):
                raise UserError(
                    f"tool {registration.name!r} is offered with two schemas: by worker {others[0]} in queue "
                    f"{known.queue!r}, and by this worker {worker} in queue {registration.queue!r}; rename one or stop "
                    "the workers of the other first"
                )
            update = {"workers": sorted({*others, worker}), "at": self._clock.at_ms()}
            if await self._write(registration.name, text, registration.model_copy(update=update)):
                return

    async def withdraw(self, name: str, *, worker: str) -> None:
        """`worker` offers this tool no more. Its schema stays known, for agents that are resolved meanwhile.

        Raises:
            BusError: Redis cannot be reached.
        """
        while True:
            text, known = await self._read(name)
            if known is None or worker not in known.workers:
                return
            left = [other for other in known.workers if other != worker]
            if await self._write(name, text, known.model_copy(update={"workers": left})):
                return

    async def tidy(self) -> list[str]:
        """Remove the tools that no living worker has offered for `REGISTRATION_KEPT_S`; returns their names.

        A living worker renews `at` with each `publish`, so that it tells how long a tool has been without any.

        Raises:
            BusError: Redis cannot be reached.
        """
        horizon = self._clock.at_ms() - REGISTRATION_KEPT_S * 1000
        removed = []
        for name in await self._bus.call("HKEYS", self._keys.registry_tools):
            text, known = await self._read(name)
            if known is None or known.at > horizon or await self._living(known):
                continue
            if await self._bus.script(REGISTER, [self._keys.registry_tools], name, text, ""):
                removed.append(name)
        return removed

    async def lookup(self, names: Iterable[str]) -> dict[str, ToolRegistration]:
        """The registrations of these tools, as far as there are any, each with its living workers.

        Raises:
            BusError: Redis cannot be reached.
        """
        found = {}
        for name in names:
            _, known = await self._read(name)
            if known is not None:
                found[name] = known.model_copy(update={"workers": await self._living(known)})
        return found

    async def offered(self, name: str) -> bool:
        """Whether a living worker offers this tool.

        Raises:
            BusError: Redis cannot be reached.
        """
        _, known = await self._read(name)
        return bool(await self._living(known))

    async def _read(self, name: str) -> tuple[str, ToolRegistration | None]:
        text = await self._bus.call("HGET", self._keys.registry_tools, name) or ""
        try:
            return text, ToolRegistration.model_validate_json(text) if text else None
        except ValidationError as error:
            log.warning("registration is malformed and will be replaced", tool=name, error=str(error))
            return text, None

    async def _write(self, name: str, read: str, registration: ToolRegistration) -> bool:
        done = await self._bus.script(REGISTER, [self._keys.registry_tools], name, read, registration.model_dump_json())
        return bool(done)

    async def _living(self, known: ToolRegistration | None, *, without: str | None = None) -> Sequence[str]:
        workers = [worker for worker in (known.workers if known else ()) if worker != without]
        beats = await living(self._bus, [self._keys.worker(worker) for worker in workers])
        return [worker for worker, alive in zip(workers, beats, strict=True) if alive]


def _same(one: ToolRegistration, other: ToolRegistration) -> bool:
    return one.parameters == other.parameters and one.queue == other.queue
