"""Stages of a call: what counts in each, legal and illegal, and which calls are known."""

from collections.abc import Callable
from typing import Final

import pytest

from support.talk import Talk, agent, handoff, tool
from voicebus.contracts.journal import EventType
from voicebus.contracts.tools import Outcome, ToolProgress, ToolResult, ToolStarted
from voicebus.engine.calls import HEARD, UNLIMITED, KnownCalls, Stage
from voicebus.engine.config import Approval
from voicebus.engine.inputs import (
    AgentResolved,
    AgentUnresolved,
    Approve,
    CallVetted,
    End,
    Input,
    Reject,
    SendToolOutput,
    ToolErrorWorded,
    ToolProgressArrived,
    ToolResultArrived,
    ToolStartedArrived,
)
from voicebus.engine.outputs import CancelTool, DispatchTool, Ignored, Record, SendModel, WordToolError


def calling(
    *, called: str = "weather", words_errors: bool = False, calls_elsewhere: bool = False, **fields: object
) -> Talk:
    told = agent(tools=[tool(**fields)], handoffs=[handoff("billing")])  # type: ignore[arg-type]
    talk = Talk(told, words_errors=words_errors, calls_elsewhere=calls_elsewhere).asked()
    talk.calls(called)
    return talk


def wording() -> Talk:
    talk = calling(words_errors=True)
    talk.result("Boom.", outcome=Outcome.ERROR)
    return talk


REACHED: Final[dict[Stage, Callable[[], Talk]]] = {
    Stage.VETTING: lambda: calling(vetted=True),
    Stage.ASKING: lambda: calling(approval=Approval.ALWAYS),
    Stage.RUNNING: calling,
    Stage.RESOLVING: lambda: calling(called="transfer_to_billing"),
    Stage.ELSEWHERE: lambda: calling(calls_elsewhere=True),
    Stage.WORDING: wording,
}
EXAMPLES: Final[dict[type[Input], Input]] = {
    CallVetted: CallVetted("call_1", "run"),
    Approve: Approve("call_1"),
    Reject: Reject("call_1"),
    ToolStartedArrived: ToolStartedArrived(ToolStarted(call_id="call_1", worker="w")),
    ToolProgressArrived: ToolProgressArrived(ToolProgress(call_id="call_1", text="half")),
    ToolResultArrived: ToolResultArrived(
        ToolResult(call_id="call_1", outcome=Outcome.OK, output="sunny", worker="w", duration_ms=1)
    ),
    AgentResolved: AgentResolved("call_1", agent("billing")),
    AgentUnresolved: AgentUnresolved("call_1", "No."),
    SendToolOutput: SendToolOutput("call_1", "sunny", respond=True),
    ToolErrorWorded: ToolErrorWorded("call_1", "It failed."),
}
# Said once more, apart from the table: the one stage in which each of them counts.
COUNTS_IN: Final[dict[type[Input], Stage]] = {
    CallVetted: Stage.VETTING,
    Approve: Stage.ASKING,
    Reject: Stage.ASKING,
    ToolStartedArrived: Stage.RUNNING,
    ToolProgressArrived: Stage.RUNNING,
    ToolResultArrived: Stage.RUNNING,
    AgentResolved: Stage.RESOLVING,
    AgentUnresolved: Stage.RESOLVING,
    SendToolOutput: Stage.ELSEWHERE,
    ToolErrorWorded: Stage.WORDING,
}
LEGAL: Final = [(stage, kind) for kind, stage in COUNTS_IN.items()]
ILLEGAL: Final = [(stage, kind) for stage in Stage for kind in EXAMPLES if COUNTS_IN[kind] is not stage]


def test_every_stage_has_its_inputs_and_every_input_its_example() -> None:
    assert set(HEARD) == set(Stage) == set(REACHED)
    assert set(COUNTS_IN) == set(EXAMPLES)
    assert {stage: {kind for kind, where in COUNTS_IN.items() if where is stage} for stage in Stage} == HEARD


@pytest.mark.parametrize(("stage", "kind"), LEGAL)
def test_what_a_stage_waits_for_is_heard(stage: Stage, kind: type[Input]) -> None:
    talk = REACHED[stage]()
    talk.put(EXAMPLES[kind])
    assert not talk.of(Ignored, talk.last)
    assert talk.errors() in ([], ["handoff_failed"])


@pytest.mark.parametrize(("stage", "kind"), ILLEGAL)
def test_what_a_stage_does_not_wait_for_changes_nothing(stage: Stage, kind: type[Input]) -> None:
    talk = REACHED[stage]()
    timers = talk.timers()
    outputs = talk.put(EXAMPLES[kind])
    assert not talk.of(SendModel, outputs)
    assert not talk.of(DispatchTool, outputs)
    assert [record.type for record in talk.of(Record, outputs)] in ([], [EventType.ERROR])
    assert len(outputs) == 1
    assert talk.timers() == timers
    still = min(HEARD[stage], key=lambda heard: heard.__name__)
    talk.put(EXAMPLES[still])
    assert not talk.of(Ignored, talk.last), f"{still.__name__} counts as before"


@pytest.mark.parametrize("kind", EXAMPLES)
def test_nothing_counts_for_a_call_that_was_answered_or_never_made(kind: type[Input]) -> None:
    for talk in (calling(), Talk(agent(tools=[tool()])).asked()):
        talk.result()
        outputs = talk.put(EXAMPLES[kind])
        assert len(outputs) == 1
        assert isinstance(outputs[0], Ignored) or talk.errors() == ["unknown_call"]


@pytest.mark.parametrize("stage", Stage)
def test_a_call_has_a_time_limit_in_every_stage_but_those_of_people_and_programs(stage: Stage) -> None:
    assert ("call:call_1" in REACHED[stage]().timers()) is (stage not in UNLIMITED)


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage not in UNLIMITED])
def test_a_call_whose_time_is_over_is_answered(stage: Stage) -> None:
    talk = REACHED[stage]()
    talk.ends()
    talk.timer("call:call_1")
    while talk.of(WordToolError, talk.last):
        talk.timer("call:call_1")
    assert [call for call, _ in talk.told()] == ["call_1"]
    assert talk.sent_types()[-1] == "response.create"


@pytest.mark.parametrize("stage", Stage)
def test_the_session_may_end_in_any_stage_of_a_call(stage: Stage) -> None:
    talk = REACHED[stage]()
    talk.put(End("hangup"))
    assert "call:call_1" not in talk.timers()
    assert bool(talk.of(CancelTool, talk.last)) is (stage is Stage.RUNNING)
    ends = [(end.call_id, end.outcome) for end in talk.records(EventType.TOOL_END)]
    if stage in (Stage.RESOLVING, Stage.ELSEWHERE):
        assert ends == []
    elif stage is Stage.WORDING:
        assert ends == [("call_1", Outcome.ERROR)], "it had ended, whatever it would have been called"
    else:
        assert ends == [("call_1", Outcome.CANCELLED)]


# --- which calls there were -----------------------------------------------------------------------


def test_a_call_is_the_same_if_it_means_the_same() -> None:
    known = KnownCalls(())
    assert known.meet("c", "function", "weather", '{"a": 1, "b": [true, null]}') is None
    assert "c" in known
    assert known.meet("c", "function", "weather", ' {"b":[true,null],"a":1}') is True


@pytest.mark.parametrize(
    ("role", "name", "arguments"),
    [
        ("handoff", "weather", "{}"),
        ("function", "news", "{}"),
        ("function", "weather", '{"a": 1}'),
        ("function", "weather", "{"),
        ("function", "weather", "[" * 100_000),
        ("function", "weather", "1" * 5000),
        ("function", "weather", '"\ud800"'),
    ],
)
def test_a_call_is_another_one_if_role_name_or_arguments_differ(role: str, name: str, arguments: str) -> None:
    known = KnownCalls(())
    known.meet("c", "function", "weather", "{}")
    assert known.meet("c", role, name, arguments) is False
    known.meet("d", role, name, arguments)
    assert known.meet("d", role, name, arguments) is True


def test_what_is_known_of_calls_is_bounded_and_open_ones_are_never_forgotten() -> None:
    known = KnownCalls({"open"})
    known.meet("open", "function", "weather", "{}")
    known.meet("first", "function", "weather", "{}")
    for number in range(4095):
        known.meet(f"call_{number}", "function", "weather", "x" * 1000)
    assert "open" in known
    assert "first" not in known
    assert "call_0" in known
    assert known.meet("first", "function", "other", "{}") is None, "so long ago that it is a new call"
