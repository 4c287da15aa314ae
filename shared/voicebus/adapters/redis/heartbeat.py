"""Heartbeats: that a process lives, said each second from a thread of its own, and asked about by others.

A thread with its own event loop and connection, so that neither a blocking tool nor a long garbage collection in the
main loop makes a living process look dead. Alive means: a beat within the last 2.5 s.
"""

import asyncio
import contextlib
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from voicebus.adapters.redis.client import RedisConnection, connect
from voicebus.adapters.redis.contact import Contact
from voicebus.adapters.redis.scripts import BEAT, LATER
from voicebus.contracts.streams import HEARTBEAT_TTL_S
from voicebus.errors import BusError
from voicebus.telemetry.logging import get_logger
from voicebus.telemetry.outage import Outage

log: Final = get_logger(__name__)

INTERVAL_S: Final = 1.0
ALIVE_MS: Final = 2_500

# What a server's clock may be set by at once, and what each beat comes late by, without others looking dead for it.
_JUMP_S: Final = 0.5

# A cluster's other masters are written to by way of keys in so many slots.
_PLACES: Final = 64

_INCARNATION: Final = re.compile(r".+-\d+-[0-9a-f]{6}")


def new_incarnation() -> str:
    """An id for this incarnation of this process: `{hostname}-{pid}-{6 hex}` (contract section 1)."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


def sends_heartbeats(consumer: str) -> bool:
    """Whether a consumer's name is the id of an incarnation, which promises heartbeats; others are given longer."""
    return _INCARNATION.fullmatch(consumer) is not None


async def living(bus: RedisConnection, heartbeats: Sequence[str]) -> list[bool]:
    """Whether the processes with these heartbeat keys are alive.

    Judged by what is left of each key's time to live, so that no two clocks are compared.

    Raises:
        BusError: Redis cannot be reached.
    """
    return [counts > 0 for counts in await _count_for_ms(bus, heartbeats)]


async def lives_for_ms(bus: RedisConnection, heartbeat: str) -> int:
    """For how long the process with this heartbeat key counts as alive, unless it beats again; 0: it is dead.

    Raises:
        BusError: Redis cannot be reached.
    """
    (counts,) = await _count_for_ms(bus, [heartbeat])
    return counts


async def _count_for_ms(bus: RedisConnection, heartbeats: Sequence[str]) -> list[int]:
    left = await asyncio.gather(*(bus.submit("PTTL", key) for key in heartbeats))
    counts = [max(0, int(milliseconds) - HEARTBEAT_TTL_S * 1000 + ALIVE_MS) for milliseconds in left]
    for number, heartbeat in enumerate(heartbeats):
        # Longer than any beat of ours: the server's clock was set back since, or a worker gives its key longer to live.
        if counts[number] > 2 * ALIVE_MS and await bus.script(LATER, [heartbeat]):
            counts[number] = 0
    return counts


@dataclass(frozen=True, slots=True)
class _Written:
    """A beat that Redis has taken: when it was begun (monotonic, s), and when that was for the server (ms)."""

    key: str
    begun: float
    at: int


def _was_set_between(before: _Written, now: _Written) -> bool:
    """Whether the server's clock was set between two beats."""
    return abs(now.at - before.at - (now.begun - before.begun) * 1000) > _JUMP_S * 1000


async def _is_untouched(bus: RedisConnection, key: str, begun: Callable[[], float]) -> bool:
    """Whether a beat is as old for the server as it is here, where it was `begun` (asked behind the answer)."""
    age_s = HEARTBEAT_TTL_S - int(await bus.call("PTTL", key)) / 1000
    return -_JUMP_S < age_s < time.monotonic() - begun() + _JUMP_S


class Heartbeat:
    """Keeps the heartbeat `key` of this process. `fields` is called in the heartbeat's thread before each beat.

    `renewed` hears, on the loop that started it, of each beat that Redis has taken: when (monotonic, s) it was begun.
    `lost` hears of one that found none before it: Redis was emptied, or none was sent for longer than they last.
    `jumped` hears that the server's clock has since the last beat, or that somebody has removed that.
    `contact` is what the beats tell of Redis. Other masters of a cluster are given a beat as often, under a key that is
    nobody's heartbeat, by which those that they keep are judged.
    Call `start` before taking work and `stop` after the last of it: without its key a process counts as dead, and
    what it holds is taken over at once.
    """

    def __init__(
        self,
        url: str,
        key: str,
        fields: Callable[[], Mapping[str, str]],
        *,
        renewed: Callable[[float], None] = lambda _: None,
        lost: Callable[[], None] = lambda: None,
        jumped: Callable[[], None] = lambda: None,
    ) -> None:
        self._renewed = renewed
        self._lost = lost
        self._jumped = jumped
        self._url = url
        self._key = key
        self._fields = fields
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Event | None = None
        self._stopped = False
        self.contact: Contact = Contact()
        # When the last beat was begun (monotonic, s), and when that was for the server (ms).
        self._beaten = float("-inf")
        self._at = 0
        self._is_beating = False
        # By their servers, those writes that are under way, and the last that was taken.
        self._writing: dict[str, asyncio.Task[None]] = {}
        self._written: dict[str, _Written] = {}

    async def start(self) -> None:
        """Return after the first beat.

        Raises:
            BusError: Redis cannot be reached.
        """
        self._stopped = False
        here = asyncio.get_running_loop()
        first: asyncio.Future[None] = here.create_future()
        self._thread = threading.Thread(target=self._run, args=(here, first), name="heartbeat", daemon=True)
        self._thread.start()
        await first

    async def tells_dead(self, bus: RedisConnection, heartbeat: str) -> bool:
        """Whether a `heartbeat` that does not count any more tells that its process is dead; asked behind the answer.

        It does not while others may live that were not heard of, nor where the server's clock has jumped, or somebody
        has removed heartbeats: then what this process has just written there does not count either.

        Raises:
            BusError: Redis cannot be reached.
        """
        server = bus.server_of(heartbeat)
        if server == bus.server_of(self._key):
            untouched = await _is_untouched(bus, self._key, lambda: self._beaten)
            # Of a beat that is under way nobody knows yet whether the clock has jumped before it.
            return untouched and not self._is_beating and self.contact.is_unbroken(server)
        written = self._written.get(server)
        if written is not None and not await _is_untouched(bus, written.key, lambda: written.begun):
            return False
        return server not in self._writing and self.contact.is_unbroken(server)

    async def stop(self) -> None:
        """Remove the key and end the thread."""
        thread = self._thread
        if thread is None:
            return
        self._stopped = True  # seen by a thread that has no loop yet
        loop, ending = self._loop, self._ending
        if loop is not None and ending is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the thread has ended already
                loop.call_soon_threadsafe(ending.set)
        await asyncio.to_thread(thread.join)
        self._thread = None

    def _run(self, parent: asyncio.AbstractEventLoop, first: asyncio.Future[None]) -> None:
        try:
            asyncio.run(self._keep(parent, first))
        except Exception as error:  # noqa: BLE001 - handed to the thread that waits for the first beat
            parent.call_soon_threadsafe(_fail, first, error)

    async def _keep(self, parent: asyncio.AbstractEventLoop, first: asyncio.Future[None]) -> None:
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        if self._stopped:
            return
        async with await connect(self._url) as bus:
            await self._beat(bus, parent)
            parent.call_soon_threadsafe(_succeed, first)
            outage = Outage(log, "heartbeat not sent")
            self._write_to_others(bus)
            while not await _set_within(self._ending, INTERVAL_S):
                self._write_to_others(bus)
                try:
                    if not await self._beat(bus, parent):
                        parent.call_soon_threadsafe(self._lost)
                except BusError as error:
                    outage.failed(time.monotonic(), error=str(error))
                except Exception as error:  # noqa: BLE001 - a process that stops beating counts as dead while it works
                    outage.failed(time.monotonic(), error=repr(error), exc_info=True)
                else:
                    outage.over(time.monotonic())
            for task in self._writing.values():
                task.cancel()
            try:
                await bus.call("DEL", self._key)
            except BusError as error:
                log.debug("heartbeat not removed, it will expire", error=str(error))

    async def _beat(self, bus: RedisConnection, parent: asyncio.AbstractEventLoop) -> bool:
        """Beat; returns whether the one before was still there."""
        flat = [text for pair in self._fields().items() for text in pair]
        begun = time.monotonic()
        self._is_beating = True
        try:
            with self.contact.writing(bus.server_of(self._key)):
                there = await bus.script(BEAT, [self._key], HEARTBEAT_TTL_S, *flat)
                at = int(await bus.call("HGET", self._key, "at") or 0)
            before, now = _Written(self._key, self._beaten, self._at), _Written(self._key, begun, at)
            if self._at and (not there or _was_set_between(before, now)):
                self.contact.broke()
                parent.call_soon_threadsafe(self._jumped)
            self._beaten, self._at = begun, at
        finally:
            self._is_beating = False
        parent.call_soon_threadsafe(self._renewed, begun)
        return bool(there)

    def _write_to_others(self, bus: RedisConnection) -> None:
        """To each master but the one that keeps this heartbeat."""
        family, _, own = self._key.partition("{")
        # Nobody is called so, and whoever may write heartbeats may write these.
        places = (f"{family}{{none-{n}-{own}" for n in range(_PLACES))
        keys = {bus.server_of(key): key for key in places}
        for server in keys.keys() - {"", bus.server_of(self._key)} - self._writing.keys():
            task = self._writing[server] = asyncio.create_task(self._write(bus, server, keys[server]))
            task.add_done_callback(lambda _, server=server: self._writing.pop(server))  # type: ignore[misc]

    async def _write(self, bus: RedisConnection, server: str, key: str) -> None:
        try:
            begun = time.monotonic()
            with self.contact.writing(server):
                there = await bus.script(BEAT, [key], HEARTBEAT_TTL_S)
                at = int(await bus.call("HGET", key, "at") or 0)
        except BusError as error:
            log.debug("a master takes nothing", server=server, error=str(error))
            return
        before = self._written.get(server)
        self._written[server] = now = _Written(key, begun, at)
        if before is not None and before.key == key and (not there or _was_set_between(before, now)):
            self.contact.broke(server)


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


def _succeed(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _fail(future: asyncio.Future[None], error: Exception) -> None:
    if future.done():
        log.error("heartbeat ended", error=str(error))
    else:
        future.set_exception(error)
