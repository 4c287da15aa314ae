"""What Redis still has of sessions that have ended, and getting rid of it: state, items, calls, results, dead letters.

Entries of streams are left: they go once their groups have them, and nothing comes of those that arrive late.
"""

from collections.abc import Mapping
from typing import Final

from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.heartbeat import lives_for_ms
from voicebus.contracts.journal import LOCAL_TENANT
from voicebus.contracts.streams import Keys

_PAGE: Final = 500


class SessionKeys:
    """For commands of operators: it looks at every key there is. Methods raise `BusError` where Redis is away."""

    def __init__(self, bus: RedisConnection, keys: Keys) -> None:
        self._bus = bus
        self._keys = keys

    async def tenant(self, session: str) -> str | None:
        """Whose a session is that Redis still knows; None where it does not."""
        owner, tenant = await self._bus.call("HMGET", self._keys.session_state(session), "owner", "tenant")
        return (tenant or LOCAL_TENANT) if owner else None

    async def goes_on(self, session: str) -> bool:
        """Whether a session has not ended, and has an owner that lives."""
        owner, status = await self._bus.call("HMGET", self._keys.session_state(session), "owner", "status")
        if not owner or status == "ended":
            return False
        return await lives_for_ms(self._bus, self._keys.gateway(owner)) > 0

    async def forget(self, tenants: Mapping[str, str]) -> dict[str, int]:
        """Delete what there is of these sessions (with their tenants); how many keys and dead letters that was."""
        gone = dict.fromkeys(tenants, 0)
        for session, tenant in tenants.items():
            keys = (
                self._keys.session_state(session),
                self._keys.session_items(session),
                self._keys.session_calls(session),
                self._keys.session_end(session),
            )
            gone[session] += int(await self._bus.call("DEL", *keys))
            listed = self._keys.sessions(self._keys.event_shard(session), tenant)
            gone[session] += int(await self._bus.call("ZREM", listed, session))
        async for key in self._bus.scan(self._keys.every_call):
            session_of_call = self._keys.session_of_call(key, tenants)
            if session_of_call is not None:
                gone[session_of_call] += int(await self._bus.call("DEL", key))
        async for key in self._bus.scan(self._keys.dead("*")):
            await self._drop_letters(key, gone)
        return gone

    async def _drop_letters(self, key: str, gone: dict[str, int]) -> None:
        start = "-"
        while True:
            page = await self._bus.call("XRANGE", key, start, "+", "COUNT", _PAGE)
            for entry, fields in page:
                session = fields.get("session", "")
                if session in gone:
                    gone[session] += int(await self._bus.call("XDEL", key, entry))
            if len(page) < _PAGE:
                return
            start = f"({page[-1][0]}"
