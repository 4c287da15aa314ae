"""A session that is told to a socket while another owner still holds it, and then goes on with that socket at once."""

from dataclasses import replace
from typing import Any

import pytest

from engine.test_keeping import left
from support.talk import Talk, agent, tool
from voicebus.contracts.journal import EventType
from voicebus.engine.config import Face, Recovering
from voicebus.engine.inputs import SendMessage
from voicebus.engine.outputs import Dial, Record, SendModel, SwitchLink
from voicebus.engine.rehearsing import Rehearsal
from voicebus.engine.session import Session
from voicebus.engine.state import State


def wire(outputs: Any) -> list[dict[str, Any]]:
    return [dict(output.event) for output in outputs if isinstance(output, SendModel)]


def texts(events: list[dict[str, Any]]) -> list[str]:
    items = [event["item"] for event in events if event["type"] == "conversation.item.create"]
    return [item["content"][0]["text"] for item in items]


def spoken(*lines: str) -> Talk:
    talk = Talk(keeps=True).asked()
    for line in lines:
        talk.speaks(line, 200)
        talk.ends()
    return talk


def rehearsed(talk: Talk) -> tuple[Rehearsal, list[dict[str, Any]]]:
    """A socket that has confirmed all it was told."""
    rehearsal = Rehearsal(talk.config, left(talk))
    assert not rehearsal.is_ready
    told = wire(rehearsal.begin(0))
    for _ in [event for event in told if event["type"] == "session.update"]:
        assert not rehearsal.is_ready
        assert rehearsal.heard({"type": "session.updated", "session": {}}) == []
    assert rehearsal.is_ready
    return rehearsal, told


def test_a_rehearsal_tells_the_session_and_nothing_else() -> None:
    _, told = rehearsed(spoken("Good morning."))
    assert (told[0]["type"], told[-1]["type"]) == ("session.update", "session.update")
    assert texts(told)[-1] == "Good morning."
    assert {event["type"] for event in told} == {"session.update", "conversation.item.create"}


def test_the_next_owner_goes_on_at_once_and_tells_only_what_came_since() -> None:
    talk = spoken("Good morning.")
    rehearsal, _ = rehearsed(talk)
    talk.put(SendMessage([{"type": "input_text", "text": "And now?"}]))
    kept = left(talk)
    session = Session(talk.config, now=0.0, kept=kept, rehearsal=rehearsal)
    outputs = session.start()
    assert session.state is State.LIVE
    kinds = [type(output) for output in outputs]
    assert SwitchLink in kinds
    assert Dial not in kinds
    # What the model had not confirmed to the former owner is said by this one; what it had is known to the socket.
    assert texts(wire(outputs)) == ["Hello", "And now?"]
    records = [output for output in outputs if isinstance(output, Record)]
    assert [record.type for record in records][-2:] == [EventType.MODEL_RECONNECTING, EventType.MODEL_RECONNECTED]
    assert [record.seq for record in records] == list(range(kept.seq + 1, kept.seq + 1 + len(records)))
    assert not any(output.spare for output in outputs if isinstance(output, SendModel))


def test_a_socket_that_refuses_the_settings_is_of_no_use() -> None:
    rehearsal = Rehearsal(spoken().config, left(spoken()))
    first = wire(rehearsal.begin(0))[0]
    rehearsal.heard({"type": "error", "error": {"event_id": first["event_id"], "code": "invalid_value"}})
    for _ in range(2):
        rehearsal.heard({"type": "session.updated", "session": {}})
    assert not rehearsal.is_ready


def test_a_session_on_a_fallback_is_told_to_a_socket_of_that_fallback_and_goes_on_there() -> None:
    talk = spoken("Good morning.")
    config = replace(talk.config, models=("first", "second"))
    rehearsal = Rehearsal(config, left(talk))
    told = wire(rehearsal.begin(1))
    assert {event["session"]["model"] for event in told if "model" in event.get("session", {})} == {"second"}
    session = Session(config, now=0.0, kept=left(talk), rehearsal=rehearsal)
    session.start()
    assert session.state is State.LIVE


def test_what_a_tool_has_answered_is_told_once() -> None:
    talk = Talk(agent(tools=[tool()]), keeps=True).asked()
    talk.calls()
    talk.result("sunny")
    talk.ends()
    rehearsal, told = rehearsed(talk)
    outputs = [event["item"] for event in told if event.get("item", {}).get("type") == "function_call_output"]
    assert [output["output"] for output in outputs] == ["sunny"]
    again = wire(Session(talk.config, now=0.0, kept=left(talk), rehearsal=rehearsal).start())
    assert "function_call_output" not in {event.get("item", {}).get("type") for event in again}


@pytest.mark.parametrize("face", [Face.NATIVE, Face.SIDEBAND])
def test_a_socket_that_joins_a_call_is_told_nothing_and_serves_as_soon_as_it_is_on_it(face: Face) -> None:
    talk = spoken("Good morning.")
    config = replace(talk.config, recovering=Recovering.ATTACH, face=face)
    rehearsal = Rehearsal(config, left(talk))
    assert rehearsal.begin(0) == ()
    assert rehearsal.heard({"type": "conversation.item.added"}) == ()
    assert not rehearsal.is_ready
    assert rehearsal.heard({"type": "session.created", "session": {"id": "sess_2"}}) == ()
    assert rehearsal.is_ready
    session = Session(config, now=0.0, kept=left(talk), rehearsal=rehearsal)
    session.start()
    assert session.state is State.LIVE
