"""Tool calls that are claimed as they are delivered (contract section 8): in the round trip that reads them, or in one
that begins before they are looked at.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from voicebus.adapters.redis.blocking import Command
from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.scripts import CLAIM_NEW
from voicebus.contracts.streams import CALL_TTL_S, Keys

# Of more calls at once none is claimed: they are claimed together, which costs each of them less.
MOST: Final = 4

# By a read that has waited for longer since something was brought nothing is claimed: its reader may be frozen or its
# machine gone, and what is claimed for it is lost to everybody else. It claims itself, once it has what it waited for.
SOON_MS: Final = 30

Claimed = int | asyncio.Future[int | None]

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
        self._brought_at = time.monotonic()

    def brought(self) -> None:
        """A read has brought something: more may be expected soon."""
        self._brought_at = time.monotonic()

    async def read(
        self, command: Command, names: Command, *, block_ms: int, group: str, after: str
    ) -> tuple[Any, Mapping[str, Claimed]]:
        """Run a blocking `XREADGROUP` of this queue; `command` and `names` stand before and behind its `BLOCK`.

        Its reply, and since when (ms) which of its entries are claimed; as futures, which bring None of those that are
        not, where that is on its way.

        `after` is the last id that the worker was given before. A call that comes soon after another is claimed by the
        read, which waits no longer than for that.

        Raises:
            BusError: refused, or Redis cannot be reached.
        """
        soon_ms = max(0, SOON_MS - int((time.monotonic() - self._brought_at) * 1000))
        reply, script = await self._bus.read_and_run(
            [*command, "BLOCK", min(block_ms, soon_ms or block_ms), *names],
            CLAIM_NEW, [self._stream],
            group, self._worker, after, MOST, NEW_MS, CALL_TTL_S, *self._names, self._lines(),
            at_once=soon_ms > 0,
        )  # fmt: skip
        if script is None or not reply:
            return reply, {}
        if soon_ms:
            return reply, _claimed(script)
        return reply, _claims([entry_id for _, entries in reply for entry_id, _ in entries], script)

    def _lines(self) -> str:
        tools = self._tools()
        if tools is not self._named:
            self._named, self._text = tools, "".join(f"\n{name} {version}" for name, version in tools.items()) + "\n"
        return self._text


def _claimed(script: asyncio.Future[Any]) -> dict[str, int]:
    # One that failed may have claimed all the same; who is told of none asks `claim`, which knows its own.
    if script.exception() is not None:
        return {}
    at, *ids = script.result()
    return dict.fromkeys(ids, at)


def _claims(ids: Sequence[str], script: asyncio.Future[Any]) -> Mapping[str, asyncio.Future[int | None]]:
    if len(ids) > MOST:
        return {}
    loop = asyncio.get_running_loop()
    claims: dict[str, asyncio.Future[int | None]] = {entry_id: loop.create_future() for entry_id in ids}

    def settle(done: asyncio.Future[Any]) -> None:
        claimed = _claimed(done)
        for entry_id, claim in claims.items():
            if not claim.done():  # else who waited was cancelled
                claim.set_result(claimed.get(entry_id))

    script.add_done_callback(settle)
    return claims
