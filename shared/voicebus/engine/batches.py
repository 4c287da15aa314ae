"""When the model is asked to go on after its calls: once for all of a response, as far as tools let it (parity 0.4).

A tool that responds `always` does not wait for the others, one that responds `never`, or that answers in the
background, is neither waited for nor asked about. Nothing can be asked before the response is done anyway.
"""

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from voicebus.engine.calls import Call
from voicebus.engine.config import HostedToolSpec, Transport
from voicebus.engine.responses import Response
from voicebus.engine.turns import Turns

# Responses with calls whose end is waited for; servers have one at a time. Beyond that the oldest counts as ended.
_MAX_RUNNING: Final = 64


class _Batch(Struct, eq=False):
    """The calls of one response. `fresh`: some have answers that the model has not been asked about."""

    ended: bool
    open: dict[str, Call] = {}
    fresh: bool = False
    urgent: bool = False
    asked: bool = False
    only_hosted: bool = True

    @property
    def is_waited_for(self) -> bool:
        return any(call.respond != "never" for call in self.open.values())


class Batches:
    """Calls by response, until they are answered. `gone_silent` hears of a response that nothing will follow."""

    def __init__(self, turns: Turns, transport: Transport, gone_silent: Callable[[Response], None]) -> None:
        self._turns = turns
        # A model that sequences by itself has no end of a response to wait for.
        self._sequences = transport is Transport.WIRE
        self._gone_silent = gone_silent
        self._batches: dict[Response, _Batch] = {}

    def add(self, call: Call) -> None:
        batch = self._batches.get(call.response)
        if batch is None:
            batch = _Batch(ended=not (call.response.active and self._sequences))
            self._batches[call.response] = batch
            running = [response for response, other in self._batches.items() if not other.ended]
            if len(running) > _MAX_RUNNING:
                self.response_ended(running[0])
        batch.open[call.id] = call
        batch.only_hosted = batch.only_hosted and isinstance(call.spec, HostedToolSpec)

    def answered(self, call: Call, *, background: bool) -> None:
        """The model has this call's output: ask it to go on if it is time."""
        batch = self._batches[call.response]
        del batch.open[call.id]
        if call.respond != "never" and not background:
            batch.fresh = True
            batch.urgent = batch.urgent or call.respond == "always"
        self._settle(call.response, batch)

    def response_ended(self, response: Response) -> None:
        """No more calls will come of this response."""
        batch = self._batches.get(response)
        if batch is not None:
            batch.ended = True
            self._settle(response, batch)

    @property
    def is_any_open(self) -> bool:
        """Whether something is still to be answered, or asked, of any response."""
        return bool(self._batches)

    def kept(self) -> list[list[object]]:
        """What is to be asked after the calls of each response, for `restore`."""
        return [
            [response.id, response.agent.name, response.continues, batch.fresh, batch.urgent, batch.asked]
            for response, batch in self._batches.items()
        ]

    def restore(self, response: Response, *, fresh: bool, urgent: bool, asked: bool) -> None:
        """A response of another owner's, which has ended, with what is to be asked; its calls are added behind it."""
        self._batches[response] = _Batch(ended=True, fresh=fresh, urgent=urgent, asked=asked)

    def settle(self) -> None:
        """All is restored: ask what is to be asked by now."""
        for response, batch in list(self._batches.items()):
            self._settle(response, batch)

    def has(self, response: Response) -> bool:
        """Whether the response has made calls that are not all settled."""
        return response in self._batches

    def expects_follow_up(self, response: Response) -> bool:
        """Whether the session will ask the model to go on after this response's calls."""
        batch = self._batches.get(response)
        if batch is None or response.client_calls or not response.continues:
            return False
        return batch.fresh or batch.is_waited_for

    def _settle(self, response: Response, batch: _Batch) -> None:
        if not batch.ended:
            return
        waits = batch.is_waited_for
        if batch.fresh and (batch.urgent or not waits):
            batch.fresh = batch.urgent = False
            batch.asked = True
            if response.continues and not response.client_calls:
                self._turns.request(follows=response, optional=batch.only_hosted)
        elif not waits and not batch.asked:
            self._gone_silent(response)
        if not batch.open:
            del self._batches[response]
        self._turns.pump()
