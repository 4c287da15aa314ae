"""Moving to a second socket before the model closes the first: when it is opened, told, and taken into use.

The second one is told the conversation while the first serves on. The switch comes at a quiet moment: nothing is said,
asked for or waited for, nobody speaks, and the model has confirmed everything. A deadline short of the end forces it;
what is cut off then is asked for again. If the first is lost before, the second, where it is ready, takes over at once.
"""

from typing import Final

from voicebus.contracts.journal import EventType
from voicebus.engine import wire
from voicebus.engine.config import Recovering
from voicebus.engine.inputs import SpareEvent
from voicebus.engine.outputs import Dial, ReleaseAudio, SwitchLink
from voicebus.engine.parts import Parts
from voicebus.engine.recovery import Recovery
from voicebus.engine.replaying import Replay

RENEW_TIMER: Final = "renew"
SWITCH_TIMER: Final = "switch"

# Of a short life, the last third is for moving, and the last twelfth for a switch that is forced.
_SHARE: Final = 3.0
_LAST_SHARE: Final = 12.0
_LAST_S: Final = 5.0
# What is left of a shorter life (s) is no time to move in, or nonsense: it is replaced when it ends.
_SHORTEST_S: Final = 0.3
# Between attempts to open the second socket (s).
_RETRY_S: Final = 2.0
# How long before its end a call is warned that cannot move (s).
_WARNING_S: Final = 60.0
# So many sockets in turn that say they live for less than `_SHORT_S` are believed; the next one is put to the test.
_BELIEVED: Final = 5
_SHORT_S: Final = 60.0
# By how much the end of a socket may differ from what it said (s).
_NEAR_S: Final = 2.0


class Renewal:
    """Follows the life of the socket in use.

    When a socket ends is told by the model's clock. Where that differs from ours by about a socket's life each socket
    seems to end at once, and would be left for the next one for ever. So after a few short lives in turn one is waited
    for: if it ends when it said so, short lives are true; else they are not, and no socket is left before its end.
    """

    def __init__(self, parts: Parts, recovery: Recovery) -> None:
        self._p = parts
        self._recovery = recovery
        self._ends: float | None = None
        self._spare: Replay | None = None
        self._forced = False
        self._due = False
        self._short_lives = 0
        self._are_true = False
        self._tested: float | None = None

    def expires(self, after: float) -> None:
        """The socket in use ends in `after` s."""
        p = self._p
        if p.config.recovering is Recovering.ATTACH:
            p.out.set_timer(RENEW_TIMER, max(0.0, after - _WARNING_S))
        if p.config.recovering is not Recovering.REPLAY or after < _SHORTEST_S:
            return
        self._short_lives = self._short_lives + 1 if after < _SHORT_S else 0
        if self._short_lives > _BELIEVED and not self._are_true:
            self._tested = p.out.now + after
            return
        self._ends = p.out.now + after
        margin = min(p.config.renewal_ms / 1000, after / _SHARE)
        p.out.set_timer(RENEW_TIMER, after - margin)
        p.out.set_timer(SWITCH_TIMER, after - min(_LAST_S, after / _LAST_SHARE))

    def due(self) -> None:
        """Time to open the second socket; where the model's session is the call itself, to say that it will end."""
        if self._p.config.recovering is Recovering.ATTACH:
            self._p.out.emit("session_expiring", ends_in_ms=round(_WARNING_S * 1000))
            return
        self._due = True

    def opened(self) -> None:
        self._spare = Replay(self._p.out, spare=True)
        self._recovery.tell(self._spare)

    def stand_in(self, spare: Replay) -> None:
        """There is a second socket that knows the conversation as of a moment ago."""
        self._spare = spare

    def heard(self, item: SpareEvent) -> None:
        if self._spare is not None:
            self._spare.heard(wire.text(item.event, "type"), self._spare.ids.incoming(item.event))
            if self._spare.is_refused:
                self.lost()

    def lost(self) -> None:
        """The second socket is gone, or of no use: another attempt, as long as there is time."""
        self._spare = None
        if self._ends is not None and self._p.out.now + 2 * _RETRY_S < self._ends:
            self._p.out.set_timer(RENEW_TIMER, _RETRY_S)

    def forget(self) -> None:
        """The socket in use is lost: its end needs no preparing any more."""
        if self._tested is not None:
            self._are_true = abs(self._p.out.now - self._tested) <= _NEAR_S
        self._ends, self._spare, self._forced, self._due, self._tested = None, None, False, False, None
        self._p.out.cancel_timer(RENEW_TIMER)
        self._p.out.cancel_timer(SWITCH_TIMER)

    @property
    def is_ready(self) -> bool:
        """Whether the second socket knows the conversation as of a moment ago."""
        return self._spare is not None and self._spare.is_confirmed

    def force(self) -> None:
        """There is no more time for a quiet moment."""
        self._forced = True

    def settle(self) -> None:
        """After each input while the socket in use serves: open the second one, or switch, if it is time."""
        p = self._p
        if self._due:
            self._due = False
            p.out.add(Dial(self._recovery.address, spare=True))
        if self._spare is None or not self.is_ready or not (self._forced or self._is_quiet()):
            return
        p.out.record(EventType.MODEL_RECONNECTING, cause="renewal", attempt=1)
        p.out.observe("model_reconnect", cause="renewal")
        self._recovery.break_off()
        self.take_over()

    def take_over(self) -> None:
        """The second socket is the one in use from now on; whatever was cut off has been ended."""
        spare, p = self._spare, self._p
        if spare is None:
            raise RuntimeError("there is no second socket to take over")
        self.forget()
        p.out.add(SwitchLink())
        spare.spare = False
        self._recovery.moved_to(spare)
        p.out.add(ReleaseAudio(whole=True))
        p.turns.connected()

    def _is_quiet(self) -> bool:
        p = self._p
        resting = p.face is not None and p.face.resting is not None
        return (
            p.is_idle
            and p.out.uplink.is_quiet
            and not resting
            and not p.calls.is_any_open
            and not p.holding.waiting()
            and not p.transcript.awaits_words
        )
