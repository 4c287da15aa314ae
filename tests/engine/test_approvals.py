"""Whether a call may run: approvals, conditions, guardrails, refusals (parity 87-90, 2.10, 2.15-2.18, 2.41)."""

from dataclasses import replace
from typing import Any

import pytest

from support.talk import Talk, agent, tool
from voicebus.contracts.journal import DecidedBy, EventType
from voicebus.contracts.tools import Outcome
from voicebus.engine.config import Approval
from voicebus.engine.inputs import Approve, CallVetted, End, Reject, ToolErrorWorded, UpdateAgent
from voicebus.engine.outputs import CancelTool, Close, DispatchTool, Ignored, Record, VetCall, WordToolError

DEFAULT = "Tool execution was not approved."


def talking(*, words_errors: bool = False, **fields: Any) -> Talk:
    """In a response of an agent with one tool."""
    return Talk(agent(tools=[tool(**fields), tool("other")], snapshot=3), words_errors=words_errors).asked()


def asking(**fields: Any) -> Talk:
    """`call_1` waits for a person."""
    talk = talking(approval=Approval.ALWAYS, **fields)
    talk.calls(arguments='{"city":"Paris"}')
    return talk


def vetting(**fields: Any) -> Talk:
    """The author's side is asked about `call_1`."""
    needs: dict[str, Any] = {"approval": Approval.ASK, "vetted": True, **fields}
    talk = talking(**needs)
    talk.calls()
    return talk


def was_refused(talk: Talk, message: str, call: str = "call_1") -> bool:
    """The call was refused with `message`, recorded as ended without having been started, and never ran."""
    ends = [end for end in talk.records(EventType.TOOL_END) if end.call_id == call]
    starts = [start for start in talk.records(EventType.TOOL_START) if start.call_id == call]
    assert [(end.output, end.outcome) for end in ends] == [(message, Outcome.ERROR)]
    assert [end.ended_ms - end.started_ms for end in ends] == [0]
    return (call, message) in talk.told() and not starts


# --- without anybody ------------------------------------------------------------------------------


def test_a_call_that_needs_nobodys_leave_runs_at_once() -> None:
    talk = talking()
    outputs = talk.calls()
    assert talk.of(DispatchTool, outputs)
    assert not talk.of(VetCall)
    assert not talk.records(EventType.TOOL_APPROVAL_REQUIRED)


# --- a person -------------------------------------------------------------------------------------


def test_a_call_that_needs_approval_waits_for_a_person_and_has_no_time_limit() -> None:
    talk = asking()
    (required,) = talk.records(EventType.TOOL_APPROVAL_REQUIRED)
    assert (required.call_id, required.tool, required.agent) == ("call_1", "weather", "helper")
    assert required.arguments == '{"city":"Paris"}'
    assert not talk.of(DispatchTool)
    assert not talk.of(VetCall), "it has no guardrails, and its policy is known"
    assert not talk.records(EventType.TOOL_START)
    assert "call:call_1" not in talk.timers()


def test_a_call_awaits_a_word_from_the_question_to_the_answer() -> None:
    talk = asking()
    assert talk.session.awaits_decision("call_1")
    assert not talk.session.awaits_decision("call_2")
    talk.put(Approve("call_1"))
    assert not talk.session.awaits_decision("call_1")
    assert not vetting().session.awaits_decision("call_1"), "its author is asked first"


def test_an_approved_call_runs_and_its_time_begins() -> None:
    talk = asking(timeout_ms=1000)
    talk.now += 3600
    outputs = talk.put(Approve("call_1"))
    (decided,) = talk.records(EventType.TOOL_APPROVAL_DECIDED, outputs)
    assert (decided.call_id, decided.approved, decided.always) == ("call_1", True, False)
    kinds = [output.type if isinstance(output, Record) else type(output) for output in outputs]
    assert kinds[:3] == [EventType.TOOL_APPROVAL_DECIDED, EventType.TOOL_START, DispatchTool]
    assert talk.timers()["call:call_1"] == talk.now + 3.0
    (start,) = talk.records(EventType.TOOL_START)
    talk.result("sunny", after=0.5)
    (end,) = talk.records(EventType.TOOL_END)
    assert start.started_ms == end.started_ms
    assert end.ended_ms - end.started_ms == 500, "the wait for the person is none of the tool's time"


def test_a_call_approved_twice_runs_once() -> None:
    talk = asking()
    talk.put(Approve("call_1"))
    assert [type(output) for output in talk.put(Approve("call_1", always=True))] == [Ignored]
    assert [type(output) for output in talk.put(Reject("call_1"))] == [Ignored]
    assert len(talk.of(DispatchTool)) == 1
    assert len(talk.records(EventType.TOOL_APPROVAL_DECIDED)) == 1


# --- in time, or not ------------------------------------------------------------------------------


def test_a_call_that_nobody_decides_about_in_time_is_refused_and_the_model_told() -> None:
    talk = asking(approval_timeout_ms=90_000)
    assert talk.timers()["call:call_1"] == talk.now + 90
    talk.ends()
    outputs = talk.timer("call:call_1")
    message = "The call was not approved within 90 seconds and was not made."
    (decided,) = talk.records(EventType.TOOL_APPROVAL_DECIDED, outputs)
    assert (decided.approved, decided.always, decided.message) == (False, False, message)
    assert decided.by == DecidedBy(via="deadline")
    assert was_refused(talk, message)
    assert talk.sent_types() == ["conversation.item.create", "response.create"]
    assert [type(output) for output in talk.put(Approve("call_1"))] == [Ignored]


def test_the_sessions_limit_counts_for_tools_that_name_none() -> None:
    for own, expected in ((None, 30), (5_000, 5)):
        talk = Talk(
            agent(tools=[tool(approval=Approval.ALWAYS, approval_timeout_ms=own)]), approval_timeout_ms=30_000
        ).asked()
        talk.calls()
        assert talk.timers()["call:call_1"] == talk.now + expected


@pytest.mark.parametrize("word", [Approve("call_1"), Reject("call_1")])
def test_a_word_in_time_ends_the_waiting(word: Approve | Reject) -> None:
    talk = asking(approval_timeout_ms=90_000, timeout_ms=1000)
    talk.put(word)
    assert talk.timers().get("call:call_1") == (talk.now + 3 if isinstance(word, Approve) else None)
    assert len(talk.records(EventType.TOOL_APPROVAL_DECIDED)) == 1


def test_the_limit_begins_when_a_person_is_asked() -> None:
    talk = vetting(approval_timeout_ms=90_000)
    assert talk.timers()["call:call_1"] == talk.now + 30
    talk.now += 10
    talk.put(CallVetted("call_1", "ask"))
    assert talk.timers()["call:call_1"] == talk.now + 90


@pytest.mark.parametrize("kind", [Approve, Reject])
def test_who_decided_what_and_when_is_recorded(kind: type[Approve] | type[Reject]) -> None:
    talk = asking()
    talk.now += 2
    by = DecidedBy(via="http", tenant="acme", key_id="ops")
    (decided,) = talk.records(EventType.TOOL_APPROVAL_DECIDED, talk.put(kind("call_1", by=by)))
    assert (decided.by, decided.tool, decided.call_id) == (by, "weather", "call_1")
    assert decided.at_ms == talk.records(EventType.TOOL_APPROVAL_REQUIRED)[0].at_ms + 2000


def test_a_rejected_call_is_answered_and_the_model_goes_on() -> None:
    talk = asking()
    talk.ends()
    outputs = talk.put(Reject("call_1"))
    (decided,) = talk.records(EventType.TOOL_APPROVAL_DECIDED, outputs)
    assert (decided.approved, decided.always, decided.message) == (False, False, None)
    assert was_refused(talk, DEFAULT)
    assert talk.sent_types() == ["conversation.item.create", "response.create"]
    assert [type(output) for output in talk.put(Approve("call_1"))] == [Ignored]


def test_a_rejection_may_say_why() -> None:
    talk = asking()
    talk.put(Reject("call_1", message="Not on Sundays."))
    assert talk.records(EventType.TOOL_APPROVAL_DECIDED)[0].message == "Not on Sundays."
    assert was_refused(talk, "Not on Sundays.")


def test_a_refused_call_is_answered_together_with_the_others() -> None:
    talk = asking()
    talk.calls("other", "call_2")
    talk.ends()
    talk.put(Reject("call_1"))
    assert talk.sent_types() == ["conversation.item.create"]
    talk.result("done", "call_2")
    assert talk.sent_types() == ["conversation.item.create", "response.create"]


@pytest.mark.parametrize("word", [Approve("call_9"), Reject("call_9"), Approve("call_9", always=True)])
def test_a_word_about_no_call_is_ignored(word: Approve | Reject) -> None:
    talk = talking(approval=Approval.ALWAYS)
    assert [type(output) for output in talk.put(word)] == [Ignored]
    talk.calls()
    assert talk.records(EventType.TOOL_APPROVAL_REQUIRED), "not even for all calls"


def test_a_call_resumes_with_the_tool_of_the_agent_that_made_it() -> None:
    talk = asking(local=True)
    talk.put(UpdateAgent(agent("newcomer", tools=[tool()], snapshot=9)))
    talk.put(Approve("call_1"))
    (dispatch,) = talk.of(DispatchTool)
    assert (dispatch.agent, dispatch.local, dispatch.snapshot) == ("helper", True, 3)


def test_a_response_that_a_person_keeps_waiting_may_be_given_up() -> None:
    talk = asking()
    talk.timer("stall")
    assert talk.errors() == ["response_stalled"]
    talk.put(Approve("call_1"))
    talk.result("sunny")
    assert talk.told() == [("call_1", "sunny")]


# --- for all further calls ------------------------------------------------------------------------


def test_an_approval_for_all_further_calls_lets_them_run_unasked() -> None:
    talk = asking()
    talk.put(Approve("call_1", always=True))
    assert talk.records(EventType.TOOL_APPROVAL_DECIDED)[0].always
    assert talk.of(DispatchTool, talk.calls(call="call_2"))
    assert len(talk.records(EventType.TOOL_APPROVAL_REQUIRED)) == 1
    assert len(talk.records(EventType.TOOL_APPROVAL_DECIDED)) == 1


def test_a_rejection_for_all_further_calls_refuses_them_with_the_same_message() -> None:
    talk = asking()
    talk.put(Reject("call_1", always=True, message="Never."))
    talk.calls(call="call_2")
    assert was_refused(talk, "Never.", "call_2")
    assert len(talk.records(EventType.TOOL_APPROVAL_REQUIRED)) == 1


def test_the_last_word_for_all_further_calls_counts() -> None:
    talk = asking()
    talk.calls(call="call_2")
    talk.put(Approve("call_1", always=True))
    talk.put(Reject("call_2", always=True))
    talk.calls(call="call_3")
    assert was_refused(talk, DEFAULT, "call_3")


def test_a_word_for_all_further_calls_is_about_one_tool_and_leaves_those_that_wait() -> None:
    talk = Talk(agent(tools=[tool("a", approval=Approval.ALWAYS), tool("b", approval=Approval.ALWAYS)])).asked()
    for name, call in (("a", "call_1"), ("a", "call_2"), ("b", "call_3")):
        talk.calls(name, call)
    talk.put(Approve("call_1", always=True))
    assert [dispatch.call_id for dispatch in talk.of(DispatchTool)] == ["call_1"]
    talk.put(Reject("call_2"))
    assert was_refused(talk, DEFAULT, "call_2")
    talk.put(Approve("call_3"))
    assert [dispatch.call_id for dispatch in talk.of(DispatchTool)] == ["call_1", "call_3"]


@pytest.mark.parametrize("vetted", [True, False])
def test_a_call_that_a_person_approves_runs_although_all_further_ones_are_forbidden(vetted: bool) -> None:
    talk = vetting(vetted=vetted)
    talk.calls(call="call_2")
    talk.put(CallVetted("call_1", "ask"))
    talk.put(CallVetted("call_2", "ask"))
    talk.put(Reject("call_1", always=True))
    talk.put(Approve("call_2"))
    talk.put(CallVetted("call_2", "run"))
    assert [dispatch.call_id for dispatch in talk.of(DispatchTool)] == ["call_2"]
    talk.calls(call="call_3")
    assert was_refused(talk, DEFAULT, "call_3")


def test_a_call_that_waits_is_refused_with_the_words_for_all_further_ones_unless_it_gets_its_own() -> None:
    talk = asking()
    talk.calls(call="call_2")
    talk.calls(call="call_3")
    talk.put(Reject("call_1", always=True, message="Never."))
    talk.put(Reject("call_2"))
    assert was_refused(talk, "Never.", "call_2")
    talk.put(Reject("call_3", message="Not now."))
    assert was_refused(talk, "Not now.", "call_3")


@pytest.mark.parametrize(
    ("had", "others", "asked"),
    [
        ({"description": "The weather."}, {"description": "The weather."}, False),
        ({"description": "The weather."}, {"description": "Change it."}, True),
        ({"description": ""}, {"description": ""}, True),
        ({"description": "", "source": "one"}, {"description": "", "source": "one"}, False),
        ({"description": "", "source": "one"}, {"description": "", "source": "another"}, True),
    ],
)
def test_what_a_person_allowed_one_agents_tool_is_not_allowed_another_tool_of_that_name(
    had: dict[str, Any], others: dict[str, Any], asked: bool
) -> None:
    first, other = (replace(tool(approval=Approval.ALWAYS), **changes) for changes in (had, others))
    talk = Talk(agent(tools=[first])).asked()
    talk.calls()
    talk.put(Approve("call_1", always=True))
    talk.result("sunny")
    talk.ends()
    talk.put(UpdateAgent(agent("second", tools=[other])))
    talk.begins("resp_2")
    talk.calls(call="call_2", response="resp_2")
    assert bool(talk.of(DispatchTool, talk.last)) is not asked
    assert len(talk.records(EventType.TOOL_APPROVAL_REQUIRED)) == 1 + asked


def test_what_a_person_forbade_does_not_run_for_another_agent_either() -> None:
    talk = asking()
    talk.put(Reject("call_1", always=True))
    talk.ends()
    talk.put(UpdateAgent(agent("careless", tools=[tool()])))
    talk.begins("resp_2")
    talk.calls(call="call_2", response="resp_2")
    assert was_refused(talk, DEFAULT, "call_2")


# --- the author's side ----------------------------------------------------------------------------


def test_a_call_with_a_condition_or_guardrails_is_put_to_the_authors_side() -> None:
    talk = vetting(approval=Approval.NEVER)
    assert talk.of(VetCall) == [VetCall("call_1", "weather", "{}", "helper", 3, approved=False)]
    assert not talk.of(DispatchTool)
    assert talk.timers()["call:call_1"] == talk.now + 30.0


@pytest.mark.parametrize("vetted", [True, False])
def test_a_call_that_the_authors_side_lets_through_runs(vetted: bool) -> None:
    talk = vetting(vetted=vetted)
    outputs = talk.put(CallVetted("call_1", "run"))
    (dispatch,) = talk.of(DispatchTool, outputs)
    assert dispatch.vetted is vetted, "a worker need not ask its guardrails again"
    assert not talk.records(EventType.TOOL_APPROVAL_REQUIRED)
    assert talk.timers()["call:call_1"] == talk.now + 32.0


def test_a_call_that_a_guardrail_refuses_is_answered_with_its_message() -> None:
    talk = vetting()
    talk.ends()
    talk.put(CallVetted("call_1", "reject", "No secrets, please.", "guardrail"))
    assert was_refused(talk, "No secrets, please.")
    assert not talk.records(EventType.TOOL_APPROVAL_REQUIRED)
    assert talk.sent_types() == ["conversation.item.create", "response.create"]
    assert "call:call_1" not in talk.timers()


def test_a_tool_that_is_switched_off_when_it_is_called_is_one_that_the_agent_lacks() -> None:
    talk = vetting()
    talk.put(CallVetted("call_1", "reject", kind="unknown_tool"))
    assert talk.told() == [("call_1", "Tool weather not found")]
    assert talk.errors() == ["unknown_tool"]
    assert not talk.records(EventType.TOOL_END)


def test_a_call_that_the_authors_side_wants_asked_about_waits_for_a_person() -> None:
    talk = vetting()
    talk.put(CallVetted("call_1", "ask"))
    assert [required.call_id for required in talk.records(EventType.TOOL_APPROVAL_REQUIRED)] == ["call_1"]
    assert "call:call_1" not in talk.timers()


def test_an_approved_calls_guardrails_are_asked_again() -> None:
    talk = vetting()
    talk.put(CallVetted("call_1", "ask"))
    outputs = talk.put(Approve("call_1"))
    assert talk.of(VetCall, outputs) == [VetCall("call_1", "weather", "{}", "helper", 3, approved=True)]
    assert not talk.of(DispatchTool)
    assert [type(output) for output in talk.put(Approve("call_1"))] == [Ignored]
    talk.put(CallVetted("call_1", "run"))
    assert len(talk.of(DispatchTool)) == 1


def test_an_approved_call_without_guardrails_is_not_put_to_the_authors_side_again() -> None:
    talk = vetting(vetted=False)
    talk.put(CallVetted("call_1", "ask"))
    assert talk.of(DispatchTool, talk.put(Approve("call_1")))


def test_an_approved_call_may_still_be_refused_by_a_guardrail() -> None:
    talk = vetting()
    talk.put(CallVetted("call_1", "ask"))
    talk.put(Approve("call_1"))
    talk.put(CallVetted("call_1", "reject", "Not this one.", "guardrail"))
    assert was_refused(talk, "Not this one.")


def test_an_approved_call_that_is_asked_about_again_is_refused() -> None:
    talk = vetting()
    talk.put(CallVetted("call_1", "ask"))
    talk.put(Approve("call_1", always=True))
    talk.put(CallVetted("call_1", "ask"))
    assert was_refused(talk, DEFAULT)
    assert talk.errors() == ["call_unchecked"]


def test_a_call_that_cannot_be_checked_in_time_is_refused() -> None:
    talk = vetting()
    talk.ends()
    talk.timer("call:call_1")
    assert was_refused(talk, DEFAULT)
    assert talk.errors() == ["call_unchecked"]
    assert talk.sent_types() == ["conversation.item.create", "response.create"]
    assert [type(output) for output in talk.put(CallVetted("call_1", "run"))] == [Ignored]
    assert not talk.of(DispatchTool)


def test_a_standing_approval_leaves_only_the_guardrails_to_ask() -> None:
    talk = vetting()
    talk.put(CallVetted("call_1", "ask"))
    talk.put(Approve("call_1", always=True))
    outputs = talk.calls(call="call_2")
    assert talk.of(VetCall, outputs) == [VetCall("call_2", "weather", "{}", "helper", 3, approved=True)]


# --- a word given while the author's side thinks --------------------------------------------------


def meanwhile(word: Approve | Reject, **fields: Any) -> Talk:
    """`word` is given for `call_1` while the author's side is asked about `call_2`."""
    talk = vetting(**fields)
    talk.put(CallVetted("call_1", "ask"))
    talk.calls(call="call_2")
    talk.put(word)
    return talk


def test_an_approval_given_meanwhile_spares_the_question() -> None:
    talk = meanwhile(Approve("call_1", always=True), vetted=False)
    talk.put(CallVetted("call_2", "ask"))
    assert [dispatch.call_id for dispatch in talk.of(DispatchTool)] == ["call_1", "call_2"]
    assert len(talk.records(EventType.TOOL_APPROVAL_REQUIRED)) == 1


def test_an_approval_given_meanwhile_does_not_spare_the_guardrails() -> None:
    talk = meanwhile(Approve("call_1", always=True))
    outputs = talk.put(CallVetted("call_2", "ask"))
    assert [vet.approved for vet in talk.of(VetCall, outputs)] == [True]
    assert not talk.of(DispatchTool)


@pytest.mark.parametrize("decision", ["run", "ask"])
def test_a_rejection_given_meanwhile_counts_whatever_comes_back(decision: Any) -> None:
    talk = meanwhile(Reject("call_1", always=True, message="No."))
    talk.put(CallVetted("call_2", decision))
    assert was_refused(talk, "No.", "call_2")
    assert not talk.of(DispatchTool)


def test_a_guardrails_refusal_goes_before_an_approval_given_meanwhile() -> None:
    talk = meanwhile(Approve("call_1", always=True))
    talk.put(CallVetted("call_2", "reject", "Hm.", "guardrail"))
    assert was_refused(talk, "Hm.", "call_2")


def test_a_word_for_one_call_says_nothing_about_the_next() -> None:
    talk = meanwhile(Approve("call_1"))
    talk.put(CallVetted("call_2", "ask"))
    assert [required.call_id for required in talk.records(EventType.TOOL_APPROVAL_REQUIRED)] == ["call_1", "call_2"]


# --- how a refusal is worded ----------------------------------------------------------------------


def test_a_rejection_without_a_message_is_worded() -> None:
    talk = asking(words_errors=True)
    talk.ends()
    outputs = talk.put(Reject("call_1"))
    assert talk.of(WordToolError, outputs) == [WordToolError("call_1", "weather", "approval_rejected", DEFAULT)]
    assert talk.told() == []
    talk.put(ToolErrorWorded("call_1", "My supervisor said no."))
    assert was_refused(talk, "My supervisor said no.")
    assert talk.sent_types() == ["conversation.item.create", "response.create"]


@pytest.mark.parametrize("message", ["Not on Sundays."])
def test_a_rejection_with_a_message_is_told_as_it_is(message: str) -> None:
    talk = asking(words_errors=True)
    talk.put(Reject("call_1", message=message))
    assert not talk.of(WordToolError)
    assert was_refused(talk, message)


def test_a_guardrails_message_is_told_as_it_is_and_a_missing_tool_is_worded() -> None:
    talk = vetting(words_errors=True)
    talk.put(CallVetted("call_1", "reject", "No secrets.", "guardrail"))
    assert was_refused(talk, "No secrets.")
    talk.calls(call="call_2")
    outputs = talk.put(CallVetted("call_2", "reject", "It is gone.", "unknown_tool"))
    assert talk.of(WordToolError, outputs) == [WordToolError("call_2", "weather", "tool_not_found", "It is gone.")]


def test_a_wording_of_a_rejection_that_does_not_come_is_done_without() -> None:
    talk = asking(words_errors=True)
    talk.put(Reject("call_1"))
    talk.timer("call:call_1")
    assert was_refused(talk, DEFAULT)


# --- the end --------------------------------------------------------------------------------------


def test_a_tool_that_the_agent_lacks_leaves_no_end_in_the_record_either_when_the_session_ends() -> None:
    talk = vetting(words_errors=True)
    talk.put(CallVetted("call_1", "reject", kind="unknown_tool"))
    talk.put(End("hangup"))
    assert not talk.records(EventType.TOOL_END)


def test_calls_that_wait_when_the_session_ends_are_recorded_as_cancelled_and_never_run() -> None:
    talk = asking()
    talk.calls(call="call_2")
    talk.put(Approve("call_2"))
    talk.put(End("hangup"))
    assert {end.call_id: end.outcome for end in talk.records(EventType.TOOL_END)} == {
        "call_1": Outcome.CANCELLED,
        "call_2": Outcome.CANCELLED,
    }
    assert [cancel.call_id for cancel in talk.of(CancelTool)] == ["call_2"]
    assert isinstance(talk.last[-1], Close)
    assert talk.put(Approve("call_1")) == []
    assert [dispatch.call_id for dispatch in talk.of(DispatchTool)] == ["call_2"]
