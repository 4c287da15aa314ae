"""What a model is told, as inputs of the engine."""

from typing import Any, cast

import pytest

from voicebus.agents.models.events import RealtimeModelToolCallEvent
from voicebus.agents.models.inputs import INVALID_CLIENT_EVENT, append_of, inputs_of, user_content
from voicebus.agents.models.sends import (
    RealtimeModelSendAudio,
    RealtimeModelSendEvent,
    RealtimeModelSendInterrupt,
    RealtimeModelSendRawMessage,
    RealtimeModelSendSessionUpdate,
    RealtimeModelSendToolOutput,
    RealtimeModelSendUserInput,
)
from voicebus.engine.inputs import (
    ChangeSettings,
    CommitAudio,
    Input,
    Interrupt,
    SendMessage,
    SendRaw,
    SendToolOutput,
    Trouble,
)
from voicebus.errors import UserError

TEXT = {"type": "input_text", "text": "hi"}
IMAGE = {"type": "input_image", "image_url": "https://x/y.png", "detail": "low"}


def raw(kind: str, **other: Any) -> RealtimeModelSendRawMessage:
    return RealtimeModelSendRawMessage({"type": kind, "other_data": other})


@pytest.mark.parametrize(
    ("told", "inputs"),
    [
        (RealtimeModelSendUserInput("hi"), [SendMessage([TEXT])]),
        (
            RealtimeModelSendUserInput(
                cast("Any", {"type": "message", "role": "user", "content": [TEXT, IMAGE, {"type": "input_video"}, 5]})
            ),
            [SendMessage([TEXT, IMAGE])],
        ),
        (RealtimeModelSendAudio(b"ab"), []),
        (RealtimeModelSendAudio(b"", commit=True), [CommitAudio(respond=False)]),
        (
            RealtimeModelSendToolOutput(RealtimeModelToolCallEvent("t", "c", "{}"), "out", start_response=True),
            [SendToolOutput("c", "out", respond=True)],
        ),
        (RealtimeModelSendInterrupt(), [Interrupt(None, cancel=True, truncate=True)]),
        (
            RealtimeModelSendInterrupt(force_response_cancel=True, response_id="r", cancel_response_only=True),
            [Interrupt("r", cancel=True, truncate=False)],
        ),
        (
            RealtimeModelSendInterrupt(response_id="r", playback_only=True),
            [Interrupt("r", cancel=False, truncate=True)],
        ),
        (
            RealtimeModelSendSessionUpdate({"voice": "echo"}),
            [ChangeSettings({"audio": {"output": {"voice": "echo"}}})],
        ),
        (
            raw("response.create", response={"instructions": "x"}, event_id="e"),
            [SendRaw({"type": "response.create", "response": {"instructions": "x"}, "event_id": "e"})],
        ),
        (
            raw("conversation.item.truncate", item_id="i", content_index=0, audio_end_ms=100),
            [SendRaw({"type": "conversation.item.truncate", "item_id": "i", "content_index": 0, "audio_end_ms": 100})],
        ),
        (
            RealtimeModelSendRawMessage({"type": "input_audio_buffer.clear"}),
            [SendRaw({"type": "input_audio_buffer.clear"})],
        ),
    ],
)  # fmt: skip
def test_a_send_event_comes_to(told: RealtimeModelSendEvent, inputs: list[Input]) -> None:
    assert inputs_of(told) == inputs


def test_a_send_event_of_a_class_of_ones_own_comes_to_what_it_derives_from() -> None:
    class Said(RealtimeModelSendUserInput):
        """Carries no more, but may."""

    assert inputs_of(Said("hello")) == inputs_of(RealtimeModelSendUserInput("hello"))


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        ({"type": "session.delete"}, "'session.delete' is no client event"),
        ({"type": "response.done"}, "'response.done' is no client event"),
        ({"type": 5}, "needs a type"),
        ({}, "needs a type"),
        ({"type": "response.create", "other_data": [1]}, "other_data must be an object"),
        ({"type": "session.update"}, "session.update needs session, an object, not NoneType"),
        (
            {"type": "session.update", "other_data": {"session": []}},
            "session.update needs session, an object, not list",
        ),
        ({"type": "conversation.item.delete", "other_data": {"item_id": 5}}, "needs item_id, a string, not int"),
        (
            {
                "type": "conversation.item.truncate",
                "other_data": {"item_id": "i", "content_index": True, "audio_end_ms": 5},
            },
            "needs content_index, a whole number, not bool",
        ),
        ({"type": "response.cancel", "other_data": {"response_id": {}}}, "needs response_id, a string, not dict"),
        ({"type": "response.cancel", "other_data": {"event_id": 7}}, "needs event_id, a string, not int"),
    ],
)
def test_a_raw_message_that_is_no_client_event_is_trouble_and_not_sent(message: Any, complaint: str) -> None:
    (trouble,) = inputs_of(RealtimeModelSendRawMessage(message))
    assert isinstance(trouble, Trouble)
    assert trouble.code == INVALID_CLIENT_EVENT
    assert complaint in trouble.message


def test_the_type_of_a_raw_message_is_its_own() -> None:
    (item,) = inputs_of(raw("input_audio_buffer.clear", type="session.update"))
    assert item == SendRaw({"type": "input_audio_buffer.clear"})


@pytest.mark.parametrize("nothing", ["", {"type": "message", "role": "user", "content": []}, {"content": "hi"}, {}])
def test_a_message_without_any_part_is_not_sent(nothing: Any) -> None:
    expected = [SendMessage([{"type": "input_text", "text": ""}])] if nothing == "" else []
    assert inputs_of(RealtimeModelSendUserInput(nothing)) == expected


def test_an_image_without_an_address_is_left_out() -> None:
    content: Any = {"content": [{"type": "input_image", "image_url": None}, {**IMAGE, "detail": 5}]}
    assert user_content(content) == [{"type": "input_image", "image_url": "https://x/y.png"}]


def test_samples_are_an_append() -> None:
    assert append_of(RealtimeModelSendAudio(b"ab")) == b'{"type":"input_audio_buffer.append","audio":"YWI="}'
    assert append_of(RealtimeModelSendAudio(b"", commit=True)) is None


def test_anything_else_is_refused() -> None:
    with pytest.raises(UserError, match="nothing that a model can be told"):
        inputs_of(cast("Any", "hello"))
    for more in ({"cancel_response_only": True}, {"force_response_cancel": True}):
        with pytest.raises(ValueError, match="playback_only cancels no response"):
            inputs_of(RealtimeModelSendInterrupt(response_id="r", playback_only=True, **more))
    with pytest.raises(UserError, match="unknown keys: vioce"):
        inputs_of(RealtimeModelSendSessionUpdate(cast("Any", {"vioce": "echo"})))
