"""The states of a session and the inputs that each accepts: the law of the engine, and nothing else.

Everything that decides whether an input is in place lives here. Rules:

1. An input whose trigger is not listed for the present state is out of place: it changes nothing and yields `Ignored`.
2. CONFIGURING: the first `session.update` is out. Everything that a client wants is carried out at once, since the
   wire keeps the order; nothing waits. What only a conversation brings (results, verdicts, playback) is out of place.
3. LIVE is the conversation. It begins with `session.updated`; from a server that does not confirm, with any other sign
   of life, or a little after `session.created`. Whether the model speaks, tools run or checks are due are facts beside
   the state, kept by the modules named after them. A session of transport EVENTS is LIVE from its start.
4. RECONNECTING: the model's socket is lost, and the next one is waited for or being dialled. What a client or a program
   wants is taken as ever, and goes out when the conversation goes on; tools and guardrails run on.
5. REPLAYING: the next socket is open and is told the conversation. The model's events answer only that. When the last
   of it is confirmed the session is LIVE again; from a server that does not confirm, a little later.
6. CLOSED is final: `Close` was the last output, nothing follows it, whatever arrives.

A model event's trigger is its type where the table of the state names that type, `SIGN_OF_LIFE` where it tells that the
model is at work, else `ModelEvent`. A timer's trigger is its key where the table names that key, else `TimerFired`.
"""

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Final

from voicebus.engine import wire
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


class State(Enum):
    # An enum's own is Python, and each input looks its state up.
    __hash__: Callable[[object], int] = object.__hash__  # type: ignore[assignment] # taken for a bound one

    CONFIGURING = "configuring"
    LIVE = "live"
    RECONNECTING = "reconnecting"
    REPLAYING = "replaying"
    CLOSED = "closed"


Trigger = type[Input] | str

SESSION_CREATED: Final = "session.created"
SESSION_UPDATED: Final = "session.updated"
SIGN_OF_LIFE: Final = "sign of life"
SETUP_TIMER: Final = "setup"
CONFIRM_TIMER: Final = "confirm"
RECONNECT_TIMER: Final = "reconnect"

_ALIVE: Final = ("response.", "conversation.", "input_audio_buffer.")

TRANSITIONS: Final[Mapping[State, Mapping[Trigger, State]]] = {
    State.CONFIGURING: {
        SESSION_UPDATED: State.LIVE,
        SIGN_OF_LIFE: State.LIVE,
        ModelEvent: State.CONFIGURING,
        ModelAudio: State.LIVE,
        ModelMalformed: State.CONFIGURING,
        Spoken: State.CONFIGURING,
        LinkLost: State.RECONNECTING,
        LinkExpires: State.CONFIGURING,
        SendMessage: State.CONFIGURING,
        CommitAudio: State.CONFIGURING,
        Interrupt: State.CONFIGURING,
        SendRaw: State.CONFIGURING,
        ChangeSettings: State.CONFIGURING,
        ReplaceHistory: State.CONFIGURING,
        ListenerLeft: State.CONFIGURING,
        ListenerBack: State.CONFIGURING,
        UpdateAgent: State.CONFIGURING,
        ToolsChanged: State.CONFIGURING,
        VerdictArrived: State.CONFIGURING,  # on what the user said before the model confirmed
        CheckRefused: State.CONFIGURING,
        ClientEvent: State.CONFIGURING,
        ClientMalformed: State.CONFIGURING,
        SETUP_TIMER: State.RECONNECTING,
        CONFIRM_TIMER: State.LIVE,
        TimerFired: State.CONFIGURING,
        Trouble: State.CONFIGURING,
        End: State.CLOSED,
    },
    State.LIVE: {
        ModelEvent: State.LIVE,
        ModelAudio: State.LIVE,
        ModelMalformed: State.LIVE,
        Spoken: State.LIVE,
        LinkLost: State.RECONNECTING,
        LinkExpires: State.LIVE,
        SpareOpened: State.LIVE,
        SpareLost: State.LIVE,
        SpareEvent: State.LIVE,
        AudioInterrupted: State.LIVE,
        SendMessage: State.LIVE,
        CommitAudio: State.LIVE,
        Interrupt: State.LIVE,
        Playback: State.LIVE,
        SendRaw: State.LIVE,
        SendToolOutput: State.LIVE,
        ChangeSettings: State.LIVE,
        ReplaceHistory: State.LIVE,
        ListenerLeft: State.LIVE,
        ListenerBack: State.LIVE,
        Approve: State.LIVE,
        Reject: State.LIVE,
        UpdateAgent: State.LIVE,
        ToolsChanged: State.LIVE,
        ClientEvent: State.LIVE,
        ClientMalformed: State.LIVE,
        ToolStartedArrived: State.LIVE,
        ToolProgressArrived: State.LIVE,
        ToolResultArrived: State.LIVE,
        VerdictArrived: State.LIVE,
        CheckRefused: State.LIVE,
        AgentResolved: State.LIVE,
        AgentUnresolved: State.LIVE,
        CallVetted: State.LIVE,
        ToolErrorWorded: State.LIVE,
        TimerFired: State.LIVE,
        Trouble: State.LIVE,
        End: State.CLOSED,
    },
    State.RECONNECTING: {
        LinkOpened: State.REPLAYING,
        LinkLost: State.RECONNECTING,
        SpareLost: State.RECONNECTING,
        RECONNECT_TIMER: State.RECONNECTING,
        ListenerLeft: State.RECONNECTING,
        ListenerBack: State.RECONNECTING,
        SendMessage: State.RECONNECTING,
        CommitAudio: State.RECONNECTING,
        Interrupt: State.RECONNECTING,
        Playback: State.RECONNECTING,
        SendRaw: State.RECONNECTING,
        SendToolOutput: State.RECONNECTING,
        ChangeSettings: State.RECONNECTING,
        ReplaceHistory: State.RECONNECTING,
        Approve: State.RECONNECTING,
        Reject: State.RECONNECTING,
        UpdateAgent: State.RECONNECTING,
        ToolsChanged: State.RECONNECTING,
        ClientEvent: State.RECONNECTING,
        ClientMalformed: State.RECONNECTING,
        ToolStartedArrived: State.RECONNECTING,
        ToolProgressArrived: State.RECONNECTING,
        ToolResultArrived: State.RECONNECTING,
        VerdictArrived: State.RECONNECTING,
        CheckRefused: State.RECONNECTING,
        AgentResolved: State.RECONNECTING,
        AgentUnresolved: State.RECONNECTING,
        CallVetted: State.RECONNECTING,
        ToolErrorWorded: State.RECONNECTING,
        TimerFired: State.RECONNECTING,
        Trouble: State.RECONNECTING,
        End: State.CLOSED,
    },
    State.REPLAYING: {
        ModelEvent: State.REPLAYING,
        ModelMalformed: State.REPLAYING,
        Spoken: State.REPLAYING,
        LinkLost: State.RECONNECTING,
        LinkExpires: State.REPLAYING,
        SpareLost: State.REPLAYING,
        SETUP_TIMER: State.RECONNECTING,
        CONFIRM_TIMER: State.LIVE,
        ListenerLeft: State.REPLAYING,
        ListenerBack: State.REPLAYING,
        SendMessage: State.REPLAYING,
        CommitAudio: State.REPLAYING,
        Interrupt: State.REPLAYING,
        Playback: State.REPLAYING,
        SendRaw: State.REPLAYING,
        SendToolOutput: State.REPLAYING,
        ChangeSettings: State.REPLAYING,
        ReplaceHistory: State.REPLAYING,
        Approve: State.REPLAYING,
        Reject: State.REPLAYING,
        UpdateAgent: State.REPLAYING,
        ToolsChanged: State.REPLAYING,
        ClientEvent: State.REPLAYING,
        ClientMalformed: State.REPLAYING,
        ToolStartedArrived: State.REPLAYING,
        ToolProgressArrived: State.REPLAYING,
        ToolResultArrived: State.REPLAYING,
        VerdictArrived: State.REPLAYING,
        CheckRefused: State.REPLAYING,
        AgentResolved: State.REPLAYING,
        AgentUnresolved: State.REPLAYING,
        CallVetted: State.REPLAYING,
        ToolErrorWorded: State.REPLAYING,
        TimerFired: State.REPLAYING,
        Trouble: State.REPLAYING,
        End: State.CLOSED,
    },
    State.CLOSED: {},
}


# Events and timers that a state names; the one that nearly all inputs come in names none.
_NAMED: Final[Mapping[State, frozenset[str]]] = {
    state: frozenset(key for key in table if isinstance(key, str)) for state, table in TRANSITIONS.items()
}


def trigger(state: State, item: Input) -> Trigger:
    """What `item` is looked up under in the table of `state`."""
    named = _NAMED[state]
    if named and isinstance(item, ModelEvent):
        kind = wire.text(item.event, "type")
        if kind in named:
            return kind
        if SIGN_OF_LIFE in named and kind.startswith(_ALIVE):
            return SIGN_OF_LIFE
    elif named and isinstance(item, TimerFired) and item.key in named:
        return item.key
    return type(item)


def following(state: State, item: Input) -> State | None:
    """The state after `item`, or None where it is out of place."""
    return TRANSITIONS[state].get(trigger(state, item) if _NAMED[state] else type(item))
