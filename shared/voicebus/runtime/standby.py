"""A model's socket that is told a session which another owner still holds (`engine/rehearsing.py`)."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from voicebus.engine import wire
from voicebus.engine.rehearsing import Rehearsal
from voicebus.errors import ModelLinkError
from voicebus.ports import ModelConnector, ModelLink
from voicebus.runtime import frames
from voicebus.runtime.links import Ear

Event = Mapping[str, Any]

READY_S: Final = 20.0
"""From the open socket until it has confirmed the whole session."""


class Standby:
    """Opens and tells the socket; then a driver goes on with it (`SessionDriver.stand_in`), or it is closed.

    `models` are the names of the models by address. Implements `ModelListener`.
    """

    def __init__(self, rehearsal: Rehearsal, models: Sequence[str]) -> None:
        self.rehearsal = rehearsal
        self.link: ModelLink | None = None
        self.ear: Ear = Ear(self)
        self.created: Event = {}
        """The session as the model has created it, and how it has confirmed it."""
        self.updated: Event = {}
        self._models = models
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def open(self, connectors: Sequence[ModelConnector]) -> None:
        """Open a socket to the first model that can be reached, and return once it knows the session.

        Raises:
            ModelLinkError: none can be reached, or it does not take the session.
        """
        failed = ModelLinkError("there is no way to a model")
        for address, connector in enumerate(connectors):
            try:
                self.link = await connector.connect(self.ear, model=self._models[address])
            except ModelLinkError as error:
                failed = error
                continue
            self._send(self.rehearsal.begin(address))
            self.ear.begin()
            try:
                async with asyncio.timeout(READY_S):
                    await self._ready
            except TimeoutError as error:
                raise ModelLinkError(f"the model has not taken the session within {READY_S:g} s") from error
            return
        raise failed

    @property
    def serves(self) -> bool:
        """Whether the socket is there still."""
        return self.link is not None and self._ready.done() and self._ready.exception() is None

    async def aclose(self) -> None:
        """Close it, unless somebody goes on with it."""
        link, self.link = self.link, None
        if link is not None:
            self.ear.hears = None
            await link.close()

    def handed_over(self) -> tuple[ModelLink, Ear]:
        """The socket, for whoever goes on with it."""
        link, self.link = self.link, None
        if link is None:
            raise RuntimeError("there is no socket to go on with")
        return link, self.ear

    # --- ModelListener ------------------------------------------------------------------------------

    def model_frame(self, frame: bytes) -> None:
        try:
            event = frames.parse_model_event(frame)
        except ValueError as error:
            self._fail(f"the model sent a frame that cannot be read: {error}")
            return
        kind = event.get("type")
        if kind == "session.created":
            self.created = wire.mapping(event, "session")
        elif kind == "session.updated":
            self.updated = event
        self._send(self.rehearsal.heard(event))
        if self.rehearsal.replay.is_refused:
            self._fail("the model does not take the session")
        elif self.rehearsal.is_ready and not self._ready.done():
            self._ready.set_result(None)

    def model_lost(self, why: str, close_code: int | None) -> None:
        self._fail(why)

    def _fail(self, why: str) -> None:
        if self._ready.done():
            self._ready = asyncio.get_running_loop().create_future()
        self._ready.set_exception(ModelLinkError(why))
        self._ready.exception()  # told by `serves`, where nobody waits

    def _send(self, outputs: Sequence[Any]) -> None:
        for output in outputs:
            if self.link is not None:
                self.link.send(output.event)
