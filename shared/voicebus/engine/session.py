"""One conversation, decided: `Session.handle(input, now)` gives the outputs, and does nothing else.

No I/O, no clock, no randomness: the same inputs give the same outputs. The driver performs outputs in order and brings
back what comes of them as inputs. Which inputs are in place is `state.py`'s business; what they mean is here for the
session's own life, in `modelside.py` for the model's events, in `programside.py` for the program's wishes, in
`agentside.py` for who is in charge, and in the modules named after their subject for the rest.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

from voicebus.contracts.journal import EventType
from voicebus.engine import wire
from voicebus.engine.agentside import AgentSide
from voicebus.engine.clientface import error_event
from voicebus.engine.config import AgentSpec, Face, Recovering, SessionConfig, Transport
from voicebus.engine.deadair import DEAD_AIR_TIMER
from voicebus.engine.dialects import translate
from voicebus.engine.failures import DEAD_AIR
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
from voicebus.engine.keeping import Keeper, Kept
from voicebus.engine.linking import CONFIRM_TIMEOUT, SETUP_TIMEOUT, Linking
from voicebus.engine.modelaudio import AudioSide
from voicebus.engine.modelerrors import ModelErrors
from voicebus.engine.modelside import ModelSide
from voicebus.engine.outputs import ConcealInput, ForwardAudio, Output
from voicebus.engine.parts import assemble
from voicebus.engine.programside import ProgramSide
from voicebus.engine.recovery import TELLING
from voicebus.engine.rehearsing import Rehearsal
from voicebus.engine.restoring import CAUSE, MOVE, restore
from voicebus.engine.retooling import Retooling
from voicebus.engine.state import (
    CONFIRM_TIMER,
    RECONNECT_TIMER,
    SESSION_CREATED,
    SESSION_UPDATED,
    SETUP_TIMER,
    State,
    following,
)
from voicebus.engine.timers import Timers
from voicebus.engine.verdicts import Verdicts
from voicebus.engine.view import ClientView, public_event
from voicebus.errors import UserError

# Of an event that says something, in the order in which `ModelSide.say_on` takes them.
# Looked up once: a member of an enumeration takes Python as long as ten attributes.
_LIVE: Final = State.LIVE
_CLOSED: Final = State.CLOSED
_SAID = ("type", "response_id", "item_id", "content_index", "delta")


class Session:
    """A conversation of one client with one model. Call `start` once, then `handle` for everything that happens.

    `view` translates for a client of the OpenAI face and is required there. `now` is monotonic, in s. `kept` is what
    another owner has left of the session, which goes on then instead of beginning: at once, with the socket that was
    told it in a `rehearsal`, which must be in reach as the spare one.

    Raises:
        UserError: the face lacks its view, or has one that is not its.
    """

    def __init__(
        self,
        config: SessionConfig,
        *,
        now: float,
        view: ClientView | None = None,
        kept: Kept | None = None,
        rehearsal: Rehearsal | None = None,
    ) -> None:
        if (config.face is Face.OPENAI) != (view is not None):
            raise UserError("a session has a client view exactly when its face is the OpenAI one")
        self.state: State = State.CONFIGURING
        self._p = p = assemble(config, now, view)
        self._out = self._p.out
        self._verdicts = Verdicts(self._p)
        self._model = ModelSide(self._p, self._verdicts)
        self._audio = AudioSide(self._p, self._model)
        self._program = ProgramSide(self._p)
        self._agents = AgentSide(self._p)
        self._retooling = Retooling(self._p)
        self._errors = ModelErrors(self._p)
        self._linking = Linking(self._p, self._model, self._errors, self)
        self._timers = Timers(self._p, self._model, self._verdicts, self._linking)
        self._kept = kept
        self._rehearsal = rehearsal
        self._keeper = Keeper(self._p, kept) if config.keeps else None
        settling = (self._linking.attaching, p.background, p.interludes, p.dead_air, p.commits, p.detected)
        self._settle = [part.settle for part in settling]

    @property
    def agent(self) -> AgentSpec:
        """The agent now in charge."""
        return self._p.settings.agent

    @property
    def history(self) -> list[dict[str, Any]]:
        """The conversation's items now, as the native face shows them; an item that changes is replaced."""
        return self._p.history.json()

    @property
    def formats(self) -> dict[str, dict[str, Any]]:
        """The formats of the client's audio now: `input` and `output`."""
        return self._p.settings.formats

    def at_rest(self, now: float) -> bool:
        """Whether nothing is said, heard, asked for or run: a moment to move the session to another owner."""
        return self.state is State.LIVE and self._p.is_at_rest(now)

    def awaits_decision(self, call_id: str) -> bool:
        """Whether a call waits to be approved or rejected, so that a word about it is heard."""
        return self._p.calls.awaits_decision(call_id)

    def has_declined(self, call_id: str) -> bool:
        """Whether this call was answered here, unrun, as nobody waits for the response that made it."""
        return call_id in self._p.calls.known.declined

    def start(self) -> list[Output]:
        """The session's first outputs: the model, whose socket is open, gets its settings at once (parity 50, 129)."""
        if self._kept is not None:  # as after the loss of a socket: one is dialled, or there
            restore(self._p, self._kept, cause=CAUSE if self._rehearsal is None else MOVE)
            if self._rehearsal is not None:
                self._linking.stand_in(self._rehearsal)
            else:
                self.state = State.RECONNECTING
                self._linking.recovery.due()
            return self._finish()
        self._out.record(
            EventType.SESSION_STARTED,
            agent=self.agent.name,
            tenant=self._p.config.tenant,
            model=self._p.config.model,
            face=self._p.config.face.value,
            audio=self._p.settings.formats,
        )
        if self._p.face is not None:
            self._p.face.agent_changed()
        if not self._p.config.seed:
            self._p.history.publish(self._out)
        self._p.settings.configure()
        self._p.rewriter.replace(self._p.config.seed)
        if self._p.config.transport is Transport.WIRE:
            self._out.set_timer(SETUP_TIMER, SETUP_TIMEOUT)
        else:
            self.go_live()
        return self._finish()

    def _finish(self) -> list[Output]:
        if self._keeper is not None:
            self._keeper.settle()
        return self._out.take()

    def carry_on(
        self, response_id: str, item_id: str, content_index: int, size: int, now: float
    ) -> ForwardAudio | None:
        """The path of nearly all audio, about whose part everything is known: the one output of a `ModelAudio` like it.

        None where more is to be decided: then bring it to `handle`. Nothing has been done about it yet.
        """
        if self.state is not _LIVE:
            return None
        part = self._p.playback.parts.get((item_id, content_index))
        if part is None or part.forward is None:
            return None
        if not (response := part.response).active or response.muted or response.model_id != response_id:
            return None
        self._p.playback.receive(part, size, now)
        response.last_event = now
        return part.forward

    def say_on(
        self, kind: object, response_id: object, item_id: object, content_index: object, delta: object, now: float
    ) -> list[Output] | None:
        """The path of nearly all text, which says more of a part that is being said: nothing else depends on it.

        None where more is to be decided: then bring it to `handle`. Nothing has been done about it yet.
        """
        if self.state is not _LIVE:
            return None
        out = self._out
        out.begin(now)
        if not self._model.say_on(kind, response_id, item_id, content_index, delta):
            return None
        if self._keeper is not None:
            self._keeper.said_on()
        return out.outputs

    def handle(self, item: Input, now: float) -> list[Output]:
        """What is to be done about `item`; nothing once the session has closed."""
        if self.state is _CLOSED:
            return []
        self._out.begin(now)
        if type(item) is ModelEvent:
            if "delta" in item.event and self._p.face is None:
                kind, response_id, item_id, place, delta = map(item.event.get, _SAID)
                said = self.say_on(kind, response_id, item_id, place, delta, now)
                if said is not None:
                    return said
            self._read(item)
        elif type(item) is ModelAudio:
            known = self.carry_on(item.response_id, item.item_id, item.content_index, item.size, now)
            if known is not None:
                return [known]
            admitted = self._admit(item)
            if admitted is not None:
                self._take(admitted)
        elif type(item) is TimerFired and not self._out.timer_fired(item.key):
            self._out.ignore(f"timer {item.key} was cancelled")
        else:
            self._take(item)
        for settle in self._settle:
            settle()
        return self._finish()

    def _read(self, item: ModelEvent) -> None:
        """A model's event, in whatever dialect. Where it means several, the last decides whether they are held back."""
        item, kind = self._linking.known(item), wire.text(item.event, "type")
        if kind in TELLING:
            if self._linking.heard(kind, item.event):
                self._out.add(ConcealInput(None))
                return
            placed = self._linking.recovery.placed(kind, item.event)
            item = item if placed is item.event else ModelEvent(placed)
        events = translate(item.event)
        last = item if not events or events[-1] is item.event else ModelEvent(events[-1])
        admitted = self._admit(last)
        if not isinstance(admitted, ModelEvent):
            return
        if self._p.config.raw_events:
            self._out.emit("raw_model_event", event=public_event(item.event if admitted is last else admitted.event))
        for event in events[:-1]:
            self._take(ModelEvent({**admitted.event, "type": event["type"]}))
        if events:
            self._take(admitted)

    def _admit(self, item: ModelEvent | ModelAudio) -> ModelEvent | ModelAudio | None:
        """What may be known now of a model's input; what is held back is a sign of life all the same."""
        admitted = self._p.holding.admit(item)
        if admitted is None:
            if self.state is State.CONFIGURING:
                self.go_live()
            self._p.transcript.flush()
        return admitted

    def _take(self, item: Input) -> None:
        """One input, in the words of the protocol's present version."""
        after = following(self.state, item)
        if after is None:
            self._out.ignore(f"{_name(item)} while {self.state.value}")
            return
        if after is _LIVE and self.state is not _LIVE and not _is_confirmation(item):
            self.go_live()
        self._HANDLERS[type(item)](self, item)
        if self._p.inputs.unsettled:
            self._verdicts.settle()
        self._p.transcript.flush()
        self._linking.settle()
        if self.state is _LIVE:
            self._retooling.settle()
        if self._out.closed:
            self.state = State.CLOSED

    # --- life -----------------------------------------------------------------------------------------

    def go_live(self, session: Mapping[str, Any] | None = None) -> None:
        """The conversation begins, or goes on; a client of the OpenAI face meets it once, as newly created."""
        replayed = self.state is State.REPLAYING
        self.state = State.LIVE
        self._out.cancel_timer(SETUP_TIMER)
        self._out.cancel_timer(CONFIRM_TIMER)
        self._linking.went_live(session, replayed=replayed)
        if self._p.face is not None and not self._p.face.is_open:
            self._p.face.opened()
        self._retooling.settle()

    def _confirmed(self, event: Mapping[str, Any]) -> None:
        """`session.updated`: the first one opens the conversation, if nothing has before."""
        session = wire.mapping(event, "session")
        intent = self._p.settings.confirmed(session)
        if self._p.config.face is Face.SIDEBAND:
            self._p.overruling.heard(session)
        self._p.settings_sent()
        if self.state is not State.LIVE:
            self.go_live()
        if intent is not None and self._p.face is not None:
            self._p.face.settings_confirmed()

    def _greeted(self, session: Mapping[str, Any]) -> None:
        """`session.created`: the model is there, and has its settings already."""
        self._p.overruling.greeted(session)
        attached = self._p.config.recovering is Recovering.ATTACH
        if self.state is State.REPLAYING and (attached or not self._p.settings.confirms):
            self.go_live(session if attached else None)
        elif self.state is not State.LIVE:
            self._out.cancel_timer(SETUP_TIMER)
            self._out.set_timer(CONFIRM_TIMER, CONFIRM_TIMEOUT)

    def end(self, reason: str, client_code: int = 1000) -> None:
        """Record what is outstanding, then that the session has ended; nothing comes after this."""
        p = self._p
        if p.face is not None:
            p.face.end_chain("cancelled", "client_cancelled")
        p.calls.end()
        p.holding.end()
        if p.turns.responses.active is not None:
            p.transcript.response_ended(p.turns.responses.active)
            self._model.turn_ended(p.turns.responses.active, "cancelled", {})
        self._linking.recovery.ended()
        p.transcript.flush(everything=True)
        self._out.record(EventType.SESSION_ENDED, reason=reason, duration_ms=self._out.ms())
        self._out.close(reason, client_code)

    # --- the model's side -----------------------------------------------------------------------------

    def _on_model_event(self, item: ModelEvent) -> None:
        event = item.event
        kind = wire.text(event, "type")
        if kind == "error":
            self._linking.error(event)
        elif kind == SESSION_CREATED:
            self._greeted(wire.mapping(event, "session"))
        elif kind == SESSION_UPDATED:
            self._confirmed(event)
        else:
            self._model.apply(kind, event)
            if self._p.face is not None:
                self._p.face.show(event)
            if self._model.fatal_code is not None:
                self._linking.check()

    def _on_model_malformed(self, item: ModelMalformed) -> None:
        self._out.observe("model_error", code="model_malformed")
        self._out.error("model_malformed", f"The model sent a frame that cannot be read: {item.why}", "model")

    # --- the client's side ----------------------------------------------------------------------------

    def _on_client_event(self, item: ClientEvent) -> None:
        if self._p.face is None:
            self._out.ignore("an event of the OpenAI protocol on the native face")
        else:
            self._p.face.client_event(item.event)

    def _client_malformed(self, item: ClientMalformed) -> None:
        if self._p.face is not None:
            self._out.to_client(error_event(item.code, item.message, item.param, item.event_id))
        else:
            self._out.emit("error", code=item.code, message=item.message, param=item.param, id=item.event_id)

    # --- time -----------------------------------------------------------------------------------------

    def _on_timer(self, item: TimerFired) -> None:
        if item.key == SETUP_TIMER:
            why = f"The model said nothing within {SETUP_TIMEOUT:g} s."
            self._linking.lost(LinkLost(why, code="model_silent", jitter=0.5))
        elif item.key == RECONNECT_TIMER:
            self._linking.recovery.due()
        elif item.key == DEAD_AIR_TIMER:
            if self._p.dead_air.fired():
                self._linking.lost(LinkLost("The model does not answer.", code=DEAD_AIR, jitter=0.5))
        else:
            self._timers.fired(item.key)

    _HANDLERS: ClassVar[Mapping[type[Input], Callable[[Any, Any], None]]] = {
        ModelEvent: _on_model_event,
        ModelAudio: lambda self, item: self._audio.heard(item),
        ModelMalformed: _on_model_malformed,
        Spoken: lambda self, item: self._p.transcript.spoken(item),
        LinkLost: lambda self, item: self._linking.lost(item),
        LinkOpened: lambda self, item: self._linking.opened(),
        LinkExpires: lambda self, item: self._linking.renewal.expires(item.after),
        SpareOpened: lambda self, item: self._linking.renewal.opened(),
        SpareLost: lambda self, item: self._linking.renewal.lost(),
        SpareEvent: lambda self, item: self._linking.renewal.heard(item),
        AudioInterrupted: lambda self, item: self._program.audio_interrupted(item),
        SendMessage: lambda self, item: self._program.send_message(item),
        CommitAudio: lambda self, item: self._program.commit_audio(item),
        Interrupt: lambda self, item: self._program.interrupt(item),
        Playback: lambda self, item: self._program.playback(item),
        SendRaw: lambda self, item: self._program.send_raw(item),
        ChangeSettings: lambda self, item: self._program.change_settings(item),
        ReplaceHistory: lambda self, item: self._program.replace_history(item),
        ListenerLeft: lambda self, _: self._program.listener_left(),
        ListenerBack: lambda self, item: self._program.listener_back(item),
        UpdateAgent: lambda self, item: self._agents.adopt(item.agent),
        ToolsChanged: lambda self, item: self._retooling.changed(item),
        End: lambda self, item: self.end(item.reason),
        ClientEvent: _on_client_event,
        ClientMalformed: _client_malformed,
        ToolStartedArrived: lambda self, item: self._p.calls.started(item),
        ToolProgressArrived: lambda self, item: self._p.calls.progress(item),
        ToolResultArrived: lambda self, item: self._p.calls.result(item),
        VerdictArrived: lambda self, item: self._verdicts.arrived(item.verdict),
        CheckRefused: lambda self, item: self._verdicts.refused(item.check_id, item.why),
        AgentResolved: lambda self, item: self._agents.resolved(item),
        AgentUnresolved: lambda self, item: self._agents.unresolved(item),
        CallVetted: lambda self, item: self._p.calls.vetted(item),
        ToolErrorWorded: lambda self, item: self._p.calls.worded(item),
        Approve: lambda self, item: self._p.calls.approve(item),
        Reject: lambda self, item: self._p.calls.reject(item),
        SendToolOutput: lambda self, item: self._p.calls.output(item),
        TimerFired: _on_timer,
        Trouble: lambda self, item: self._out.error(item.code, item.message, item.source),
    }


def _is_confirmation(item: Input) -> bool:
    """Whether `item` brings the settings with which the conversation begins."""
    return isinstance(item, ModelEvent) and wire.text(item.event, "type") == SESSION_UPDATED


def _name(item: Input) -> str:
    return wire.text(item.event, "type")[:80] if isinstance(item, ModelEvent) else type(item).__name__
