"""Which gateway holds a session, and where it is reached: from the session's state and the gateway's heartbeat."""

from dataclasses import dataclass

from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.heartbeat import living
from voicebus.contracts.streams import Keys


@dataclass(frozen=True, slots=True)
class Owner:
    """`address` is where other gateways reach it (`http://HOST:PORT`), None where its heartbeat has ended."""

    gateway: str
    address: str | None


class SessionOwners:
    """Looks owners up, each time anew: they change."""

    def __init__(self, bus: RedisConnection, keys: Keys) -> None:
        self._bus = bus
        self._keys = keys

    async def find(self, session: str) -> Owner | None:
        """The owner of a session, also of one that ended lately; None where there is no such session.

        Raises:
            BusError: Redis cannot be reached.
        """
        gateway = await self._bus.call("HGET", self._keys.session_state(session), "owner")
        if not gateway:
            return None
        heartbeat = self._keys.gateway(gateway)
        (alive,) = await living(self._bus, [heartbeat])
        address = await self._bus.call("HGET", heartbeat, "address") if alive else None
        return Owner(gateway, address or None)
