"""Failures of tools that the program is told of beside the model (parity 0.5)."""

import pytest

from support.talk import Talk, agent, tool
from voicebus.contracts.journal import EventType
from voicebus.contracts.tools import CONTEXT_LOST, REPORTED_FAILURES, Outcome, ToolFailure


@pytest.mark.parametrize("kind", sorted(REPORTED_FAILURES))
def test_a_failure_that_the_program_keeps_for_itself_becomes_an_error_and_the_call_goes_on(kind: str) -> None:
    talk = Talk(agent(tools=[tool()])).asked()
    talk.calls()
    talk.result("It failed.", outcome=Outcome.ERROR, error=ToolFailure(kind=kind, message="ValueError: no guest"))
    assert talk.told() == [("call_1", "It failed.")]
    (error,) = talk.records(EventType.ERROR)
    assert (error.code, error.source) == ("tool_failed", "tool")
    assert error.message == "Tool weather, call call_1: ValueError: no guest"
    talk.ends()
    assert talk.sent_types()[-1] == "response.create"


def test_a_failure_that_was_put_into_words_is_the_models_alone() -> None:
    talk = Talk(agent(tools=[tool()])).asked()
    talk.calls()
    talk.result("Sorry.", outcome=Outcome.ERROR, error=ToolFailure(kind="raised", message="no guest"))
    assert talk.errors() == []


def test_what_a_tool_that_went_well_could_not_bring_back_is_an_error_of_its_own_code() -> None:
    talk = Talk(agent(tools=[tool()])).asked()
    talk.calls()
    talk.result("Booked.", error=ToolFailure(kind=CONTEXT_LOST, message="it is lost"))
    assert talk.told() == [("call_1", "Booked.")]
    (error,) = talk.records(EventType.ERROR)
    assert (error.code, error.message) == ("context_not_json", "Tool weather, call call_1: it is lost")
