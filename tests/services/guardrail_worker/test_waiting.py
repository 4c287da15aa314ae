"""The order in which checks that wait for a slot are judged."""

import asyncio

from voicebus.contracts.envelope import Entry
from voicebus.contracts.guardrails import GUARDRAIL_CHECK, GuardrailCheck
from voicebus.ports import Delivery
from voicebus_services.guardrail_worker.waiting import Waiting, Waitlist


def delivery(answer: str, text: str) -> Delivery:
    check = GuardrailCheck(
        check_id=f"{answer}{text}", response_id=answer, item_id="i", agent="desk", guardrails=["rude"], text=text,
        final=False, reply_to="inbox",
    )  # fmt: skip
    entry = Entry(check.check_id, GUARDRAIL_CHECK, "s1", 1, 0, check.model_dump(mode="json"))
    return Delivery("vb:guardrails:{0}", check.check_id, entry.fields(), 1)


async def test_a_newer_check_of_an_answer_waits_in_the_place_of_the_older_ones() -> None:
    waitlist = Waitlist(1)
    turns: list[Waiting] = []
    for answer, text in (("busy", "1"), ("a", "1"), ("b", "1"), ("a", "12"), ("c", "1"), ("a", "123")):
        turn = waitlist.turn(delivery(answer, text))
        assert isinstance(turn, Waiting)
        turns.append(turn)
        await asyncio.sleep(0)
    order: list[str] = []
    while going := [turn for turn in turns if turn.may_start.is_set() and not turn.superseded]:
        (one,) = going
        order.append(one.check.check_id)
        turns.remove(one)
        one.end()
        await asyncio.sleep(0)
    assert order == ["busy1", "a123", "b1", "c1"], "who talks on is judged, too"
