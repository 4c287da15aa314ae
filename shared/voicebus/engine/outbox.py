"""What a session has decided during one input, in order: the single home of `seq`, minted ids and timers.

Knows nothing of conversations; every other module of the engine writes its decisions here.
"""

from collections.abc import Mapping
from typing import Any, Final

from voicebus.contracts.journal import EVENTS, ErrorRecorded, EventType
from voicebus.engine.config import Face
from voicebus.engine.itemids import ItemIds
from voicebus.engine.outputs import (
    CancelTimer,
    Close,
    CutSound,
    Emit,
    Ignored,
    Observe,
    Output,
    Record,
    SendModel,
    SetTimer,
    ToClient,
)
from voicebus.engine.uplink import Uplink
from voicebus.engine.view import OWN_PREFIX

# Bound of what a peer's error text may put into a record, in characters.
_MESSAGE_LIMIT: Final = 2000
_SOURCES: Final = frozenset({"model", "client", "tool", "guardrail", "handoff", "bus", "gateway"})
_FOR_OWNER: Final = frozenset({"agent_start", "agent_end", "session_expiring"})


class Outbox:
    """Collects outputs. `begin` before, `take` after each input; after `close` nothing is accepted any more."""

    def __init__(self, session: str, face: Face, now: float, *, records: bool = False) -> None:
        self.now: float = now
        self._records = records
        self.closed: bool = False
        self.is_native: bool = face is Face.NATIVE
        self.uplink: Uplink = Uplink()
        self.ids: ItemIds = ItemIds()
        """Of the socket in use."""
        self._started = now
        self.outputs: list[Output] = []
        """What came of the present input so far."""
        self._seq = 0
        self._minted = 0
        self._timers: set[str] = set()
        # Ids of items have at most 32 characters, and sessions have long ids: the tail tells them apart well enough.
        tail = "".join(character for character in session if character.isalnum())[-14:]
        self._prefix = f"{OWN_PREFIX}{tail}_"

    def restore(self, *, seq: int, epoch: int, elapsed_s: float) -> None:
        """Go on where another owner has stopped, with ids that it cannot have used."""
        self._seq = seq
        self._started = self.now - elapsed_s
        self._prefix = f"{self._prefix}{epoch}_"

    def rehearse(self) -> None:
        """What is minted from now on is nobody's but a rehearsal's."""
        self._prefix = f"{self._prefix}r"

    def begin(self, now: float) -> None:
        """A new input came at `now` (s)."""
        self.now = now
        self.outputs = []

    def take(self) -> list[Output]:
        outputs, self.outputs = self.outputs, []
        return outputs

    def ms(self, moment: float | None = None) -> int:
        """`moment` (default: now) as ms since the session started."""
        return max(0, round(((self.now if moment is None else moment) - self._started) * 1000))

    def moment(self, ms: float) -> float:
        """The moment (s) that was `ms` after the session's start."""
        return self._started + ms / 1000

    def mint(self) -> str:
        """A new id, the same one for the same inputs."""
        self._minted += 1
        return f"{self._prefix}{self._minted}"

    def is_own(self, event_id: str) -> bool:
        """Whether `event_id` was minted here."""
        return event_id.startswith(self._prefix)

    def add(self, output: Output) -> None:
        if not self.closed:
            self.outputs.append(output)

    def send(self, event: Mapping[str, Any]) -> None:
        """To the model; `event_id` is minted where the event brings none."""
        self.pass_on(event if "event_id" in event else {"event_id": self.mint(), **event})

    def pass_on(self, event: Mapping[str, Any]) -> None:
        """To the model, as the event stands; without a socket it may have to wait (`uplink.py`)."""
        for outgoing in self.uplink.outgoing(event):
            self.add(SendModel(self.ids.outgoing(outgoing)))

    def to_client(self, event: Mapping[str, Any]) -> None:
        if not self.closed:
            self.outputs.append(ToClient(event))

    def emit(self, type_: str, **data: Any) -> None:
        """An unrecorded event. Clients of the OpenAI face have none of these; the owner hears of some."""
        if (self.is_native or type_ in _FOR_OWNER) and not self.closed:
            self.outputs.append(Emit(type_, data))

    def record(self, type_: EventType, **data: Any) -> None:
        """The next recorded event, under the next `seq`."""
        if not self.closed:
            self._seq += 1
            self.outputs.append(Record(self._seq, type_, EVENTS[type_](**data)))

    def error(self, code: str, message: str, source: str) -> None:
        """Record an `error` that the conversation survives."""
        if not self.closed:
            self._seq += 1
            data = ErrorRecorded.model_validate(
                {
                    "code": code,
                    "message": message[:_MESSAGE_LIMIT],
                    "source": source if source in _SOURCES else "gateway",
                    "at_ms": self.ms(),
                }
            )
            self.outputs.append(Record(self._seq, EventType.ERROR, data))

    def sound(self, output: CutSound) -> None:
        """For the recording of the call, where there is one."""
        if self._records:
            self.add(output)

    def observe(self, name: str, value: float = 1.0, **labels: str) -> None:
        self.add(Observe(name, value, labels))

    def ignore(self, why: str) -> None:
        self.add(Ignored(why))

    def set_timer(self, key: str, delay: float) -> None:
        """Fire `key` in `delay` s; replaces a timer of the same key."""
        self._timers.add(key)
        self.add(SetTimer(key, self.now + delay))

    def cancel_timer(self, key: str) -> None:
        if key in self._timers:
            self._timers.discard(key)
            self.add(CancelTimer(key))

    def timer_fired(self, key: str) -> bool:
        """Whether a fired timer still counts; one that was cancelled or fired already does not."""
        if key not in self._timers:
            return False
        self._timers.discard(key)
        return True

    def close(self, reason: str, client_code: int) -> None:
        self.add(Close(reason, client_code))
        self.closed = True
