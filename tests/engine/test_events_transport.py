"""A model that sequences and truncates itself (transport EVENTS): what it is told, and what it tells."""

from typing import Any

from support.talk import Talk, agent, tool
from voicebus.contracts.journal import EventType
from voicebus.engine.config import Transport
from voicebus.engine.inputs import AudioInterrupted, ChangeSettings, Interrupt, SendRaw, UpdateAgent
from voicebus.engine.outputs import SetTimer, StopModel


def events(**fields: Any) -> Talk:
    return Talk(agent(tools=[tool()], **fields), transport=Transport.EVENTS)


def call(talk: Talk, call_id: str = "call_1") -> None:
    item = {"id": f"item_{call_id}", "type": "function_call", "name": "weather", "call_id": call_id, "arguments": "{}"}
    talk.model("response.output_item.done", item=item)


def test_a_message_and_its_create_go_in_one_step_without_a_mark_or_a_timer() -> None:
    talk = events()
    for _ in range(2):
        talk.asks()
        assert talk.sent_types() == ["conversation.item.create", "response.create"]
        assert "response" not in talk.sent("response.create", talk.last)[0]
    assert not talk.of(SetTimer)


def test_a_call_outside_of_any_response_is_answered_in_one_step() -> None:
    talk = events()
    call(talk)
    talk.result()
    assert talk.sent_types() == ["conversation.item.create", "response.create"]


def test_a_call_within_a_response_is_answered_before_its_end() -> None:
    talk = events()
    talk.model("response.created", response={})
    call(talk)
    talk.result()
    assert talk.sent_types() == ["conversation.item.create", "response.create"]
    talk.model("response.done", response={})
    assert talk.sent_types() == []


def test_an_interruption_is_told_to_the_model_as_it_is() -> None:
    talk = events()
    talk.model("response.created", response={"id": "resp_1"})
    talk.sounds(500)
    talk.put(Interrupt("resp_1", cancel=True, truncate=False))
    assert talk.last == [StopModel("resp_1", cancel=True, truncate=False)]
    talk.put(Interrupt())
    assert talk.last == [StopModel()]
    assert talk.model("input_audio_buffer.speech_started", item_id="u") == [], "the model sees to that, too"


def test_what_the_model_has_stopped_is_stopped_here() -> None:
    talk = events()
    talk.model("response.created", response={"id": "resp_1"})
    talk.says("one two three four")
    talk.sounds(1000)
    talk.put(AudioInterrupted("item_a", 0), after=0.5)
    where = {"item_id": "item_a", "content_index": 0}
    assert talk.emitted("audio_interrupted") == talk.emitted("audio_stopped") == [where]
    assert talk.sent_types() == []
    talk.ends()
    assert talk.lines()[-1][2:] == ("one two", True)


def test_the_interruption_of_something_unknown_is_told_all_the_same() -> None:
    talk = events()
    talk.put(AudioInterrupted("item_x", 1))
    assert talk.emitted("audio_interrupted") == [{"item_id": "item_x", "content_index": 1}]


def test_settings_that_change_are_sent_and_count_at_once() -> None:
    talk = events()
    talk.put(ChangeSettings({"audio": {"output": {"format": {"type": "audio/pcmu"}}}}))
    assert talk.sent_types() == ["session.update"]
    assert talk.session._p.playback.bytes_per_ms == 8
    talk.put(UpdateAgent(agent("other", instructions="Other.")))
    assert talk.sent("session.update", talk.last)[0]["session"]["instructions"] == "Other."


def test_a_raw_create_goes_as_it_is() -> None:
    talk = events()
    event = {"type": "response.create", "response": {"instructions": "Sing."}}
    talk.put(SendRaw(event))
    assert talk.sent("response.create", talk.last) == [event]


def test_turns_without_ids_have_an_end_with_usage_and_output() -> None:
    talk = events()
    talk.model("response.created", response={})
    talk.says("Hi", response="resp_7", spoken=False)
    talk.model("response.done", response={"usage": {"total_tokens": 2}})
    (turn,) = talk.records(EventType.TURN_ENDED)
    assert turn.usage == {"total_tokens": 2}
    assert [event["output"] for event in talk.emitted("agent_end")] == ["Hi"]
    assert len(talk.emitted("agent_start")) == 1


def test_the_end_of_an_older_turn_leaves_the_one_that_runs() -> None:
    talk = events()
    for number in (1, 2):
        talk.model("response.created", response={"id": f"resp_{number}"})
        if number == 1:
            talk.ends("resp_1")
    talk.ends("resp_1")
    assert talk.session._p.turns.responses.active is not None
