"""Looking after sessions one by one, so that an odd one, or one whose master in Redis is away, keeps no other."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Final

from voicebus.errors import BusError, StoreError
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

# A master that hangs is waited for in each row; what is read of sessions is in memory for as many.
_ROW: Final = 8


class Singly:
    """`work` for each session of each look; what is wrong with one is logged once, as `problem`."""

    def __init__(self, problem: str) -> None:
        self._problem = problem
        self._odd: set[str] = set()

    async def look(self, sessions: Collection[str], work: Callable[[str], Awaitable[None]]) -> None:
        """See to each of these, which are all that there are now. Those that one master keeps wait for no other's.

        Raises:
            BusError, StoreError: what all of them need is away; or, after the others were seen to, what some need.
        """
        self._odd &= set(sessions)
        away: BusError | None = None
        waiting = list(sessions)
        while waiting:
            row, waiting = waiting[:_ROW], waiting[_ROW:]
            failed = await asyncio.gather(*(self._see_to(session, work) for session in row))
            away = next(filter(None, failed), away)
            if all(failed):
                break
        if away is not None:
            raise away

    async def _see_to(self, session: str, work: Callable[[str], Awaitable[None]]) -> BusError | None:
        try:
            await work(session)
        except BusError as error:
            return error
        except StoreError:
            raise
        except Exception:  # one odd session must not end the care of all
            if session not in self._odd:
                log.exception(self._problem, session=session)
            self._odd.add(session)
        return None
