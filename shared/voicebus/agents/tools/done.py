"""The calls that ended lately on a worker: what it knows of them should Redis forget it, as by a fail-over."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from voicebus.agents.tools.handling import Ending
from voicebus.contracts.tools import ToolResult
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

KEPT_S: Final = 60.0
MOST: Final = 10_000
MOST_CHARS: Final = 32_000_000
"""Beyond so many calls, or so much of results, the oldest is forgotten sooner."""


class _Done(msgspec.Struct, frozen=True, gc=False):
    at: float
    ending: Ending


class DoneCalls:
    """How calls ended, by (session, call id), of the last minute."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], _Done] = OrderedDict()
        self._chars = 0

    def add(self, key: tuple[str, str], ending: Ending) -> None:
        """This call has ended, and its result is stored and sent."""
        now = time.monotonic()
        before = self._known.pop(key, None)
        self._known[key] = _Done(now, ending)
        self._chars += len(ending.text) - (0 if before is None else len(before.ending.text))
        while True:
            oldest, done = next(iter(self._known.items()))
            if len(self._known) <= MOST and self._chars <= MOST_CHARS and done.at > now - KEPT_S:
                break
            self._chars -= len(done.ending.text)
            del self._known[oldest]
            if not self._known:
                break

    def find(self, key: tuple[str, str]) -> ToolResult | None:
        """What came of this call, if it ended lately."""
        done = self._known.get(key)
        return None if done is None else ToolResult.model_validate_json(done.ending.text)

    async def repeat(self, since: float, finish: Callable[[Ending], Awaitable[object]]) -> None:
        """Store and send again the results of all that ended since then (monotonic, s)."""
        again = [done.ending for done in self._known.values() if done.at >= since]
        if again:
            log.info("results are stored again after a fail-over", calls=len(again))
            await asyncio.gather(*(finish(ending) for ending in again))
