"""Looking after sessions one by one, so that an odd one keeps no other."""

from collections.abc import Awaitable, Callable, Collection
from typing import Final

from voicebus.errors import BusError, StoreError
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)


class Singly:
    """`work` for each session of each look; what is wrong with one is logged once, as `problem`."""

    def __init__(self, problem: str) -> None:
        self._problem = problem
        self._odd: set[str] = set()

    async def look(self, sessions: Collection[str], work: Callable[[str], Awaitable[None]]) -> None:
        """See to each of these, which are all that there are now.

        Raises:
            BusError, StoreError: what all of them need is away.
        """
        self._odd &= set(sessions)
        for session in sessions:
            try:
                await work(session)
            except (BusError, StoreError):
                raise
            except Exception:
                if session not in self._odd:
                    log.exception(self._problem, session=session)
                self._odd.add(session)
