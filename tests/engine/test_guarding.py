"""Output guardrails: when they judge, and what a trip stops (parity 0.1, J)."""

from collections.abc import Callable
from typing import Any

import pytest

from support.talk import Talk, agent, tool
from voicebus.contracts.guardrails import GuardrailResult, GuardrailVerdict
from voicebus.contracts.journal import EventType
from voicebus.engine import guarding
from voicebus.engine.config import GuardrailMode, GuardrailSpec
from voicebus.engine.inputs import CheckRefused, Playback, VerdictArrived
from voicebus.engine.outputs import DispatchCheck, Emit, ForwardAudio, Ignored, Observe


def guarded(*guardrails: GuardrailSpec, **config: Any) -> Talk:
    chosen = guardrails or (GuardrailSpec("rude", debounce=10),)
    return Talk(agent(guardrails=chosen, tools=[tool()]), **config).asked()


def trip(name: str = "rude") -> GuardrailResult:
    return GuardrailResult(name=name, tripped=True, info="bad word")


def fine(name: str = "rude") -> GuardrailResult:
    return GuardrailResult(name=name, tripped=False)


def check(talk: Talk) -> str:
    return talk.of(DispatchCheck)[-1].check_id


def feedback(talk: Talk) -> list[str]:
    items = [event["item"] for event in talk.sent("conversation.item.create", talk.last)]
    return [item["content"][0]["text"] for item in items]


def test_text_is_checked_whenever_it_has_grown_by_the_debounce() -> None:
    talk = guarded(GuardrailSpec("rude", debounce=100))
    talk.item_begins()
    talk.says("x" * 99)
    assert not talk.of(DispatchCheck)
    talk.says("y")
    (first,) = talk.of(DispatchCheck)
    assert (first.text, first.final, first.guardrails, first.agent) == ("x" * 99 + "y", False, ("rude",), "helper")


def test_a_big_delta_is_caught_up_with_one_check_per_delta() -> None:
    talk = guarded(GuardrailSpec("rude", debounce=100))
    talk.item_begins()
    talk.says("x" * 450)
    for _ in range(5):
        talk.says("y")
    assert [len(dispatch.text) for dispatch in talk.of(DispatchCheck)] == [450, 451, 452, 453]


def test_a_debounce_of_zero_checks_every_delta() -> None:
    talk = guarded(GuardrailSpec("rude", debounce=0))
    talk.item_begins()
    for text in ("a", "b", "c"):
        talk.says(text)
    assert [dispatch.text for dispatch in talk.of(DispatchCheck)] == ["a", "ab", "abc"]


@pytest.mark.parametrize("spoken", [True, False])
def test_a_short_answer_is_checked_at_its_end(spoken: bool) -> None:
    talk = guarded(GuardrailSpec("rude", debounce=100))
    talk.item_begins()
    talk.says("Damn.", spoken=spoken)
    talk.said("Damn.", spoken=spoken)
    (dispatch,) = talk.of(DispatchCheck)
    assert (dispatch.text, dispatch.final) == ("Damn.", True)


def tells_of_the_text(talk: Talk, text: str) -> None:
    talk.said(text, spoken=False)


def tells_of_the_part(talk: Talk, text: str) -> None:
    where: dict[str, Any] = {"response_id": "resp_1", "item_id": "item_a", "output_index": 0, "content_index": 0}
    talk.model("response.content_part.done", part={"type": "audio", "transcript": text}, **where)


def tells_of_the_item(talk: Talk, text: str) -> None:
    talk.item_ends(text)


def tells_of_the_response(talk: Talk, text: str) -> None:
    content = [{"type": "output_text", "text": text}]
    item = {"id": "item_a", "type": "message", "role": "assistant", "status": "completed", "content": content}
    talk.ends(output=[item])


ENDS = [tells_of_the_text, tells_of_the_part, tells_of_the_item, tells_of_the_response]


@pytest.mark.parametrize("mode", [GuardrailMode.OBSERVE, GuardrailMode.INTERRUPT])
@pytest.mark.parametrize("ends", ENDS)
def test_a_text_without_a_delta_is_judged_wherever_it_comes(
    ends: Callable[[Talk, str], None], mode: GuardrailMode
) -> None:
    talk = guarded(GuardrailSpec("rude", mode=mode))
    talk.item_begins()
    ends(talk, "Damn.")
    (dispatch,) = talk.of(DispatchCheck)
    assert (dispatch.text, dispatch.final) == ("Damn.", True)
    talk.verdict(dispatch.check_id, trip())
    assert len(talk.records(EventType.GUARDRAIL_TRIPPED)) == 1


def test_a_text_that_all_events_tell_is_judged_once() -> None:
    talk = guarded()
    talk.item_begins()
    talk.says("Damn.")
    for ends in ENDS:
        ends(talk, "Damn.")
    assert [(dispatch.text, dispatch.final) for dispatch in talk.of(DispatchCheck)] == [("Damn.", True)]


def test_where_events_tell_another_text_each_is_judged() -> None:
    talk = guarded()
    talk.item_begins()
    talk.says("Damn.")
    tells_of_the_item(talk, "Dear me.")
    assert [dispatch.text for dispatch in talk.of(DispatchCheck)] == ["Damn. Dear me."]


def test_a_text_whose_end_never_comes_is_judged_at_the_end_of_its_response() -> None:
    talk = guarded()
    talk.item_begins()
    talk.says("Damn.")
    talk.ends(status="incomplete")
    assert [(dispatch.text, dispatch.final) for dispatch in talk.of(DispatchCheck)] == [("Damn.", True)]


def test_a_guardrail_may_be_asked_at_the_end_only() -> None:
    talk = guarded(GuardrailSpec("rude", debounce=-1))
    talk.item_begins()
    talk.says("x" * 500)
    assert not talk.of(DispatchCheck)
    talk.said("x" * 500)
    assert talk.of(DispatchCheck)[0].final


def test_guardrails_fall_due_by_their_own_debounce_and_together_where_they_agree() -> None:
    talk = guarded(GuardrailSpec("a", debounce=10), GuardrailSpec("b", debounce=10), GuardrailSpec("c", debounce=20))
    talk.item_begins()
    talk.says("x" * 10)
    talk.says("y" * 10)
    talk.said("x" * 10 + "y" * 10)
    assert [dispatch.guardrails for dispatch in talk.of(DispatchCheck)] == [
        ("a", "b"),
        ("a", "b", "c"),
        ("a", "b", "c"),
    ]


def test_an_empty_text_is_not_checked() -> None:
    talk = guarded()
    talk.item_begins()
    talk.said("")
    assert not talk.of(DispatchCheck)


def test_a_trip_while_the_response_runs_stops_it_and_tells_the_model_why() -> None:
    talk = guarded()
    talk.item_begins()
    talk.says("What a damned thing")
    talk.sounds(2000)
    talk.now += 0.5
    talk.verdict(check(talk), trip())
    (tripped,) = talk.records(EventType.GUARDRAIL_TRIPPED)
    assert (tripped.response_id, tripped.item_id, tripped.guardrails) == ("resp_1", "item_a", ["rude"])
    assert (tripped.message, tripped.info) == ("What a damned thing", {"rude": "bad word"})
    assert talk.sent("response.cancel", talk.last)[0]["response_id"] == "resp_1"
    assert talk.sent("conversation.item.truncate", talk.last)[0]["audio_end_ms"] == 500
    assert talk.emitted("audio_interrupted", talk.last) == [{"item_id": "item_a", "content_index": 0}]
    assert feedback(talk) == ["guardrail triggered: rude"]
    assert not talk.of(ForwardAudio, talk.sounds(100))
    assert [observed.labels for observed in talk.observed("guardrail_trip")] == [{"rule": "rude"}]
    assert talk.sent_types() == []
    talk.ends(status="cancelled")
    assert talk.sent_types() == ["response.create"]


def test_a_trip_in_a_text_answer_interrupts_no_audio() -> None:
    talk = guarded()
    talk.item_begins()
    talk.says("What a damned thing", spoken=False)
    talk.verdict(check(talk), trip())
    assert talk.sent_types() == ["response.cancel", "conversation.item.create"]
    assert not talk.emitted("audio_interrupted")


def test_a_trip_after_the_response_was_done_stops_its_playback() -> None:
    talk = guarded()
    talk.speaks("What a damned thing", 2000)
    talk.ends()
    talk.now += 0.5
    talk.verdict(check(talk), trip())
    assert talk.sent_types() == ["conversation.item.truncate", "conversation.item.create", "response.create"]
    assert talk.emitted("audio_interrupted", talk.last)


def test_a_trip_after_a_newer_response_began_stops_playback_and_says_nothing() -> None:
    talk = guarded()
    talk.speaks("What a damned thing", 2000)
    talk.ends()
    talk.begins("resp_2", unasked=True)
    talk.now += 0.5
    talk.verdict(check(talk), trip())
    assert talk.sent_types() == ["conversation.item.truncate"]


def test_feedback_is_dropped_when_a_create_is_pending() -> None:
    talk = guarded()
    talk.item_begins()
    talk.says("What a damned thing", spoken=False)
    talk.asks("next question")
    talk.verdict(check(talk), trip())
    assert talk.sent_types() == ["response.cancel"]


def test_feedback_is_no_part_of_history_or_record() -> None:
    talk = guarded()
    talk.item_begins()
    talk.says("What a damned thing", spoken=False)
    talk.verdict(check(talk), trip())
    item = talk.sent("conversation.item.create", talk.last)[0]["item"]
    talk.user_item(item["id"], item["content"])
    assert talk.last == []
    assert [line for line in talk.lines() if line[0] == "user"] == []


def test_a_response_trips_once() -> None:
    talk = guarded(GuardrailSpec("a", debounce=5), GuardrailSpec("b", debounce=5))
    talk.item_begins()
    talk.says("12345", spoken=False)
    talk.says("67890", spoken=False)
    first, second = (dispatch.check_id for dispatch in talk.of(DispatchCheck))
    talk.verdict(first, trip("a"), fine("b"))
    talk.verdict(second, trip("a"), trip("b"))
    assert len(talk.records(EventType.GUARDRAIL_TRIPPED)) == 1
    assert len(talk.sent("response.cancel")) == 1
    talk.says("more than five", spoken=False)
    assert len(talk.of(DispatchCheck)) == 2, "a stopped response is not judged any more"


def test_all_that_trip_together_are_named_together() -> None:
    talk = guarded(GuardrailSpec("a"), GuardrailSpec("b"))
    talk.item_begins()
    talk.said("Damn.", spoken=False)
    talk.verdict(check(talk), trip("a"), trip("b"))
    assert feedback(talk) == ["guardrail triggered: a, b"]


def test_a_guardrail_that_observes_stops_nothing_and_is_recorded_once() -> None:
    talk = guarded(GuardrailSpec("rude", mode=GuardrailMode.OBSERVE, debounce=5))
    talk.item_begins()
    talk.says("12345")
    talk.verdict(check(talk), trip())
    talk.says("67890")
    talk.verdict(check(talk), trip())
    assert len(talk.records(EventType.GUARDRAIL_TRIPPED)) == 1
    assert talk.sent("response.cancel") == []
    assert talk.of(ForwardAudio, talk.sounds(20))


@pytest.mark.parametrize(("policy", "stops"), [("open", False), ("closed", True)])
def test_a_guardrail_that_fails_follows_its_policy(policy: Any, stops: bool) -> None:
    talk = guarded(GuardrailSpec("rude", on_error=policy))
    talk.item_begins()
    talk.said("Hello.")
    talk.verdict(check(talk), GuardrailResult(name="rude", tripped=False, error="ValueError: oops"))
    assert talk.errors() == ["guardrail_failed"]
    assert bool(talk.sent("response.cancel")) is stops


@pytest.mark.parametrize(("policy", "stops"), [("open", False), ("closed", True)])
def test_a_verdict_that_never_comes_follows_its_policy(policy: Any, stops: bool) -> None:
    talk = guarded(GuardrailSpec("rude", on_unavailable=policy), guardrail_timeout_ms=700)
    talk.item_begins()
    talk.said("Hello.")
    key = f"check:{check(talk)}"
    assert talk.timers()[key] == pytest.approx(talk.now + 0.7)
    talk.timer(key)
    assert talk.errors() == ["guardrail_unavailable"]
    assert bool(talk.sent("response.cancel")) is stops
    assert [type(output) for output in talk.verdict(key.removeprefix("check:"), trip())] == [Ignored]


def test_a_guardrail_that_the_verdict_leaves_out_has_failed() -> None:
    talk = guarded(GuardrailSpec("rude", on_error="closed"))
    talk.item_begins()
    talk.said("Hello.")
    talk.verdict(check(talk))
    assert talk.sent("response.cancel")


def test_the_verdict_on_a_newer_check_answers_the_older_ones_that_it_covers() -> None:
    talk = guarded(GuardrailSpec("rude", debounce=5, on_unavailable="closed"))
    talk.item_begins()
    talk.says("12345", spoken=False)
    first = check(talk)
    talk.says("67890", spoken=False)
    talk.verdict(check(talk), GuardrailResult(name="rude", tripped=False))
    assert not [key for key in talk.timers() if key.startswith("check:")]
    assert talk.of(Ignored, talk.verdict(first, GuardrailResult(name="rude", tripped=True)))


@pytest.mark.parametrize("mode", ["interrupt", "hold"])
def test_a_verdict_on_what_was_said_so_far_is_none_on_the_last_word_of_the_whole(mode: str) -> None:
    talk = guarded(GuardrailSpec("rude", debounce=0, mode=GuardrailMode(mode)))
    talk.item_begins()
    talk.says("It is in the vault")
    talk.said("It is in the vault")
    partly, whole = talk.of(DispatchCheck)
    assert (partly.text, partly.final, whole.text, whole.final) == (whole.text, False, partly.text, True)
    talk.verdict(partly.check_id, fine())
    assert not talk.of(ForwardAudio)
    talk.verdict(whole.check_id, trip())
    assert feedback(talk) == ["guardrail triggered: rude"]


def test_a_trip_on_an_older_check_counts_while_the_newer_one_is_open() -> None:
    talk = guarded(GuardrailSpec("rude", debounce=5))
    talk.item_begins()
    talk.says("12345", spoken=False)
    first = check(talk)
    talk.says("67890", spoken=False)
    talk.verdict(first, GuardrailResult(name="rude", tripped=True))
    assert len(talk.records(EventType.GUARDRAIL_TRIPPED)) == 1


def test_an_agent_that_talks_on_puts_no_time_limit_off() -> None:
    talk = guarded(GuardrailSpec("rude", debounce=5, on_unavailable="closed"))
    talk.item_begins()
    talk.says("12345", spoken=False)
    limit = talk.timers()[f"check:{check(talk)}"]
    first = check(talk)
    for _ in range(30):
        talk.says("67890", spoken=False)
    assert talk.timers()[f"check:{first}"] == limit
    talk.timer(f"check:{first}")
    assert len(talk.records(EventType.GUARDRAIL_TRIPPED)) == 1


def test_the_guardrails_are_those_of_the_agent_that_the_response_began_with() -> None:
    talk = Talk(agent(guardrails=[GuardrailSpec("old")])).asked()
    talk.item_begins()
    talk.said("Hello.")
    assert talk.of(DispatchCheck)[0].agent == "helper"


def test_what_a_verdict_supersedes_is_answered_even_if_the_judge_has_failed() -> None:
    talk = guarded(GuardrailSpec("rude", debounce=1, on_unavailable="closed"))
    talk.says("One")
    talk.says(" two")
    first, second = talk.of(DispatchCheck)
    verdict = GuardrailVerdict(
        check_id=second.check_id,
        response_id="resp_1",
        results=[GuardrailResult(name="rude", tripped=False, error="it raised")],
        worker="worker-1",
        duration_ms=3,
        supersedes=[first.check_id, "unknown"],
    )
    talk.put(VerdictArrived(verdict))
    assert [key for key in talk.timers() if key.startswith("check:")] == []


def test_a_verdict_that_names_an_older_check_twice_ends_nothing() -> None:
    """As where the older one was sent again after a fail-over, and both waited."""
    talk = guarded(GuardrailSpec("rude", debounce=1))
    talk.says("One")
    talk.says(" two")
    first, second = talk.of(DispatchCheck)
    verdict = GuardrailVerdict(
        check_id=second.check_id,
        response_id="resp_1",
        results=[GuardrailResult(name="rude", tripped=False)],
        worker="worker-1",
        duration_ms=3,
        supersedes=[first.check_id, first.check_id, second.check_id],
    )
    talk.put(VerdictArrived(verdict))
    assert [key for key in talk.timers() if key.startswith("check:")] == []


def test_a_superseded_check_keeps_its_limit_for_those_that_judge_the_newer_one_still() -> None:
    talk = guarded(GuardrailSpec("rude", debounce=1), GuardrailSpec("slow", debounce=1, on_unavailable="closed"))
    talk.says("One")
    talk.now += 0.5
    talk.says(" two")
    first, second = talk.of(DispatchCheck)
    limit = talk.timers()[f"check:{first.check_id}"]
    verdict = GuardrailVerdict(
        check_id=second.check_id,
        response_id="resp_1",
        results=[GuardrailResult(name="rude", tripped=False)],
        worker="worker-1",
        duration_ms=3,
        supersedes=[first.check_id],
        pending=["slow"],
    )
    talk.put(VerdictArrived(verdict))
    assert talk.timers()[f"check:{first.check_id}"] == limit, "else who talks on puts it off for ever"
    talk.timer(f"check:{first.check_id}")
    assert talk.sent("response.cancel")


def test_checks_that_nobody_takes_are_decided_at_once() -> None:
    talk = guarded(GuardrailSpec("rude", debounce=1, on_unavailable="closed"))
    talk.says("One")
    [asked] = talk.of(DispatchCheck)
    outputs = talk.put(CheckRefused(asked.check_id, "nobody is there"))
    assert [event["response_id"] for event in talk.sent("response.cancel", outputs)] == ["resp_1"]
    assert "nobody is there" in talk.records(EventType.ERROR)[0].message
    assert Observe("guardrail_unjudged", 1.0, {"rule": "rude", "cause": "unavailable", "policy": "closed"}) in talk.of(
        Observe, outputs
    )
    assert talk.put(CheckRefused(asked.check_id, "again")) == []


def test_the_time_from_a_check_to_the_stop_is_measured() -> None:
    talk = guarded(GuardrailSpec("rude", debounce=1))
    talk.says("Damn")
    talk.now += 0.25
    talk.verdict(check(talk), GuardrailResult(name="rude", tripped=True))
    [measured] = [output for output in talk.of(Observe) if output.name == "guardrail_reaction"]
    assert measured.value == pytest.approx(0.25)


def test_a_replacement_is_said_in_place_of_what_was_stopped() -> None:
    talk = guarded(GuardrailSpec("rude", debounce=1, replacement="I'd rather not say."))
    talk.says("Damn")
    talk.verdict(check(talk), GuardrailResult(name="rude", tripped=True))
    talk.ends(status="cancelled")
    create = talk.sent("response.create")[-1]["response"]
    assert create["instructions"].endswith('Say exactly this to the user, and nothing else: "I\'d rather not say."')
    assert create["instructions"].startswith("Be brief.")
    assert create["tool_choice"] == "none"
    assert len(talk.sent("conversation.item.create")) == 1  # the user's question alone: the model is told nothing else


def test_a_replacement_that_is_forbidden_itself_gets_no_other_one() -> None:
    talk = guarded(GuardrailSpec("rude", debounce=1, replacement="Damn, no."))
    talk.says("Damn")
    talk.verdict(check(talk), GuardrailResult(name="rude", tripped=True))
    talk.ends(status="cancelled")
    talk.begins("resp_2")
    talk.item_begins("item_b", "resp_2")
    talk.says("Damn, no.", "item_b", "resp_2")
    talk.verdict(check(talk), GuardrailResult(name="rude", tripped=True))
    talk.ends("resp_2", status="cancelled")
    assert len(talk.sent("response.cancel")) == 2
    assert len(talk.sent("response.create")) == 2


def test_an_answer_that_is_forbidden_again_and_again_is_not_asked_for_without_end() -> None:
    talk = guarded(GuardrailSpec("rude", debounce=1))
    for number in range(1, 5):
        if number > 1:
            talk.begins(f"resp_{number}")
        talk.item_begins(f"item_{number}", f"resp_{number}")
        talk.says("Damn", f"item_{number}", f"resp_{number}")
        talk.verdict(check(talk), GuardrailResult(name="rude", tripped=True))
        talk.ends(f"resp_{number}", status="cancelled")
    assert len(talk.sent("response.cancel")) == 4
    assert len(talk.sent("response.create")) == 4  # the user's, and three more
    talk.asks("Again?")
    assert len(talk.sent("response.create")) == 5


def test_a_verdict_on_nothing_is_ignored() -> None:
    assert [type(output) for output in Talk().live().verdict("check_9", trip())] == [Ignored]


def test_what_was_heard_before_a_trip_is_recorded() -> None:
    talk = guarded()
    talk.item_begins()
    talk.says("One two three four")
    talk.sounds(2000)
    talk.put(Playback("item_a", 0, 1000.0))
    talk.verdict(check(talk), trip())
    talk.item_ends("One two three four", status="incomplete")
    assert talk.lines() == [("assistant", "One two three four", "One two", True)]


def test_checks_that_nobody_answers_are_bounded() -> None:
    talk = guarded(GuardrailSpec("rude", debounce=0))
    talk.item_begins()
    for _ in range(300):
        talk.says("x")
    first, last = talk.of(DispatchCheck)[0], talk.of(DispatchCheck)[-1]
    assert [type(output) for output in talk.verdict(first.check_id, trip())] == [Ignored]
    talk.verdict(last.check_id, trip())
    assert len(talk.records(EventType.GUARDRAIL_TRIPPED)) == 1


def test_a_check_that_stands_in_for_forgotten_ones_keeps_the_earliest_of_their_limits() -> None:
    talk = guarded(GuardrailSpec("rude", debounce=0, on_unavailable="closed"), guardrail_timeout_ms=5000)
    talk.item_begins()
    begun = talk.now
    for _ in range(300):
        talk.now += 0.01
        talk.says("x")
    earliest = min(due for key, due in talk.timers().items() if key.startswith("check:"))
    assert earliest == pytest.approx(begun + 0.01 + 5)


def test_the_model_is_told_why_also_where_it_echoes_no_metadata() -> None:
    talk = Talk(agent(guardrails=[GuardrailSpec("polite", debounce=5)])).live()
    talk.asks()
    talk.begins(unasked=True)  # it is the answer, but nothing says so
    talk.says("You fool")
    (check,) = talk.of(DispatchCheck)
    talk.verdict(check.check_id, GuardrailResult(name="polite", tripped=True))
    assert talk.sent_types() == ["response.cancel", "conversation.item.create"]
    assert talk.sent_types(talk.ends(status="cancelled")) == ["response.create"]


def test_a_guardrail_that_trips_stops_the_answer_while_another_still_judges() -> None:
    talk = guarded(GuardrailSpec("rude", debounce=5), GuardrailSpec("slow", debounce=5))
    talk.says("Damn!")
    talk.verdict(check(talk), trip(), pending=["slow"])
    assert talk.sent("response.cancel")
    assert feedback(talk) == ["guardrail triggered: rude"]
    assert talk.verdict(check(talk), trip("slow")) is not None
    assert len(talk.records(EventType.GUARDRAIL_TRIPPED)) == 1, "one trip per response"
    assert not [key for key in talk.timers() if key.startswith("check:")]


@pytest.mark.parametrize(("policy", "stops"), [("open", False), ("closed", True)])
def test_of_a_check_only_the_guardrails_that_did_not_answer_in_time_follow_their_policy(
    policy: Any, stops: bool
) -> None:
    talk = guarded(
        GuardrailSpec("rude", on_unavailable="closed"), GuardrailSpec("slow", on_unavailable=policy, on_error="closed")
    )
    talk.said("Hello.")
    talk.verdict(check(talk), fine(), pending=["slow"])
    talk.timer(f"check:{check(talk)}")
    assert [error.message for error in talk.records(EventType.ERROR)] == [
        "Guardrail 'slow' could not judge: no verdict within 2 s"
    ]
    assert bool(talk.sent("response.cancel")) is stops
    assert [type(output) for output in talk.verdict(check(talk), trip("slow"))] == [Ignored]


def test_a_guardrail_that_the_worker_gave_up_was_unavailable_and_has_not_failed() -> None:
    talk = guarded(GuardrailSpec("slow", on_error="closed", on_unavailable="open"))
    talk.said("Hello.")
    talk.verdict(check(talk), GuardrailResult(name="slow", tripped=False, error="it took longer", timed_out=True))
    assert talk.errors() == ["guardrail_unavailable"]
    assert not talk.sent("response.cancel")


def test_each_guardrail_has_its_own_budget() -> None:
    talk = guarded(
        GuardrailSpec("quick", budget_ms=100, on_unavailable="open"),
        GuardrailSpec("usual"),
        GuardrailSpec("patient", budget_ms=5000),
    )
    talk.said("Hello.")
    [asked] = talk.of(DispatchCheck)
    assert asked.timeout_ms == 5000
    began = talk.now
    for late, after in (("quick", 0.1), ("usual", 2.0), ("patient", 5.0)):
        talk.timer(f"check:{asked.check_id}")
        assert talk.now == pytest.approx(began + after)
        assert talk.records(EventType.ERROR)[-1].message == (
            f"Guardrail {late!r} could not judge: no verdict within {after:g} s"
        )
    assert not [key for key in talk.timers() if key.startswith("check:")]


def test_what_is_held_waits_for_those_that_hold_and_for_nobody_else() -> None:
    talk = guarded(GuardrailSpec("rude", mode=GuardrailMode.HOLD), GuardrailSpec("slow", mode=GuardrailMode.OBSERVE))
    talk.item_begins()
    talk.says("Hello.")
    talk.sounds(200)
    talk.said("Hello.")
    assert not talk.of(ForwardAudio)
    talk.verdict(check(talk), fine(), pending=["slow"])
    assert talk.of(ForwardAudio)
    talk.verdict(check(talk), trip("slow"))
    assert len(talk.records(EventType.GUARDRAIL_TRIPPED)) == 1, "who observes is heard as well"
    assert not talk.sent("response.cancel")


def test_what_is_held_is_not_told_before_the_last_of_those_that_hold_has_judged() -> None:
    talk = guarded(GuardrailSpec("rude", mode=GuardrailMode.HOLD), GuardrailSpec("slow", mode=GuardrailMode.HOLD))
    talk.item_begins()
    talk.says("Hello.")
    talk.sounds(200)
    talk.said("Hello.")
    talk.verdict(check(talk), fine(), pending=["slow"])
    assert not talk.of(ForwardAudio)
    talk.verdict(check(talk), fine("slow"))
    assert talk.of(ForwardAudio)


def test_what_was_recorded_of_guardrails_is_remembered_of_so_many_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarding, "REMEMBERED", 3)
    talk = Talk(agent(guardrails=[GuardrailSpec("rude", debounce=5)])).live()
    for number in range(10):
        talk.asks()
        talk.begins(f"resp_{number}")
        talk.item_begins(f"item_{number}", f"resp_{number}")
        talk.says("Well, well.", f"item_{number}", f"resp_{number}")
        for _ in range(2):
            talk.put(CheckRefused(check(talk), "nobody is there"))
            talk.says("And more.", f"item_{number}", f"resp_{number}")
        talk.ends(f"resp_{number}")
    assert len(talk.records(EventType.ERROR)) == 10, "once per answer"
    assert len(talk.session._verdicts._p.guard._reported) == 3


def test_items_without_end_of_one_answer_are_watched_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarding, "REMEMBERED", 3)
    talk = guarded()
    for number in range(10):
        talk.item_begins(f"item_{number}")
        talk.says("Well", f"item_{number}")
    assert len(talk.session._verdicts._p.guard._watched) == 3


def says_in_items(talk: Talk, last: str) -> None:
    """Item after item, announced or not, and then one more."""
    for number in range(1024):
        if number % 2:
            talk.item_begins(f"item_{number}")
        talk.says("Well", f"item_{number}")
    talk.says(last, "item_last")


def says_in_parts(talk: Talk, last: str) -> None:
    where: dict[str, Any] = {"response_id": "resp_1", "item_id": "item_a", "output_index": 0}
    for index in range(64):
        talk.model("response.output_text.delta", content_index=index, delta="Well", **where)
    talk.model("response.output_text.delta", content_index=64, delta=last, **where)


def says_at_length(talk: Talk, last: str) -> None:
    talk.says("Well" * 50_000)
    talk.says(last)


def says_at_the_end(talk: Talk, last: str) -> None:
    """After a long text the model sends no delta, but the whole text of an item."""
    talk.says("Well" * 50_000)
    talk.said(last, "item_b")


TOO_MUCH = [says_in_items, says_in_parts, says_at_length, says_at_the_end]


@pytest.mark.parametrize("too_much", TOO_MUCH)
def test_an_answer_that_says_more_than_can_be_judged_is_stopped(too_much: Callable[[Talk, str], None]) -> None:
    talk = guarded(GuardrailSpec("rude", debounce=4))
    too_much(talk, "Damn")
    assert talk.errors() == ["guardrail_overflow"]
    assert "response.cancel" in talk.sent_types()
    assert not any("Damn" in repr(output) for output in talk.of(Emit) if output.type == "transcript_delta")
    too_much(talk, "Damn")
    assert len(talk.sent("response.cancel")) == 1
    assert talk.errors() == ["guardrail_overflow"], "told once"


@pytest.mark.parametrize("too_much", TOO_MUCH)
def test_an_answer_that_says_more_than_can_be_judged_is_told_of_where_guardrails_only_observe(
    too_much: Callable[[Talk, str], None],
) -> None:
    talk = guarded(GuardrailSpec("rude", debounce=4, mode=GuardrailMode.OBSERVE))
    too_much(talk, "Damn")
    assert talk.errors() == ["guardrail_overflow"]
    assert not talk.sent("response.cancel")


def test_each_of_many_items_is_judged_also_one_that_was_never_announced() -> None:
    talk = guarded(GuardrailSpec("rude", debounce=4))
    for number in range(1000):
        talk.says("Well", f"item_{number}")
    assert [dispatch.item_id for dispatch in talk.of(DispatchCheck)] == [f"item_{number}" for number in range(1000)]
    assert talk.errors() == []


def test_an_answer_that_nobody_judges_may_say_as_much_as_it_likes() -> None:
    talk = Talk(agent()).asked()
    says_in_items(talk, "Good day")
    assert talk.errors() == []
    assert talk.emitted("transcript_delta", talk.last)[0]["delta"] == "Good day"
