"""Ids that a server gives again on another socket, and those that the socket was told."""

import base64
from typing import Any

import pytest

from voicebus.engine.dialects import MAX_ID_CHARS
from voicebus.runtime.frames import AudioDelta
from voicebus.runtime.socketids import SocketIds

HISTORY = [
    {"item_id": "item_1", "type": "message"},
    {"item_id": "item_2", "type": "function_call", "call_id": "call_1"},
]


def message(item_id: str, role: str = "user") -> dict[str, Any]:
    return {"id": item_id, "type": "message", "role": role, "content": []}


def used() -> SocketIds:
    """Of a socket that has given `item_1`, `resp_1`, `item_2` and `call_1`."""
    ids = SocketIds()
    call = {"id": "item_2", "type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"}
    for event in (
        {"type": "input_audio_buffer.committed", "item_id": "item_1", "previous_item_id": None},
        {"type": "conversation.item.added", "item": message("item_1"), "previous_item_id": None},
        {"type": "response.created", "response": {"id": "resp_1", "output": []}},
        {"type": "response.output_item.added", "response_id": "resp_1", "output_index": 0, "item": call},
        {"type": "response.output_item.done", "response_id": "resp_1", "output_index": 0, "item": call},
        {"type": "response.done", "response": {"id": "resp_1", "output": [call]}},
    ):
        assert ids.incoming(event) is event
        assert ids.outgoing(event) is event
    return ids


def test_the_ids_of_the_first_socket_are_left_alone_however_often_it_names_them() -> None:
    used()


def test_a_response_and_its_call_under_ids_of_an_earlier_socket_are_others_and_answered_under_the_sockets_own() -> None:
    ids = used().another(HISTORY)
    response = ids.incoming({"type": "response.created", "response": {"id": "resp_1", "output": []}})["response"]["id"]
    call = {"id": "item_2", "type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"}
    event = {"type": "response.output_item.done", "response_id": "resp_1", "output_index": 0, "item": call}
    told = ids.incoming(event)
    assert told["response_id"] == response != "resp_1"
    assert told["item"]["call_id"] not in ("call_1", call["id"])
    assert told["item"]["id"] != "item_2"
    done = ids.incoming({"type": "response.done", "response": {"id": "resp_1", "output": [call], "metadata": None}})
    assert done["response"] == {"id": response, "output": [told["item"]], "metadata": None}
    output = {"type": "function_call_output", "call_id": told["item"]["call_id"], "output": "sunny"}
    create = {"type": "conversation.item.create", "item": output, "previous_item_id": told["item"]["id"]}
    sent = ids.outgoing(create)
    assert (sent["item"]["call_id"], sent["item"]["output"], sent["previous_item_id"]) == ("call_1", "sunny", "item_2")
    assert ids.outgoing({"type": "response.cancel", "response_id": response})["response_id"] == "resp_1"
    asked = {"input": [{"type": "item_reference", "id": told["item"]["id"]}, "odd"]}
    assert ids.outgoing({"type": "response.create", "response": asked})["response"]["input"] == [
        {"type": "item_reference", "id": "item_2"},
        "odd",
    ]


def test_the_echo_of_what_a_socket_was_told_is_no_other_item_and_speech_under_its_id_is() -> None:
    ids = used().another(HISTORY)
    ids.outgoing({"type": "conversation.item.create", "item": message("item_7")})
    for item_id in ("item_1", "item_7"):
        echo = {"type": "conversation.item.added", "item": message(item_id), "previous_item_id": None}
        assert ids.incoming(echo) is echo
    words = {"type": "conversation.item.input_audio_transcription.completed", "item_id": "item_1", "transcript": "Hi"}
    assert ids.incoming(words) is words
    begun = ids.incoming({"type": "input_audio_buffer.speech_started", "item_id": "item_1", "audio_start_ms": 0})
    assert begun["item_id"] != "item_1"
    assert ids.incoming(words)["item_id"] == begun["item_id"]
    assert ids.outgoing({"type": "conversation.item.delete", "item_id": begun["item_id"]})["item_id"] == "item_1"


def test_what_a_new_owner_was_not_told_of_a_call_is_known_from_the_history() -> None:
    ids = SocketIds().another(HISTORY)
    call = {"id": "item_2", "type": "function_call", "call_id": "call_1"}
    told = ids.incoming({"type": "response.output_item.added", "response_id": "resp_1", "item": call})
    assert told["response_id"] == "resp_1"
    assert told["item"]["id"] != "item_2"
    assert told["item"]["call_id"] != "call_1"


def test_each_socket_has_others_for_an_id_that_comes_again_and_again() -> None:
    ids, seen = used(), ["resp_1"]
    for _ in range(3):
        ids = ids.another()
        seen.append(ids.incoming({"type": "response.created", "response": {"id": "resp_1"}})["response"]["id"])
    assert len(set(seen)) == 4
    assert all(len(one) <= 32 for one in seen)


def test_sound_goes_by_the_ids_of_its_response_and_its_item() -> None:
    delta = AudioDelta("response.output_audio.delta", "resp_1", "item_2", base64.b64encode(b"\0\0").decode())
    ids = used()
    assert ids.audio(delta) is delta
    ids = ids.another()
    created = ids.incoming({"type": "response.created", "response": {"id": "resp_1"}})
    named = ids.audio(delta)
    assert (named.response_id, named.item_id) == (created["response"]["id"], "item_2")
    assert delta.response_id == "resp_1", "who has read it may compare the next one with it"
    other = AudioDelta("response.output_audio.delta", "resp_9", "item_9", "")
    assert ids.audio(other) is other


@pytest.mark.parametrize("odd", ["", "i" * (MAX_ID_CHARS + 1), 7, None, {}])
def test_ids_that_nobody_takes_are_left_alone(odd: Any) -> None:
    ids = SocketIds()
    for _ in range(2):
        for event in (
            {"type": "conversation.item.added", "item": {"id": odd, "call_id": odd}},
            {"type": "conversation.item.added", "item": odd},
            {"type": "response.created", "response": {"id": odd, "output": odd}},
            {"type": "input_audio_buffer.committed", "item_id": odd},
        ):
            assert ids.incoming(event) is event
            assert ids.outgoing(event) is event
        ids = ids.another()
