"""A session that another owner still holds, told to a socket, which then serves as soon as that owner yields.

The session is told as it was kept a moment ago. Whoever goes on with it (`Session(rehearsal=…)`) tells the same socket
what has changed since, as a session does that moves to its second socket (`renewal.py`). A call's model knows its
session already: such a socket is told nothing, and only has to be on the call.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from voicebus.engine import wire
from voicebus.engine.config import Recovering, SessionConfig
from voicebus.engine.keeping import Kept
from voicebus.engine.outputs import SendModel
from voicebus.engine.parts import assemble
from voicebus.engine.replaying import Conversation, Replay
from voicebus.engine.restoring import restore
from voicebus.engine.state import SESSION_CREATED, SESSION_UPDATED

Event = Mapping[str, Any]


class Rehearsal:
    """Call `begin` once a socket is open, and `heard` for each of its events; what they give is to be sent.

    `address`: which of the config's models it is. `replay` is what the socket has been told.
    """

    def __init__(self, config: SessionConfig, kept: Kept) -> None:
        self._p = assemble(config, 0.0, None)
        restore(self._p, kept)
        self._p.out.rehearse()
        self._p.out.take()  # the owner's to say and to record
        self._begun = False
        self._attaches = config.recovering is Recovering.ATTACH
        self._attached = False
        self.address: int = 0
        self.session: Event = {}
        """As the model of a call told it last."""
        self.replay: Replay = Replay(self._p.out, spare=True)

    def begin(self, address: int) -> Sequence[SendModel]:
        """A socket to the model of this `address` is open."""
        p = self._p
        self._begun, self.address = True, address
        if self._attaches:
            return ()
        if p.config.models:
            p.settings.serve(p.config.models[address])
        items, _ = Conversation(p.history, p.transcript, p.out.uplink, p.out, p.hide_item).items()
        self.replay.begin(p.settings.told, items)
        return self._sends()

    def heard(self, event: Event) -> Sequence[SendModel]:
        """An event of the socket."""
        if self._attaches:
            if wire.text(event, "type") in (SESSION_CREATED, SESSION_UPDATED):
                self._attached, self.session = True, wire.mapping(event, "session")
            return ()
        self.replay.heard(wire.text(event, "type"), self.replay.ids.incoming(event))
        return self._sends()

    @property
    def is_ready(self) -> bool:
        """Whether the socket knows the session, and has confirmed it."""
        if self._attaches:
            return self._attached
        return self._begun and self.replay.is_confirmed and not self.replay.is_refused

    def outputs(self) -> Mapping[str, str]:
        """The items under which the socket has the outputs of calls, by call id."""
        history = self._p.history
        calls = [item["call_id"] for item in history.json() if item["type"] == "function_call"]
        return {call_id: made for call_id in calls if (made := history.output_of(call_id)) is not None}

    def _sends(self) -> Sequence[SendModel]:
        return [output for output in self._p.out.take() if isinstance(output, SendModel)]
