"""`vb:gateway:{ID}`: where this gateway is, how many slots are free, whether it drains (contract section 1)."""

import asyncio
from typing import Final

from voicebus.adapters.redis.client import RedisConnection
from voicebus.contracts.streams import HEARTBEAT_TTL_S, Keys
from voicebus.errors import BusError
from voicebus.ports import Clock
from voicebus.telemetry.health import Health
from voicebus.telemetry.logging import get_logger
from voicebus_services.gateway.sessions import Sessions

log = get_logger(__name__)

INTERVAL_S: Final = 1.0


class Heartbeat:
    """Run `run` as a task of the gateway. A beat that Redis does not take is left out: the next one says it all."""

    def __init__(
        self,
        redis: RedisConnection,
        clock: Clock,
        keys: Keys,
        health: Health,
        sessions: Sessions,
        *,
        gateway: str,
        address: str,
    ) -> None:
        self._redis = redis
        self._clock = clock
        self._key = keys.gateway(gateway)
        self._health = health
        self._sessions = sessions
        self._address = address

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            try:
                await self.beat()
            except BusError:
                self._health.set("redis", False)
            else:
                self._health.set("redis", True)
            await asyncio.sleep(INTERVAL_S)

    async def beat(self) -> None:
        """Write one beat.

        Raises:
            BusError: Redis cannot be reached.
        """
        fields = {
            "address": self._address,
            "free": str(self._sessions.free),
            "draining": str(int(self._health.draining)),
            "at": str(self._clock.at_ms()),
        }
        flat = [text for pair in fields.items() for text in pair]
        await asyncio.gather(
            self._redis.call("HSET", self._key, *flat), self._redis.call("EXPIRE", self._key, HEARTBEAT_TTL_S)
        )

    async def stop(self) -> None:
        """Take the key away, so that nobody waits for it to expire."""
        try:
            await self._redis.call("DEL", self._key)
        except BusError as error:
            log.warning("heartbeat not removed, it will expire", error=str(error))
