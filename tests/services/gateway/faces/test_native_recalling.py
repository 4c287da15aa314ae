"""Connections that have missed more than is remembered here."""

import asyncio
from collections.abc import Sequence
from typing import Any

from support.waiting import wait_until
from voicebus.errors import BusError
from voicebus_services.gateway.faces.native_recalling import Recalling
from voicebus_services.gateway.faces.recorded import Recorded


class Connection:
    after_seq = 2
    is_gone = False


class Memory:
    """A session whose events up to 5 are forgotten here; up to 7 once the first of them were read."""

    forgotten = 5


class Joins:
    """A session that is joined; what is read of it comes when it may."""

    def __init__(self, error: Exception | None = None) -> None:
        self.memory = Memory()
        memory: Any = self.memory
        self.recalling = Recalling(memory, self._recall, self._admit, self._turn_away)
        self.may_read = asyncio.Event()
        self.asked: list[tuple[int, int]] = []
        self.admitted: list[Sequence[Recorded]] = []
        self.turned_away: list[str] = []
        self._error = error

    async def _recall(self, session: str, after: int, upto: int) -> Sequence[Recorded]:
        self.asked.append((after, upto))
        await self.may_read.wait()
        if self._error is not None:
            raise self._error
        self.memory.forgotten = 7
        return [Recorded(seq, "item_recorded", b"") for seq in range(after + 1, upto + 1)]

    def _admit(self, connection: Any, older: Sequence[Recorded]) -> None:
        self.admitted.append(older)

    def _turn_away(self, connection: Any, code: str, message: str) -> None:
        self.turned_away.append(code)

    def begin(self) -> Any:
        connection: Any = Connection()
        self.recalling.begin(connection, "s1")
        return connection


async def test_what_is_forgotten_while_it_is_read_is_read_too_before_a_connection_takes_part() -> None:
    joins = Joins()
    connection = joins.begin()
    assert list(joins.recalling.connections) == [connection]
    joins.may_read.set()
    await wait_until(lambda: joins.admitted, description="the connection to be taken in")
    assert joins.asked == [(2, 5), (5, 7)]
    assert [event.seq for event in joins.admitted[0]] == [3, 4, 5, 6, 7]
    await wait_until(lambda: not joins.recalling.connections, description="nobody to wait")


async def test_who_cannot_be_told_what_was_missed_is_turned_away_with_the_reason() -> None:
    for error, code in ((BusError("Redis is away"), "bus_unavailable"), (ValueError("odd"), "internal_error")):
        joins = Joins(error)
        joins.begin()
        joins.may_read.set()
        await wait_until(lambda: joins.turned_away, description="the refusal")  # noqa: B023
        assert (joins.turned_away, joins.admitted) == ([code], [])


async def test_who_has_gone_meanwhile_takes_no_part() -> None:
    joins = Joins()
    connection = joins.begin()
    await wait_until(lambda: joins.asked, description="the reading")
    joins.recalling.give_up(connection)
    joins.may_read.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert (list(joins.recalling.connections), joins.admitted) == ([], [])
