"""The model's sockets of one session: the one in use, and the spare that is to take over.

What comes of a socket that is no longer in use reaches nobody.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, Protocol

from voicebus.engine.failures import KEY_UNAVAILABLE
from voicebus.errors import ModelLinkError
from voicebus.ports import ModelConnector, ModelLink, ModelListener
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

Job = Callable[[str, Coroutine[Any, Any, None]], object]


class Answers(Protocol):
    """Who is told what came of dialling."""

    def link_opened(self) -> None: ...

    def link_failed(self, error: ModelLinkError) -> None: ...

    def spare_opened(self) -> None: ...

    def spare_failed(self, why: str) -> None: ...

    def spare_frame(self, frame: bytes) -> None: ...


class Ear:
    """Hears from one socket as long as it is of use. Implements `ModelListener`.

    What comes before somebody has been told of the socket waits for `begin`; a server says little before it is asked.
    """

    def __init__(self, hears: ModelListener, *, waits: bool = True) -> None:
        self.hears: ModelListener | None = hears
        self._early: list[bytes] = []
        self._loss: tuple[str, int | None] | None = None
        self._waits = waits

    def begin(self) -> None:
        """Whoever hears knows of the socket now."""
        self._waits = False
        early, self._early = self._early, []
        for frame in early:
            self.model_frame(frame)
        if self._loss is not None:
            self.model_lost(*self._loss)

    def model_frame(self, frame: bytes) -> None:
        if self._waits:
            self._early.append(frame)
        elif self.hears is not None:
            # Not called as it is looked up: where it is no method, that takes Python twenty times as long.
            hear = self.hears.model_frame
            hear(frame)

    def model_lost(self, why: str, close_code: int | None) -> None:
        if self._waits:
            self._loss = why, close_code
            return
        hears, self.hears = self.hears, None
        if hears is not None:
            hears.model_lost(why, close_code)


class _SpareEar:
    """Hears from the spare socket. Implements `ModelListener`."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def model_frame(self, frame: bytes) -> None:
        self._answers.spare_frame(frame)

    def model_lost(self, why: str, close_code: int | None) -> None:
        self._answers.spare_failed(why)


class Links:
    """Dials, keeps and closes sockets. `models` are the names by address; `job` runs what waits beside the session."""

    def __init__(self, models: Sequence[str], listener: ModelListener, answers: Answers, job: Job) -> None:
        self._models = models
        self._listener = listener
        self._answers = answers
        self._job = job
        self._connectors: Sequence[ModelConnector] = ()
        self._ear: Ear | None = None
        self._spare_ear: Ear | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self.link: ModelLink | None = None
        self.spare: ModelLink | None = None

    def stand_in(self, spare: ModelLink, ear: Ear) -> None:
        """This socket, which `ear` hears from, is the spare one."""
        self.spare, self._spare_ear = spare, ear

    def reach(self, connectors: Sequence[ModelConnector]) -> None:
        """These are the ways to the models, by address."""
        self._connectors = connectors

    async def first(self, connectors: Sequence[ModelConnector]) -> None:
        """Open the first socket.

        Raises:
            UserError, ModelLinkError: as the connector; nothing has been opened then.
        """
        self.reach(connectors)
        ear = self._ear = Ear(self._listener, waits=False)
        self.link = await self._connect(ear, 0)

    async def _connect(self, ear: Ear, address: int) -> ModelLink:
        connector = self._connectors[min(address, len(self._connectors) - 1)]
        return await connector.connect(ear, model=self._models[address])

    def dial(self, address: int) -> None:
        """Open another socket instead of the one in use; what comes of it, `Answers` hears."""
        self.drop()
        self._job("dial-model", self._dial(address))

    async def _dial(self, address: int) -> None:
        ear = self._ear = Ear(self._listener)
        try:
            link = await self._connect(ear, address)
        except Exception as error:  # noqa: BLE001 - a program's function gives the key
            if self._ear is ear:
                self._ear = None
                failure = _failure(error)
                log.warning("the model cannot be reached", error=str(error), code=failure.code)
                self._answers.link_failed(failure)
            return
        if self._ear is not ear:  # the session has moved on meanwhile
            await link.close()
            return
        self.link = link
        self._answers.link_opened()
        ear.begin()

    def dial_spare(self, address: int) -> None:
        """Open a second socket beside the one in use."""
        self.drop_spare()
        self._job("dial-spare", self._dial_spare(address))

    async def _dial_spare(self, address: int) -> None:
        ear = self._spare_ear = Ear(_SpareEar(self._answers))
        try:
            link = await self._connect(ear, address)
        except Exception as error:  # noqa: BLE001 - a program's function gives the key
            if self._spare_ear is ear:
                self._spare_ear = None
                log.warning("no second connection to the model", error=str(error))
                self._answers.spare_failed(str(error))
            return
        if self._spare_ear is not ear:
            await link.close()
            return
        self.spare = link
        self._answers.spare_opened()
        ear.begin()

    def switch(self) -> None:
        """The spare socket is the one in use from now on."""
        self.drop()
        self.link, self.spare = self.spare, None
        self._ear, self._spare_ear = self._spare_ear, None
        if self._ear is not None:
            self._ear.hears = self._listener

    def drop(self) -> None:
        """Close the socket in use, also one that is lost already."""
        if self._ear is not None:
            self._ear.hears = None
            self._ear = None
        link, self.link = self.link, None
        self._close(link)

    def drop_spare(self) -> None:
        if self._spare_ear is not None:
            self._spare_ear.hears = None
            self._spare_ear = None
        link, self.spare = self.spare, None
        self._close(link)

    def _close(self, link: ModelLink | None) -> None:
        if link is not None:
            task = asyncio.get_running_loop().create_task(link.close(), name="close-model")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        """Close all that is open."""
        self.drop()
        self.drop_spare()
        if self._closing:
            await asyncio.gather(*self._closing)


def _failure(error: Exception) -> ModelLinkError:
    """A program's function that gives the key may raise anything; the next attempt asks it again."""
    if isinstance(error, ModelLinkError):
        return error
    return ModelLinkError(f"the model cannot be dialled: {error}", code=KEY_UNAVAILABLE)
