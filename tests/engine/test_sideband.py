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
