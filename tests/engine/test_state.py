"""Every transition of the table, legal and illegal."""

from collections.abc import Callable
from typing import Final

import pytest

from support.talk import Talk, agent
from voicebus.contracts.guardrails import GuardrailVerdict
from voicebus.contracts.tools import Outcome, ToolProgress, ToolResult, ToolStarted
from voicebus.engine.config import Transport
from voicebus.engine.inputs import (
    AgentResolved,
    AgentUnresolved,
    Approve,
    AudioInterrupted,
    CallVetted,
    ChangeSettings,
    CheckRefused,
    ClientEvent,
    ClientMalformed,
    CommitAudio,
    End,
    Input,
    Interrupt,
    LinkExpires,
    LinkLost,
    LinkOpened,
    ListenerBack,
    ListenerLeft,
    ModelAudio,
    ModelEvent,
    ModelMalformed,
    Playback,
    Reject,
    ReplaceHistory,
    SendMessage,
    SendRaw,
    SendToolOutput,
    SpareEvent,
    SpareLost,
    SpareOpened,
    Spoken,
    TimerFired,
    ToolErrorWorded,
    ToolProgressArrived,
    ToolResultArrived,
    ToolsChanged,
    ToolStartedArrived,
    Trouble,
    UpdateAgent,
    VerdictArrived,
)
from voicebus.engine.outputs import Close, Ignored, SendModel
from voicebus.engine.state import (
    CONFIRM_TIMER,
    RECONNECT_TIMER,
    SETUP_TIMER,
    SIGN_OF_LIFE,
    TRANSITIONS,
    State,
    Trigger,
    following,
    trigger,
)

EXAMPLES: Final[dict[Trigger, Input]] = {
    "session.updated": ModelEvent({"type": "session.updated", "session": {}}),
    SIGN_OF_LIFE: ModelEvent({"type": "input_audio_buffer.speech_started", "item_id": "item_u"}),
    ModelEvent: ModelEvent({"type": "rate_limits.updated"}),
    ModelAudio: ModelAudio("resp_1", "item_1", 0, 0, 960),
    ModelMalformed: ModelMalformed("not JSON"),
    Spoken: Spoken("item_u", 0.0, 1.0),
    LinkLost: LinkLost("closed"),
    LinkOpened: LinkOpened(),
    LinkExpires: LinkExpires(3600.0),
    SpareOpened: SpareOpened(),
    SpareLost: SpareLost("refused"),
    SpareEvent: SpareEvent({"type": "session.created", "session": {}}),
    SendMessage: SendMessage([{"type": "input_text", "text": "Hello"}]),
    CommitAudio: CommitAudio(),
    ToolsChanged: ToolsChanged(agent(snapshot=2), instead_of=0),
    Interrupt: Interrupt(),
    Playback: Playback("item_1", 0, 10.0),
    AudioInterrupted: AudioInterrupted("item_1", 0),
    SendRaw: SendRaw({"type": "input_audio_buffer.clear"}),
    SendToolOutput: SendToolOutput("call_1", "done", True),
    ChangeSettings: ChangeSettings({"max_output_tokens": 5}),
    ReplaceHistory: ReplaceHistory([]),
    Approve: Approve("call_1"),
    Reject: Reject("call_1"),
    CallVetted: CallVetted("call_1", "run"),
    ToolErrorWorded: ToolErrorWorded("call_1", "Sorry."),
    ListenerLeft: ListenerLeft(),
    ListenerBack: ListenerBack(3),
    UpdateAgent: UpdateAgent(agent("other")),
    End: End("hangup"),
    ClientEvent: ClientEvent({"type": "response.create"}),
    ClientMalformed: ClientMalformed("invalid_json", "Not JSON."),
    ToolStartedArrived: ToolStartedArrived(ToolStarted(call_id="call_1", worker="w")),
    ToolProgressArrived: ToolProgressArrived(ToolProgress(call_id="call_1", text="half")),
    ToolResultArrived: ToolResultArrived(
        ToolResult(call_id="call_1", outcome=Outcome.OK, output="", worker="w", duration_ms=1)
    ),
    CheckRefused: CheckRefused("k1", "nobody is there"),
    VerdictArrived: VerdictArrived(
        GuardrailVerdict(check_id="c", response_id="resp_1", results=[], worker="w", duration_ms=1)
    ),
    AgentResolved: AgentResolved("call_1", agent("other")),
    AgentUnresolved: AgentUnresolved("call_1", "No."),
    SETUP_TIMER: TimerFired("setup"),
    CONFIRM_TIMER: TimerFired("confirm"),
    RECONNECT_TIMER: TimerFired("reconnect"),
    TimerFired: TimerFired("create"),
    Trouble: Trouble("bus_unreachable", "Redis is gone.", "bus"),
}


def configuring() -> Talk:
    return Talk()


def live() -> Talk:
    return Talk().live()


def reconnecting() -> Talk:
    talk = Talk().live()
    talk.put(LinkLost("reset"))
    return talk


def replaying() -> Talk:
    talk = reconnecting()
    talk.timer(RECONNECT_TIMER)
    talk.put(LinkOpened())
    return talk


def closed() -> Talk:
    talk = Talk().live()
    talk.put(End("hangup"))
    return talk


REACHED: Final[dict[State, Callable[[], Talk]]] = {
    State.CONFIGURING: configuring,
    State.LIVE: live,
    State.RECONNECTING: reconnecting,
    State.REPLAYING: replaying,
    State.CLOSED: closed,
}
# Said once more, apart from the table: the states that each input leads to from the four that are not closed, in the
# order of `State`, by their initials (replaying is P); a dot where it is out of place.
LAW: Final[dict[Trigger, str]] = {
    "session.updated": "LL.P",
    SIGN_OF_LIFE: "LL.P",
    ModelEvent: "CL.P",
    ModelAudio: "LL..",
    ModelMalformed: "CL.P",
    Spoken: "CL.P",
    LinkLost: "RRRR",
    LinkOpened: "..P.",
    LinkExpires: "CL.P",
    SpareOpened: ".L..",
    SpareLost: ".LRP",
    SpareEvent: ".L..",
    SendMessage: "CLRP",
    CommitAudio: "CLRP",
    ToolsChanged: "CLRP",
    Interrupt: "CLRP",
    Playback: ".LRP",
    AudioInterrupted: ".L..",
    SendRaw: "CLRP",
    SendToolOutput: ".LRP",
    ChangeSettings: "CLRP",
    ReplaceHistory: "CLRP",
    Approve: ".LRP",
    Reject: ".LRP",
    CallVetted: ".LRP",
    ToolErrorWorded: ".LRP",
    ListenerLeft: "CLRP",
    ListenerBack: "CLRP",
    UpdateAgent: "CLRP",
    End: "XXXX",
    ClientEvent: "CLRP",
    ClientMalformed: "CLRP",
    ToolStartedArrived: ".LRP",
    ToolProgressArrived: ".LRP",
    ToolResultArrived: ".LRP",
    CheckRefused: "CLRP",
    VerdictArrived: "CLRP",
    AgentResolved: ".LRP",
    AgentUnresolved: ".LRP",
    SETUP_TIMER: "RLRR",
    CONFIRM_TIMER: "LLRL",
    RECONNECT_TIMER: "CLRP",
    TimerFired: "CLRP",
    Trouble: "CLRP",
}
_INITIALS: Final = {"C": State.CONFIGURING, "L": State.LIVE, "R": State.RECONNECTING, "P": State.REPLAYING}
OPEN: Final[list[State]] = [state for state in State if state is not State.CLOSED]


def lawful(state: State, key: Trigger) -> State | None:
    initial = LAW[key][OPEN.index(state)]
    return State.CLOSED if initial == "X" else _INITIALS.get(initial)


LEGAL: Final = [(state, key) for state in OPEN for key in LAW if key in TRANSITIONS[state] and lawful(state, key)]
ILLEGAL: Final = [(state, key) for state in OPEN for key in LAW if lawful(state, key) is None]


def test_every_state_has_a_table_and_every_trigger_an_example() -> None:
    assert set(TRANSITIONS) == set(State) == set(REACHED)
    assert {key for table in TRANSITIONS.values() for key in table} <= set(EXAMPLES) == set(LAW)


@pytest.mark.parametrize("key", LAW)
@pytest.mark.parametrize("state", OPEN)
def test_the_table_says_what_the_law_says(state: State, key: Trigger) -> None:
    assert following(state, EXAMPLES[key]) is lawful(state, key)


@pytest.mark.parametrize(("state", "key"), LEGAL)
def test_a_legal_input_leads_where_the_table_says(state: State, key: Trigger) -> None:
    talk = REACHED[state]()
    assert talk.session.state is state
    if key is TimerFired and state in (State.CONFIGURING, State.LIVE):
        talk.asks()
    elif key == CONFIRM_TIMER:
        talk.model("session.created")
    if isinstance(key, str) and key in ("setup", "confirm", "reconnect"):
        talk.timer(key)
    elif key is TimerFired and state in (State.CONFIGURING, State.LIVE):
        talk.timer("create")
    else:
        talk.put(EXAMPLES[key])
    expected = lawful(state, key)
    assert talk.session.state is expected
    assert not [output for output in talk.of(Ignored, talk.last) if " while " in output.why]
    assert bool(talk.of(Close)) == (expected is State.CLOSED)


@pytest.mark.parametrize(("state", "key"), ILLEGAL)
def test_an_input_out_of_place_is_ignored_and_changes_nothing(state: State, key: Trigger) -> None:
    talk = REACHED[state]()
    timers, history = talk.timers(), talk.session.history
    outputs = talk.put(EXAMPLES[key])
    assert [type(output) for output in outputs] == [Ignored]
    assert talk.session.state is state
    assert (talk.timers(), talk.session.history) == (timers, history)


@pytest.mark.parametrize("key", EXAMPLES)
def test_nothing_is_put_out_after_close(key: Trigger) -> None:
    talk = closed()
    assert talk.put(EXAMPLES[key]) == []
    assert talk.session.state is State.CLOSED


@pytest.mark.parametrize("last", [End("hangup"), LinkLost("reset")])
def test_what_goes_past_the_table_while_the_model_speaks_goes_nowhere_when_that_is_over(last: Input) -> None:
    talk = Talk().asked()
    talk.item_begins()
    talk.says("Once upon")
    talk.sounds(20)
    text = ("response.output_audio_transcript.delta", "resp_1", "item_a", 0, " a time")
    assert talk.session.carry_on("resp_1", "item_a", 0, 960, talk.now) is not None
    assert talk.session.say_on(*text, talk.now)
    talk.put(last)
    assert talk.session.carry_on("resp_1", "item_a", 0, 960, talk.now) is None
    assert talk.session.say_on(*text, talk.now) is None


def test_a_model_event_that_the_table_names_is_its_own_trigger() -> None:
    assert trigger(State.CONFIGURING, EXAMPLES["session.updated"]) == "session.updated"
    assert trigger(State.LIVE, EXAMPLES["session.updated"]) is ModelEvent
    assert trigger(State.CONFIGURING, ModelEvent({"type": "session.created"})) is ModelEvent


@pytest.mark.parametrize("kind", ["response.created", "conversation.created", "input_audio_buffer.speech_started"])
def test_a_server_that_does_not_confirm_is_live_with_its_first_sign_of_life(kind: str) -> None:
    talk = configuring()
    talk.model(kind, item_id="item_u", response={"id": "resp_1"})
    assert talk.session.state is State.LIVE
    assert "setup" not in talk.timers()


def test_a_timer_that_was_cancelled_changes_nothing() -> None:
    talk = configuring()
    talk.model("session.created")
    assert [type(output) for output in talk.put(TimerFired("setup"))] == [Ignored]
    assert talk.session.state is State.CONFIGURING


def test_a_session_of_a_model_that_sequences_itself_is_live_from_its_start() -> None:
    talk = Talk(transport=Transport.EVENTS)
    assert talk.session.state is State.LIVE
    assert talk.of(SendModel) == []
    assert talk.timers() == {}
