"""The interfaces between the runtime and the world. Small, named for their role, implemented in `voicebus.adapters`.

Everything a session's driver calls while it performs outputs is synchronous: implementations take the work over
(append to an outbox, write to a socket buffer) and do their I/O on their own time.
"""

from asyncio import Future
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import msgspec

from voicebus.contracts.envelope import Entry
from voicebus.engine.outputs import CancelTool, DispatchCheck, DispatchTool, Record


class Clock(Protocol):
    """`monotonic` in s for the engine; `at_ms` is the Redis server's clock in ms for everything that is written."""

    def monotonic(self) -> float: ...

    def at_ms(self) -> int: ...


@dataclass(frozen=True, slots=True)
class SessionRef:
    """A session as its owner names it on the bus. `epoch` is the owner's fencing number."""

    id: str
    epoch: int
    traceparent: str | None = None


class ModelLink(Protocol):
    """An open socket to a model."""

    def send(self, event: Mapping[str, Any]) -> None:
        """Serialise and queue one client event; never blocks, does nothing once the link is lost."""
        ...

    def send_frame(self, frame: bytes) -> None:
        """Queue a client event that is JSON text already (the audio short path)."""
        ...

    async def close(self) -> None:
        """Close with code 1000, within a second or two."""
        ...


class ModelListener(Protocol):
    """Who hears from a `ModelLink`. Called on the event loop; must not block."""

    def model_frame(self, frame: bytes) -> None: ...

    def model_lost(self, why: str, close_code: int | None) -> None:
        """The socket closed, for whatever reason but our own `close`. Called at most once, last."""
        ...


class ModelConnector(Protocol):
    async def connect(self, listener: ModelListener, *, model: str) -> ModelLink:
        """Open a socket.

        Raises:
            ModelLinkError: refused, unreachable or timed out; `fatal` tells whether trying again can help.
        """
        ...


class ToolDispatch(Protocol):
    """Tool calls out; started, progress and result entries come back through the inbox."""

    def dispatch(self, session: SessionRef, call: DispatchTool) -> None: ...

    def cancel(self, session: SessionRef, cancel: CancelTool) -> None: ...


class GuardrailDispatch(Protocol):
    """Checks out; verdict entries come back through the inbox. `timeout_ms` becomes the entry's deadline."""

    def check(self, session: SessionRef, check: DispatchCheck, *, timeout_ms: int) -> str | None:
        """Send a check; returns why nobody will answer it, None where somebody may."""
        ...


class Journal(Protocol):
    """Recorded events and session state, fenced by the owner's epoch."""

    async def open(self, session: str, *, state: Mapping[str, str]) -> int:
        """Create the session's state and take ownership; returns the epoch (1 for a new session)."""
        ...

    def append(self, session: SessionRef, record: Record, at_ms: int) -> None:
        """Queue a recorded event; flushed within about 5 ms, in order, in one script with the state it changes."""
        ...

    def update(self, session: SessionRef, state: Mapping[str, str]) -> None:
        """Queue a change of the session's state that no recorded event brings; written with the next flush."""
        ...

    def after(self, session: SessionRef, then: Callable[[], None]) -> None:
        """Call `then` once all that is queued for this session is written; never where another owner has it."""
        ...

    async def close(self, session: SessionRef) -> None:
        """Flush what is queued for this session, bounded by the implementation's deadline, and forget it."""
        ...


Deliver = Callable[[Entry], Future[None] | None]
"""Takes an entry in. What it returns is done once the entry has had its effect, where that takes longer; either raises
`CommandRefusedError` for a command that is not obeyed.
"""


class Inbox(Protocol):
    """Entries addressed to this gateway, in order."""

    def subscribe(self, session: str, deliver: Deliver) -> None: ...

    def unsubscribe(self, session: str) -> None: ...


class Delivery(msgspec.Struct, frozen=True):
    """One stream entry as a consumer got it.

    `deliveries` counts this one, from 1. An entry that was taken over names its `previous` consumer and the `cause`:
    `dead` (its heartbeat ended), or `idle` (it sends none, and had the entry for too long). `claimed_at` brings since
    when (ms) the call in it is this worker's to start, where that is being written down as it is delivered; None where
    it was not.
    """

    stream: str
    entry_id: str
    fields: Mapping[str, str]
    deliveries: int
    previous: str | None = None
    cause: Literal["dead", "idle"] | None = None
    claimed_at: Future[int | None] | None = None


class Turn(Protocol):
    """An entry's turn at what it needs beside a slot of its worker."""

    async def wait(self) -> None:
        """Return when its work may begin."""
        ...

    def end(self) -> None:
        """Its work is done, or never began."""
        ...


class StreamConsumer(Protocol):
    """A member of one consumer group on one stream: what the loop in `runtime.consumer` needs of a bus.

    Every method raises `BusError` where the bus cannot be reached; the same may then be asked again.
    """

    async def read(self, *, count: int, block_ms: int) -> Sequence[Delivery]:
        """New entries, at most `count`; empty after `block_ms` (0: at once)."""
        ...

    async def read_own(self) -> Sequence[Delivery]:
        """What was delivered to this member and is not acknowledged, such as entries whose delivery got lost."""
        ...

    async def acknowledge(self, delivery: Delivery) -> None: ...

    async def dead_letter(
        self, delivery: Delivery, *, reason: str, error: str, kept: Mapping[str, str] | None = None
    ) -> None:
        """Copy the entry to the dead letters with its reason and what else is `kept`, then acknowledge it."""
        ...

    async def claim_abandoned(self, *, count: int) -> Sequence[Delivery]:
        """Take over entries of consumers that are dead."""
        ...

    async def tidy(self) -> None:
        """Remove what every group has acknowledged, and consumers that are dead and hold nothing."""
        ...

    async def leave(self) -> None:
        """Leave the group, unless something is still pending, which another member will take over."""
        ...
