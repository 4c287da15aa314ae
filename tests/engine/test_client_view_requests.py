"""Malformed and odd client events get the protocol's errors; nothing that a client sends raises."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.model_events import Event
from voicebus.engine.client_requests import SHAPES
from voicebus.engine.client_view import OpenAIClientView
from voicebus.engine.config import AgentSpec, Face, SessionConfig, ToolSpec
from voicebus.engine.view import CreateResponse, Forward, Reply


def make_view() -> OpenAIClientView:
    agent = AgentSpec("helper", tools=(ToolSpec("weather", "", {}, "default", 1000),))
    return OpenAIClientView(SessionConfig("s1", Face.OPENAI, agent, "gpt-realtime"))


@pytest.mark.parametrize(
    ("event", "code", "param", "event_id"),
    [
        ({}, "missing_required_parameter", "type", None),
        ({"type": "nonsense", "event_id": "e1"}, "invalid_value", "type", "e1"),
        ({"type": None}, "invalid_value", "type", None),
        ({"type": ["session.update"]}, "invalid_value", "type", None),
        ({"type": "output_audio_buffer.clear"}, "invalid_value", "type", None),
        ({"type": "response.create", "event_id": 5}, "invalid_type", "event_id", None),
        ({"type": "response.create", "event_id": "x" * 513}, "string_above_max_length", "event_id", None),
        ({"type": "response.create", "event_id": "vb_1"}, "invalid_value", "event_id", None),
        ({"type": "response.create", "response": []}, "invalid_type", "response", None),
        ({"type": "response.create", "response": {"metadata": "x"}}, "invalid_type", "response.metadata", None),
        ({"type": "response.create", "response": {"metadata": [1]}}, "invalid_type", "response.metadata", None),
        ({"type": "response.create", "response": {"metadata": {"a": 1}}}, "invalid_type", "response.metadata.a", None),
        (
            {"type": "response.create", "response": {"metadata": {"a": None}}},
            "invalid_type",
            "response.metadata.a",
            None,
        ),
        (
            {"type": "response.create", "response": {"metadata": {str(n): "" for n in range(17)}}},
            "invalid_value",
            "response.metadata",
            None,
        ),
        (
            {"type": "response.create", "response": {"metadata": {"a": "x" * 513}}},
            "invalid_value",
            "response.metadata",
            None,
        ),
        ({"type": "response.cancel", "response_id": 1}, "invalid_type", "response_id", None),
        ({"type": "conversation.item.create"}, "missing_required_parameter", "item", None),
        ({"type": "conversation.item.create", "item": "x"}, "invalid_type", "item", None),
        (
            {"type": "conversation.item.create", "item": {}, "previous_item_id": 3},
            "invalid_type",
            "previous_item_id",
            None,
        ),
        ({"type": "conversation.item.delete", "item_id": None}, "missing_required_parameter", "item_id", None),
        ({"type": "conversation.item.retrieve", "item_id": {}}, "invalid_type", "item_id", None),
        ({"type": "conversation.item.truncate", "item_id": "i"}, "missing_required_parameter", "content_index", None),
        (
            {"type": "conversation.item.truncate", "item_id": "i", "content_index": 0, "audio_end_ms": True},
            "invalid_type",
            "audio_end_ms",
            None,
        ),
        ({"type": "input_audio_buffer.append", "audio": 1}, "invalid_type", "audio", None),
    ],
)
def test_a_malformed_event_gets_the_protocols_error(event: Event, code: str, param: str, event_id: str | None) -> None:
    (reply,) = make_view().client_event(event)
    assert isinstance(reply, Reply)
    error = reply.event["error"]
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", code, param)
    assert error["event_id"] == event_id
    assert error["message"]


@pytest.mark.parametrize("kind", ["input_audio_buffer.commit", "input_audio_buffer.clear"])
def test_buffer_events_pass_as_they_are(kind: str) -> None:
    event = {"type": kind, "event_id": "e1", "extra": 1}
    assert make_view().client_event(event) == [Forward(event)]


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("event_id", "session", "item", "item_id", "previous_item_id", "response", "response_id", "content_index")
PARTS = (
    "type",
    "tools",
    "audio",
    "input",
    "output",
    "tool_choice",
    "metadata",
    "id",
    "call_id",
    "name",
    "conversation",
)
NESTED = st.dictionaries(st.sampled_from(PARTS), JSON | st.dictionaries(st.sampled_from(PARTS), JSON), max_size=4)
EVENTS = st.builds(
    lambda kind, fields: {"type": kind, **fields},
    st.sampled_from(sorted(SHAPES)) | JSON,
    st.dictionaries(st.sampled_from(FIELDS), JSON | NESTED, max_size=4),
)


@pytest.mark.timeout(300)  # what is drawn is large: a slow machine that measures coverage takes minutes
@settings(deadline=None)
@given(st.lists(EVENTS | st.dictionaries(st.text(max_size=8), JSON, max_size=3), max_size=5))
def test_no_client_event_raises(events: list[Event]) -> None:
    view = make_view()
    for event in events:
        assert len(view.client_event(event)) == 1


@pytest.mark.timeout(300)  # what is drawn is large: a slow machine that measures coverage takes minutes
@settings(deadline=None)
@given(
    st.lists(
        st.builds(
            lambda kind, fields: {"type": kind, **fields},
            st.sampled_from(
                ["session.created", "error", "response.created", "response.done", "conversation.item.added", "x"]
            )
            | JSON,
            st.dictionaries(st.sampled_from([*FIELDS, "error", "output_index"]), JSON | NESTED, max_size=5),
        ),
        max_size=5,
    )
)
def test_no_model_event_raises(events: list[Event]) -> None:
    view = make_view()
    for event in events:
        view.model_event(event)


def test_a_response_may_refer_to_items_that_the_client_knows() -> None:
    view = make_view()
    view.model_event({"type": "conversation.item.added", "item": {"id": "i1", "type": "message", "role": "user"}})
    (intent,) = view.client_event(
        {"type": "response.create", "response": {"input": [{"type": "item_reference", "id": "i1"}]}}
    )
    assert isinstance(intent, CreateResponse)
