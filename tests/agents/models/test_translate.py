"""Server events as what they mean: which model events each yields, and that none of them breaks anything."""

import copy
from typing import Any

import pybase64
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicebus.agents.items import (
    AssistantAudio,
    AssistantMessageItem,
    AssistantText,
    InputAudio,
    InputImage,
    InputText,
    RealtimeToolCallItem,
    SystemMessageItem,
    UserMessageItem,
)
from voicebus.agents.models.events import (
    RealtimeModelAudioDoneEvent,
    RealtimeModelAudioEvent,
    RealtimeModelCachedTokensDetails,
    RealtimeModelErrorEvent,
    RealtimeModelInputAudioTimeoutTriggeredEvent,
    RealtimeModelInputAudioTranscriptionCompletedEvent,
    RealtimeModelInputTokensDetails,
    RealtimeModelItemDeletedEvent,
    RealtimeModelItemUpdatedEvent,
    RealtimeModelOutputTextDeltaEvent,
    RealtimeModelOutputTokensDetails,
    RealtimeModelToolCallEvent,
    RealtimeModelTranscriptDeltaEvent,
    RealtimeModelTurnEndedEvent,
    RealtimeModelTurnStartedEvent,
    RealtimeModelUsageEvent,
)
from voicebus.agents.models.translate import _HANDLERS, audio_event, item_of, semantic_events
from voicebus.runtime.frames import dump_event, event_of, read_audio_delta

MESSAGE = {
    "id": "i1",
    "type": "message",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "hi"}, {"type": "output_audio", "transcript": "hi"}],
}
CALL = {
    "id": "i2",
    "type": "function_call",
    "call_id": "c1",
    "name": "weather",
    "arguments": "{}",
    "status": "completed",
}


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "event_id": "e", **fields}


@pytest.mark.parametrize(
    ("server_event", "meaning"),
    [
        (
            event("error", error={"code": "x", "message": "m"}),
            [RealtimeModelErrorEvent({"code": "x", "message": "m"})],
        ),
        (event("response.created", response={"id": "r"}), [RealtimeModelTurnStartedEvent(response_id="r")]),
        (event("response.created"), [RealtimeModelTurnStartedEvent()]),
        (
            event("response.done", response={"id": "r", "usage": None}),
            [RealtimeModelTurnEndedEvent(response_id="r")],
        ),
        (
            event("response.output_audio_transcript.delta", item_id="i", response_id="r", delta="a"),
            [RealtimeModelTranscriptDeltaEvent("i", "a", "r")],
        ),
        (
            event("response.audio_transcript.delta", item_id="i", response_id="r", delta="a"),
            [RealtimeModelTranscriptDeltaEvent("i", "a", "r")],
        ),
        (
            event("response.output_text.delta", item_id="i", response_id="r", delta="a"),
            [RealtimeModelOutputTextDeltaEvent("i", "a", "r")],
        ),
        (
            event("response.text.delta", item_id="i", response_id="r", delta="a"),
            [RealtimeModelOutputTextDeltaEvent("i", "a", "r")],
        ),
        (
            event("response.output_audio.done", item_id="i", content_index=1),
            [RealtimeModelAudioDoneEvent("i", 1)],
        ),
        (event("conversation.item.deleted", item_id="i"), [RealtimeModelItemDeletedEvent("i")]),
        (
            event("conversation.item.input_audio_transcription.completed", item_id="i", transcript="hello"),
            [RealtimeModelInputAudioTranscriptionCompletedEvent("i", "hello")],
        ),
        (
            event("input_audio_buffer.timeout_triggered", item_id="i", audio_start_ms=5, audio_end_ms=6005),
            [RealtimeModelInputAudioTimeoutTriggeredEvent("i", 5, 6005)],
        ),
        *(
            (event(kind, item_id="i"), [])
            for kind in (
                "session.created",
                "session.updated",
                "input_audio_buffer.speech_started",
                "input_audio_buffer.speech_stopped",
                "input_audio_buffer.committed",
                "rate_limits.updated",
                "conversation.item.done",
                "conversation.item.truncated",
                "conversation.item.input_audio_transcription.delta",
                "response.function_call_arguments.delta",
                "response.output_audio.delta",
                "response.mcp_call.completed",
                "something.nobody.knows",
            )
        ),
        ({}, []),
        ({"type": 5}, []),
    ],
)
def test_a_server_event_means(server_event: dict[str, Any], meaning: list[object]) -> None:
    assert semantic_events(server_event) == meaning


def test_usage_comes_before_the_end_of_its_turn() -> None:
    usage = {
        "total_tokens": 30,
        "input_tokens": 20,
        "output_tokens": 10,
        "input_token_details": {
            "text_tokens": 5,
            "audio_tokens": 15,
            "image_tokens": 0,
            "cached_tokens": 4,
            "cached_tokens_details": {"text_tokens": 1, "audio_tokens": 3, "image_tokens": "none"},
        },
        "output_token_details": {"text_tokens": 2, "audio_tokens": 8},
    }
    used, ended = semantic_events(event("response.done", response={"id": "r", "usage": usage}))
    assert isinstance(used, RealtimeModelUsageEvent)
    assert (used.usage.requests, used.usage.input_tokens, used.usage.total_tokens) == (1, 20, 30)
    assert used.usage.input_tokens_details.cached_tokens == 4
    assert used.input_tokens_details == RealtimeModelInputTokensDetails(
        5, 15, 0, 4, RealtimeModelCachedTokensDetails(1, 3, None)
    )
    assert used.output_tokens_details == RealtimeModelOutputTokensDetails(2, 8)
    assert ended == RealtimeModelTurnEndedEvent(response_id="r")


def test_usage_without_details_has_none() -> None:
    used, _ = semantic_events(event("response.done", response={"usage": {"total_tokens": 3, "input_tokens": True}}))
    assert isinstance(used, RealtimeModelUsageEvent)
    assert (used.usage.total_tokens, used.usage.input_tokens) == (3, 0)
    assert (used.input_tokens_details, used.output_tokens_details) == (None, None)


def test_a_call_is_an_item_and_a_call_once_it_is_done() -> None:
    item, call = semantic_events(event("response.output_item.done", response_id="r", item=CALL))
    assert item == RealtimeModelItemUpdatedEvent(
        RealtimeToolCallItem(item_id="i2", call_id="c1", status="in_progress", arguments="{}", name="weather")
    )
    assert call == RealtimeModelToolCallEvent("weather", "c1", "{}", id="i2")


@pytest.mark.parametrize("kind", ["response.output_item.added", "conversation.item.added"])
def test_a_call_that_is_not_done_is_nothing_yet(kind: str) -> None:
    assert semantic_events(event(kind, item={**CALL, "status": "in_progress"})) == []


def test_a_call_that_was_cancelled_is_no_call() -> None:
    assert semantic_events(event("response.output_item.done", item={**CALL, "status": "incomplete"})) == []


def test_a_call_without_an_id_of_its_item_is_still_a_call() -> None:
    without = {name: value for name, value in CALL.items() if name != "id"}
    (call,) = semantic_events(event("response.output_item.done", item=without))
    assert call == RealtimeModelToolCallEvent("weather", "c1", "{}")


@pytest.mark.parametrize(
    ("kind", "previous"),
    [
        ("response.output_item.added", None),
        ("response.output_item.done", None),
        ("conversation.item.added", "i0"),
        ("conversation.item.created", "i0"),
        ("conversation.item.retrieved", None),
    ],
)
def test_an_item_is_told_with_names_of_items_and_its_place(kind: str, previous: str | None) -> None:
    (told,) = semantic_events(event(kind, item=MESSAGE, previous_item_id="i0"))
    assert told == RealtimeModelItemUpdatedEvent(
        AssistantMessageItem(
            item_id="i1",
            previous_item_id=previous,
            status="completed",
            content=[AssistantText(text="hi"), AssistantAudio(transcript="hi")],
        )
    )


def test_the_server_event_is_left_as_it_came() -> None:
    added = event("conversation.item.added", item=MESSAGE, previous_item_id=None)
    before = copy.deepcopy(added)
    (told,) = semantic_events(added)
    assert isinstance(told, RealtimeModelItemUpdatedEvent)
    assert told.item.previous_item_id is None
    assert added == before


def test_what_users_say_and_show_is_kept_with_fields_that_servers_add() -> None:
    content: list[dict[str, Any]] = [
        {"type": "input_text", "text": "look", "annotations": []},
        {"type": "input_audio", "audio": "AAAA", "transcript": None},
        {"type": "input_image", "image_url": "https://x/y.png", "detail": "low"},
        {"type": "output_text", "text": "not a user's"},
        {"type": "text", "text": 7},
    ]
    item = item_of({"id": "i", "type": "message", "role": "user", "content": content})
    assert item == UserMessageItem(
        item_id="i",
        content=[
            InputText.model_validate({"text": "look", "annotations": []}),
            InputAudio(audio="AAAA"),
            InputImage(image_url="https://x/y.png", detail="low"),
            InputText(text=None),
        ],
    )


@pytest.mark.parametrize(
    "kind",
    [
        "response.output_item.added",
        "response.output_item.done",
        "conversation.item.added",
        "conversation.item.retrieved",
        "conversation.item.created",
    ],
)
def test_an_item_whose_content_has_the_older_names_means_the_same(kind: str) -> None:
    older = {**MESSAGE, "content": [{"type": "text", "text": "hi"}, {"type": "audio", "transcript": "hi"}]}
    meaning = semantic_events(event(kind, item=older))
    assert meaning == semantic_events(event(kind, item=MESSAGE)) != []


def test_a_system_message_is_an_item() -> None:
    item = item_of({"id": "i", "role": "system", "content": [{"type": "input_text", "text": "be kind"}]})
    assert item == SystemMessageItem(item_id="i", content=[InputText(text="be kind")])


def test_an_answer_without_a_status_is_in_progress() -> None:
    item = item_of({"id": "i", "type": "message", "role": "assistant", "status": "dreaming"})
    assert item == AssistantMessageItem(item_id="i", status="in_progress", content=[])


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"id": "i"},
        {"id": 5, "type": "message", "role": "user", "content": []},
        {"id": "i", "type": "message", "role": "oracle", "content": []},
        {"id": "i", "type": "mcp_call", "role": "assistant"},
        {"id": "i", "type": "function_call_output", "call_id": "c", "output": "x"},
    ],
)
def test_an_odd_item_is_no_item(odd: dict[str, Any]) -> None:
    assert item_of(odd) is None
    assert semantic_events(event("conversation.item.added", item=odd)) == []


def test_audio_is_told_as_samples_and_as_the_server_sent_it() -> None:
    sent = {
        "type": "response.output_audio.delta",
        "event_id": "e1",
        "response_id": "r",
        "item_id": "i",
        "output_index": 1,
        "content_index": 2,
        "delta": pybase64.b64encode(b"\x00\x01").decode(),
    }
    delta = read_audio_delta(dump_event(sent))
    assert delta is not None
    assert audio_event(delta) == RealtimeModelAudioEvent(b"\x00\x01", "r", "i", 2)
    assert event_of(delta) == sent


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
part_fields = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "audio", "input_audio", "input_image"])},
    optional={"text": json, "audio": json, "detail": json, "model_config": json, "self": json},
)
item_fields = st.fixed_dictionaries(
    {},
    optional={
        "id": st.just("i") | json,
        "type": st.sampled_from(["message", "function_call", "mcp_call"]) | json,
        "role": st.sampled_from(["user", "assistant", "system"]) | json,
        "status": json,
        "content": json | st.lists(part_fields, max_size=2),
        "arguments": json,
        "name": json,
        "call_id": json,
    },
)


@given(
    kind=st.sampled_from(sorted(_HANDLERS)),
    fields=st.fixed_dictionaries(
        {},
        optional={
            "item": item_fields | json,
            "response": json | st.fixed_dictionaries({"id": json, "usage": json}),
            "error": json,
            "delta": json,
            "item_id": json,
            "content_index": json,
            "audio_start_ms": json,
            "previous_item_id": json,
            "transcript": json,
        },
    ),
)
def test_no_field_is_odd_enough_to_raise(kind: str, fields: dict[str, Any]) -> None:
    for told in semantic_events({"type": kind, **fields}):
        assert told.type


def test_an_error_object_is_read_by_key_and_by_attribute() -> None:
    wire = {"code": "x", "message": "m", "param": None, "vendor": {"a": 1}}
    (event,) = semantic_events({"type": "error", "error": wire})
    assert isinstance(event, RealtimeModelErrorEvent)
    assert event.error == wire
    assert (event.error.code, event.error["message"], event.error.vendor) == ("x", "m", {"a": 1})
    assert (event.error.param, event.error.event_id) == (None, None)
    with pytest.raises(AttributeError, match="nothing"):
        _ = event.error.nothing
    (odd,) = semantic_events({"type": "error", "error": "busy"})
    assert isinstance(odd, RealtimeModelErrorEvent)
    assert odd.error.message == "busy"


@pytest.mark.parametrize(("role", "kind"), [("user", UserMessageItem), ("system", SystemMessageItem)])
def test_an_item_keeps_the_status_that_the_server_gives_it(role: str, kind: type) -> None:
    item = {"id": "i", "type": "message", "role": role, "status": "completed", "content": []}
    (event,) = semantic_events({"type": "conversation.item.added", "item": item})
    assert isinstance(event, RealtimeModelItemUpdatedEvent)
    assert isinstance(event.item, kind)
    assert event.item.model_dump()["status"] == "completed"
