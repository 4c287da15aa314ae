"""How much a credential may do over all services of an installation: rates and counts, kept in Redis by one script.

A rate is a token bucket: as many as in a minute at most, refilled evenly.
"""

import asyncio
import hashlib
import math
from typing import Final

from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.scripts import script
from voicebus.contracts.streams import Keys
from voicebus.errors import BusError
from voicebus.telemetry import metrics
from voicebus.telemetry.logging import get_logger
from voicebus_services.access.principal import Principal
from voicebus_services.http import ProblemError

log: Final = get_logger(__name__)

# One script decides on rates and on counts, so that they hold over all services and cost one round trip.
# KEYS: buckets, then the sets of sessions; ARGV: session, lease ms, how many buckets there are, of each how many tokens
# it gets in a minute (0: any), and of each set its limit (0: none). Returns which set is full (0: none), and after how
# many ms every bucket has a token. What is of a time that is still to come was written before the server's clock was
# set back: such a bucket is a full one, and such a session counts again when it is renewed.
ALLOW: Final = script(
    "allow",
    """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local buckets, wait, left = tonumber(ARGV[3]), 0, {}
for place = 1, buckets do
  local rate = tonumber(ARGV[3 + place])
  if rate > 0 then
    local known = redis.call('HMGET', KEYS[place], 'tokens', 'at')
    local tokens = rate
    if known[1] and tonumber(known[2]) <= now + 60000 then
      tokens = math.min(rate, tonumber(known[1]) + math.max(0, now - tonumber(known[2])) * rate / 60000)
    end
    if tokens < 1 then
      wait = math.max(wait, math.ceil((1 - tokens) * 60000 / rate))
    end
    left[place] = tokens - 1
  end
end
if wait > 0 then
  return {0, wait}
end
for place, tokens in pairs(left) do
  redis.call('HSET', KEYS[place], 'tokens', tostring(tokens), 'at', tostring(now))
  redis.call('PEXPIRE', KEYS[place], 60000)
end
for place = buckets + 1, #KEYS do
  redis.call('ZREMRANGEBYSCORE', KEYS[place], '-inf', now)
  redis.call('ZREMRANGEBYSCORE', KEYS[place], now + 2 * ARGV[2], '+inf')
  local limit = tonumber(ARGV[3 + place])
  if limit > 0 and redis.call('ZCARD', KEYS[place]) >= limit then
    return {place - buckets, 0}
  end
end
for place = buckets + 1, #KEYS do
  redis.call('ZADD', KEYS[place], now + ARGV[2], ARGV[1])
  redis.call('PEXPIRE', KEYS[place], ARGV[2] * 2)
end
return {0, 0}
""",
)


# How long a request waits until it is counted, and how long none is once one waited in vain.
_PATIENCE_S: Final = 0.5
_REST_S: Final = 2.0


def short(text: str) -> str:
    """A credential's name in a key of Redis."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class RequestRate:
    """The HTTP requests of each credential: `per_minute`, where it has no limit of its own; 0 is none.

    A client secret's count for itself, under its own limit.
    """

    def __init__(self, bus: RedisConnection, keys: Keys, per_minute: int) -> None:
        self._bus = bus
        self._keys = keys
        self._per_minute = per_minute
        self._counts_from = 0.0

    async def spend(self, principal: Principal) -> None:
        """Count one request. Where Redis does not count it, it is let through: it may need nothing of Redis.

        A Redis that stands still holds requests up for half a second, and for two seconds after that none.

        Raises:
            ProblemError: 429 `too_many_requests`, with `Retry-After`.
        """
        rate = principal.limits.requests_per_minute or self._per_minute
        now = asyncio.get_running_loop().time()
        if not rate or now < self._counts_from:
            return
        key = self._keys.access(principal.tenant, f"requests:{short(principal.secret_id or principal.key_id)}")
        try:
            async with asyncio.timeout(_PATIENCE_S):
                _, wait_ms = await self._bus.script(ALLOW, [key], "", 0, 1, rate)
        except (BusError, TimeoutError) as error:
            if not self._counts_from:
                log.warning(
                    "requests cannot be counted and are not limited until they can", error=str(error) or "no answer"
                )
            self._counts_from = asyncio.get_running_loop().time() + _REST_S
            return
        self._counts_from = 0.0
        if wait_ms:
            metrics.LIMITS_REACHED.labels(limit="request_rate").inc()
            seconds = math.ceil(int(wait_ms) / 1000)
            raise ProblemError(
                429, "too_many_requests",
                f"this credential may make {rate} requests in a minute; try again in {seconds} s",
                headers={"Retry-After": str(seconds)},
            )  # fmt: skip
