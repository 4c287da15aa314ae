"""`OpenAIRealtimeWebSocketModel`: a server of the OpenAI Realtime protocol as a `RealtimeModel` (OpenAI, Azure, any).

Used by itself it holds its own conversation (`standalone`); driven by a session it lends its link and its listeners,
and passes on what it is told (`attach`).
"""

import copy
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NotRequired, Protocol, Self, TypedDict, cast
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from voicebus.adapters.model_key import ask, authorization
from voicebus.adapters.openai_realtime import (
    CONNECT_TIMEOUT_S,
    MODEL_PING_INTERVAL_S,
    OpenAIRealtimeConnector,
    authenticates,
    without_credentials,
)
from voicebus.adapters.sockets import PING_INTERVAL_S, Keepalive
from voicebus.agents import checking
from voicebus.agents.error_details import RealtimeModelErrorDetails
from voicebus.agents.functions import presentable
from voicebus.agents.items import RealtimeToolCallItem
from voicebus.agents.model_settings import DEFAULT_MODEL, RealtimeSessionModelSettings
from voicebus.agents.models.events import (
    RealtimeModelAudioInterruptedEvent,
    RealtimeModelErrorEvent,
    RealtimeModelEvent,
    RealtimeModelItemUpdatedEvent,
)
from voicebus.agents.models.fallbacks import RealtimeModelFallback, fallback_url, models_at
from voicebus.agents.models.inputs import append_of, inputs_of
from voicebus.agents.models.model import RealtimeModel, RealtimeModelConfig, RealtimeModelListener
from voicebus.agents.models.options import check_options, check_url
from voicebus.agents.models.playback import RealtimePlaybackTracker, format_name
from voicebus.agents.models.relay import LISTENER_FAILED, ListenerRelay
from voicebus.agents.models.sends import (
    RealtimeModelSendAudio,
    RealtimeModelSendEvent,
    RealtimeModelSendToolOutput,
)
from voicebus.agents.models.setup import agent_of
from voicebus.agents.models.standalone import Standalone
from voicebus.engine import wire
from voicebus.engine.inputs import Input, Playback, Trouble
from voicebus.errors import UserError
from voicebus.ports import ModelConnector, ModelLink, ModelListener

DEFAULT_URL: Final = "wss://api.openai.com/v1/realtime"

_ALREADY: Final = "Already connected"
_NOT_YET: Final = "Not connected"
_OVERRIDES: Final = ("connect", "add_listener", "remove_listener", "send_event", "send_event_if", "close")


class TransportConfig(TypedDict):
    """How the WebSocket behaves. Times in s.

    `ping_interval`: between our pings, None for none (default 5). `ping_timeout`: how long nothing may move while a
    pong is waited for, None for ever (default 20). `handshake_timeout`: for connecting (default 10). `max_size`: bytes
    of one message from the server, None for no limit (default).
    """

    ping_interval: NotRequired[float | None]
    ping_timeout: NotRequired[float | None]
    handshake_timeout: NotRequired[float]
    max_size: NotRequired[int | None]


class SessionPort(Protocol):
    """What a model works through while a session drives it; a `SessionDriver` is one."""

    def feed(self, item: Input, /) -> None: ...

    def send_audio(self, frame: bytes, /) -> None: ...


async def get_api_key(key: str | Callable[[], str | Awaitable[str]] | None) -> str | None:
    """The key itself, what the function returns for it, or a variable's; None where there is none.

    The variables are a gateway's: `VOICEBUS_MODEL_API_KEY`, else `OPENAI_API_KEY`. A function that is not async runs in
    a thread.

    Raises:
        UserError: it is neither.
        ModelLinkError: the function raised, or did not return within 10 s.
    """
    if key is not None and not isinstance(key, str) and not callable(key):
        # Not in words: it may be a secret in the wrong form.
        raise UserError(f"get_api_key: key must be a string, a function or None, not a {type(key).__name__}")
    if callable(key):
        return cast("str | None", await ask(key, within_s=CONNECT_TIMEOUT_S))
    return key or os.environ.get("VOICEBUS_MODEL_API_KEY") or os.environ.get("OPENAI_API_KEY") or None


class OpenAIRealtimeWebSocketModel(RealtimeModel):
    """A model behind a WebSocket. One conversation at a time.

    Where the options of a connection say nothing else, it is the model that a gateway would reach: that of
    `VOICEBUS_MODEL_URL`, else OpenAI's, with the key of `VOICEBUS_MODEL_API_KEY`, else `OPENAI_API_KEY`.

    Raises:
        UserError: `transport_config` has a key that does not exist, or a value that its key cannot have.
    """

    def __init__(self, *, transport_config: TransportConfig | None = None) -> None:
        self._transport = _transport(transport_config or {})
        self._stand_alone()

    def _stand_alone(self, listeners: Iterable[RealtimeModelListener] = ()) -> None:
        self._relay = ListenerRelay(self._listener_failed)
        for listener in listeners:
            self._relay.add(listener)
        self._port: SessionPort | None = None
        self._standalone: Standalone | None = None
        self._connecting = False
        self._tracker: RealtimePlaybackTracker | None = None

    # --- RealtimeModel ------------------------------------------------------------------------------

    async def connect(self, options: RealtimeModelConfig) -> None:
        """Open the connection and apply `initial_model_settings`.

        Raises:
            AssertionError: it is connected, or being connected, already.
            UserError: the options cannot be; nothing was dialled.
            ModelLinkError: the server refused, cannot be reached or did not answer.
        """
        if self._connecting or self._port is not None:
            raise AssertionError(_ALREADY)
        checking.mapping("connect", "options", options)
        self._connecting = True
        try:
            check_options(options)
            settings = options.get("initial_model_settings") or {}
            agent = agent_of(settings, call_id=bool(options.get("call_id")))
            standalone = Standalone(
                agent,
                models_of(options, settings)[0],
                self.publish,
                self._on_ended,
                tracked_playback=options.get("playback_tracker") is not None,
            )
            self._port, self._standalone = standalone.driver, standalone
            try:
                await standalone.start(self.connector(options))
            except BaseException:  # also where it is cancelled: what was opened is closed
                await standalone.aclose()
                self._on_ended(standalone)
                raise
        finally:
            self._connecting = False

    def add_listener(self, listener: RealtimeModelListener) -> None:
        self._relay.add(listener)

    def remove_listener(self, listener: RealtimeModelListener) -> None:
        self._relay.remove(listener)

    async def send_event(self, event: RealtimeModelSendEvent) -> None:
        """Do what `event` says; it has been handed to the connection when this returns.

        Raises:
            AssertionError: not connected.
            UserError: settings that cannot be, or something that is no send event.
        """
        port = self._connected()
        inputs = inputs_of(event)
        if isinstance(event, RealtimeModelSendAudio) and (frame := append_of(event)) is not None:
            port.send_audio(frame)
        for item in inputs:
            if isinstance(item, Trouble) and self._standalone is None:
                self.publish(
                    RealtimeModelErrorEvent(RealtimeModelErrorDetails({"code": item.code, "message": item.message}))
                )
            port.feed(item)
        if isinstance(event, RealtimeModelSendToolOutput):
            self.publish(_answered(event))

    async def send_event_if(self, event: RealtimeModelSendEvent, send_if: Callable[[], bool]) -> bool:
        """Send `event` if `send_if()` holds now; nothing comes between the question and the sending.

        Raises:
            AssertionError, UserError: as `send_event`.
        """
        self._connected()
        if not send_if():
            return False
        await self.send_event(event)
        return True

    async def close(self) -> None:
        """End the conversation; its listeners hear nothing of that. A session that drives this model is its own end."""
        standalone = self._standalone
        if standalone is not None:
            await standalone.aclose()
            await self._relay.aclose()

    # --- the side of a session that drives this model -----------------------------------------------

    def attach(self, port: SessionPort) -> None:
        """From now on `port` is where events that are sent go.

        Raises:
            AssertionError: it is connected already.
        """
        if self._connecting or self._port is not None:
            raise AssertionError(_ALREADY)
        self._port = port

    def another(self) -> Self:
        """A model of the same settings and listeners, for a conversation beside this one's."""
        twin = copy.copy(self)
        twin._stand_alone(self._relay.listeners)  # noqa: SLF001 - of the same class
        return twin

    async def detach(self) -> None:
        """The session has ended; what its listeners have not heard yet they will not."""
        self._end_tracking()
        self._port = None
        await self._relay.aclose()

    @property
    def listeners(self) -> Sequence[RealtimeModelListener]:
        """Who listens, now and later."""
        return self._relay.listeners

    def publish(self, event: RealtimeModelEvent) -> None:
        """Tell the listeners. An interruption is always to be published: a playback tracker starts over with it."""
        if self._tracker is not None and isinstance(event, RealtimeModelAudioInterruptedEvent):
            self._tracker.start_over()
        self._relay.publish(event)

    def connector(self, options: RealtimeModelConfig, fallback: RealtimeModelFallback | None = None) -> ModelConnector:
        """This model's `open` as the connector of a driver: to the model of the options, or to a fallback of it."""
        return _Dial(self, options, fallback)

    async def open(self, options: RealtimeModelConfig, *, listener: ModelListener, model: str) -> ModelLink:
        """Dial; nothing is sent. A playback tracker among the options reports to the attached port from now on.

        Raises:
            UserError: the options cannot be, or there is no key.
            ModelLinkError: the server refused, cannot be reached or did not answer.
        """
        connector = await self._connector(options)
        tracker = options.get("playback_tracker")
        link = await connector.connect(listener, model=model)
        if tracker is None:
            return link
        if self._tracker is not None:
            self._tracker.unbind()
        self._tracker = tracker
        tracker.bind(self._played)
        return _TrackedLink(link, tracker)

    # --- inside -------------------------------------------------------------------------------------

    async def _connector(self, options: RealtimeModelConfig) -> OpenAIRealtimeConnector:
        check_options(options)
        call_id = options.get("call_id")
        if call_id and (options.get("initial_model_settings") or {}).get("model_name"):
            raise UserError("call_id joins a call whose model is chosen already: leave out model_name")
        headers = options.get("headers")
        key = None
        if headers is None:
            key = await get_api_key(options.get("api_key"))
            if not isinstance(key, str | None):
                raise UserError(
                    f"model config: the function given as 'api_key' returned {type(key).__name__}, no string"
                )
            if not key:
                raise UserError(
                    "API key is required but was not provided. Set OPENAI_API_KEY, or VOICEBUS_MODEL_URL and "
                    "VOICEBUS_MODEL_API_KEY for another server of the protocol, such as `voicebus model-simulator`."
                )
        url = _address(options)
        check_url(url, "url" if options.get("url") else "VOICEBUS_MODEL_URL")
        return OpenAIRealtimeConnector(
            _joining(url, call_id) if call_id else url,
            api_key=key,
            headers=headers,
            connect_timeout_s=self._transport["handshake_timeout"],
            keepalive=Keepalive(self._transport["ping_interval"], self._transport["ping_timeout"]),
            max_message=self._transport["max_size"],
        )

    def _connected(self) -> SessionPort:
        if self._port is None or self._connecting:
            raise AssertionError(_NOT_YET)
        return self._port

    def _on_ended(self, standalone: Standalone) -> None:
        if self._standalone is standalone:
            self._end_tracking()
            self._port = self._standalone = None

    def _end_tracking(self) -> None:
        if self._tracker is not None:
            self._tracker.end()
            self._tracker = None

    def _played(self, item_id: str, content_index: int, played_ms: float) -> None:
        if self._port is not None:
            self._port.feed(Playback(item_id, content_index, played_ms))

    def _listener_failed(self, error: Exception) -> None:
        if self._port is not None:
            error = presentable(error)
            message = f"A listener of the model failed: {type(error).__name__}: {error}"
            self._port.feed(Trouble(LISTENER_FAILED, message, "client"))


def _address(options: RealtimeModelConfig) -> str:
    return options.get("url") or os.environ.get("VOICEBUS_MODEL_URL") or DEFAULT_URL


def models_of(
    options: RealtimeModelConfig,
    settings: RealtimeSessionModelSettings,
    fallbacks: Sequence[RealtimeModelFallback] = (),
) -> tuple[str, ...]:
    """The models of a session with these options and settings, and of its fallbacks, in order."""
    return models_at(_address(options), settings.get("model_name") or DEFAULT_MODEL, fallbacks)


def reads_options(model: object) -> bool:
    """Whether the options of a connection are read here; a model of a program's own may have keys of its own."""
    return isinstance(model, OpenAIRealtimeWebSocketModel)


def is_plain(model: object) -> bool:
    """Whether a session may drive this model itself: one of ours, none of whose behaviour was replaced."""
    return isinstance(model, OpenAIRealtimeWebSocketModel) and all(
        getattr(type(model), name) is getattr(OpenAIRealtimeWebSocketModel, name) for name in _OVERRIDES
    )


class _Dial:
    """A model's `open` as the connector of a driver. Implements `ModelConnector`."""

    def __init__(
        self,
        model: OpenAIRealtimeWebSocketModel,
        options: RealtimeModelConfig,
        fallback: RealtimeModelFallback | None,
    ) -> None:
        self._model = model
        self._options = options
        self._fallback = fallback

    async def connect(self, listener: ModelListener, *, model: str) -> ModelLink:
        options = self._options if self._fallback is None else await _options_of(self._fallback, self._options)
        return await self._model.open(options, listener=listener, model=model)


async def _options_of(fallback: RealtimeModelFallback, first: RealtimeModelConfig) -> RealtimeModelConfig:
    """How to reach a fallback, beside a first model that is reached by `first`.

    Raises:
        ModelLinkError: as `get_api_key`.
    """
    options: RealtimeModelConfig = {**first, "url": fallback_url(fallback, _address(first))}
    if "api_key" not in fallback and "headers" not in fallback:
        return options
    headers = dict(fallback["headers"]) if "headers" in fallback else without_credentials(first.get("headers") or {})
    options.pop("headers", None)
    if "api_key" in fallback:
        options["api_key"] = fallback["api_key"]
    if headers and not authenticates(headers) and (key := await get_api_key(options.get("api_key"))):
        headers["Authorization"] = authorization(key)
    if headers:
        options["headers"] = headers
    return options


class _TrackedLink:
    """A link whose settings of output audio a playback tracker is told. Implements `ModelLink`."""

    def __init__(self, link: ModelLink, tracker: RealtimePlaybackTracker) -> None:
        self._link = link
        self._tracker = tracker

    def send(self, event: Mapping[str, Any]) -> None:
        if event.get("type") == "session.update":
            output = wire.mapping(wire.mapping(wire.mapping(event, "session"), "audio"), "output")
            if isinstance(output.get("format"), Mapping):
                self._tracker.set_audio_format(format_name(output["format"]))
        self._link.send(event)

    def send_frame(self, frame: bytes) -> None:
        self._link.send_frame(frame)

    async def close(self) -> None:
        await self._link.close()


def _answered(event: RealtimeModelSendToolOutput) -> RealtimeModelItemUpdatedEvent:
    call = event.tool_call
    return RealtimeModelItemUpdatedEvent(
        RealtimeToolCallItem(
            item_id=call.id or "",
            previous_item_id=call.previous_item_id,
            call_id=call.call_id,
            status="completed",
            arguments=call.arguments,
            name=call.name,
            output=event.output,
        )
    )


def _joining(url: str, call_id: str) -> str:
    """The address with the call to join, unless it names one."""
    parts = urlsplit(url)
    query = parse_qsl(parts.query, keep_blank_values=True)
    if not any(name == "call_id" for name, _ in query):
        query.append(("call_id", call_id))
    return urlunsplit(parts._replace(query=urlencode(query)))


class _Transport(TypedDict):
    ping_interval: float | None
    ping_timeout: float | None
    handshake_timeout: float
    max_size: int | None


def _transport(given: Mapping[str, Any]) -> _Transport:
    defaults: dict[str, Any] = {
        "ping_interval": MODEL_PING_INTERVAL_S,
        "ping_timeout": PING_INTERVAL_S,
        "handshake_timeout": CONNECT_TIMEOUT_S,
        "max_size": None,
    }
    if not isinstance(given, Mapping):
        raise UserError(f"transport_config must be a dict, not {given!r}")
    unknown = sorted(str(name) for name in given if name not in defaults)
    if unknown:
        raise UserError(f"transport_config has unknown keys: {', '.join(unknown)}; {', '.join(defaults)} exist")
    for name, value in given.items():
        if value is None and name != "handshake_timeout":
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise UserError(f"transport_config {name} must be a number above 0, not {value!r}")
        if name == "max_size" and not isinstance(value, int):
            raise UserError(f"transport_config max_size must be a whole number of bytes, not {value!r}")
    chosen: _Transport = {**defaults, **given}  # type: ignore[typeddict-item]
    return chosen
