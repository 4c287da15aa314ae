"""Rate limits are waited out on the same socket; what no waiting mends ends the session."""

from typing import Any

import pytest

from support.talk import Talk
from voicebus.contracts.journal import EventType
from voicebus.engine.config import Face
from voicebus.engine.outputs import Close, Dial
from voicebus.engine.responding import STALL_TIMER
from voicebus.engine.turns import RETRY_TIMER

LIMIT: dict[str, Any] = {"type": "failed", "error": {"type": "rate_limit_exceeded", "code": "rate_limit_exceeded"}}


def limited(talk: Talk, message: str = "Rate limit reached.", response: str = "resp_1") -> None:
    error = {**LIMIT["error"], "message": message}
    talk.ends(response, status="failed", status_details={"type": "failed", "error": error})


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Rate limit reached. Please try again in 1.5s.", 1.5),
        ("Please try again in 320ms.", 0.32),
        ("Please try again in 2m.", 30.0),
        ("Please try again in 1ms.", 0.25),
        ("Please try again in 0m4.5s. Visit https://example.com to learn more.", 4.5),
        ("Please try again in 1m26.4s.", 30.0),
        ("Please try again in 1h0m0s.", 30.0),
        ("Please try again in 2s500ms.", 2.5),
        ("Please retry after 6 seconds. Please contact support.", 6.0),
        ("Please retry after 1 minute.", 30.0),
        ("Please retry after 1500 milliseconds.", 1.5),
        ("Please try again in 5 sessions.", 1.0),
        ("Please try again in 20mins.", 1.0),
        ("Rate limit reached.", 1.0),
    ],
)
def test_the_delay_of_the_message_is_waited_within_bounds(message: str, expected: float) -> None:
    talk = Talk().asked()
    limited(talk, message)
    assert talk.timers()[RETRY_TIMER] == pytest.approx(talk.now + expected)
    assert not talk.sent("response.create", talk.last)
    assert len(talk.sent("response.create", talk.timer(RETRY_TIMER))) == 1
    assert talk.errors() == []


def test_the_announced_reset_is_waited_where_the_message_tells_no_delay() -> None:
    talk = Talk().asked()
    limits = [
        {"name": "requests", "remaining": 5, "reset_seconds": 20},
        {"name": "tokens", "remaining": 0, "reset_seconds": 4},
    ]
    talk.model("rate_limits.updated", rate_limits=limits)
    limited(talk)
    assert talk.timers()[RETRY_TIMER] == talk.now + 4


def test_it_is_given_up_after_a_few_waits_with_one_error() -> None:
    talk = Talk().asked()
    for number in range(1, 6):
        limited(talk, response=f"resp_{number}")
        if number < 5:
            talk.timer(RETRY_TIMER)
            talk.begins(f"resp_{number + 1}")
    assert talk.errors() == ["rate_limit_exceeded"]
    assert RETRY_TIMER not in talk.timers()


def test_a_response_that_failed_at_the_server_is_asked_for_again_and_given_up_after_the_third_time() -> None:
    talk = Talk().asked()
    failed = {"type": "failed", "error": {"type": "server_error", "code": None, "message": "Sorry."}}
    waits = []
    for number in range(1, 4):
        talk.ends(f"resp_{number}", status="failed", status_details=failed)
        if number < 3:
            waits.append(talk.timers()[RETRY_TIMER] - talk.now)
            assert talk.errors() == []
            talk.timer(RETRY_TIMER)
            talk.begins(f"resp_{number + 1}")
    assert waits == [pytest.approx(0.25), pytest.approx(0.5)]
    assert talk.errors() == ["server_error"]
    assert RETRY_TIMER not in talk.timers()


def test_a_response_that_stalled_is_not_asked_for_again() -> None:
    talk = Talk().asked()
    talk.timer(STALL_TIMER)
    assert talk.errors() == ["response_stalled"]
    assert RETRY_TIMER not in talk.timers()


def test_a_refused_create_waits_as_well() -> None:
    talk = Talk().live()
    talk.asks()
    create = talk.sent("response.create")[0]
    talk.fails("rate_limit_exceeded", "Try again in 2s.", create["event_id"])
    assert talk.errors() == []
    assert len(talk.sent("response.create", talk.timer(RETRY_TIMER))) == 1


def test_a_client_sees_one_response_that_ends_once() -> None:
    talk = Talk(face=Face.OPENAI).live()
    talk.client("response.create")
    talk.begins("resp_1")
    limited(talk)
    assert not talk.shown("response.done")
    talk.timer(RETRY_TIMER)
    talk.begins("resp_2")
    talk.ends("resp_2")
    assert [event["response"]["status"] for event in talk.shown("response.done")] == ["completed"]
    assert len(talk.shown("response.created")) == 1


def test_a_used_up_quota_ends_the_session_with_one_error() -> None:
    talk = Talk().asked()
    error = {"type": "insufficient_quota", "code": "insufficient_quota", "message": "You exceeded your quota."}
    talk.ends(status="failed", status_details={"type": "failed", "error": error})
    assert talk.errors() == ["insufficient_quota"]
    assert talk.last[-1] == Close("model_lost", 1011)
    assert talk.records(EventType.SESSION_ENDED)[0].reason == "model_lost"


FAILURES = pytest.mark.parametrize("failure", ["the answer fails", "the create is refused"])
QUOTA = {"type": "insufficient_quota", "message": "You exceeded your quota."}


def refuses(talk: Talk, failure: str, error: dict[str, Any]) -> None:
    """The model fails, or refuses, what was asked for last."""
    asked = talk.sent("response.create")
    if failure == "the answer fails":
        response = f"resp_{len(asked)}"
        talk.begins(response)
        talk.ends(response, status="failed", status_details={"type": "failed", "error": error})
    else:
        talk.model("error", error={**error, "event_id": asked[-1]["event_id"]})


@FAILURES
@pytest.mark.parametrize("code", ["insufficient_quota", None])
def test_a_turn_that_a_model_without_quota_refuses_is_answered_by_the_next_model(
    code: str | None, failure: str
) -> None:
    talk = Talk(models=("gpt-realtime", "other")).live()
    talk.asks()
    refuses(talk, failure, {**QUOTA, "code": code})
    assert talk.errors() == [], "callers are told that another model takes over"
    assert [record.cause for record in talk.records(EventType.MODEL_RECONNECTING)] == ["fallback"]
    assert [error.labels["code"] for error in talk.observed("model_error")] == ["insufficient_quota"]
    assert len(talk.sent("response.create")) == 1, "the one that refuses is not asked again"
    assert len(talk.sent("response.create", talk.reconnects())) == 1
    assert [dial.address for dial in talk.of(Dial)] == [1]
    talk.begins("resp_2")
    talk.ends("resp_2")
    assert talk.records(EventType.TURN_ENDED)[-1].status == "completed"
    assert len(talk.sent("response.create")) == 2


@FAILURES
def test_where_the_last_model_has_no_quota_either_the_session_ends(failure: str) -> None:
    talk = Talk(models=("gpt-realtime", "other")).live()
    talk.asks()
    refuses(talk, failure, QUOTA)
    talk.reconnects()
    refuses(talk, failure, QUOTA)
    assert talk.errors() == ["insufficient_quota"]
    assert [error.labels["code"] for error in talk.observed("model_error")] == ["insufficient_quota"] * 2
    assert talk.last[-1] == Close("model_lost", 1011)


@FAILURES
def test_a_client_sees_one_response_though_the_first_model_has_no_quota(failure: str) -> None:
    talk = Talk(face=Face.OPENAI, models=("gpt-realtime", "other")).live()
    talk.client("response.create")
    refuses(talk, failure, QUOTA)
    talk.reconnects()
    talk.begins("resp_2")
    talk.ends("resp_2")
    assert [event["response"]["status"] for event in talk.shown("response.done")] == ["completed"]
    assert len(talk.shown("response.created")) == 1
    assert not talk.shown("error")


@FAILURES
def test_a_failure_of_the_server_passes_whatever_its_code(failure: str) -> None:
    talk = Talk().live()
    talk.asks()
    refuses(talk, failure, {"type": "server_error", "code": "internal_error", "message": "Sorry."})
    assert len(talk.sent("response.create", talk.timer(RETRY_TIMER))) == 1
    assert talk.errors() == []


@FAILURES
@pytest.mark.parametrize("face", [Face.NATIVE, Face.OPENAI])
def test_what_a_model_says_of_a_refused_key_is_told_to_nobody(face: Face, failure: str) -> None:
    talk = Talk(face=face).live()
    if face is Face.NATIVE:
        talk.asks()
    else:
        talk.client("response.create")
    error = {"type": "invalid_request_error", "code": "invalid_api_key", "message": "Incorrect key: sk-secret."}
    refuses(talk, failure, error)
    (told,) = talk.records(EventType.ERROR)
    assert (told.code, told.message) == ("invalid_api_key", "The model's server refused the API key.")
    assert "sk-secret" not in str(talk.all)


def test_a_limit_is_waited_for_also_where_the_socket_is_lost_meanwhile() -> None:
    talk = Talk().asked()
    error = {"type": "rate_limit_exceeded", "code": "rate_limit_exceeded", "message": "Please try again in 20s."}
    talk.ends(status="failed", status_details={"type": "failed", "error": error})
    due = talk.timers()[RETRY_TIMER]
    talk.loses_the_link()
    since = len(talk.all)
    talk.reconnects()
    assert not talk.sent("response.create", talk.all[since:])
    assert talk.timers()[RETRY_TIMER] == due
    assert len(talk.sent("response.create", talk.timer(RETRY_TIMER))) == 1
