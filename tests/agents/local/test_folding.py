"""What the engine sends in one step, as what a model of the program's own is told."""

from typing import Any

from voicebus.agents.local.folding import Step, fold
from voicebus.agents.models.events import RealtimeModelToolCallEvent
from voicebus.agents.models.sends import (
    RealtimeModelSendAudio,
    RealtimeModelSendInterrupt,
    RealtimeModelSendRawMessage,
    RealtimeModelSendSessionUpdate,
    RealtimeModelSendToolOutput,
    RealtimeModelSendUserInput,
)
from voicebus.engine.outputs import StopModel

CALL = RealtimeModelToolCallEvent(name="t", call_id="c1", arguments="{}")
CREATE = {"type": "response.create", "event_id": "e9"}


def folded(*sent: Any) -> list[Any]:
    step = Step(sent, None, {"c1": CALL}.get)
    return list(fold(step, lambda: {"instructions": "Be kind."}))


def said(*content: Any, role: str = "user") -> dict[str, Any]:
    item = {"id": "i", "type": "message", "role": role, "content": list(content)}
    return {"type": "conversation.item.create", "event_id": "e1", "item": item}


def answered(call_id: str) -> dict[str, Any]:
    item = {"id": "o", "type": "function_call_output", "call_id": call_id, "output": "1"}
    return {"type": "conversation.item.create", "event_id": "e1", "item": item}


TEXT = {"type": "input_text", "text": "hi"}


def test_a_message_with_its_response_is_one_input() -> None:
    assert folded(said(TEXT), CREATE) == [RealtimeModelSendUserInput("hi")]
    two = [TEXT, {"type": "input_image", "image_url": "data:x"}]
    assert folded(said(*two), CREATE) == [
        RealtimeModelSendUserInput({"type": "message", "role": "user", "content": two})  # type: ignore[arg-type]
    ]


def test_a_response_belongs_to_the_last_output() -> None:
    assert folded(answered("c1"), answered("c1"), CREATE) == [
        RealtimeModelSendToolOutput(CALL, "1", start_response=False),
        RealtimeModelSendToolOutput(CALL, "1", start_response=True),
    ]


def test_what_a_model_has_no_word_for_goes_as_it_is() -> None:
    raw = RealtimeModelSendRawMessage
    assert folded(CREATE) == [raw({"type": "response.create"})]
    assert folded(said(TEXT)) == [raw({"type": "conversation.item.create", "other_data": {"item": said(TEXT)["item"]}})]
    assert folded(answered("unknown"), CREATE) == [
        raw({"type": "conversation.item.create", "other_data": {"item": answered("unknown")["item"]}}),
        raw({"type": "response.create"}),
    ]
    assert folded(StopModel(), CREATE)[1] == raw({"type": "response.create"})
    deleted = {"type": "conversation.item.delete", "item_id": "i"}
    assert folded(deleted) == [raw({"type": "conversation.item.delete", "other_data": {"item_id": "i"}})]


def test_settings_are_the_authors() -> None:
    assert folded({"type": "session.update", "session": {"voice": "ash"}}) == [
        RealtimeModelSendSessionUpdate({"instructions": "Be kind."})
    ]


def test_a_committed_buffer_is_audio_that_ends() -> None:
    assert folded({"type": "input_audio_buffer.commit"}) == [RealtimeModelSendAudio(b"", commit=True)]


def test_stopping_says_what_of_what_is_stopped() -> None:
    interrupt = RealtimeModelSendInterrupt
    assert folded(StopModel(), StopModel("r"), StopModel("r", truncate=False), StopModel("r", cancel=False)) == [
        interrupt(), interrupt(force_response_cancel=True, response_id="r"),
        interrupt(force_response_cancel=True, response_id="r", cancel_response_only=True),
        interrupt(response_id="r", playback_only=True),
    ]  # fmt: skip
