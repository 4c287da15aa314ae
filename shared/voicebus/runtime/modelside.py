"""The model's side of a driver: its sockets and the client's audio, and what the engine wants done with them."""

import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

from voicebus.engine import wire
from voicebus.engine.config import Recovering, SessionConfig
from voicebus.engine.failures import KEY_REFUSED, KEY_UNAVAILABLE, REFUSED_KEY
from voicebus.engine.inputs import Input, LinkExpires, LinkLost, LinkOpened, SpareEvent, SpareLost, SpareOpened
from voicebus.engine.outputs import Dial, DropLink, ReleaseAudio, SendModel, StopModel, SwitchLink
from voicebus.errors import ModelLinkError
from voicebus.ports import Clock, ModelConnector, ModelListener
from voicebus.runtime import frames
from voicebus.runtime.input_audio import HEARD, InputAudio
from voicebus.runtime.links import Links
from voicebus.runtime.placing import Placing
from voicebus.runtime.socketids import SocketIds
from voicebus.runtime.standby import Standby
from voicebus.runtime.surroundings import Engine, StoppableLink
from voicebus.telemetry import metrics

Event = Mapping[str, Any]

_UNREACHABLE: Final = "The model cannot be reached."
_REFUSED: Final = "The model's server refused the connection."
_OF_KEYS: Final[Mapping[str | None, str]] = {
    KEY_UNAVAILABLE: "The function that gives the model's key failed.",
    REFUSED_KEY: KEY_REFUSED,
}
_WITH_AUDIO: Final = frozenset({"input_audio_buffer.commit", "input_audio_buffer.clear"})
_CREATED: Final = "session.created"
_EMPTY_COMMIT: Final = "input_audio_buffer_commit_empty"


class ModelSide:
    """Performs the engine's outputs about the model, and feeds it what comes of them. Implements `links.Answers`.

    `placing` places what the client says; None where the session begins now.
    `early_loss`: the first socket was lost before the engine was started.
    """

    def __init__(
        self,
        config: SessionConfig,
        engine: Engine,
        clock: Clock,
        listener: ModelListener,
        feed: Callable[[Input], None],
        job: Callable[[str, Coroutine[Any, Any, None]], object],
        placing: Placing | None = None,
    ) -> None:
        self._clock = clock
        self.now: Callable[[], float] = clock.monotonic
        self._feed = feed
        self._links = Links(config.models or (config.model,), listener, self, job)
        self._dialled_at = 0.0
        self._spare_session: Event = {}
        self._engine = engine
        self._replays = config.recovering is Recovering.REPLAY
        self.ids: SocketIds = SocketIds()
        """Of the socket in use."""
        self._spare_ids = self.ids
        self.placing: Placing = placing or Placing(clock.monotonic())
        self.audio: InputAudio = InputAudio(self.placing)
        self.heard_model: bool = False
        self.early_loss: LinkLost | None = None
        self.performs: Mapping[type, Callable[[Any], None]] = {
            SendModel: self._send,
            Dial: self._dial,
            DropLink: self._drop_link,
            SwitchLink: self._switch_link,
            ReleaseAudio: self._release_audio,
            StopModel: self._stop_model,
        }

    async def first(self, connectors: Sequence[ModelConnector]) -> None:
        """Open the first socket.

        Raises:
            UserError, ModelLinkError: as the connector; nothing has been opened then.
        """
        self._dialled_at = self._clock.monotonic()
        await self._links.first(connectors)

    def reach(self, connectors: Sequence[ModelConnector]) -> None:
        """These are the ways to the models; none is dialled yet."""
        self._links.reach(connectors)

    def stand_in(self, standby: Standby) -> None:
        """The second socket is there, and knows the session."""
        self._links.stand_in(*standby.handed_over())
        self._spare_ids = self._others()
        self._spare_session = standby.created
        self.audio.heard("session.updated", standby.updated)
        self.heard_model = True

    def begin(self, formats: Mapping[str, Event]) -> None:
        """The engine has told the first socket what it is to know: audio may follow, in one of its `formats`."""
        self.audio.understands(wire.text(formats["input"], "type"))
        if self._links.link is not None:
            self.audio.release(self._links.link, whole=True)

    async def aclose(self) -> None:
        await self._links.aclose()

    # --- what the model says ------------------------------------------------------------------------

    def connected(self) -> None:
        """The first frame of a socket is here."""
        self.heard_model = True
        metrics.MODEL_CONNECT.observe(self._clock.monotonic() - self._dialled_at)

    def before(self, kind: str, event: Event) -> None:
        """An event of the model, before the engine hears of it."""
        if kind in HEARD and (spoken := self.audio.heard(kind, event)) is not None:
            self._feed(spoken)

    def after(self, kind: str, event: Event) -> None:
        """The same, after it."""
        if kind == _CREATED:
            self._expires(wire.mapping(event, "session"))
        elif kind == "error" and wire.text(wire.mapping(event, "error"), "code") == _EMPTY_COMMIT:
            self.audio.refused()

    def _expires(self, session: Event) -> None:
        """The model's session is over at a time of its own clock, which ours is close to."""
        at = wire.number(session, "expires_at")
        if at > 0:
            self._feed(LinkExpires(max(0.0, at - self._clock.at_ms() / 1000)))

    # --- what came of dialling ------------------------------------------------------------------------

    def _others(self) -> SocketIds:
        """The ids of another socket; where it only joins the same call, they mean the same."""
        return self.ids.another(self._engine.history) if self._replays else self.ids

    def link_opened(self) -> None:
        self.heard_model = False
        self.ids = self._others()
        self._feed(LinkOpened())

    def link_failed(self, error: ModelLinkError) -> None:
        """What is lost goes to the client, whom the model's address does not concern."""
        why = _OF_KEYS.get(error.code, _REFUSED if error.fatal else _UNREACHABLE)
        self._feed(LinkLost(why, error.code, error.close_code, error.fatal, jitter(), error.retry_after))

    def spare_opened(self) -> None:
        self._spare_ids = self._others()
        self._feed(SpareOpened())

    def spare_failed(self, why: str) -> None:
        self._links.drop_spare()
        self._feed(SpareLost(why))

    def spare_frame(self, frame: bytes) -> None:
        try:
            event = frames.parse_model_event(frame)
        except ValueError as error:
            self.spare_failed(f"it sent a frame that cannot be read: {error}")
            return
        self._feed(SpareEvent(event))
        if event.get("type") == _CREATED:
            self._spare_session = wire.mapping(event, "session")

    # --- outputs ------------------------------------------------------------------------------------

    def _send(self, output: SendModel) -> None:
        event, links = output.event, self._links
        if output.speech is not None:
            event = self.audio.item(event, output.speech)
        if output.spare:
            if links.spare is not None:
                links.spare.send(self._spare_ids.outgoing(event))
        elif event.get("type") in _WITH_AUDIO:
            self.audio.send(event)
        elif links.link is not None:
            links.link.send(self.ids.outgoing(event))

    def _dial(self, output: Dial) -> None:
        if output.spare:
            self._links.dial_spare(output.address)
        else:
            self._dialled_at = self._clock.monotonic()
            self._links.dial(output.address)

    def _drop_link(self, _: DropLink) -> None:
        self.early_loss = None  # of a socket that is of no use any more
        self.audio.hold()
        self._links.drop()
        self._links.drop_spare()

    def _switch_link(self, _: SwitchLink) -> None:
        self.audio.hold()
        self._links.switch()
        self.ids = self._spare_ids
        if self._replays:
            self.ids.tell(self._engine.history)  # which one that stands in was told by somebody else
        session, self._spare_session = self._spare_session, {}
        self._expires(session)

    def _release_audio(self, output: ReleaseAudio) -> None:
        if self._links.link is not None:
            self.audio.release(self._links.link, whole=output.whole)

    def _stop_model(self, output: StopModel) -> None:
        if isinstance(self._links.link, StoppableLink):
            self._links.link.stop(output)


def jitter() -> float:
    """A random number from 0 to 1, by which many sessions do not dial at once."""
    return random.random()  # noqa: S311 - spreads load, no secret
