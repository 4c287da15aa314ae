"""Runner and session for programs of openai-agents that match each kind of event and allow no other.

Sessions show the events that openai-agents has, and leave ours out (`transcript_delta`, `audio_start`,
`model_reconnected` and so on), so that a match that ends with `assert_never(event)` holds, for type checkers too.
All other names are those of `voicebus`, and may be imported from here as well.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, cast, get_args

import voicebus
from voicebus.agents import events
from voicebus.agents.items import RealtimeItem
from voicebus.agents.models.model import RealtimeModelConfig
from voicebus.agents.runner import RealtimeRunner as _Runner
from voicebus.agents.session import RealtimeSession as _Session

MYPY = False  # mypy takes it for true, and cannot have names of its own beside those of another module
if TYPE_CHECKING and not MYPY:
    from voicebus import *  # noqa: F403

__all__ = ["RealtimeItem", "RealtimeModelConfig", "RealtimeRunner", "RealtimeSession", "RealtimeSessionEvent"]
if TYPE_CHECKING:
    __all__ += voicebus.__all__
else:  # the others are here as soon as they are asked for, and none is imported before
    __all__ += [name for name in voicebus.__all__ if name not in __all__]

RealtimeSessionEvent: TypeAlias = (
    events.RealtimeAgentStartEvent
    | events.RealtimeAgentEndEvent
    | events.RealtimeHandoffEvent
    | events.RealtimeToolStart
    | events.RealtimeToolEnd
    | events.RealtimeToolApprovalRequired
    | events.RealtimeRawModelEvent
    | events.RealtimeAudioEnd
    | events.RealtimeAudio
    | events.RealtimeAudioInterrupted
    | events.RealtimeError
    | events.RealtimeHistoryUpdated
    | events.RealtimeHistoryAdded
    | events.RealtimeGuardrailTripped
    | events.RealtimeInputAudioTimeoutTriggered
)
"""What a session shows: every event of openai-agents."""


class _Known(AsyncIterator[RealtimeSessionEvent]):
    """Of a session's events those that openai-agents has."""

    def __init__(self, shown: AsyncIterator[events.RealtimeSessionEvent]) -> None:
        self._shown = shown

    async def __anext__(self) -> RealtimeSessionEvent:
        while not isinstance(event := await anext(self._shown), get_args(RealtimeSessionEvent)):
            pass
        return cast("RealtimeSessionEvent", event)


class RealtimeSession(_Session):
    """A `voicebus.RealtimeSession` whose loops see the events of openai-agents, and no others."""

    def __aiter__(self) -> AsyncIterator[RealtimeSessionEvent]:
        """The events, as `voicebus.RealtimeSession` has them."""
        return _Known(super().__aiter__())


class RealtimeRunner(_Runner):
    """A `voicebus.RealtimeRunner` that makes sessions of this module."""

    async def run(
        self,
        *,
        context: Any = None,
        model_config: RealtimeModelConfig | None = None,
        history: Sequence[RealtimeItem | Mapping[str, Any]] = (),
    ) -> RealtimeSession:
        """As `voicebus.RealtimeRunner.run`.

        Raises:
            UserError: an argument cannot be; the text names it.
        """
        session = await super().run(context=context, model_config=model_config, history=history)
        return cast("RealtimeSession", session)

    def _session_type(self) -> type[_Session]:
        return RealtimeSession


def __getattr__(name: str) -> Any:
    if name.startswith("__"):  # what a module is: with `__path__` this one would be a package, of second copies of ours
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(voicebus, name)
