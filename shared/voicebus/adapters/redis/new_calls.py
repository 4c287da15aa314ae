"""Tool calls that are claimed as they are delivered: reading and claiming in one round trip (contract section 8)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.scripts import CLAIM_NEW
from voicebus.contracts.streams import CALL_TTL_S, Keys

# Of more calls at once none is claimed: they are claimed together, which costs each of them less.
MOST: Final = 4

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
