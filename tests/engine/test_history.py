"""The conversation's items as JSON (parity 73-75, 113-117)."""

from typing import Any

import pytest

from support.talk import Talk, agent, tool
from voicebus.engine.history import History


def message(item: str, role: str, content: list[dict[str, Any]], status: str = "completed") -> dict[str, Any]:
    return {"id": item, "type": "message", "role": role, "status": status, "content": content}


def test_a_new_item_is_added_and_a_known_one_updated() -> None:
    history = History()
    assert history.put(message("a", "user", [{"type": "input_text", "text": "Hello"}]), None) is True
    assert history.put(message("a", "user", [{"type": "input_text", "text": "Hello"}]), None) is None
    assert history.put(message("a", "user", [{"type": "input_text", "text": "Hello!"}]), None) is False
    assert history.json() == [
        {
            "item_id": "a",
            "previous_item_id": None,
            "type": "message",
            "role": "user",
            "status": "completed",
            "content": [{"type": "input_text", "text": "Hello!"}],
        }
    ]


def test_items_stand_behind_the_one_they_name_else_at_the_end() -> None:
    history = History()
    for item, previous in (("a", None), ("b", "a"), ("c", "a"), ("d", "unknown")):
        history.put(message(item, "user", []), previous)
    assert [item["item_id"] for item in history.json()] == ["a", "c", "b", "d"]


def test_content_types_of_the_wire_get_the_models_names_and_audio_is_not_kept() -> None:
    history = History()
    history.put(
        message(
            "a", "assistant", [{"type": "output_audio", "audio": "AAAA", "transcript": "Hi"}, {"type": "output_text"}]
        ),
        None,
    )
    assert history.json()[0]["content"] == [
        {"type": "audio", "audio": None, "transcript": "Hi"},
        {"type": "text", "text": ""},
    ]


def test_an_empty_update_does_not_take_a_transcript_away() -> None:
    history = History()
    history.put(message("a", "assistant", [{"type": "output_audio", "transcript": "Hi"}]), None)
    history.put(message("a", "assistant", [{"type": "output_audio", "transcript": None}]), None)
    assert history.json()[0]["content"][0]["transcript"] == "Hi"


@pytest.mark.parametrize(
    ("role", "text", "sound"), [("assistant", "text", "audio"), ("user", "input_text", "input_audio")]
)
def test_what_was_told_as_text_keeps_its_words_when_it_is_told_again_as_sound_without_them(
    role: str, text: str, sound: str
) -> None:
    history = History()
    history.put(message("item_1", role, [{"type": text, "text": "Hello"}]), None)
    history.put(message("item_1", role, [{"type": sound, "transcript": None}]), None)
    assert history.json()[0]["content"] == [{"type": sound, "audio": None, "transcript": "Hello"}]
    history.put(message("item_1", role, [{"type": sound, "transcript": "Hello there"}]), None)
    assert history.json()[0]["content"][0]["transcript"] == "Hello there"


def test_an_update_keeps_a_users_images_in_front() -> None:
    history = History()
    image = {"type": "input_image", "image_url": "https://example.com/a.png", "detail": "auto"}
    history.put(message("a", "user", [image, {"type": "input_text", "text": "What is it?"}]), None)
    history.put(message("a", "user", [{"type": "input_text", "text": "What is this?"}]), None)
    assert [part["type"] for part in history.json()[0]["content"]] == ["input_image", "input_text"]


def test_no_item_falls_back_from_completed() -> None:
    history = History()
    history.put(message("a", "assistant", []), None)
    history.put(message("a", "assistant", [], status="in_progress"), None)
    assert history.json()[0]["status"] == "completed"


def test_an_update_without_an_order_keeps_the_place() -> None:
    history = History()
    history.put(message("a", "user", []), None)
    history.put(message("b", "user", []), "a")
    history.put(message("b", "user", [{"type": "input_text", "text": "!"}]), None)
    assert history.json()[1]["previous_item_id"] == "a"


def test_deltas_change_history_silently_and_are_events_of_their_own() -> None:
    talk = Talk().asked()
    talk.item_begins()
    before = len(talk.emitted("history_updated"))
    talk.says("Hel")
    talk.says("lo")
    assert talk.emitted("transcript_delta") == [
        {"item_id": "item_a", "role": "assistant", "delta": "Hel", "text": "Hel"},
        {"item_id": "item_a", "role": "assistant", "delta": "lo", "text": "Hello"},
    ]
    assert len(talk.emitted("history_updated")) == before
    talk.user_item("item_u", [{"type": "input_text", "text": "Hi"}])
    talk.model("conversation.item.deleted", item_id="item_u")
    (item,) = talk.emitted("history_updated")[-1]["history"]
    assert item["content"] == [{"type": "audio", "audio": None, "transcript": "Hello"}]
    assert item["status"] == "in_progress"


def test_a_users_partial_transcripts_are_events_with_the_text_so_far() -> None:
    talk = Talk().live()
    talk.user_speaks()
    kind = "conversation.item.input_audio_transcription.delta"
    talk.model(kind, item_id="item_u", content_index=0, delta="How ")
    talk.model(kind, item_id="item_u", content_index=0, delta="are you?")
    assert [(event["role"], event["text"]) for event in talk.emitted("transcript_delta")] == [
        ("user", "How "),
        ("user", "How are you?"),
    ]


def test_a_transcript_fills_the_users_item() -> None:
    talk = Talk().live()
    talk.user_speaks()
    talk.transcript("Hello")
    (item,) = talk.emitted("history_updated", talk.last)[0]["history"]
    assert item["content"][0]["transcript"] == "Hello"
    assert item["status"] == "completed"


def test_a_transcript_of_an_unknown_item_adds_one() -> None:
    talk = Talk().live()
    talk.transcript("Hello", "item_x")
    (added,) = talk.emitted("history_added")
    assert added["item"]["content"] == [{"type": "input_text", "text": "Hello"}]


def test_a_call_and_its_result_are_one_item() -> None:
    talk = Talk(agent(tools=[tool()])).asked()
    talk.calls(arguments='{"city":"Paris"}')
    added = talk.emitted("history_added")[-1]["item"]
    assert (added["type"], added["status"], added["output"]) == ("function_call", "in_progress", None)
    talk.result("sunny")
    (item,) = talk.emitted("history_updated", talk.last)[0]["history"]
    assert (item["name"], item["arguments"]) == ("weather", '{"city":"Paris"}')
    assert (item["status"], item["output"]) == ("completed", "sunny")


def test_an_unknown_deletion_changes_nothing() -> None:
    assert Talk().live().model("conversation.item.deleted", item_id="nothing") == []


def test_what_went_out_in_an_event_stays_as_it_was() -> None:
    talk = Talk(agent(tools=[tool()])).asked()
    talk.user_speaks("item_u")
    talk.item_begins()
    talk.says("Hel")
    talk.calls()
    before = talk.emitted("history_updated")[-1]["history"]
    kept = repr(before)
    talk.says("lo")
    talk.transcript("words")
    talk.result("sunny")
    assert repr(before) == kept
    assert repr(talk.emitted("history_updated")[-1]["history"]) != kept


def test_a_call_is_an_item_once_the_model_has_made_it() -> None:
    talk = Talk(agent(tools=[tool()])).asked()
    added = talk.emitted("history_added")
    talk.calls(arguments='{"city": "Paris"}')
    (item,) = [event["item"] for event in talk.emitted("history_added")[len(added) :]]
    assert (item["type"], item["status"], item["arguments"]) == ("function_call", "in_progress", '{"city": "Paris"}')


def test_a_response_s_item_is_told_of_by_the_events_of_its_response() -> None:
    talk = Talk().asked()
    talk.item_begins()  # the response's event and the conversation's
    assert len(talk.emitted("history_added")) == 1
    told = len(talk.emitted("history_updated"))
    talk.item_ends("Hello")
    assert [len(talk.emitted("history_updated")) - told, talk.session.history[-1]["status"]] == [1, "completed"]


def test_users_items_have_the_status_that_the_model_gave_them() -> None:
    talk = Talk().live()
    wire = {"id": "item_1", "type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}
    talk.model("conversation.item.added", item=wire)
    talk.model("conversation.item.added", item={**wire, "id": "item_2", "status": "completed"})
    assert ["status" in item for item in talk.session.history] == [False, True]


def test_the_last_of_some_that_follow_an_item_is_found() -> None:
    history = History()
    for item in ("a", "b", "c", "d"):
        history.put(message(item, "user", [{"type": "input_text", "text": item}]), None)
    assert history.last_behind("a", {"b", "c"}) == "c"
    assert history.last_behind("a", {"c"}) == "a"
    assert history.last_behind("d", {"a"}) == "d"
    assert history.last_behind("unknown", {"a"}) == "unknown"
    assert history.last_behind("", {"a"}) == "", "for some servers every item is the first"
    assert history.last_behind("", {"a", "b", "c", "d"}) == "d"


def test_the_newest_thousand_items_are_kept_and_of_long_ones_fewer() -> None:
    history = History()
    for number in range(1200):
        history.put({"id": f"item_{number}", "type": "message", "role": "user", "content": []}, None)
    assert [item["item_id"] for item in history.json()] == [f"item_{number}" for number in range(200, 1200)]
    for number in range(1200):
        content = [{"type": "input_text", "text": "x" * 20_000}]
        history.put({"id": f"long_{number}", "type": "message", "role": "user", "content": content}, None)
    kept = history.json()
    assert len(kept) < 1000
    assert kept[-1]["item_id"] == "long_1199"


def test_what_is_said_of_an_item_that_is_no_message_or_is_gone_changes_nothing() -> None:
    history = History()
    history.put({"id": "f", "type": "function_call", "name": "n", "call_id": "c", "arguments": "{}"}, None)
    history.put(message("a", "assistant", []), "f")
    for item in ("f", "a"):
        history.append(item, 0, "text", "Hel")
    before = history.json()[0]
    assert history.transcribe("f", "said") is False
    history.remove("a")
    assert history.json() == [before]


def test_an_output_of_a_call_whose_id_is_too_long_is_not_remembered() -> None:
    history = History()
    history.answered("c" * 100_000, "item")
    assert history.has_output("c" * 100_000) is False
