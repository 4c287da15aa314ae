"""What became of a call while nobody was attached to it: asked of the model, and what follows of that."""

from collections.abc import Mapping
from typing import Any

import pytest

from engine.test_keeping import left
from support.talk import Talk, agent, tool
from voicebus.contracts.journal import EventType
from voicebus.engine.attaching import ATTACH_TIMER
from voicebus.engine.config import Face, Recovering
from voicebus.engine.inputs import LinkLost, LinkOpened, SendMessage
from voicebus.engine.outputs import ConcealInput, DispatchTool
from voicebus.engine.turns import CREATE_TIMER

CALL: Mapping[str, Any] = {"face": Face.SIDEBAND, "recovering": Recovering.ATTACH, "keeps": True}


def on_call(**fields: Any) -> Talk:
    talk = Talk(agent(tools=[tool(**fields)]), **CALL).live()
    talk.user_speaks()
    talk.transcript("What is the weather?")
    return talk


def attached(talk: Talk) -> Talk:
    """The next owner, on the call."""
    after = Talk(talk.config.agent, kept=left(talk), **CALL)
    after.put(LinkOpened())
    after.model("session.created", session={"id": "sess_1"})
    return after


def retrieved(talk: Talk) -> list[str]:
    return [event["item_id"] for event in talk.sent("conversation.item.retrieve")]


def probes(talk: Talk) -> list[Mapping[str, Any]]:
    items = [event["item"] for event in talk.sent("conversation.item.create")]
    return [item for item in items if item.get("role") == "system"]


def last_is(talk: Talk, item_id: str | None) -> None:
    """The model answers with the last item of the conversation."""
    probe = probes(talk)[-1]
    for kind in ("conversation.item.added", "conversation.item.done"):
        outputs = talk.model(kind, item=probe, previous_item_id=item_id)
        assert outputs[0] == ConcealInput(None)
    assert talk.sent("conversation.item.delete")[-1]["item_id"] == probe["id"]
    assert talk.model("conversation.item.deleted", item_id=probe["id"]) == [ConcealInput(None)]


def last_is_call(talk: Talk, item_id: str, call_id: str) -> None:
    """The last item is a call that was not known, which is taken out, so that the one before it shows."""
    last_is(talk, item_id)
    assert retrieved(talk)[-1] == item_id
    talk.model("conversation.item.retrieved", item=function_call(item_id, call_id))
    assert talk.sent("conversation.item.delete")[-1]["item_id"] == item_id
    assert talk.model("conversation.item.deleted", item_id=item_id) == [ConcealInput(None)]


def put_back(talk: Talk) -> list[tuple[str | None, str]]:
    """The calls that were made anew, each with the item that it was put behind; their echoes tell nobody anything."""
    made = [each for each in talk.sent("conversation.item.create") if each["item"]["type"] == "function_call"]
    for event in made:
        for kind in ("conversation.item.added", "conversation.item.done"):
            assert talk.model(kind, item=event["item"], previous_item_id=None)[0] == ConcealInput(None)
    return [(event.get("previous_item_id"), event["item"]["id"]) for event in made]


def ran(talk: Talk) -> list[str]:
    return [call.call_id for call in talk.of(DispatchTool)]


def message(item_id: str, text: str, status: str = "completed") -> dict[str, Any]:
    content = [{"type": "output_audio", "transcript": text}]
    return {"id": item_id, "type": "message", "role": "assistant", "status": status, "content": content}


def function_call(item_id: str, call_id: str) -> dict[str, Any]:
    return {"id": item_id, "type": "function_call", "status": "completed", "name": "weather", "call_id": call_id,
            "arguments": "{}"}  # fmt: skip


def answers(talk: Talk) -> list[tuple[str, bool]]:
    lines = talk.records(EventType.ITEM_RECORDED)
    return [(line.text, line.truncated) for line in lines if line.role == "assistant"]


def while_it_speaks() -> Talk:
    talk = on_call()
    talk.begins("resp_1", unasked=True)
    talk.item_begins()
    talk.says("It is")
    talk.now += 1.5
    talk.says(" sunny")
    return talk


def test_an_answer_that_ended_meanwhile_is_recorded_whole() -> None:
    after = attached(while_it_speaks())
    assert answers(after) == []
    assert retrieved(after) == ["item_a"]
    last_is(after, "item_a")
    after.model("conversation.item.retrieved", item=message("item_a", "It is sunny and warm."))
    assert answers(after) == [("It is sunny and warm.", False)]
    assert [record.status for record in after.records(EventType.TURN_ENDED)] == ["completed"]
    assert after.sent("response.create") == []
    after.put(SendMessage([{"type": "input_text", "text": "And tomorrow?"}]))
    assert len(after.sent("response.create")) == 1, "nothing is in the way of the next answer"


def test_an_answer_that_was_asked_for_and_came_while_nobody_listened_is_not_asked_for_again() -> None:
    talk = on_call()
    talk.begins("resp_1", unasked=True)
    talk.calls()
    talk.ends()
    talk.result("sunny")
    talk.loses_the_link()
    talk.dials()
    talk.model("session.created", session={"id": "sess_1"})
    last_is(talk, "item_b")
    talk.model("conversation.item.retrieved", item=message("item_b", "It is sunny."))
    assert answers(talk) == [("It is sunny.", False)]
    assert len(talk.sent("response.create")) == 1
    assert CREATE_TIMER not in talk.timers()
    talk.asks("And tomorrow?")
    assert len(talk.sent("response.create")) == 2, "nothing is in the way of the next answer"


def test_an_answer_that_goes_on_is_heard_to_its_end() -> None:
    after = attached(while_it_speaks())
    last_is(after, "item_a")
    after.model("conversation.item.retrieved", item=message("item_a", "It is sunny", "in_progress"))
    assert answers(after) == []
    after.said("It is sunny and warm.")
    after.item_ends("It is sunny and warm.")
    after.ends()
    assert answers(after) == [("It is sunny and warm.", False)]
    assert [record.status for record in after.records(EventType.TURN_ENDED)] == ["completed"]


def test_an_answer_that_was_stopped_meanwhile_is_recorded_as_stopped() -> None:
    after = attached(while_it_speaks())
    last_is(after, "item_a")
    after.model("conversation.item.retrieved", item=message("item_a", "It is", "incomplete"))
    assert [record.status for record in after.records(EventType.TURN_ENDED)] == ["cancelled"]
    assert answers(after)[0][1] is True


def test_a_call_that_was_made_meanwhile_is_run_once_and_answered() -> None:
    after = attached(on_call())
    assert after.sent("response.create") == [], "the model answers by itself, if it has not"
    last_is_call(after, "item_f", "call_9")
    assert ran(after) == []
    last_is(after, "item_u")
    assert put_back(after) == [("item_u", "item_f")]
    assert ran(after) == ["call_9"]
    assert after.sent("response.create") == []
    after.result("sunny", "call_9")
    assert [call for call, _ in after.told(after.all)] == ["call_9"]
    assert len(after.sent("response.create")) == 1


def test_every_call_of_a_response_that_was_made_meanwhile_is_run_once_in_its_order() -> None:
    after = attached(on_call())
    for number in (3, 2, 1):
        last_is_call(after, f"item_{number}", f"call_{number}")
    last_is(after, "item_u")
    assert put_back(after) == [("item_u", "item_1"), ("item_1", "item_2"), ("item_2", "item_3")]
    assert ran(after) == ["call_1", "call_2", "call_3"]
    for call in ("call_2", "call_1"):
        after.result("sunny", call)
        assert after.sent("response.create") == []
    after.result("sunny", "call_3")
    assert len(after.sent("response.create")) == 1
    assert ran(after) == ["call_1", "call_2", "call_3"]


def test_of_a_model_that_has_call_before_call_without_end_so_many_are_run() -> None:
    after = attached(on_call())
    asked = 0
    while len(probes(after)) > asked:
        asked += 1
        last_is(after, f"item_{asked}")
        after.model("conversation.item.retrieved", item=function_call(f"item_{asked}", f"call_{asked}"))
        after.model("conversation.item.deleted", item_id=f"item_{asked}")
        assert asked <= 64
    assert ran(after) == [f"call_{number}" for number in range(64, 0, -1)]


def test_what_was_said_before_calls_that_were_made_meanwhile_is_recorded_with_them() -> None:
    after = attached(on_call())
    last_is_call(after, "item_2", "call_2")
    last_is_call(after, "item_1", "call_1")
    last_is(after, "item_b")
    after.model("conversation.item.retrieved", item=message("item_b", "Let me see."))
    assert put_back(after) == [("item_b", "item_1"), ("item_1", "item_2")]
    assert answers(after) == [("Let me see.", False)]
    assert [item["item_id"] for item in after.session.history] == ["item_u", "item_b", "item_1", "item_2"]
    assert len(after.records(EventType.TURN_ENDED)) == 1
    assert ran(after) == ["call_1", "call_2"]


def test_calls_of_a_conversation_without_any_other_item_are_put_in_front() -> None:
    after = attached(Talk(agent(tools=[tool()]), **CALL).live())
    last_is_call(after, "item_1", "call_1")
    last_is(after, None)
    assert put_back(after) == [("root", "item_1")]
    assert ran(after) == ["call_1"]


def test_of_a_call_that_was_known_those_behind_it_are_run_and_it_is_not() -> None:
    talk = on_call()
    talk.begins("resp_1", unasked=True)
    talk.calls(call="call_1", item="item_1")
    after = attached(talk)
    last_is_call(after, "item_3", "call_3")
    last_is_call(after, "item_2", "call_2")
    last_is(after, "item_1")
    put_back(after)
    assert sorted(ran(after)) == ["call_1", "call_2", "call_3"]


def test_a_call_that_is_known_under_another_item_is_neither_taken_out_nor_run_again() -> None:
    talk = on_call()
    talk.begins("resp_1", unasked=True)
    talk.calls(call="call_1", item="item_1")
    after = attached(talk)
    last_is(after, "item_9")
    deleted = after.sent("conversation.item.delete")
    after.model("conversation.item.retrieved", item=function_call("item_9", "call_1"))
    assert after.sent("conversation.item.delete") == deleted
    assert ran(after) == ["call_1"]


def test_a_model_that_says_nothing_of_what_was_before_a_call_has_it_put_back_and_run() -> None:
    after = attached(on_call())
    last_is_call(after, "item_1", "call_1")
    after.timer(ATTACH_TIMER)
    assert [item for _, item in put_back(after)] == ["item_1"]
    assert ran(after) == ["call_1"]
    after.result("sunny", "call_1")
    assert len(after.sent("response.create")) == 1


def test_a_call_that_the_model_does_not_let_go_of_is_run_once_and_not_looked_behind() -> None:
    after = attached(on_call())
    last_is(after, "item_1")
    after.model("conversation.item.retrieved", item=function_call("item_1", "call_1"))
    after.fails("invalid_value", event_id=after.sent("conversation.item.delete")[-1]["event_id"])
    last_is(after, "item_1")
    assert ran(after) == ["call_1"]
    (made,) = [each for each in after.sent("conversation.item.create") if each["item"]["type"] == "function_call"]
    after.fails("item_create_duplicate_item_id", event_id=made["event_id"])
    assert after.errors() == []


def test_nothing_is_taken_out_of_a_response_that_goes_on_and_its_end_tells_of_its_calls() -> None:
    talk = on_call()
    talk.begins("resp_1", unasked=True)
    after = attached(talk)
    last_is(after, "item_2")
    after.now += 0.5
    after.item_begins("item_m")
    after.model("conversation.item.retrieved", item=function_call("item_2", "call_2"))
    assert ran(after) == ["call_2"]
    output = [function_call(f"item_{number}", f"call_{number}") for number in (1, 2)]
    after.ends(output=output)
    assert ran(after) == ["call_2", "call_1"]
    assert put_back(after) == []
    for call in ("call_1", "call_2"):
        assert after.sent("response.create") == []
        after.result("sunny", call)
    assert len(after.sent("response.create")) == 1


def test_a_call_behind_the_words_of_a_response_that_ran_belongs_to_it() -> None:
    after = attached(while_it_speaks())
    last_is_call(after, "item_f", "call_9")
    after.model("conversation.item.retrieved", item=message("item_a", "It is sunny, let me see."))
    last_is(after, "item_a")
    assert put_back(after) == [("item_a", "item_f")]
    assert ran(after) == ["call_9"]
    assert [record.response_id for record in after.records(EventType.TURN_ENDED)] == ["resp_1"]
    after.result("sunny", "call_9")
    assert len(after.sent("response.create")) == 1


def test_a_call_that_was_known_before_is_not_run_again() -> None:
    talk = on_call()
    talk.begins("resp_1", unasked=True)
    talk.calls()
    after = attached(talk)
    before = len(after.of(DispatchTool))
    last_is(after, "item_call_1")
    assert retrieved(after) == []
    assert len(after.of(DispatchTool)) == before == 1
    after.ends()
    after.result("sunny")
    assert len(after.sent("response.create")) == 1


def test_a_turn_that_has_no_answer_is_asked_for_unless_the_model_answers_by_itself() -> None:
    after = attached(on_call())
    last_is(after, "item_u")
    (create,) = after.sent("response.create")
    after.fails("conversation_already_has_active_response", event_id=create["event_id"])
    after.begins("resp_7", unasked=True)
    after.ends("resp_7")
    assert len(after.sent("response.create")) == 1


def test_an_answer_that_was_given_meanwhile_is_not_asked_for_again() -> None:
    after = attached(on_call())
    last_is(after, "item_b")
    after.model("conversation.item.retrieved", item=message("item_b", "It is sunny."))
    assert answers(after) == [("It is sunny.", False)]
    assert after.sent("response.create") == []


def test_what_the_user_said_meanwhile_is_known() -> None:
    talk = on_call()
    talk.begins("resp_1", unasked=True)
    talk.speaks("Sunny.", 200)
    talk.ends()
    after = attached(talk)
    last_is(after, "item_v")
    words = {"id": "item_v", "type": "message", "role": "user", "status": "completed",
             "content": [{"type": "input_audio", "transcript": "And tomorrow?"}]}  # fmt: skip
    after.model("conversation.item.retrieved", item=words)
    assert [item["item_id"] for item in after.session.history][-1] == "item_v"


def test_a_model_that_does_not_answer_is_not_waited_for() -> None:
    after = attached(on_call())
    assert after.sent("response.create") == []
    after.timer(ATTACH_TIMER)
    assert len(after.sent("response.create")) == 1


def test_a_model_that_refuses_is_gone_on_with() -> None:
    after = attached(while_it_speaks())
    (asked,) = after.sent("conversation.item.retrieve")
    probe = after.sent("conversation.item.create")[0]
    after.fails("invalid_value", event_id=probe["event_id"])
    # Not all name the event.
    after.fails("item_retrieve_invalid_item_id", f"the item with id '{asked['item_id']}' does not exist.")
    assert after.errors() == []
    assert ATTACH_TIMER not in after.timers()


def test_a_socket_that_was_lost_is_caught_up_with_as_well() -> None:
    talk = while_it_speaks()
    talk.put(LinkLost("dropped", close_code=1006))
    talk.timer("reconnect")
    talk.put(LinkOpened())
    talk.model("session.created", session={"id": "sess_1"})
    last_is(talk, "item_a")
    talk.model("conversation.item.retrieved", item=message("item_a", "It is sunny and warm."))
    assert answers(talk) == [("It is sunny and warm.", False)]


def test_an_answer_that_had_only_begun_is_recorded_whole() -> None:
    talk = on_call()
    talk.begins("resp_1", unasked=True)
    talk.item_begins()
    after = attached(talk)
    last_is(after, "item_a")
    after.model("conversation.item.retrieved", item=message("item_a", "It is sunny and warm."))
    assert answers(after) == [("It is sunny and warm.", False)]


@pytest.mark.parametrize("knows_the_response", [True, False])
def test_an_answer_that_began_meanwhile_and_goes_on_is_recorded_whole(knows_the_response: bool) -> None:
    talk = on_call()
    if knows_the_response:
        talk.begins("resp_1", unasked=True)
    after = attached(talk)
    last_is(after, "item_a")
    after.model("conversation.item.retrieved", item=message("item_a", "It is", "in_progress"))
    after.says(" sunny and warm.")
    after.said("It is sunny and warm.")
    after.item_ends("It is sunny and warm.")
    after.ends()
    assert answers(after) == [("It is sunny and warm.", False)]
    assert after.sent("response.create") == []
