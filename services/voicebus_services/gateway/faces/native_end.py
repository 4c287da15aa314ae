"""How the end of a session is told to the clients of the native face (contract section 3).

They hear of it once it is written, or when the driver has given that up: who is told that a session ended does not come
again, and a gateway that dies before it has written that leaves a session which somebody has to end. Then come the
answers to those who asked for the end, its record behind them, and the close.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from voicebus.adapters.sockets import SERVICE_RESTART
from voicebus.contracts.journal import EventType, SessionEnded
from voicebus_services.gateway.faces.base import DRAINED, MIGRATED

TAKEN_OVER: Final = (4409, "taken over elsewhere")
"""Code and reason of the close for those whose place another has taken: a session's next owner, or its next speaker."""


class LastRecord(NamedTuple):
    """The record of the end, in the order of `ClientFace.record`."""

    seq: int
    kind: EventType
    at_ms: int
    data: SessionEnded


class Ending:
    """Knows whether a session has ended, and what is still to be said of that.

    `closing`: code and reason of the close, once it has ended, or goes on elsewhere.
    """

    def __init__(self) -> None:
        self.closing: tuple[int, str] | None = None
        self._record: LastRecord | None = None
        self._asked: list[str] = []

    @property
    def has_come(self) -> bool:
        """Whether it is over here."""
        return self.closing is not None

    @property
    def is_untold(self) -> bool:
        """Whether it has ended, and its clients are not told yet."""
        return self.has_come and self._record is not None

    @property
    def told(self) -> tuple[int, str] | None:
        """`closing` where nothing is left to be said before it."""
        return self.closing if self._record is None else None

    def recorded(self, record: LastRecord) -> None:
        """The end was recorded: that is kept for the last words."""
        self._record = record

    def asked(self, given: str | None) -> None:
        """The speaker has asked for the end, under this id: acknowledged with it."""
        if given is not None:
            self._asked.append(given)

    def was_asked(self, given: str) -> bool:
        """Whether the speaker has asked for the end under this id, whose answer is still to come."""
        return given in self._asked

    def decide(self, code: int, reason: str) -> bool:
        """The session is over; True where the last words are to wait until its end is written. The first word counts,
        but for `TAKEN_OVER`: then it has not ended, and what was recorded of that is not written.
        """
        if code == TAKEN_OVER[0]:
            self._record = None
            self.closing = (code, reason)
        elif self.closing is None:
            self.closing = (SERVICE_RESTART if reason in (DRAINED, MIGRATED) else code, reason)
            return self._record is not None
        return False

    def last_words(self) -> tuple[Sequence[str], LastRecord | None]:
        """Under which ids the end was asked for, and its record: to be told now, and once."""
        asked, self._asked = self._asked, []
        record, self._record = self._record, None
        return asked, record
