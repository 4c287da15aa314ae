"""A call whose audio goes past the session (WebRTC, SIP): how it is stopped, and how it ends."""

import pytest

from support.talk import Talk, agent
from voicebus.contracts.guardrails import GuardrailResult
from voicebus.contracts.journal import EventType
from voicebus.engine.config import Face, GuardrailSpec
from voicebus.engine.inputs import Interrupt, LinkLost
from voicebus.engine.outputs import Close, DispatchCheck

CLEAR = "output_audio_buffer.clear"


def on_call(face: Face = Face.SIDEBAND, *guardrails: GuardrailSpec) -> Talk:
    talk = Talk(agent(guardrails=guardrails), face=face).asked()
    talk.item_begins()
    return talk


@pytest.mark.parametrize(("face", "clears"), [(Face.SIDEBAND, True), (Face.NATIVE, False)])
def test_an_interruption_clears_what_the_models_side_has_not_played(face: Face, clears: bool) -> None:
    talk = on_call(face)
    talk.says("A long story.")
    outputs = talk.put(Interrupt())
    assert talk.sent_types(outputs) == ["response.cancel", *([CLEAR] if clears else [])]


def test_what_was_said_to_its_end_may_still_be_playing() -> None:
    talk = on_call()
    talk.says("A long story.")
    talk.ends()
    assert CLEAR in talk.sent_types(talk.put(Interrupt()))


def test_a_guardrail_stops_what_the_models_side_would_play() -> None:
    talk = on_call(Face.SIDEBAND, GuardrailSpec("secrecy", debounce=0))
    outputs = talk.says("the secret is out")
    (check,) = talk.of(DispatchCheck, outputs)
    sent = talk.sent_types(talk.verdict(check.check_id, GuardrailResult(name="secrecy", tripped=True)))
    assert sent.index("response.cancel") < sent.index(CLEAR)


@pytest.mark.parametrize(
    "lost", [LinkLost("closed", close_code=1000), LinkLost("no such call", code="call_id_not_found")]
)
def test_a_call_that_is_over_ends_its_session_without_an_error(lost: LinkLost) -> None:
    talk = on_call()
    (close,) = talk.of(Close, talk.put(lost))
    assert (close.reason, close.client_code) == ("hangup", 1000)
    (ended,) = talk.records(EventType.SESSION_ENDED)
    assert ended.reason == "hangup"
    assert talk.errors() == []


# --- what of an answer was heard ------------------------------------------------------------------


def spoken(talk: Talk, text: str) -> None:
    """The model has said all of `text`, and its side begins to play it."""
    talk.model("output_audio_buffer.started", response_id="resp_1")
    talk.said(text)
    talk.item_ends(text)
    talk.ends()


def heard(talk: Talk) -> list[tuple[str, str | None, bool]]:
    """The agent's lines in the record."""
    lines = talk.records(EventType.ITEM_RECORDED)
    return [(line.text, line.heard_text, line.truncated) for line in lines if line.role == "assistant"]


def test_an_answer_is_recorded_when_it_was_played() -> None:
    talk = on_call()
    spoken(talk, "Our rooms cost eighty euros.")
    assert heard(talk) == []
    talk.model("output_audio_buffer.stopped", response_id="resp_1")
    assert heard(talk) == [("Our rooms cost eighty euros.", None, False)]


def test_what_the_models_side_truncates_was_not_heard() -> None:
    talk = on_call()
    spoken(talk, "Our rooms cost eighty euros, and breakfast is another twelve.")
    talk.model("output_audio_buffer.cleared", response_id="resp_1")
    talk.model("conversation.item.truncated", item_id="item_a", content_index=0, audio_end_ms=1000)
    ((text, part, truncated),) = heard(talk)
    assert text.endswith("twelve.")
    assert part == "Our rooms cost"
    assert truncated


def test_an_answer_that_was_stopped_and_not_told_of_is_no_unheard_one() -> None:
    talk = on_call()
    talk.said("Our rooms")
    talk.item_ends("Our rooms", status="incomplete")
    talk.ends(status="cancelled")
    assert heard(talk) == [("Our rooms", None, True)]


def test_the_end_of_the_call_records_what_is_being_played() -> None:
    talk = on_call()
    spoken(talk, "Goodbye.")
    talk.put(LinkLost("closed", close_code=1000))
    assert heard(talk) == [("Goodbye.", None, False)]
