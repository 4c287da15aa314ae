"""A gateway's inbox: one stream for all its sessions, read by one task from a saved id; nothing is ever lost by a
dropped connection, as it would be with publish/subscribe.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from voicebus.adapters.redis.client import RedisConnection
from voicebus.contracts.envelope import Entry
from voicebus.contracts.streams import DEAD_LETTERS_MAXLEN, INBOX_QUEUE, INBOX_TTL_S, Keys
from voicebus.errors import BusError, ContractError
from voicebus.telemetry import metrics
from voicebus.telemetry.logging import get_logger

log = get_logger(__name__)

BLOCK_MS: Final = 2_000
_COUNT: Final = 500
_TIDY_S: Final = 10.0
_RETRY_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0)

# Writers send again after a lost connection under the same message id: this many ids are remembered.
_REMEMBERED: Final = 10_000


class RedisInbox:
    """Implements `voicebus.ports.Inbox`. Run `run` as a task of the gateway.

    `on_reachable` hears whether the last read reached Redis, for readiness.
    """

    def __init__(
        self,
        bus: RedisConnection,
        keys: Keys,
        gateway: str,
        *,
        service: str = "gateway",
        on_reachable: Callable[[bool], None] | None = None,
    ) -> None:
        self.stream = keys.inbox(gateway)
        self._dead = keys.dead(INBOX_QUEUE)
        self._bus = bus
        self._service = service
        self._on_reachable = on_reachable
        self._subscribers: dict[str, Callable[[Entry], None]] = {}
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._last = "0-0"

    def subscribe(self, session: str, deliver: Callable[[Entry], None]) -> None:
        """Have `deliver` called, on the event loop, with every entry for this session."""
        self._subscribers[session] = deliver

    def unsubscribe(self, session: str) -> None:
        self._subscribers.pop(session, None)

    async def run(self) -> None:
        """Read and route entries until cancelled."""
        tidied = float("-inf")
        failures = 0
        while True:
            try:
                if time.monotonic() - tidied > _TIDY_S:
                    await self._tidy()
                    tidied = time.monotonic()
                reply = await self._bus.read_blocking(
                    "XREAD", "COUNT", _COUNT, "BLOCK", BLOCK_MS, "STREAMS", self.stream, self._last
                )
                for _, entries in reply or ():
                    for entry_id, fields in entries:
                        await self._route(entry_id, fields)
                        self._last = entry_id
            except BusError as error:
                failures += 1
                if failures == 1:
                    metrics.REDIS_DISRUPTIONS.labels(service=self._service).inc()
                    log.warning("inbox waits for Redis", error=str(error))
                self._reachable(False)
                await asyncio.sleep(_RETRY_S[min(failures, len(_RETRY_S)) - 1])
                continue
            failures = 0
            self._reachable(True)

    async def _tidy(self) -> None:
        """Remove what was read, and renew the stream's time to live: it ends a day after its gateway."""
        if self._last != "0-0":
            milliseconds, _, number = self._last.partition("-")
            await self._bus.call("XTRIM", self.stream, "MINID", f"{milliseconds}-{int(number) + 1}")
        await self._bus.call("EXPIRE", self.stream, INBOX_TTL_S)

    async def _route(self, entry_id: str, fields: dict[str, str]) -> None:
        try:
            entry = Entry.parse(fields)
        except ContractError as error:
            letter = {
                **fields, "reason": error.reason, "error": str(error),
                "deliveries": "1", "origin": f"{self.stream}/{entry_id}",
            }  # fmt: skip
            flat = [text for pair in letter.items() for text in pair]
            await self._bus.call("XADD", self._dead, "MAXLEN", "~", DEAD_LETTERS_MAXLEN, "*", *flat)
            metrics.MESSAGES_DEADLETTERED.labels(service=self._service, reason=error.reason).inc()
            log.warning("inbox entry refused", entry=entry_id, reason=error.reason, error=str(error))
            return
        if entry.id in self._seen:
            return
        self._seen[entry.id] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        deliver = self._subscribers.get(entry.session)
        if deliver is None:
            log.debug("inbox entry for a session that is not here", session=entry.session, type=entry.type)
            return
        try:
            deliver(entry)
        except Exception:  # one session's failure must not stop the others' replies
            log.exception("inbox entry not handled", session=entry.session, type=entry.type)

    def _reachable(self, reached: bool) -> None:
        if self._on_reachable is not None:
            self._on_reachable(reached)
