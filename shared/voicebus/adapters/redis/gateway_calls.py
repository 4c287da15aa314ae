"""Which calls each gateway is on, so that another one goes on with them when it dies: no client asks for those."""

import asyncio
from collections.abc import Sequence
from typing import Any

from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.heartbeat import lives_for_ms
from voicebus.contracts.streams import SESSION_TTL_S, Keys


class GatewayCalls:
    """Of the gateway `me`, and of the others. The async methods raise `BusError` where Redis cannot be reached."""

    def __init__(self, bus: RedisConnection, keys: Keys, me: str) -> None:
        self._bus = bus
        self._keys = keys
        self._me = me

    async def add(self, call_id: str) -> None:
        """This gateway is on a call."""
        await asyncio.gather(*self.note(call_id))

    def note(self, call_id: str) -> Sequence[asyncio.Future[Any]]:
        """The same, of which nobody waits to hear; where it is lost, the call is not found if this gateway dies."""
        key = self._keys.gateway_calls(self._me)
        return self._bus.submit("SADD", key, call_id), self._bus.submit("EXPIRE", key, SESSION_TTL_S)

    def remove(self, call_id: str, gateway: str | None = None) -> None:
        """A gateway, by default this one, is not on it any more. Nobody waits: one too many does no harm."""
        self._bus.submit("SREM", self._keys.gateway_calls(gateway or self._me), call_id)

    async def others(self) -> Sequence[str]:
        """The other gateways that there are, or were until lately."""
        names: Sequence[str] = await self._bus.call("ZRANGE", self._keys.gateways, 0, -1)
        return [name for name in names if name != self._me]

    async def standing(self, gateway: str) -> tuple[int, bool]:
        """For how long (ms) a gateway counts as alive still, 0: it is dead; and whether it stops."""
        heartbeat = self._keys.gateway(gateway)
        lives, draining = await asyncio.gather(
            lives_for_ms(self._bus, heartbeat), self._bus.submit("HGET", heartbeat, "draining")
        )
        return lives, draining == "1"

    async def of(self, gateway: str) -> Sequence[str]:
        """The calls that a gateway is on, or was."""
        return sorted(await self._bus.call("SMEMBERS", self._keys.gateway_calls(gateway)))
