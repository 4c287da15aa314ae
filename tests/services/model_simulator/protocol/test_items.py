"""Conversation items: their order, their codes, retrieving, truncating, deleting."""

import base64
from typing import Any

import pytest

from services.model_simulator.bench import MANUAL, TEXT, Bench, Say, error, only, speech, types


def ids(bench: Bench) -> list[str]:
    return [item.id for item in bench.session.conversation]


def message(text: str = "x", **fields: Any) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}], **fields}


def test_create_answers_added_then_done_with_the_item_before_it() -> None:
    bench = Bench()
    assert [event["previous_item_id"] for event in bench.write()] == [None, None]
    events = bench.write("second")
    assert types(events) == ["conversation.item.added", "conversation.item.done"]
    assert [event["previous_item_id"] for event in events] == [ids(bench)[0]] * 2
    assert events[0]["item"]["status"] == "completed"


def test_the_chain_follows_inserts_and_root_goes_to_the_front() -> None:
    bench = Bench()
    for name in ("a", "b"):
        bench.send("conversation.item.create", item=message(id=name))
    front = bench.send("conversation.item.create", item=message(id="r"), previous_item_id="root")
    between = bench.send("conversation.item.create", item=message(id="m"), previous_item_id="a")
    assert [event["previous_item_id"] for event in front + between] == [None, None, "a", "a"]
    assert ids(bench) == ["r", "a", "m", "b"]


def test_an_item_never_creates_a_response() -> None:
    bench = Bench()
    bench.write()
    assert bench.session.responder.active is None


@pytest.mark.parametrize(
    ("event", "fields", "code"),
    [
        ("conversation.item.create", {"item": message(id="a")}, "item_create_duplicate_item_id"),
        (
            "conversation.item.create",
            {"item": message(id="b"), "previous_item_id": "none"},
            "item_create_invalid_previous_item_id",
        ),
        ("conversation.item.delete", {"item_id": "none"}, "item_delete_invalid_item_id"),
        ("conversation.item.retrieve", {"item_id": "none"}, "item_retrieve_invalid_item_id"),
        (
            "conversation.item.truncate",
            {"item_id": "none", "content_index": 0, "audio_end_ms": 0},
            "item_truncate_invalid_item_id",
        ),
    ],
)
def test_ids_that_do_not_fit_have_their_codes_and_change_nothing(event: str, fields: dict[str, Any], code: str) -> None:
    bench = Bench()
    bench.send("conversation.item.create", item=message(id="a"))
    assert error(bench.send(event, **fields))["code"] == code
    assert ids(bench) == ["a"]


@pytest.mark.parametrize(
    ("item", "code", "param"),
    [
        ({"type": "message"}, "missing_required_parameter", "item.role"),
        ({"type": "nothing"}, "invalid_value", "item.type"),
        ({"role": "user"}, "missing_required_parameter", "item.type"),
        (message(foo=1), "unknown_parameter", "item.foo"),
        ({"type": "message", "role": "user", "content": "hi"}, "invalid_type", "item.content"),
        (
            {"type": "message", "role": "user", "content": [{"type": "output_text", "text": ""}]},
            "invalid_value",
            "item.content[0].type",
        ),
        (
            {"type": "message", "role": "assistant", "content": [{"type": "output_audio", "audio": ""}]},
            "invalid_value",
            "item.content[0].type",
        ),
        (
            {"type": "message", "role": "user", "content": [{"type": "input_audio", "audio": "?"}]},
            "invalid_value",
            "item.content[0].audio",
        ),
        ({"type": "function_call_output", "output": "x"}, "missing_required_parameter", "item.call_id"),
        ({"type": "item_reference", "id": "a"}, "invalid_value", "item.type"),
    ],
)
def test_a_wrong_item_is_named_by_its_path(item: dict[str, Any], code: str, param: str) -> None:
    bench = Bench()
    refused = error(bench.send("conversation.item.create", item=item))
    assert (refused["code"], refused["param"]) == (code, param)
    assert ids(bench) == []


@pytest.mark.parametrize(
    "item",
    [
        {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "Be kind."}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Yes?"}]},
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "found"},
        {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"}],
        },
    ],
)
def test_every_kind_of_item_that_a_client_may_create_comes_back_completed(item: dict[str, Any]) -> None:
    added, done = Bench().send("conversation.item.create", item=item)
    for event in (added, done):
        assert {**event["item"], **item} == event["item"]
        assert event["item"]["status"] == "completed"


def test_the_audio_of_a_created_item_is_left_out_of_added_and_done_and_comes_with_retrieve() -> None:
    bench = Bench()
    audio = base64.b64encode(speech(300)).decode()
    item = {"type": "message", "role": "user", "id": "spoken", "content": [{"type": "input_audio", "audio": audio}]}
    for event in bench.send("conversation.item.create", item=item):
        assert event["item"]["content"] == [{"type": "input_audio", "transcript": None}]
    retrieved = only(bench.send("conversation.item.retrieve", item_id="spoken"), "conversation.item.retrieved")
    assert retrieved["item"]["content"][0]["audio"] == audio


def test_a_committed_item_is_retrieved_with_its_audio() -> None:
    bench = Bench()
    bench.send("session.update", session=MANUAL)
    bench.append(speech(300))
    item_id = bench.send("input_audio_buffer.commit")[0]["item_id"]
    retrieved = only(bench.send("conversation.item.retrieve", item_id=item_id), "conversation.item.retrieved")
    assert base64.b64decode(retrieved["item"]["content"][0]["audio"]) == speech(300)


def test_deleting_removes_the_item_from_the_chain() -> None:
    bench = Bench()
    for name in ("a", "b"):
        bench.send("conversation.item.create", item=message(id=name))
    assert bench.send("conversation.item.delete", item_id="b")[0]["item_id"] == "b"
    assert bench.write()[0]["previous_item_id"] == "a"


def spoken(bench: Bench, text: str = "Good morning to you all") -> tuple[str, int]:
    """An assistant's spoken item and its duration."""
    bench.write()
    events = bench.respond(Say(text))
    (item,) = only(events, "response.done")["response"]["output"]
    size = sum(len(base64.b64decode(e["delta"])) for e in events if e["type"] == "response.output_audio.delta")
    return item["id"], size // 48


def test_truncating_within_the_duration_drops_the_transcript_and_the_audio_behind_the_cut() -> None:
    bench = Bench()
    item_id, duration = spoken(bench)
    cut = {"item_id": item_id, "content_index": 0, "audio_end_ms": duration - 130}
    (truncated,) = bench.send("conversation.item.truncate", **cut)
    assert {name: truncated[name] for name in cut} == cut
    assert truncated["type"] == "conversation.item.truncated"
    (part,) = only(bench.send("conversation.item.retrieve", item_id=item_id), "conversation.item.retrieved")["item"][
        "content"
    ]
    assert "transcript" not in part
    assert len(base64.b64decode(part["audio"])) == (duration - 130) * 48


def test_truncating_beyond_the_duration_is_refused_with_both_numbers() -> None:
    bench = Bench()
    item_id, duration = spoken(bench)
    at_the_end = {"item_id": item_id, "content_index": 0, "audio_end_ms": duration}
    refused = error(bench.send("conversation.item.truncate", **{**at_the_end, "audio_end_ms": duration + 1}))
    assert refused["code"] == "invalid_value"
    assert refused["message"] == f"Audio content of {duration}ms is already shorter than {duration + 1}ms"
    assert types(bench.send("conversation.item.truncate", **at_the_end)) == ["conversation.item.truncated"]


def test_a_part_that_was_truncated_cannot_grow_again() -> None:
    bench = Bench()
    item_id, _ = spoken(bench)
    bench.send("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=100)
    refused = error(bench.send("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=101))
    assert refused["code"] == "invalid_value"


def test_only_spoken_answers_can_be_truncated() -> None:
    bench = Bench()
    bench.send("session.update", session=TEXT)
    user = bench.write()[0]["item"]["id"]
    text = only(bench.respond(Say("hello")), "response.done")["response"]["output"][0]["id"]
    for item_id in (user, text):
        refused = error(bench.send("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=0))
        assert refused["message"] == "Only model output audio messages can be truncated"


def test_the_item_of_a_running_response_can_be_truncated_to_what_was_sent() -> None:
    bench = Bench()
    bench.write()
    bench.send("response.create")
    run = bench.partly(Say("Good morning to you all"), steps=3)
    item_id = run.outputs[0].id
    assert error(bench.send("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=301))
    bench.send("response.cancel")
    truncated = bench.send("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=250)
    assert types(truncated) == ["conversation.item.truncated"]


def test_a_deleted_item_of_a_running_response_does_not_stop_it() -> None:
    bench = Bench()
    bench.write()
    bench.send("response.create")
    run = bench.partly(Say("Good morning to you all"))
    bench.send("conversation.item.delete", item_id=run.outputs[0].id)
    bench.session.responder.complete(run)
    assert only(bench.taken(), "response.done")["response"]["status"] == "completed"
