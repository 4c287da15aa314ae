"""The states of a session and the inputs that each accepts: the law of the engine, and nothing else.

Everything that decides whether an input is in place lives here. Rules:

1. An input whose trigger is not listed for the present state is out of place: it changes nothing and yields `Ignored`.
2. CONNECTING: the model's socket is open, `session.created` has not come. CONFIGURING: our `session.update` is out,
   `session.updated` has not come. What a client wants to say in these two waits; only LIVE carries it out.
3. LIVE is the conversation. Whether the model speaks, tools run or checks are due are facts beside the state, kept by
   the modules named after them.
4. CLOSED is final: `Close` was the last output, nothing follows it, whatever arrives.

A model event's trigger is its type where the table of the state names that type, else `ModelEvent`. An `error` with
code `session_expired` has a trigger of its own, since the model closes the socket behind it.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Final

from voicebus.engine import wire
from voicebus.engine.inputs import (
    AgentResolved,
    AgentUnresolved,
    ClientEvent,
    ClientMalformed,
    CommitAudio,
    End,
    Input,
    Interrupt,
    LinkLost,
    ModelAudio,
    ModelEvent,
    ModelMalformed,
    Playback,
    SendMessage,
    TimerFired,
    ToolProgressArrived,
    ToolResultArrived,
    ToolStartedArrived,
    Trouble,
    UpdateAgent,
    VerdictArrived,
)


class State(Enum):
    CONNECTING = "connecting"
    CONFIGURING = "configuring"
    LIVE = "live"
    CLOSED = "closed"


Trigger = type[Input] | str

SESSION_CREATED: Final = "session.created"
SESSION_UPDATED: Final = "session.updated"
SESSION_EXPIRED: Final = "session_expired"

# What waits for LIVE.
POSTPONED: Final = (SendMessage, CommitAudio, ClientEvent)

TRANSITIONS: Final[Mapping[State, Mapping[Trigger, State]]] = {
    State.CONNECTING: {
        SESSION_CREATED: State.CONFIGURING,
        "error": State.CONNECTING,
        SESSION_EXPIRED: State.CLOSED,
        ModelMalformed: State.CONNECTING,
        LinkLost: State.CLOSED,
        SendMessage: State.CONNECTING,
        CommitAudio: State.CONNECTING,
        ClientEvent: State.CONNECTING,
        ClientMalformed: State.CONNECTING,
        UpdateAgent: State.CONNECTING,
        TimerFired: State.CONNECTING,
        Trouble: State.CONNECTING,
        End: State.CLOSED,
    },
    State.CONFIGURING: {
        SESSION_UPDATED: State.LIVE,
        "error": State.CONFIGURING,
        SESSION_EXPIRED: State.CLOSED,
        ModelMalformed: State.CONFIGURING,
        LinkLost: State.CLOSED,
        SendMessage: State.CONFIGURING,
        CommitAudio: State.CONFIGURING,
        ClientEvent: State.CONFIGURING,
        ClientMalformed: State.CONFIGURING,
        UpdateAgent: State.CONFIGURING,
        TimerFired: State.CONFIGURING,
        Trouble: State.CONFIGURING,
        End: State.CLOSED,
    },
    State.LIVE: {
        ModelEvent: State.LIVE,
        SESSION_EXPIRED: State.CLOSED,
        ModelAudio: State.LIVE,
        ModelMalformed: State.LIVE,
        LinkLost: State.CLOSED,
        SendMessage: State.LIVE,
        CommitAudio: State.LIVE,
        Interrupt: State.LIVE,
        Playback: State.LIVE,
        UpdateAgent: State.LIVE,
        ClientEvent: State.LIVE,
        ClientMalformed: State.LIVE,
        ToolStartedArrived: State.LIVE,
        ToolProgressArrived: State.LIVE,
        ToolResultArrived: State.LIVE,
        VerdictArrived: State.LIVE,
        AgentResolved: State.LIVE,
        AgentUnresolved: State.LIVE,
        TimerFired: State.LIVE,
        Trouble: State.LIVE,
        End: State.CLOSED,
    },
    State.CLOSED: {},
}


def trigger(state: State, item: Input) -> Trigger:
    """What `item` is looked up under in the table of `state`."""
    if isinstance(item, ModelEvent):
        kind = wire.text(item.event, "type")
        if kind == "error" and wire.text(wire.mapping(item.event, "error"), "code") == SESSION_EXPIRED:
            return SESSION_EXPIRED
        if kind in TRANSITIONS[state]:
            return kind
    return type(item)


def following(state: State, item: Input) -> State | None:
    """The state after `item`, or None where it is out of place."""
    return TRANSITIONS[state].get(trigger(state, item))
