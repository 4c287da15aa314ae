"""Runner and session whose loops see the events of openai-agents, and no others."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, TypeAlias, cast, get_args

from voicebus.agents import events
from voicebus.agents.items import RealtimeItem
from voicebus.agents.models.model import RealtimeModelConfig
from voicebus.agents.runner import RealtimeRunner as _Runner
from voicebus.agents.session import RealtimeSession as _Session

__all__ = ["RealtimeRunner", "RealtimeSession", "RealtimeSessionEvent"]

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
