"""Tool calls that are claimed as they are delivered, while they are looked at (contract section 8).

By their reader and not by the server that delivers them: a process that is frozen, or whose machine is gone, must not
claim what others could run.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from voicebus.adapters.redis.blocking import Command
from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.scripts import CLAIM_NEW
from voicebus.contracts.streams import CALL_TTL_S, Keys

# Of more calls at once none is claimed: they are claimed together, which costs each of them less.
MOST: Final = 4

Claims = Mapping[str, asyncio.Future[int | None]]

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
        self._text = "\n"

    async def read(self, command: Command, *, group: str, after: str) -> tuple[Any, Claims]:
        """Run a blocking `XREADGROUP` of this queue: its reply, and what brings since when (ms) each of its entries is
        claimed, None for those that are not.

        `after` is the last id that the worker was given before.

        Raises:
            BusError: refused, or Redis cannot be reached.
        """
        about = (MOST, NEW_MS, CALL_TTL_S, *self._names, self._lines())
        reply, script = await self._bus.read_then_run(
            command, CLAIM_NEW, [self._stream], group, self._worker, after, *about
        )
        if script is None:
            return reply, {}
        return reply, _claims([entry_id for _, entries in reply for entry_id, _ in entries], script)

    def _lines(self) -> str:
        tools = self._tools()
        if tools is not self._named:
            self._named, self._text = tools, "".join(f"\n{name} {version}" for name, version in tools.items()) + "\n"
        return self._text


def _claims(ids: Sequence[str], script: asyncio.Future[Any]) -> Claims:
    if len(ids) > MOST:
        return {}
    loop = asyncio.get_running_loop()
    claims: dict[str, asyncio.Future[int | None]] = {entry_id: loop.create_future() for entry_id in ids}

    def settle(done: asyncio.Future[Any]) -> None:
        # One that failed may have claimed all the same; who is told of none asks `claim`, which knows its own.
        at, *ids = (None,) if done.exception() is not None else done.result()
        claimed = dict.fromkeys(ids, at)
        for entry_id, claim in claims.items():
            if not claim.done():  # else who waited was cancelled
                claim.set_result(claimed.get(entry_id))

    script.add_done_callback(settle)
    return claims
