"""A history that the program wants: seeds, edits, and what the model is told for it."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from support.talk import Talk, agent, tool
from voicebus.engine.config import Face, Transport
from voicebus.engine.inputs import ReplaceHistory


def user(item: str, text: str) -> dict[str, Any]:
    content = [{"type": "input_text", "text": text}]
    return {"item_id": item, "type": "message", "role": "user", "content": content}


def assistant(item: str, text: str) -> dict[str, Any]:
    content = [{"type": "audio", "audio": None, "transcript": text}]
    return {"item_id": item, "type": "message", "role": "assistant", "status": "completed", "content": content}


def call(item: str, output: str | None = "sunny", call_id: str = "call_9") -> dict[str, Any]:
    made = {"item_id": item, "type": "function_call", "call_id": call_id, "name": "weather", "arguments": "{}"}
    return {**made, "status": "completed", "output": output}


def deleted(talk: Talk) -> list[str]:
    return [event["item_id"] for event in talk.sent("conversation.item.delete", talk.last)]


def created(talk: Talk) -> list[tuple[str, str]]:
    """Ids of the created items, each with the one before it."""
    creates = talk.sent("conversation.item.create", talk.last)
    return [(event["item"]["id"], event["previous_item_id"]) for event in creates]


def history(talk: Talk) -> list[dict[str, Any]]:
    return talk.session._p.history.json()


def replace(talk: Talk, items: Sequence[Mapping[str, Any]]) -> None:
    talk.put(ReplaceHistory(items))


def with_history() -> Talk:
    talk = Talk().live()
    for item in ("a", "b", "c", "d"):
        talk.user_item(item, [{"type": "input_text", "text": item}], None)
    return talk


def test_seeds_follow_the_first_settings_and_are_the_first_history() -> None:
    seed = (user("u1", "Hello"), assistant("a1", "Hi!"), call("c1"), user("u2", "Thanks"))
    talk = Talk(seed=seed)
    assert talk.sent_types() == ["session.update", *["conversation.item.create"] * 5]
    items = [event["item"] for event in talk.sent("conversation.item.create")]
    output = items[3]["id"]
    assert created(talk) == [("u1", "root"), ("a1", "u1"), ("c1", "a1"), (output, "c1"), ("u2", output)]
    assert items[1]["content"] == [{"type": "output_text", "text": "Hi!"}]
    assert items[2] == {"id": "c1", "type": "function_call", "call_id": "call_9", "name": "weather", "arguments": "{}"}
    assert items[3] == {"id": output, "type": "function_call_output", "call_id": "call_9", "output": "sunny"}
    (first,) = talk.emitted("history_updated")
    assert [item["item_id"] for item in first["history"]] == ["u1", "a1", "c1", "u2"]
    assert first["history"][2]["output"] == "sunny"


def test_the_models_echo_of_a_seed_is_no_news() -> None:
    talk = Talk(seed=(user("u1", "Hello"), call("c1"))).live()
    for event in talk.sent("conversation.item.create"):
        talk.model("conversation.item.added", item=event["item"], previous_item_id=event["previous_item_id"])
    assert [item["item_id"] for item in history(talk)] == ["u1", "c1"]
    assert not talk.emitted("history_added")
    assert len(talk.emitted("history_updated")) == 1


def test_a_history_that_is_the_same_sends_nothing() -> None:
    talk = with_history()
    replace(talk, history(talk))
    assert talk.last == []


def test_what_was_heard_as_audio_equals_its_text() -> None:
    talk = Talk().asked()
    talk.speaks("Hi!", 500)
    heard = {**assistant("item_a", "Hi!"), "content": [{"type": "text", "text": "Hi!"}]}
    replace(talk, [heard])
    assert talk.last == []


@pytest.mark.parametrize(
    ("order", "gone", "made"),
    [
        ("abd", ["c"], []),
        ("bcd", ["a"], []),
        ("", ["a", "b", "c", "d"], []),
        ("abcxd", [], [("x", "c")]),
        ("xabcd", [], [("x", "root")]),
        ("dabc", ["d"], [("d", "root")]),
        ("bcda", ["a"], [("a", "d")]),
        ("badc", ["b", "d"], [("b", "root"), ("d", "a")]),
    ],
)
def test_only_what_differs_is_deleted_and_created(order: str, gone: list[str], made: list[tuple[str, str]]) -> None:
    talk = with_history()
    replace(talk, [user(item, item) for item in order])
    assert sorted(deleted(talk)) == gone
    assert created(talk) == made
    assert [item["item_id"] for item in history(talk)] == list(order)
    assert len(talk.emitted("history_updated", talk.last)) == 1


def test_a_changed_item_is_deleted_and_created_anew_in_its_place() -> None:
    talk = with_history()
    replace(talk, [user("a", "a"), user("b", "other"), user("c", "c"), user("d", "d")])
    assert talk.sent_types() == ["conversation.item.delete", "conversation.item.create"]
    assert (deleted(talk), created(talk)) == (["b"], [("b", "a")])


def test_the_models_word_of_its_end_does_not_end_an_item_that_was_created_anew() -> None:
    talk = with_history()
    replace(talk, [user("b", "b"), user("a", "a")])
    (moved,) = [item for item, _ in created(talk)]
    talk.model("conversation.item.deleted", item_id=moved)
    assert [item["item_id"] for item in history(talk)] == ["b", "a"]
    talk.model("conversation.item.deleted", item_id=moved)
    assert moved not in [item["item_id"] for item in history(talk)]


def test_a_call_goes_with_its_output() -> None:
    talk = Talk(agent(tools=[tool()])).asked()
    talk.calls()
    talk.result("sunny")
    output = talk.sent("conversation.item.create", talk.last)[0]["item"]
    talk.model("conversation.item.added", item={**output, "id": output["id"]}, previous_item_id="item_call_1")
    replace(talk, [*history(talk), user("u", "Thanks")])
    assert created(talk) == [("u", output["id"])], "behind the output, not between it and its call"
    replace(talk, [user("u", "Thanks")])
    assert deleted(talk) == ["item_call_1", output["id"]]


def test_a_call_that_runs_may_stay() -> None:
    talk = Talk(agent(tools=[tool()])).asked()
    talk.calls()
    replace(talk, [user("u", "Wait"), *history(talk)])
    assert created(talk) == [("u", "root")]
    assert not talk.errors()


def test_a_call_that_runs_may_be_moved() -> None:
    talk = Talk(agent(tools=[tool()])).live()
    talk.user_item("u", [{"type": "input_text", "text": "u"}])
    talk.model("response.created", response={"id": "resp_1"})
    talk.calls()
    talk.user_item("v", [{"type": "input_text", "text": "v"}])
    waiting = history(talk)[1]
    replace(talk, [waiting, user("u", "u"), user("v", "v")])
    assert created(talk) == [("item_call_1", "root")], "its output will follow when it is there"


@pytest.mark.parametrize(
    ("item", "why"),
    [
        ({"item_id": "x", "type": "message", "role": "wizard", "content": [{"type": "text", "text": "a"}]}, "wizard"),
        ({"item_id": "x", "type": "message", "role": "user", "content": []}, "nothing in it"),
        ({"item_id": "x", "type": "message", "role": "user", "content": [{"type": "input_audio"}]}, "nothing in it"),
        ({"item_id": "x", "type": "mcp_call"}, "'mcp_call'"),
        ({"item_id": "x", "type": "function_call", "name": "weather"}, "call_id"),
        (call("x", None), "has no output"),
        (user("a", "again"), "twice"),
    ],
)
def test_what_cannot_be_created_is_left_out_with_an_error(item: Mapping[str, Any], why: str) -> None:
    talk = with_history()
    replace(talk, [*history(talk), item])
    assert not talk.sent_types()
    (error,) = [output.data for output in talk.of(_record(), talk.last)]
    assert error.code == "history_item_refused"
    assert why in error.message


def _record() -> Any:
    from voicebus.engine.outputs import Record

    return Record


def test_images_and_items_without_an_id_can_be_created() -> None:
    talk = Talk().live()
    image = {"type": "input_image", "image_url": "data:image/png;base64,AA", "detail": None}
    replace(talk, [{"type": "message", "role": "user", "content": [image]}])
    (create,) = talk.sent("conversation.item.create", talk.last)
    assert create["item"]["id"].startswith("vb_")
    assert create["item"]["content"] == [{"type": "input_image", "image_url": "data:image/png;base64,AA"}]


def test_an_item_that_the_model_refuses_is_none_of_the_history() -> None:
    talk = with_history()
    replace(talk, [*history(talk), user("x", "x")])
    (create,) = talk.sent("conversation.item.create", talk.last)
    talk.fails("invalid_value", "No.", create["event_id"])
    assert [item["item_id"] for item in history(talk)] == ["a", "b", "c", "d"]
    assert talk.errors() == ["invalid_value"]
    talk.fails("invalid_value", "No.", create["event_id"])


def test_creates_without_an_answer_are_remembered_up_to_a_limit() -> None:
    talk = Talk().live()
    replace(talk, [user(f"u{number}", "x") for number in range(400)])
    assert len(talk.session._p.rewriter._creating) == 256


@pytest.mark.parametrize("transport", Transport)
def test_a_history_may_be_replaced_with_any_model(transport: Transport) -> None:
    talk = Talk(transport=transport, seed=(user("u1", "Hello"),))
    replace(talk, [])
    assert deleted(talk) == ["u1"]


def test_a_client_of_the_protocol_sees_seeds_but_no_calls_of_the_server() -> None:
    talk = Talk(agent(tools=[tool()]), face=Face.OPENAI, seed=(user("u1", "Hello"), call("c1"), user("u2", "Thanks")))
    talk.live()
    for event in talk.sent("conversation.item.create"):
        talk.model("conversation.item.added", item=event["item"], previous_item_id=event["previous_item_id"])
    seen = talk.shown("conversation.item.added")
    assert [event["item"]["id"] for event in seen] == ["u1", "u2"]


@pytest.mark.parametrize("wanted", [[], [call("item_c", "rainy", "call_1")]])
def test_a_call_that_is_taken_out_while_there_is_no_socket_leaves_no_output(wanted: list[dict[str, Any]]) -> None:
    talk = Talk(agent(tools=[tool()])).asked()
    talk.calls(call="call_1")
    talk.ends()
    talk.result("sunny")
    talk.loses_the_link()
    replace(talk, wanted)
    talk.reconnects()
    outputs = [event["item"] for event in talk.sent("conversation.item.create", talk.all) if "output" in event["item"]]
    assert [item["output"] for item in outputs] == ["sunny", *[item["output"] for item in wanted]]
