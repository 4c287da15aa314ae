"""Ids of items that a model's server would refuse for their length."""

from typing import Any

import pytest

from support.talk import Talk
from voicebus.contracts.journal import EventType
from voicebus.engine.config import Face
from voicebus.engine.inputs import LinkExpires, ReplaceHistory, SpareEvent, SpareOpened
from voicebus.engine.itemids import MAX_CHARS, ItemIds
from voicebus.engine.outputs import SendModel, SwitchLink
from voicebus.engine.renewal import RENEW_TIMER

LONG = "item_0a1b2c3d-4e5f-6789-abcd-ef0123456789"


def message(item_id: str, text: str = "Hello", role: str = "user") -> dict[str, Any]:
    kind = "input_text" if role == "user" else "output_text"
    return {"id": item_id, "type": "message", "role": role, "content": [{"type": kind, "text": text}]}


def short_of(talk: Talk, outputs: Any = None) -> str:
    (created,) = talk.sent("conversation.item.create", outputs)
    return str(created["item"]["id"])


def test_an_item_has_one_short_id_on_a_socket_in_all_that_is_said_of_it() -> None:
    ids = ItemIds()
    created = ids.outgoing({"type": "conversation.item.create", "item": message(LONG), "previous_item_id": "root"})
    short = created["item"]["id"]
    assert len(short) <= MAX_CHARS
    assert created["previous_item_id"] == "root"
    assert ids.outgoing({"type": "conversation.item.delete", "item_id": LONG})["item_id"] == short
    behind = {"type": "conversation.item.create", "item": message("item_b"), "previous_item_id": LONG}
    assert ids.outgoing(behind)["previous_item_id"] == short
    reference = {"type": "response.create", "response": {"input": [{"type": "item_reference", "id": LONG}]}}
    assert ids.outgoing(reference)["response"]["input"] == [{"type": "item_reference", "id": short}]
    for event in (
        {"type": "conversation.item.added", "item": message(LONG), "previous_item_id": None},
        {"type": "conversation.item.added", "item": message("item_b"), "previous_item_id": LONG},
        {"type": "conversation.item.deleted", "item_id": LONG},
        {"type": "error", "error": {"message": f"The item '{LONG}' does not exist."}},
    ):
        assert ids.incoming(_with(event, LONG, short)) == event


def _with(value: Any, old: str, new: str) -> Any:
    """`value` with `new` for `old` wherever it stands."""
    if isinstance(value, dict):
        return {key: _with(part, old, new) for key, part in value.items()}
    if isinstance(value, list):
        return [_with(part, old, new) for part in value]
    return value.replace(old, new) if isinstance(value, str) else value


@pytest.mark.parametrize("item_id", ["i" * MAX_CHARS, "", "i" * 257, 7, None])
def test_ids_that_are_short_and_those_that_nobody_takes_are_left_alone(item_id: Any) -> None:
    ids = ItemIds()
    event = {"type": "conversation.item.create", "item": {"id": item_id}}
    assert ids.outgoing(event) is event
    assert ids.incoming(event) is event


def test_what_a_server_names_itself_is_left_alone_until_another_socket_is_told() -> None:
    talk = Talk().live()
    talk.user_item(LONG, [{"type": "input_text", "text": "Hello"}])
    talk.put(ReplaceHistory([]))
    assert [event["item_id"] for event in talk.sent("conversation.item.delete")] == [LONG]


def test_a_conversation_is_told_to_another_socket_under_short_ids_and_known_by_its_own() -> None:
    talk = Talk().live()
    talk.user_item(LONG, [{"type": "input_text", "text": "Hello"}])
    talk.loses_the_link()
    told = talk.dials()
    short = short_of(talk, told)
    assert len(short) <= MAX_CHARS
    talk.model("session.created", session={"id": "sess_2"})
    talk.confirms(told)
    assert [item["item_id"] for item in talk.session.history] == [LONG], "its echo is not another item"
    talk.put(ReplaceHistory([]))
    assert talk.sent("conversation.item.delete", talk.last)[0]["item_id"] == short
    talk.model("conversation.item.deleted", item_id=short)
    assert talk.session.history == []
    assert talk.errors() == []


def test_a_second_socket_has_its_own_names_while_the_first_serves() -> None:
    talk = Talk().live()
    talk.user_item(LONG, [{"type": "input_text", "text": "Hello"}])
    talk.begins(unasked=True)
    talk.put(LinkExpires(60.0))
    talk.timer(RENEW_TIMER)
    told = talk.put(SpareOpened())
    short = short_of(talk, told)
    for output in talk.of(SendModel, told):
        if output.event["type"] == "session.update":
            talk.put(SpareEvent({"type": "session.updated", "session": output.event["session"]}))
    talk.put(ReplaceHistory([]))
    deleted = [output for output in talk.of(SendModel, talk.last) if output.event["type"] == "conversation.item.delete"]
    assert [(output.spare, output.event["item_id"]) for output in deleted] == [(False, LONG)]
    talk.model("conversation.item.deleted", item_id=LONG)
    talk.ends()
    assert talk.of(SwitchLink)
    moved = [event["item_id"] for event in talk.sent("conversation.item.delete")]
    assert moved == [LONG, short], "the second one had been told of it"


def test_a_programs_and_a_clients_long_ids_are_taken() -> None:
    talk = Talk().live()
    talk.put(ReplaceHistory([{"item_id": LONG, **message(LONG)}]))
    assert len(short_of(talk)) <= MAX_CHARS
    talk = Talk(face=Face.OPENAI).live()
    talk.client("conversation.item.create", item=message(LONG))
    short = short_of(talk)
    talk.model("conversation.item.added", item=message(short), previous_item_id=None)
    (added,) = talk.shown("conversation.item.added")
    assert added["item"]["id"] == LONG
    assert not talk.records(EventType.ERROR)
