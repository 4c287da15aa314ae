"""Sessions are seen to one by one: an odd one keeps no other, and is told of once."""

import pytest

from voicebus.errors import BusError, StoreError
from voicebus_services.transcript_archiver.singly import Singly


async def test_an_odd_session_keeps_no_other_and_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    singly, seen = Singly("a session is odd"), list[str]()

    async def work(session: str) -> None:
        if session == "odd":
            raise KeyError(session)
        seen.append(session)

    for sessions in (["a", "odd", "b"], ["odd", "c"], ["d"], ["odd"]):
        await singly.look(sessions, work)
    assert seen == ["a", "b", "c", "d"]
    assert caplog.text.count("a session is odd") == 2, "once more where it had gone meanwhile"


async def test_a_session_whose_master_is_away_keeps_no_other() -> None:
    seen = list[str]()

    async def work(session: str) -> None:
        if session.startswith("away"):
            raise BusError("its master is away")
        seen.append(session)

    sessions = ["away-0", "a", *(f"b-{n}" for n in range(20)), "away-1", "c"]
    with pytest.raises(BusError):
        await Singly("a session is odd").look(sessions, work)
    assert seen == ["a", *(f"b-{n}" for n in range(20)), "c"]


async def test_where_nothing_can_be_reached_it_is_not_tried_for_each() -> None:
    tried = list[str]()

    async def away(session: str) -> None:
        tried.append(session)
        raise BusError("Redis is away")

    with pytest.raises(BusError):
        await Singly("a session is odd").look([str(n) for n in range(1000)], away)
    assert len(tried) < 20


async def test_what_all_of_them_need_is_waited_for() -> None:
    async def away(session: str) -> None:
        raise StoreError("the database is away")

    with pytest.raises(StoreError):
        await Singly("a session is odd").look(["a", "b"], away)
