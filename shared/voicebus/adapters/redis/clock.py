"""The Redis server's clock, as every process of the cluster tells it: the local monotonic clock plus an offset.

Local wall clocks differ between pods; deadlines and times on the bus must not.
"""

import asyncio
import contextlib
import time
from typing import Final

from voicebus.adapters.redis.client import RedisConnection
from voicebus.errors import BusError
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

REFRESH_S: Final = 30.0
_SAMPLES: Final = 3


class RedisClock:
    """Implements `voicebus.ports.Clock`; safe to read from any thread. `await synchronise()` before the first use."""

    def __init__(self, bus: RedisConnection) -> None:
        self._bus = bus
        self._offset_ms = time.time() * 1000 - time.monotonic() * 1000
        self._doubted = asyncio.Event()

    # Asked with every frame: the call itself, and none round it.
    monotonic: Final = staticmethod(time.monotonic)

    def at_ms(self) -> int:
        return int(time.monotonic() * 1000 + self._offset_ms)

    async def synchronise(self) -> None:
        """Measure the offset to the server, from the quickest of a few answers.

        Raises:
            BusError: Redis cannot be reached.
        """
        samples: list[tuple[float, float]] = []
        for _ in range(_SAMPLES):
            before = time.monotonic()
            seconds, microseconds = await self._bus.call("TIME")
            took = time.monotonic() - before
            server_ms = int(seconds) * 1000 + int(microseconds) / 1000
            samples.append((took, server_ms - (before + took / 2) * 1000))
        _, self._offset_ms = min(samples)

    def doubt(self) -> None:
        """Another server is the master, with a clock of its own: have `keep` synchronise now."""
        self._doubted.set()

    async def keep(self) -> None:
        """Synchronise now and then; run it as a task of the service. While Redis is away the last offset holds."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_S):
                    await self._doubted.wait()
            self._doubted.clear()
            try:
                await self.synchronise()
            except BusError as error:
                log.debug("clock not synchronised", error=str(error))
