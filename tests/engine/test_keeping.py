"""A session that another owner goes on with: what is kept of it, and what is made of that."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from support.talk import Talk, agent, handoff, tool
from voicebus.contracts.journal import EventType
from voicebus.contracts.tools import Outcome
from voicebus.engine import keeping
from voicebus.engine.approvals import CALL_TIMER
from voicebus.engine.commits import COMMIT_TIMER
from voicebus.engine.config import Approval
from voicebus.engine.inputs import Approve, CommitAudio, Interrupt, LinkOpened, SendMessage, UpdateAgent
from voicebus.engine.keeping import ITEM, TOLD, WORK, Kept, read_items, read_work
from voicebus.engine.outputs import (
    CommitSettled,
    Dial,
    DispatchTool,
    Keep,
    Record,
    ResolveAgent,
    VetCall,
    WordToolError,
)
from voicebus.engine.retelling import Said, comes_again
from voicebus.engine.state import State
from voicebus.utf8 import encoded

CALLS = (EventType.TOOL_START, EventType.TOOL_END, EventType.TOOL_APPROVAL_REQUIRED)


def state(talk: Talk) -> State:
    return talk.session.state


def fields(talk: Talk) -> dict[str, str]:
    """The state as it was written last."""
    written: dict[str, str] = {}
    for keep in talk.of(Keep):
        written.update(keep.fields)
    return written


def left(talk: Talk) -> Kept:
    """What an owner that dies now leaves."""
    records = talk.of(Record)
    recorded: dict[str, str | None] = {}
    calls: dict[str, Mapping[str, Any]] = {}
    for record in records:
        data = record.data.model_dump(mode="json")
        if record.type is EventType.ITEM_RECORDED:
            recorded[data["item_id"]] = data["heard_text"]
        elif record.type in CALLS:
            calls[data["call_id"]] = {"type": record.type.value, "seq": record.seq, **data}
    written = fields(talk)
    work = read_work(written[WORK])
    told_ms = int(written[TOLD])
    return Kept(records[-1].seq, 2, 7.0, read_items(written), work, recorded, list(calls.values()), told_ms=told_ms)


def heir(talk: Talk, **config: Any) -> Talk:
    return Talk(talk.config.agent, keeps=True, kept=left(talk), **config)


def connects(talk: Talk) -> list[tuple[str, str]]:
    """The heir's first socket takes what it is told; returns the items of that."""
    told = talk.put(LinkOpened())
    talk.model("session.created", session={"id": "sess_2"})
    again = talk.told_again(told)
    talk.confirms(told)
    return again


def test_an_heir_dials_goes_on_counting_and_tells_what_was_said() -> None:
    talk = Talk(keeps=True).asked()
    talk.speaks("Good morning.", 200)
    talk.ends()
    after = heir(talk)
    assert state(after) is State.RECONNECTING
    assert after.of(Dial, after.last) == [Dial(0)]
    assert next(record.seq for record in after.of(Record)) == talk.of(Record)[-1].seq + 1
    assert [item["item_id"] for item in after.session.history] == [item["item_id"] for item in talk.session.history]
    lines = connects(after)
    assert lines[-1] == ("assistant", "Good morning.")
    assert state(after) is State.LIVE
    assert after.sent("response.create") == [], "nothing is owed"


def test_a_turn_that_was_not_answered_is_asked_once() -> None:
    talk = Talk(keeps=True).live()
    talk.user_speaks()
    talk.transcript("What time is it?")
    after = heir(talk)
    connects(after)
    assert len(after.sent("response.create")) == 1


def test_an_answer_that_was_being_said_is_recorded_as_far_as_it_came_and_asked_again() -> None:
    talk = Talk(keeps=True).asked()
    talk.item_begins()
    talk.says("It is")
    talk.now += 1.5
    talk.says(" five")
    after = heir(talk)
    (line,) = [record for record in after.records(EventType.ITEM_RECORDED) if record.role == "assistant"]
    assert (line.text, line.truncated) == ("It is five", True)
    assert [record.status for record in after.records(EventType.TURN_ENDED)] == ["incomplete"]
    assert connects(after)[-1] == ("assistant", "It is five")
    assert len(after.sent("response.create")) == 1


def test_an_answer_that_was_cut_off_by_its_owners_death_ended_then_and_not_when_somebody_found_out() -> None:
    talk = Talk(keeps=True).asked()
    talk.item_begins()
    talk.says("Good ")
    talk.sounds(400)
    talk.now += 1.5
    talk.says("morning, ")
    last_ms = int(fields(talk)[TOLD])
    after = heir(talk)  # 7 s after the session's start
    [line] = [line for line in after.records(EventType.ITEM_RECORDED) if line.role == "assistant"]
    assert line.text == "Good morning, "
    assert line.started_ms <= line.ended_ms == last_ms < 2000


def test_a_message_that_no_model_has_confirmed_is_said_to_the_next_one() -> None:
    talk = Talk(keeps=True).live()
    talk.put(SendMessage([{"type": "input_text", "text": "Hello?"}]))
    after = heir(talk)
    assert connects(after) == []
    (said,) = after.sent("conversation.item.create")
    assert said["item"]["content"][0]["text"] == "Hello?"
    assert len(after.sent("response.create")) == 1


def test_a_running_call_is_sent_again_under_its_id_with_the_time_that_is_left() -> None:
    talk = Talk(agent(tools=[tool(timeout_ms=30_000)]), keeps=True).asked()
    talk.calls()
    talk.ends()
    after = heir(talk)
    (again,) = after.of(DispatchTool, after.last)
    assert again.call_id == "call_1"
    assert 0 < again.timeout_ms < 30_000
    assert after.records(EventType.TOOL_START) == [], "it has started before"
    connects(after)
    assert after.sent("response.create") == [], "the output is waited for"
    after.result("sunny")
    assert [record.outcome for record in after.records(EventType.TOOL_END)] == [Outcome.OK]
    assert len(after.sent("response.create")) == 1


def test_a_call_that_ran_in_the_last_owners_process_is_not_run_again_unless_it_may_be() -> None:
    talk = Talk(agent(tools=[tool("pay", local=True), tool("look", local=True, idempotent=True)]), keeps=True).asked()
    talk.calls("pay", "call_pay")
    talk.calls("look", "call_look")
    talk.ends()
    after = heir(talk)
    assert [call.call_id for call in after.of(DispatchTool)] == ["call_look"]
    connects(after)
    after.result("there it is", "call_look")
    ends = {end.call_id: end.outcome for end in after.records(EventType.TOOL_END)}
    assert ends == {"call_pay": Outcome.UNKNOWN, "call_look": Outcome.OK}
    (told,) = [output for call, output in after.told() if call == "call_pay"]
    assert "may have taken effect" in told
    assert len(after.sent("response.create")) == 1


def test_a_call_that_waits_for_a_person_waits_on() -> None:
    talk = Talk(agent(tools=[tool(approval=Approval.ALWAYS)]), keeps=True).asked()
    talk.calls()
    talk.ends()
    after = heir(talk)
    assert after.of(DispatchTool) == []
    assert after.session.awaits_decision("call_1")
    connects(after)
    after.put(Approve("call_1"))
    assert [call.call_id for call in after.of(DispatchTool)] == ["call_1"]


def test_a_person_who_was_asked_has_the_time_that_is_left_to_decide() -> None:
    talk = Talk(agent(tools=[tool(approval=Approval.ALWAYS, approval_timeout_ms=60_000)]), keeps=True).asked()
    talk.calls()
    after = heir(talk)  # 7 s after the session's start
    after.timer(f"{CALL_TIMER}call_1")
    assert after.now - talk.now <= 60.0
    assert [end.outcome for end in after.records(EventType.TOOL_END)] == [Outcome.ERROR]


def test_what_a_person_has_decided_for_good_holds_for_the_next_owner() -> None:
    talk = Talk(agent(tools=[tool(approval=Approval.ALWAYS)]), keeps=True).asked()
    talk.calls(call="call_0")
    talk.put(Approve("call_0", always=True))
    talk.result(call="call_0")
    talk.ends()
    kept = left(talk)
    decided = [
        {"type": record.type.value, "seq": record.seq, **record.data.model_dump(mode="json")}
        for record in talk.of(Record)
        if record.type is EventType.TOOL_APPROVAL_DECIDED
    ]
    once = {**decided[0], "call_id": "call_00", "always": False}  # of one call alone
    after = Talk(talk.config.agent, keeps=True, kept=replace(kept, calls=[*kept.calls, *decided, once]))
    connects(after)
    after.asks("Again?")
    after.begins("resp_2")
    after.calls(call="call_1", response="resp_2")
    assert [call.call_id for call in after.of(DispatchTool)] == ["call_1"]
    after.result(call="call_1")
    after.ends("resp_2")
    other = replace(tool(approval=Approval.ALWAYS), description="Change the weather.")
    after.put(UpdateAgent(agent("other", tools=[other])))
    after.begins("resp_3")
    after.calls(call="call_2", response="resp_3")
    assert [call.call_id for call in after.of(DispatchTool)] == ["call_1"], "it is another agent's other tool"


def test_a_handoff_that_was_being_made_is_made_by_the_next_owner() -> None:
    talk = Talk(agent(handoffs=[handoff("billing")]), keeps=True).asked()
    talk.calls("transfer_to_billing")
    after = heir(talk)
    (resolve,) = after.of(ResolveAgent)
    assert (resolve.call_id, resolve.to_agent) == ("call_1", "billing")


def test_a_condition_that_was_being_asked_is_asked_again_by_the_next_owner() -> None:
    talk = Talk(agent(tools=[tool(vetted=True)]), keeps=True).asked()
    talk.calls()
    after = heir(talk)
    assert [vet.call_id for vet in after.of(VetCall)] == ["call_1"]


def test_an_error_that_was_being_worded_is_told_as_it_is_by_the_next_owner() -> None:
    talk = Talk(agent(tools=[tool()]), keeps=True, words_errors=True).asked()
    talk.calls("no_such_tool")
    assert talk.of(WordToolError)
    after = heir(talk)
    connects(after)
    assert after.told() == [("call_1", "Tool no_such_tool not found")]


def test_what_of_an_answer_was_heard_is_what_the_next_owner_tells() -> None:
    talk = Talk(keeps=True).asked()
    talk.speaks("One two three four", 2000)
    talk.put(Interrupt(), after=1.0)
    talk.ends(status="cancelled")
    assert connects(heir(talk))[-1] == ("assistant", "One two")


def test_a_line_that_was_recorded_after_the_state_was_written_is_recorded_once() -> None:
    talk = Talk(keeps=True).asked()
    talk.item_begins()
    talk.says("It is five")
    kept = left(talk)
    after = Talk(talk.config.agent, keeps=True, kept=replace(kept, recorded={**kept.recorded, "item_a": None}))
    assert [line.role for line in after.records(EventType.ITEM_RECORDED)] == []


def test_only_what_has_changed_is_written() -> None:
    talk = Talk(keeps=True).asked()
    talk.speaks("Good morning.", 200)
    talk.ends()
    talk.user_item("item_2", [{"type": "input_text", "text": "And now?"}])
    items = [name for keep in talk.of(Keep, talk.last) for name in keep.fields if name.startswith(ITEM)]
    assert items in ([], [f"{ITEM}item_2"])
    before = len(talk.of(Keep))
    talk.model("rate_limits.updated", rate_limits=[])
    assert len(talk.of(Keep)) == before


def test_a_state_of_another_version_leaves_the_history_alone() -> None:
    assert read_work(json.dumps({"v": 2, "owes": True})) == {}
    assert read_work("") == {}


def committed(*, given: str | None = "1", **fields: Any) -> Talk:
    """The user has ended a turn by hand, and the model has made item_1 of it, whose words are still to come."""
    talk = Talk(agent(vad=None, **fields), keeps=True).live()
    talk.put(CommitAudio(given=given))
    talk.model("input_audio_buffer.committed", item_id="item_1", previous_item_id=None)
    talk.user_item("item_1", [{"type": "input_audio", "transcript": None}])
    return talk


def settled(talk: Talk) -> list[str]:
    return [output.given for output in talk.of(CommitSettled)]


def test_a_turn_that_was_committed_and_has_no_words_is_said_again_by_its_client_and_asked_once() -> None:
    talk = committed()
    assert settled(talk) == []
    after = heir(talk)
    assert after.session.history == [], "it comes again"
    assert connects(after) == []
    assert after.sent("response.create") == []
    after.put(CommitAudio(given="1"))
    assert len(after.sent("input_audio_buffer.commit")) == 1
    assert len(after.sent("response.create")) == 1
    assert fields(after)[f"{ITEM}item_1"] == "", "and nobody keeps what it replaces"


def test_a_commit_that_the_model_has_not_carried_out_owes_nothing_to_the_next_owner() -> None:
    talk = Talk(agent(vad=None), keeps=True).live()
    talk.put(CommitAudio(given="1"))
    after = heir(talk)
    connects(after)
    assert (settled(talk), after.sent("response.create")) == ([], [])


def test_a_turn_whose_words_are_known_is_asked_by_the_next_owner() -> None:
    talk = committed()
    talk.transcript("What time is it?", "item_1")
    assert settled(talk) == ["1"]
    after = heir(talk)
    assert connects(after) == [("user", "What time is it?")]
    assert len(after.sent("response.create")) == 1


def test_a_turn_without_a_name_is_asked_by_the_next_owner_whatever_it_said() -> None:
    after = heir(committed(given=None))
    assert connects(after) == [("user", "[audio not transcribed]")]
    assert len(after.sent("response.create")) == 1


def test_a_turn_whose_words_nobody_asks_for_is_safe_once_it_is_there() -> None:
    assert settled(committed(transcription=False)) == ["1"]


def test_an_answer_that_has_called_a_tool_makes_its_turn_safe_before_its_words() -> None:
    talk = committed(tools=[tool()])
    talk.begins()
    assert settled(talk) == []
    talk.calls()
    assert settled(talk) == ["1"]
    after = heir(talk)
    assert next(item["item_id"] for item in after.session.history) == "item_1"
    connects(after)
    assert after.sent("response.create") == [], "the output is waited for"


def test_a_turn_whose_words_take_long_is_not_waited_for() -> None:
    talk = committed()
    (key,) = [key for key in talk.timers() if key.startswith(COMMIT_TIMER)]
    talk.timer(key)
    assert settled(talk) == ["1"]
    after = heir(talk)
    assert connects(after) == [("user", "[audio not transcribed]")]
    assert len(after.sent("response.create")) == 1
    talk.transcript("What time is it?", "item_1")
    assert settled(talk) == ["1"]


def test_a_turn_that_is_safe_is_not_timed_any_more() -> None:
    talk = committed()
    talk.transcript("What time is it?", "item_1")
    assert not [key for key in talk.timers() if key.startswith(COMMIT_TIMER)]


def test_a_commit_of_nothing_is_settled_by_its_refusal() -> None:
    talk = Talk(agent(vad=None), keeps=True).live()
    talk.put(CommitAudio(given="1"))
    (commit,) = talk.sent("input_audio_buffer.commit")
    talk.fails("input_audio_buffer_commit_empty", event_id=commit["event_id"])
    assert settled(talk) == ["1"]


def test_an_answer_that_has_ended_makes_its_turn_safe_whatever_was_said() -> None:
    talk = committed()
    talk.begins()
    talk.speaks("Good morning.", 200)
    assert settled(talk) == []
    talk.ends()
    assert settled(talk) == ["1"]


def test_an_answer_that_was_being_said_to_a_turn_that_comes_again_is_not_asked_for() -> None:
    talk = committed()
    talk.begins()
    talk.item_begins()
    talk.says("It is")
    talk.now += 1.5
    talk.says(" five")
    after = heir(talk)
    assert connects(after) == [("assistant", "It is five")]
    assert after.sent("response.create") == []


def test_a_message_with_a_large_picture_that_no_model_has_confirmed_is_said_to_the_next_one() -> None:
    talk = Talk(keeps=True).live()
    picture = "data:image/png;base64," + "A" * 1_000_000
    talk.put(SendMessage([{"type": "input_image", "image_url": picture}]))
    after = heir(talk)
    connects(after)
    (said,) = after.sent("conversation.item.create")
    assert said["item"]["content"][0]["image_url"] == picture


def test_messages_that_no_model_confirms_are_encoded_once_each_however_often_they_are_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words: list[str] = []

    def noting(encode: Callable[[Any], bytes], value: Any) -> bytes:
        if isinstance(value, dict) and value.get("type") == "conversation.item.create":
            words.append(value["item"]["content"][0]["text"])
        return encoded(encode, value)

    monkeypatch.setattr(keeping, "encoded", noting)
    talk = Talk(keeps=True).live()
    for number in range(20):
        talk.put(SendMessage([{"type": "input_text", "text": str(number)}]))
    assert words == [str(number) for number in range(20)]
    after = heir(talk)
    connects(after)
    said = [one["item"]["content"][0]["text"] for one in after.sent("conversation.item.create")]
    assert said == words[:20]


def detected(talk: Talk, item_id: str = "item_1", *, ms: int = 1500) -> Talk:
    """The model has detected a turn of so much sound, whose words are still to come."""
    talk.model("input_audio_buffer.speech_started", item_id=item_id, audio_start_ms=200)
    talk.model("input_audio_buffer.speech_stopped", item_id=item_id, audio_end_ms=200 + ms)
    talk.model("input_audio_buffer.committed", item_id=item_id, previous_item_id=None)
    talk.user_item(item_id, [{"type": "input_audio", "transcript": None}])
    return talk


def spoken() -> Talk:
    return detected(Talk(keeps=True).live())


def heir_that_hears(talk: Talk, *held: Said) -> tuple[Talk, list[str]]:
    """The next owner, whose client has this sound still, and which turns it is to say again."""
    kept, again = comes_again(left(talk), held)
    return Talk(talk.config.agent, keeps=True, kept=kept), again


def test_a_turn_that_was_detected_and_has_no_words_is_said_again_by_a_client_that_has_its_sound() -> None:
    after, again = heir_that_hears(spoken(), ("item_1", 1500))
    assert (after.session.history, again) == ([], ["item_1"])
    assert connects(after) == []
    assert after.sent("response.create") == [], "who says it again is answered by the model"


@pytest.mark.parametrize("held", [(), (("item_1", 1499),), (("item_0", 1500), ("", 1000))])
def test_a_turn_whose_sound_its_client_has_not_is_asked_whatever_it_said(held: tuple[Said, ...]) -> None:
    after, again = heir_that_hears(spoken(), *held)
    assert "item_1" not in again
    assert connects(after) == [("user", "[audio not transcribed]")]
    assert len(after.sent("response.create")) == 1


def test_a_turn_that_its_client_has_no_news_of_is_among_the_sound_behind() -> None:
    after, again = heir_that_hears(spoken(), ("", 1500))
    assert (after.session.history, again, connects(after)) == ([], [], [])
    assert after.sent("response.create") == []


def test_a_turn_that_nobody_had_written_down_is_said_again() -> None:
    after, again = heir_that_hears(Talk(keeps=True).live(), ("item_1", 900), ("", 0))
    assert again == ["item_1"]
    assert connects(after) == []


def test_a_turn_whose_words_are_known_is_not_said_again_nor_any_before_it() -> None:
    talk = detected(spoken(), "item_2")
    talk.transcript("What time is it?", "item_2")
    after, again = heir_that_hears(talk, ("item_1", 5000), ("item_2", 5000))
    assert again == []
    assert [text for _, text in connects(after)] == ["[audio not transcribed]", "What time is it?"]
    assert len(after.sent("response.create")) == 1


def test_an_answer_that_was_being_said_to_a_detected_turn_is_not_asked_for_where_that_comes_again() -> None:
    talk = spoken()
    talk.begins(unasked=True)
    talk.item_begins()
    talk.says("It is")
    talk.now += 1.5
    talk.says(" five")
    after, _ = heir_that_hears(talk, ("item_1", 1500))
    assert connects(after) == [("assistant", "It is five")]
    assert after.sent("response.create") == []
    after, _ = heir_that_hears(talk)
    connects(after)
    assert len(after.sent("response.create")) == 1


def test_an_answer_that_has_called_a_tool_is_not_given_twice() -> None:
    talk = detected(Talk(agent(tools=[tool()]), keeps=True).live())
    talk.begins(unasked=True)
    talk.calls()
    after, again = heir_that_hears(talk, ("item_1", 5000))
    assert again == []
    assert next(item["item_id"] for item in after.session.history) == "item_1"


def test_what_was_typed_before_a_turn_that_comes_again_is_answered() -> None:
    talk = Talk(keeps=True).live()
    talk.put(SendMessage([{"type": "input_text", "text": "Hello"}]))
    detected(talk)
    after, again = heir_that_hears(talk, ("item_1", 1500))
    assert again == ["item_1"]
    connects(after)
    assert len(after.sent("response.create")) == 1


def test_a_refusal_of_another_commit_settles_none() -> None:
    talk = Talk(agent(vad=None), keeps=True).live()
    talk.put(CommitAudio(given="1"))
    talk.fails("input_audio_buffer_commit_empty", event_id="another")
    assert settled(talk) == []
