"""`RealtimeModel`: the port between a session and whatever speaks. Subclass it to bring a transport of your own."""

import abc
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, NotRequired, TypedDict

from voicebus.agents.models.events import RealtimeModelEvent
from voicebus.agents.models.sends import RealtimeModelSendEvent

if TYPE_CHECKING:
    from voicebus.agents.config import RealtimeSessionModelSettings
    from voicebus.agents.models.playback import RealtimePlaybackTracker


class RealtimeModelConfig(TypedDict):
    """How to reach a model, and the settings to begin with.

    `api_key`: the key, or a function (sync or async) that is called for each connection. `url` replaces the whole
    address. With `headers` nothing is added to authenticate. `call_id` joins an existing SIP or WebRTC call.
    """

    api_key: NotRequired[str | Callable[[], str | Awaitable[str]]]
    url: NotRequired[str]
    headers: NotRequired[Mapping[str, str]]
    initial_model_settings: NotRequired["RealtimeSessionModelSettings"]
    playback_tracker: NotRequired["RealtimePlaybackTracker"]
    call_id: NotRequired[str]


class RealtimeModelListener(abc.ABC):
    """Who hears from a model."""

    @abc.abstractmethod
    async def on_event(self, event: RealtimeModelEvent) -> None:
        """Called for each event, in order. What it raises harms nobody else."""


class RealtimeModel(abc.ABC):
    """A model to talk to. Events come in order; a model sequences its own responses and truncates what was not heard.

    Raises, in every implementation:
        AssertionError: `connect` twice ("Already connected"), or sending before it ("Not connected").
    """

    @abc.abstractmethod
    async def connect(self, options: RealtimeModelConfig) -> None:
        """Open the connection and apply `initial_model_settings`."""

    @abc.abstractmethod
    def add_listener(self, listener: RealtimeModelListener) -> None:
        """Tell `listener` every event from now on."""

    @abc.abstractmethod
    def remove_listener(self, listener: RealtimeModelListener) -> None:
        """Tell `listener` no more events."""

    @abc.abstractmethod
    async def send_event(self, event: RealtimeModelSendEvent) -> None:
        """Do what `event` says: send a message, an output, sound, new settings, or stop the response.

        What asks for a response does not wait for it, and where one runs, asks when that has ended.
        """

    async def send_event_if(self, event: RealtimeModelSendEvent, send_if: Callable[[], bool]) -> bool:
        """Send `event` if `send_if()` still holds when its turn has come; whether it was sent.

        The default sends nothing: only a model that sequences its responses can tell when a turn has come.
        """
        return False

    def _retire_response_audio(self, response_id: str) -> None:  # noqa: B027 - nothing to do is a fine answer
        """Nothing will be asked about this response's audio any more."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Close the connection; does nothing where there is none."""
