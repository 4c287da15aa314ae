"""Which archiver reads which shard: leases in Redis, shared fairly among the archivers that live.

A shard has one reader at a time, so the order of a session's events holds. A lease outlives its holder by at most
`LEASE_MS`; the others see the death by the same time and take the shards at their next refresh, `REFRESH_S` later.
"""

import asyncio
import random
import time
from typing import Any, Final

from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.contact import Contact
from voicebus.adapters.redis.scripts import Script, script
from voicebus.contracts.streams import Keys
from voicebus.errors import BusError

LEASE_MS: Final = 2_000
REFRESH_S: Final = 0.5

# A server that hangs for longer is not waited for: leases that others keep are to be renewed.
_WAIT_S: Final = 1.0


# KEYS: members; ARGV: me, ms after which silence means death. Returns the living, sorted. Who was heard of in a time
# that is still to come was so before the server's clock was set back.
_ANNOUNCE: Final = script(
    "announce",
    """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], now + ARGV[2], '+inf')
redis.call('PEXPIRE', KEYS[1], ARGV[2] * 5)
local living = redis.call('ZRANGE', KEYS[1], 0, -1)
table.sort(living)
return living
""",
)

# KEYS: lease; ARGV: me, ms. Takes a free lease or renews one's own; 0 if it is another's. One that would last longer
# than any does is of a time before the server's clock was set back: its holder, if it lives, renews it.
_HOLD: Final = script(
    "hold",
    """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  if redis.call('PTTL', KEYS[1]) > tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
""",
)

# KEYS: lease; ARGV: me.
_RELEASE: Final = script(
    "release",
    """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
""",
)


def fair_share(me: str, living: list[str], shards: int) -> int:
    """How many shards are this archiver's; over all living archivers it adds up to every shard."""
    base, remainder = divmod(shards, len(living))
    return base + (sorted(living).index(me) < remainder)


class ShardLeases:
    """The shards that this archiver may read now. `refresh` every `REFRESH_S`; every method may raise `BusError`.

    `contact` is what refreshing tells of Redis.
    """

    def __init__(self, bus: RedisConnection, keys: Keys, me: str) -> None:
        self._bus = bus
        self._keys = keys
        self._me = me
        self._valid_until: dict[int, float] = {}
        self.contact: Contact = Contact()

    @property
    def held(self) -> list[int]:
        """The shards held, on this process's own clock: a lease counts from before its renewal was sent."""
        now = time.monotonic()
        return sorted(shard for shard, until in self._valid_until.items() if until > now)

    def holds(self, shard: int) -> bool:
        return self._valid_until.get(shard, 0.0) > time.monotonic()

    async def refresh(self) -> list[int]:
        """Renew, then take free shards up to the fair share.

        Returns:
            Held shards beyond the fair share; finish what is in hand of them, then `release` them.

        Raises:
            BusError: Redis, or a master of a cluster, is away. What the others keep was renewed and taken.
        """
        # All at once, and no master that hangs is waited for twice: what the others keep would run out meanwhile.
        asked = list(self._valid_until)
        living, *answers = await asyncio.gather(
            self._ask(_ANNOUNCE, self._keys.archivers), *map(self._hold, asked), return_exceptions=True
        )
        if isinstance(living, BaseException):
            raise living
        share = fair_share(self._me, living, self._keys.event_shards)
        others = [shard for shard in range(self._keys.event_shards) if shard not in self._valid_until]
        random.shuffle(others)  # two that start together seldom ask for the same one first
        away: dict[str, BaseException] = {}
        while True:
            for shard, answer in zip(asked, answers, strict=True):
                if isinstance(answer, BaseException):
                    away[self._server_of(shard)] = answer
            others = [shard for shard in others if self._server_of(shard) not in away]
            missing = share - len(self._valid_until)
            if not others or missing <= 0:
                break
            asked, others = others[:missing], others[missing:]
            answers = await asyncio.gather(*map(self._hold, asked), return_exceptions=True)
        for error in away.values():
            raise error
        return self.held[share:]

    async def release(self, shard: int) -> None:
        """Give a shard up at once, if it is still ours."""
        self._valid_until.pop(shard, None)
        await self._bus.script(_RELEASE, [self._keys.archiver_lease(shard)], self._me)

    async def leave(self) -> None:
        """Give everything up, so that the others need not wait for the leases to expire."""
        await self._bus.call("ZREM", self._keys.archivers, self._me)
        await asyncio.gather(*(self.release(shard) for shard in list(self._valid_until)))

    def _server_of(self, shard: int) -> str:
        return self._bus.server_of(self._keys.archiver_lease(shard))

    async def _hold(self, shard: int) -> bool:
        asked = time.monotonic()
        granted = bool(await self._ask(_HOLD, self._keys.archiver_lease(shard)))
        if granted:
            self._valid_until[shard] = asked + LEASE_MS / 1000
        else:
            self._valid_until.pop(shard, None)
        return granted

    async def _ask(self, script: Script, key: str) -> Any:
        with self.contact.writing(self._bus.server_of(key)):
            try:
                async with asyncio.timeout(_WAIT_S):
                    return await self._bus.script(script, [key], self._me, LEASE_MS)
            except TimeoutError as error:
                raise BusError(f"Redis did not answer within {_WAIT_S} s about {key}") from error
