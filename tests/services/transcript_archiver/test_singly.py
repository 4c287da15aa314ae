"""Sessions are seen to one by one: an odd one keeps no other, and is told of once."""

import pytest

from voicebus.errors import StoreError
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


async def test_what_all_of_them_need_is_waited_for() -> None:
    async def away(session: str) -> None:
        raise StoreError("the database is away")

    with pytest.raises(StoreError):
        await Singly("a session is odd").look(["a", "b"], away)
