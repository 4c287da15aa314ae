"""Tool calls that are claimed as they are delivered: reading and claiming in one round trip (contract section 8)."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.scripts import CLAIM_NEW
from voicebus.contracts.streams import CALL_TTL_S, Keys

# Of more calls at once none is claimed: they are claimed together, which costs each of them less.
MOST: Final = 4

# Nothing is claimed for a reader that has waited for longer since it was brought something: its process may be frozen
# or its machine gone, and what is claimed for it is lost to everybody else.
SOON_MS: Final = 30

NEW_MS: Final = 1_000
"""A call that waited longer is not claimed before its session is known to go on."""


class NewCalls:
    """Reads a tool queue for `worker`, and claims what comes new.

    `tools` gives those, by name with their versions, of which the worker starts every call at once: another
    mapping where they have changed.
    """

    def __init__(
        self, bus: RedisConnection, keys: Keys, queue: str, worker: str, tools: Callable[[], Mapping[str, str]]
    ) -> None:
        self._bus = bus
        self._stream = keys.tools(queue)
        self._worker = worker
        self._tools = tools
        self._names = keys.calls(queue), keys.inboxes
        self._named: Mapping[str, str] = {}
        self._lines = "\n"
        self._brought_at = time.monotonic()

    @property
    def soon_ms(self) -> int:
        """For how long a call that comes is still claimed by the read that brings it; 0: not any more."""
        return max(0, SOON_MS - int((time.monotonic() - self._brought_at) * 1000))

    def brought(self) -> None:
        """A read has brought something: more may be expected soon."""
        self._brought_at = time.monotonic()

    async def read(self, command: Sequence[str | int], *, group: str, after: str) -> tuple[Any, Mapping[str, int]]:
        """Run a blocking `XREADGROUP` of this queue: its reply, and since when (ms) which of its entries are claimed.

        `after` is the last id that the worker was given before.

        Raises:
            BusError: refused, or Redis cannot be reached.
        """
        tools = self._tools()
        if tools is not self._named:
            self._named, self._lines = tools, "".join(f"\n{name} {version}" for name, version in tools.items()) + "\n"
        about = (MOST, NEW_MS, CALL_TTL_S, *self._names, self._lines)
        reply, claimed = await self._bus.read_and_run(
            command, CLAIM_NEW, [self._stream], group, self._worker, after, *about
        )
        if not claimed:
            return reply, {}
        at, *ids = claimed
        return reply, dict.fromkeys(ids, at)
