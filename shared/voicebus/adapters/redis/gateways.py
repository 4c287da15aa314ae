"""Which gateways there are: one that stops asks whether another can go on, and one of them works for all."""

import asyncio
from typing import Final

from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.heartbeat import living
from voicebus.contracts.streams import GATEWAYS_TTL_S, Keys
from voicebus.errors import BusError
from voicebus.ports import Clock
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

_EVERY_S: Final = 5.0


class Gateways:
    """Lists the gateway `me` among them. Run `keep` as a task."""

    def __init__(self, bus: RedisConnection, keys: Keys, clock: Clock, me: str) -> None:
        self._bus = bus
        self._keys = keys
        self._clock = clock
        self._me = me

    async def keep(self) -> None:
        """Say that this one is there, until cancelled."""
        while True:
            try:
                await self._enlist()
            except BusError as error:
                log.info("not listed among the gateways now", error=str(error))
            await asyncio.sleep(_EVERY_S)

    async def has_other(self) -> bool:
        """Whether another gateway lives, takes sessions and has room.

        Raises:
            BusError: Redis cannot be reached.
        """
        names = [name for name in await self._bus.call("ZRANGE", self._keys.gateways, 0, -1) if name != self._me]
        heartbeats = [self._keys.gateway(name) for name in names]
        for heartbeat, alive in zip(heartbeats, await living(self._bus, heartbeats), strict=True):
            if alive:
                free, draining = await self._bus.call("HMGET", heartbeat, "free", "draining")
                if int(free or 0) > 0 and draining != "1":
                    return True
        return False

    async def is_first(self) -> bool:
        """Whether this one does what one gateway does for all: the living one of the lowest id, once it is listed.

        While gateways come and go two may think so for a moment, or none.

        Raises:
            BusError: Redis cannot be reached.
        """
        names = sorted(await self._bus.call("ZRANGE", self._keys.gateways, 0, -1))
        alive = await living(self._bus, [self._keys.gateway(name) for name in names])
        return next((name for name, lives in zip(names, alive, strict=True) if lives), None) == self._me

    async def _enlist(self) -> None:
        now, key = self._clock.at_ms(), self._keys.gateways
        await asyncio.gather(
            self._bus.submit("ZADD", key, now, self._me),
            self._bus.submit("ZREMRANGEBYSCORE", key, "-inf", now - GATEWAYS_TTL_S * 1000),
            self._bus.submit("EXPIRE", key, GATEWAYS_TTL_S),
        )
