"""How a worker's tools come into the registry, stay there, and leave it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final, TypeVar

from voicebus.adapters.redis.registry import ToolRegistry
from voicebus.agents.tools.function_tool import FunctionTool
from voicebus.contracts.tools import LONGEST_MS, ToolRegistration
from voicebus.errors import BusError, UserError
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

REGISTER_EVERY_S: Final = 10.0
TIDY_REGISTRY_EVERY_S: Final = 3600.0

# So many tools share their round trips to Redis; more at once would hold up the worker's calls.
_AT_ONCE: Final = 32

T = TypeVar("T")


class Registrar:
    """Registers `tools` for `worker`. `queues` says where each takes its calls, `timeout_s` how long one may take that
    names no limit.
    """

    def __init__(
        self,
        registry: ToolRegistry,
        worker: str,
        tools: Mapping[str, FunctionTool],
        queues: Mapping[str, str],
        *,
        timeout_s: float,
    ) -> None:
        self._registry = registry
        self._worker = worker
        self._tools = tools
        self._queues = queues
        self._timeout_s = timeout_s
        self._said: dict[str, ToolRegistration] = {}
        self._again = asyncio.Event()

    async def register(self) -> None:
        """Say that these tools are offered: all but those that are in conflict.

        Raises:
            UserError: a living worker offers one of these tools with another schema.
            BusError: Redis cannot be reached.
        """
        conflicts: list[UserError] = []

        async def publish(tool: FunctionTool) -> None:
            try:
                said = self._registration(tool)
                again = said == self._said.get(tool.name)
                await self._registry.publish(said, worker=self._worker, again=again)
                self._said[tool.name] = said
            except UserError as error:
                conflicts.append(error)

        await _each(publish, self._tools.values())
        if conflicts:
            raise conflicts[0]

    async def registered(self, names: Iterable[str]) -> dict[str, list[ToolRegistration]]:
        """What living workers offer under these names: of each its versions, newest first.

        Raises:
            BusError: Redis cannot be reached.
        """
        return {name: found.versions for name, found in (await self._registry.lookup(names)).items()}

    async def keep(self, stop: asyncio.Event) -> None:
        """Register again now and then, and after `again`, and remove tools that are long gone.

        From `stop` on nothing is offered any more, as no more calls are taken.
        """
        tidied = float("-inf")
        while not stop.is_set():
            await self._due(stop)
            if stop.is_set():
                break
            await self._restore()
            if time.monotonic() - tidied > TIDY_REGISTRY_EVERY_S:
                tidied = time.monotonic()
                await self._tidy()
        await self.withdraw()

    def again(self) -> None:
        """Have `keep` register now: the registry may be lost, and gateways miss a tool for a few seconds only."""
        self._again.set()

    async def _due(self, stop: asyncio.Event) -> None:
        waiting = [asyncio.create_task(event.wait(), name="registry due") for event in (stop, self._again)]
        try:
            await asyncio.wait(waiting, timeout=REGISTER_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        self._again.clear()

    async def _restore(self) -> None:
        try:
            await self.register()
        except (BusError, UserError) as error:
            log.warning("tools not registered", error=str(error))

    async def _tidy(self) -> None:
        try:
            for name in await self._registry.tidy():
                log.info("tool without a worker forgotten", tool=name)
        except BusError as error:
            log.debug("registry not tidied", error=str(error))

    async def withdraw(self, names: Iterable[str] | None = None) -> None:
        """Offer none of these any more; None: nothing at all."""

        async def withdraw(name: str) -> None:
            self._said.pop(name, None)
            await self._registry.withdraw(name, worker=self._worker)

        try:
            await _each(withdraw, self._tools if names is None else names)
        except BusError as error:
            log.debug("tools not withdrawn, they are known to have no living worker", error=str(error))

    def _registration(self, tool: FunctionTool) -> ToolRegistration:
        hold = tool.hold
        return ToolRegistration(
            name=tool.name,
            description=tool.description,
            parameters=tool.params_json_schema,
            queue=self._queues[tool.name],
            timeout_ms=min(max(1, round((tool.timeout or self._timeout_s) * 1000)), LONGEST_MS),
            idempotent=tool.idempotent,
            version=tool.version,
            needs_approval=tool.needs_approval is not False,
            approval_timeout_ms=None if tool.approval_timeout is None else round(tool.approval_timeout * 1000),
            respond=tool.respond,
            background=tool.background,
            speak_progress=tool.speak_progress,
            hold_phrases=None if hold.phrases is None else list(hold.phrases),
            hold_after_ms=hold.after_ms,
            hold_every_ms=hold.every_ms,
            cancel_on_interrupt=tool.cancel_on_interrupt,
            at=0,
        )


async def _each(work: Callable[[T], Awaitable[None]], items: Iterable[T]) -> None:
    everything = list(items)
    for begin in range(0, len(everything), _AT_ONCE):
        await asyncio.gather(*map(work, everything[begin : begin + _AT_ONCE]))
