"""Fail-over: which server is the master now, whether it has replicas, and whether they have what was written.

Replication is asynchronous, so a master that dies takes its last writes with it. What was written from here shortly
before is therefore written again once another server is the master (`MasterWatch`), and what must not be forgotten is
confirmed by a replica before it counts (`Replicas`).
"""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Final

from voicebus.adapters.redis.client import RedisConnection, is_final
from voicebus.errors import BusError
from voicebus.telemetry import metrics
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

LOOK_S: Final = 1.0
AGAIN_S: Final = 0.25
"""How soon a master that did not answer is asked again: what was written last is in danger meanwhile."""

# How far a replica in step may be behind, with plenty to spare: what was written since before then is written again.
MARGIN_S: Final = 5.0

CONFIRM_MS: Final = 200
"""How long a replica may take to confirm."""


class MasterWatch:
    """Asks which servers are the masters, each second and as soon as a connection breaks; run `run` as a task."""

    def __init__(self, bus: RedisConnection, *, service: str) -> None:
        self._bus = bus
        self._service = service
        # The run id of each server by its name, and of those that have had a replica since they are masters, be it
        # connected now or not.
        self._masters: dict[str, str] = {}
        self._replicated: set[str] = set()
        self._seen_at = 0.0
        self._listeners: list[Callable[[float], None]] = []

    def has_replicas(self, key: str) -> bool:
        """Whether the server that has this key has had a replica since it is a master."""
        if not self._replicated:  # asked with every call, and which server has a key is the dear part
            return False
        run_id = self._masters.get(self._bus.server_of(key))
        return bool(self._replicated) if run_id is None else run_id in self._replicated

    def on_change(self, listener: Callable[[float], None]) -> None:
        """Have `listener` called once another server is a master, with the time (monotonic, s) since which writes may
        have been lost.
        """
        self._listeners.append(listener)

    async def begin(self) -> None:
        """Look for the first time. A Redis that does not tell is worked with all the same, and said to be one."""
        try:
            await self.look()
        except BusError as error:
            log.warning("a fail-over would not be noticed: Redis does not tell which server this is", error=str(error))

    async def run(self) -> None:
        """Look until cancelled; while nothing answers nothing is known."""
        while True:
            if await self._looked():
                await self._bus.broke(LOOK_S)
            else:
                await asyncio.sleep(AGAIN_S * random.uniform(0.5, 1.0))  # noqa: S311 - spreads processes, no secret

    async def _looked(self) -> bool:
        try:
            await self.look()
        except BusError as error:
            log.debug("masters not known", error=str(error))
            return is_final(error)  # a user who may not ask is not told sooner for asking more often
        return True

    async def look(self) -> None:
        """Look now.

        Raises:
            BusError: Redis cannot be reached.
        """
        masters = await self._bus.masters()
        now = time.monotonic()
        before, self._masters = self._masters, {name: str(told["run_id"]) for name, told in masters.items()}
        present = set(self._masters.values())
        self._replicated &= present
        self._replicated |= {
            str(told["run_id"]) for told in masters.values() if int(told.get("connected_slaves", 0)) > 0
        }
        since, self._seen_at = self._seen_at - MARGIN_S, now
        if before and not present <= set(before.values()):
            metrics.REDIS_FAILOVERS.labels(service=self._service).inc()
            log.warning("another Redis server is the master: what was written last is written again")
            for listener in self._listeners:
                listener(since)


class Replicas:
    """Confirms that a replica has what was written so far; those who ask in one turn of the loop are answered together.

    `ttl_s` is the life of the keys that are asked about: what confirms is a write, and that one is harmless.
    """

    def __init__(self, bus: RedisConnection, watch: MasterWatch, *, ttl_s: int) -> None:
        self._bus = bus
        self._watch = watch
        self._ttl_s = ttl_s
        # By the key's hash tag: a cluster's servers are asked one by one.
        self._asking: dict[str, asyncio.Task[bool]] = {}

    async def have(self, key: str) -> bool:
        """Whether all that was written in the slot of `key` is safe: a replica has it, or there are none.

        Raises:
            BusError: Redis cannot be reached.
        """
        if not self._watch.has_replicas(key):
            return True
        place = key.partition("{")[2].partition("}")[0]
        asking = self._asking.get(place)
        if asking is None:
            asking = self._asking[place] = asyncio.create_task(self._ask(place, key), name="confirm")
        return await asyncio.shield(asking)

    async def _ask(self, place: str, key: str) -> bool:
        await asyncio.sleep(0)
        del self._asking[place]  # who comes now may have written meanwhile, and needs a confirmation of its own
        return await self._bus.confirm(key, ttl_s=self._ttl_s, timeout_ms=CONFIRM_MS) > 0
