"""What living workers offer, followed for a whole gateway by one reader of the registry."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from voicebus.adapters.redis.registry import ToolRegistry
from voicebus.contracts.tools import ToolRegistration
from voicebus.errors import BusError
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

EVERY_S: Final = 1.0
"""How often the registry is read while somebody follows it."""

VANISHED_AFTER_S: Final = 5.0
"""A tool that nobody offers is missed for so long before it is gone: the next worker may be starting."""


class Offers:
    """Follows the registry for whoever asks for it: by `current`, or by `follow`, which is given what is offered after
    each reading; a mapping of its own for each change, so that one that was seen needs no second look.

    `wanted` says whether anybody cares; while nobody does, Redis is not asked. `run` must run.
    """

    def __init__(
        self,
        registry: ToolRegistry,
        *,
        wanted: Callable[[], bool],
        follow: Callable[[Mapping[str, ToolRegistration]], None],
    ) -> None:
        self._registry = registry
        self._wanted = wanted
        self._follow = follow
        self._tools: Mapping[str, ToolRegistration] = {}
        self._missing: dict[str, float] = {}
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    async def current(self) -> Mapping[str, ToolRegistration]:
        """What is offered now, at most `EVERY_S` old.

        Raises:
            BusError: Redis cannot be reached.
        """
        async with self._reading:
            if time.monotonic() - self._read_at >= EVERY_S:
                await self._read()
            return self._tools

    async def run(self) -> None:
        failed = False
        while True:
            await asyncio.sleep(EVERY_S)
            if not self._wanted():
                continue
            try:
                async with self._reading:
                    await self._read()
                failed = False
                self._follow(self._tools)
            except BusError as error:
                if not failed:
                    log.warning("registry of tools not read, what was known counts", error=str(error))
                failed = True

    async def _read(self) -> None:
        tools = await self._registry.survey()
        now = self._read_at = time.monotonic()
        for name in [name for name in self._missing if name in tools]:
            del self._missing[name]
        for name, known in self._tools.items():
            # Counted from the first reading without it, so that an outage of Redis takes no tool away.
            if name not in tools and now - self._missing.setdefault(name, now) < VANISHED_AFTER_S:
                tools[name] = known
        if _offers(tools) == _offers(self._tools):
            return
        for name in sorted({*tools, *self._tools}):
            if name not in self._tools:
                log.info("tool offered", tool=name, queue=tools[name].queue, version=tools[name].version)
            elif name not in tools:
                self._missing.pop(name, None)
                log.info("tool gone", tool=name, queue=self._tools[name].queue)
        self._tools = tools


def _offers(tools: Mapping[str, ToolRegistration]) -> dict[str, ToolRegistration]:
    """Without who offers them and since when, which makes no difference to an agent."""
    anybodys: dict[str, Any] = {"workers": [], "by": "", "at": 0, "older": []}
    return {name: tool.model_copy(update=anybodys) for name, tool in tools.items()}
