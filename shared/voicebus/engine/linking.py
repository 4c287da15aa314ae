"""What happens to a session when a socket of its model is lost, opened, told and left.

The way from one socket to the next; what is told and asked on it is `recovery.py`'s, when to leave `renewal.py`'s.
"""

from collections.abc import Mapping
from typing import Any, Final, Protocol

from voicebus.engine import wire
from voicebus.engine.attaching import ANSWERED, Attaching
from voicebus.engine.config import Face, Recovering
from voicebus.engine.failures import NO_CALL, SESSION_EXPIRED, code_of, error_label, text_of
from voicebus.engine.inputs import LinkLost, ModelEvent
from voicebus.engine.modelerrors import ModelErrors
from voicebus.engine.modelside import ModelSide
from voicebus.engine.outputs import SwitchLink
from voicebus.engine.parts import Parts
from voicebus.engine.recovery import Recovery
from voicebus.engine.rehearsing import Rehearsal
from voicebus.engine.renewal import Renewal
from voicebus.engine.responses import Response
from voicebus.engine.state import CONFIRM_TIMER, RECONNECT_TIMER, SETUP_TIMER, State

SETUP_TIMEOUT: Final = 15.0
"""From the open socket to the model's first word (s); one that takes longer will not be of use to a caller."""

CONFIRM_TIMEOUT: Final = 5.0
"""From `session.created` to `session.updated` (s); some servers never confirm."""

LOST: Final = 1011
"""The close code of a client whose model is lost."""

_HANGUP: Final = "hangup"
_NORMAL: Final = 1000
_LIVE: Final = State.LIVE  # looked up once, as in `session`


class Life(Protocol):
    """The session's own life."""

    state: State

    def go_live(self, session: Mapping[str, Any] | None = None) -> None: ...

    def end(self, reason: str, client_code: int = 1000) -> None: ...


class Linking:
    """Moves a session from socket to socket."""

    def __init__(self, parts: Parts, model: ModelSide, errors: ModelErrors, life: Life) -> None:
        self._p = parts
        self._out = parts.out
        self._model = model
        self._errors = errors
        self._life = life
        self.recovery: Recovery = Recovery(parts, self._cut, errors.arrived)
        self.renewal: Renewal = Renewal(parts, self.recovery)
        self.attaching: Attaching = Attaching(parts, lambda event: model.apply(event["type"], event))

    def known(self, item: ModelEvent) -> ModelEvent:
        """An event of the model, with the ids of items that all but its socket know."""
        event = self._out.ids.incoming(item.event)
        return item if event is item.event else ModelEvent(event)

    def heard(self, kind: str, event: Mapping[str, Any]) -> bool:
        """An event of the model, of `TELLING`: whether it answers what a socket was told again, and nothing else."""
        if kind in ANSWERED and self.attaching.heard(kind, event):
            return True
        if kind == "error" and self._p.limits.passes_on(code_of(wire.mapping(event, "error"))):
            return False  # whatever of the replay it answers, the next model is told all of it
        if not self.recovery.heard(kind, event):
            return False
        self._replayed(event)
        return True

    def went_live(self, session: Mapping[str, Any] | None, *, replayed: bool) -> None:
        """The conversation begins, or goes on behind a replay; `session` is how the socket has confirmed itself."""
        if replayed:
            if self._p.config.recovering is Recovering.ATTACH:
                self.attaching.begin()
            self.recovery.resume(session)
            if self._p.config.face is Face.SIDEBAND and session is not None:
                self._p.overruling.heard(session)  # its client may have changed them while nobody was attached
        else:
            self.recovery.live()
        self.renewal.settle()

    def settle(self) -> None:
        """After each input."""
        if self._out.uplink.truncated:
            self._truncated()
        if self._life.state is _LIVE:
            self.renewal.settle()

    def lost(self, item: LinkLost) -> None:
        """The socket is gone: another one is dialled, unless that cannot help or has been tried often enough."""
        config = self._p.config
        joined = config.face is Face.SIDEBAND or config.recovering is Recovering.ATTACH
        if joined and (item.close_code == _NORMAL or item.code == NO_CALL):
            self._life.end(_HANGUP)  # the call is over: its caller has left, or was hung up on
            return
        refused, self._errors.fatal_code = self._errors.fatal_code, None
        code = item.code or refused
        told = code is not None and code == self._errors.told
        if not told and (refused is None or code != refused):
            self._out.observe("model_error", code=error_label(code or "model_lost"))
        self._out.cancel_timer(SETUP_TIMER)
        self._out.cancel_timer(CONFIRM_TIMER)
        self._out.cancel_timer(RECONNECT_TIMER)
        spare = self.renewal.is_ready
        if self.recovery.lost(item, code, spare=spare):
            self._life.state = State.RECONNECTING
            if spare:
                self._life.state = State.LIVE
                self.renewal.take_over()
            else:
                self.renewal.forget()
            return
        if self._p.config.recovering is Recovering.ATTACH and item.fatal and code in (None, NO_CALL):
            self._life.end(_HANGUP)  # there is no such call any more
            return
        if not told:
            self._out.error(code or "model_lost", item.why or "The connection to the model was lost.", "model")
        self._life.end("model_expired" if code == SESSION_EXPIRED else "model_lost", LOST)

    def error(self, event: Mapping[str, Any]) -> None:
        """An `error` of the model, some of which are the end of its socket."""
        error = wire.mapping(event, "error")
        if wire.text(error, "code") == SESSION_EXPIRED:
            # The model closes the socket behind it, sooner or later.
            if self._p.config.recovering is not Recovering.REPLAY:
                self._errors.record(error)
                self._errors.told = SESSION_EXPIRED
            self.lost(LinkLost(wire.text(error, "message"), code=SESSION_EXPIRED, jitter=0.5))
        elif not self._errors.arrived(event):
            self._life.end("error", LOST)
        elif self._errors.fatal_code is not None and self._p.config.recovering is not Recovering.NEVER:
            # Some servers keep the socket open, of no use as it is.
            self.lost(LinkLost(text_of(error, ""), jitter=0.5))

    def check(self) -> None:
        """After an event of the model: whether it has refused to serve."""
        code, self._model.fatal_code = self._model.fatal_code, None
        if code is not None and self._p.config.recovering is not Recovering.NEVER:
            self._errors.fatal_code = code
            if not self._p.limits.passes_on(code):
                self._errors.told = code
            self.lost(LinkLost("The model's provider refuses to serve.", code=code, jitter=0.5))

    def opened(self) -> None:
        """Another socket is open: tell it the conversation."""
        self._life.state = State.REPLAYING
        self._errors.told = None
        self.recovery.opened()
        self._out.set_timer(SETUP_TIMER, SETUP_TIMEOUT)

    def stand_in(self, rehearsal: Rehearsal) -> None:
        """Go on at once, with the socket that was told the session while its former owner held it."""
        p = self._p
        if p.config.recovering is Recovering.ATTACH:
            p.overruling.greeted(rehearsal.session)
            self._life.state = State.LIVE
            self._out.add(SwitchLink())
            self.attaching.begin()
            self.recovery.resume(None)
            if p.config.face is Face.SIDEBAND:
                p.overruling.heard(rehearsal.session)
            self._life.go_live()
            return
        for call_id, output_id in rehearsal.outputs().items():
            p.hide_item(output_id)
            p.history.answered(call_id, output_id)
        self.recovery.address = rehearsal.address
        if p.config.models:
            p.settings.serve(p.config.models[rehearsal.address])
        rehearsal.replay.serves(self._out)
        self.renewal.stand_in(rehearsal.replay)
        self._life.state = State.LIVE
        self.renewal.take_over()
        self._life.go_live()

    def _replayed(self, event: Mapping[str, Any]) -> None:
        """The next socket has answered something of the replay."""
        if self._life.state is not State.REPLAYING:
            return
        if self.recovery.is_refused:
            self._errors.record(wire.mapping(event, "error"))
            self._life.end("error", LOST)
            self._life.state = State.CLOSED
        elif self.recovery.is_confirmed:
            self._life.go_live(wire.mapping(event, "session"))
        else:
            self._out.cancel_timer(SETUP_TIMER)
            self._out.set_timer(CONFIRM_TIMER, CONFIRM_TIMEOUT)

    def _cut(self, response: Response, status: str, *, again: bool) -> None:
        """End a response whose rest will never come, as the model would have; `again`: it is asked for once more."""
        details: dict[str, Any] | None = None
        if status == "cancelled":
            details = {"type": status, "reason": "client_cancelled"}
        elif status == "failed":
            message = "The connection to the model was lost."
            details = {"type": "failed", "error": {"type": "server_error", "code": "model_lost", "message": message}}
        for event in self._p.unfinished.closing(response, status, details):
            self._model.apply(event["type"], event)
            if self._p.face is not None:
                if again and event["type"] == "response.done":
                    self._p.face.will_continue(response)
                self._p.face.show(event)
        if again:
            self._p.turns.again(response)

    def _truncated(self) -> None:
        """Truncations that are carried out here: the socket in use knows what was said as text, or there is none."""
        for event in self.recovery.truncated():
            self._model.apply(event["type"], event)
            if self._p.face is not None:
                self._p.face.show({key: value for key, value in event.items() if key != "event_id"})
            self.recovery.heard_less(wire.text(event, "item_id"))
