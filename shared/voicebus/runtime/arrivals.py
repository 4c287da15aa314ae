"""What comes to one session through its inbox: replies of workers, and commands, which may be refused."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from voicebus.contracts.commands import SESSION_COMMAND
from voicebus.contracts.envelope import Entry
from voicebus.engine.inputs import Approve, Input, Reject
from voicebus.errors import CommandRefusedError
from voicebus.ports import Clock
from voicebus.runtime.commands import Commands, Consent, TakeOver
from voicebus.telemetry import metrics
from voicebus.telemetry.tracing import exemplar

_SERVICE: Final = "gateway"


class Obeys(Protocol):
    """The session that the entries are for."""

    @property
    def live(self) -> bool: ...

    def feed(self, event: Input) -> None: ...

    def decide(self, word: Approve | Reject) -> None: ...

    def take_over(self, agent: str) -> asyncio.Future[None]: ...

    def consent(self, given: bool) -> None: ...

    def once_written(self, then: Callable[[], None]) -> None: ...


class Arrivals:
    """Reads the entries of an inbox and brings them to `session`, each command once. `traced`: the session is."""

    def __init__(self, clock: Clock, session: Obeys, *, traced: bool) -> None:
        self._traced = traced
        self._clock = clock
        self._session = session
        self._commands = Commands()

    def arrived(self, entry: Entry) -> asyncio.Future[None] | None:
        """Bring one entry; a future is done once its command is carried out, and what it changed is written: whoever
        is told so must find it again at the next owner.

        Raises:
            ContractError: no session reads such an entry.
            CommandRefusedError: this session cannot do it now.
        """
        now = self._clock.at_ms()
        metrics.MESSAGE_QUEUE.labels(service=_SERVICE).observe(
            max(0, now - entry.at) / 1000, exemplar(entry.traceparent) if self._traced else None
        )
        if entry.type == SESSION_COMMAND and entry.deadline is not None and entry.deadline < now:
            raise CommandRefusedError("expired", "the command came after its deadline")
        if entry.type == SESSION_COMMAND and not self._session.live:
            raise CommandRefusedError("not_ready", "the session is not connected to its model yet, or not any more")
        event = self._commands.read(entry)
        if isinstance(event, TakeOver):
            taken_over = self._session.take_over(event.agent)
            taken_over.add_done_callback(lambda done: self._settled(entry, done))
            return taken_over
        if isinstance(event, Approve | Reject | Consent):
            try:
                if isinstance(event, Consent):
                    self._session.consent(event.given)
                else:
                    self._session.decide(event)
            except CommandRefusedError:
                self._commands.forget(entry)
                raise
        elif event is not None:
            self._session.feed(event)
        return self._written() if entry.type == SESSION_COMMAND else None

    def _written(self) -> asyncio.Future[None]:
        written = asyncio.get_running_loop().create_future()

        def tell() -> None:
            if not written.done():
                written.set_result(None)

        self._session.once_written(tell)
        return written

    def _settled(self, entry: Entry, done: asyncio.Future[None]) -> None:
        """An agent has taken over, or could not: then the command counts anew should it come again."""
        if done.cancelled() or done.exception() is not None:
            self._commands.forget(entry)
