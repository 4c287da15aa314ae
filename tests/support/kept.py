"""What a gateway leaves behind that is killed: tests wait until Redis has what they go on from.

The last 5 ms of what a client was told may be missing there, and longer ones where Redis or the gateway gets no time
of the machine.
"""

import redis.asyncio as aioredis

from support.callers import Caller
from support.waiting import wait_until
from voicebus.contracts.streams import Keys


async def all_kept(redis_url: str, prefix: str, *callers: Caller) -> None:
    """Wait until Redis has all that was recorded of these calls, as far as their callers were told of it."""
    for caller in callers:
        await seq_kept(redis_url, prefix, caller.session, max(event.get("seq", 0) for event in caller.events))


async def seq_kept(redis_url: str, prefix: str, session: str, seq: int) -> None:
    """Wait until Redis has what was recorded of this session up to `seq`."""
    async with aioredis.from_url(redis_url, decode_responses=True) as bus:

        async def is_written() -> bool:
            return int(await bus.hget(Keys(prefix).session_state(session), "seq") or 0) >= seq

        await wait_until(is_written, description=f"all up to {seq} to be written", timeout=30)
