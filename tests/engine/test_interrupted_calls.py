"""Barge-in and running tools: which calls end with what is being said."""

import pytest

from support.talk import Talk, agent, tool
from voicebus.contracts.journal import EventType
from voicebus.contracts.tools import Outcome, ToolStarted
from voicebus.engine.config import Approval, Face
from voicebus.engine.inputs import Interrupt, ToolStartedArrived
from voicebus.engine.outputs import CancelTool, Ignored


def running(face: Face = Face.NATIVE) -> Talk:
    """A call runs of a tool that ends with what is said, and one of a tool that does not."""
    talk = Talk(agent(tools=(tool("search", cancel_on_interrupt=True), tool("pay"))), face=face)
    if face is Face.NATIVE:
        talk.asked()
    else:
        talk.live()
        talk.client("response.create")
        talk.begins()
    talk.calls("search", "call_1")
    talk.calls("pay", "call_2")
    talk.put(ToolStartedArrived(ToolStarted(call_id="call_1", worker="w1")))
    return talk


def taken_back(talk: Talk) -> list[CancelTool]:
    return [output for output in talk.of(CancelTool, talk.all) if output.reason == "interrupted"]


def test_speech_cancels_the_calls_that_end_with_it_and_no_others() -> None:
    talk = running()
    talk.ends()
    talk.model("input_audio_buffer.speech_started", item_id="item_u", audio_start_ms=1)
    assert taken_back(talk) == [CancelTool("call_1", "default", "w1", "interrupted")]
    (end,) = talk.records(EventType.TOOL_END)
    assert (end.call_id, end.outcome, end.worker) == ("call_1", Outcome.CANCELLED, "w1")
    assert talk.told() == [("call_1", "The call was cancelled, as the user interrupted it.")]
    assert "response.create" not in talk.sent_types(), "whoever interrupted says what comes next"
    assert talk.of(Ignored, talk.result("late", "call_1")), "its late result changes nothing"
    talk.result("paid", "call_2")
    assert talk.told()[-1] == ("call_2", "paid")


@pytest.mark.parametrize(
    ("command", "cancelled"),
    [(Interrupt(), 1), (Interrupt(truncate=False), 1), (Interrupt(cancel=False), 0)],
)
def test_a_client_that_interrupts_cancels_them_unless_only_playback_is_to_stop(
    command: Interrupt, cancelled: int
) -> None:
    talk = running()
    talk.put(command)
    assert len(taken_back(talk)) == cancelled


@pytest.mark.parametrize("resting", [True, False])
def test_a_client_of_the_protocol_cancels_them_with_its_response(resting: bool) -> None:
    talk = running(Face.OPENAI)
    if resting:
        talk.ends()
    talk.client("response.cancel")
    assert [cancel.call_id for cancel in taken_back(talk)] == ["call_1"]


def test_a_client_of_the_protocol_that_speaks_sees_its_chain_end_as_interrupted() -> None:
    talk = running(Face.OPENAI)
    talk.result("paid", "call_2")
    talk.ends()
    talk.model("input_audio_buffer.speech_started", item_id="item_u", audio_start_ms=1)
    assert [cancel.call_id for cancel in taken_back(talk)] == ["call_1"]
    assert [event["response"]["status"] for event in talk.shown("response.done", talk.last)] == ["cancelled"]


def test_a_call_that_waits_for_a_person_is_not_touched() -> None:
    talk = Talk(agent(tools=(tool("search", cancel_on_interrupt=True, approval=Approval.ALWAYS),))).asked()
    talk.calls("search", "call_1")
    talk.model("input_audio_buffer.speech_started", item_id="item_u", audio_start_ms=1)
    assert taken_back(talk) == []
    assert talk.session.awaits_decision("call_1")
