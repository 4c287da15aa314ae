"""Has the partitions of the coming months made, by one of the archivers: the one that reads shard 0.

A month that has none when it begins lies in the default partition from then on, where no retention can drop it whole.
"""

import asyncio
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Final

from voicebus.adapters.database.store import TranscriptStore
from voicebus.errors import ContractError, StoreError
from voicebus.ports import Clock
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

FIRST_S: Final = 10.0
"""How long after its start an archiver looks for the first time: it has its shards then."""
EVERY_S: Final = 6 * 3600.0


class Months:
    """Run `run` as a task."""

    def __init__(
        self,
        store: TranscriptStore,
        clock: Clock,
        shards: Callable[[], Collection[int]],
        *,
        first_s: float = FIRST_S,
        every_s: float = EVERY_S,
    ) -> None:
        self._store = store
        self._clock = clock
        self._shards = shards
        self._first_s = first_s
        self._every_s = every_s

    async def run(self) -> None:
        """Look after it until cancelled."""
        await asyncio.sleep(self._first_s)
        while True:
            if 0 in self._shards():
                today = datetime.fromtimestamp(self._clock.at_ms() / 1000, UTC)
                try:
                    made = await self._store.prepare_months(today.year * 100 + today.month)
                except (StoreError, ContractError) as error:  # the latter, where a row of the month comes meanwhile
                    # There are two months of them in hand; rows of one without go to the default partition.
                    log.warning("partitions of the coming months are not made; trying again later", error=str(error))
                else:
                    if made:
                        log.info("made partitions of the coming months", partitions=made)
            await asyncio.sleep(self._every_s)
