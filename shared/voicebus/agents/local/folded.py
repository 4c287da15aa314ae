"""Audio and text as they wait for a program: one small object for the three events that are shown of each delta.

Nearly everything that waits is of these. Events are made when they are read, so what waits stays out of the garbage
collector's sight: it would go through all of it again and again, at a quarter of the whole cost of a delta.
"""

from typing import Final

import msgspec

from voicebus.agents import events as shown
from voicebus.agents.events import RealtimeSessionEvent
from voicebus.agents.models.events import RealtimeModelRawServerEvent
from voicebus.agents.models.translate import audio_event, text_event
from voicebus.engine.outputs import ForwardAudio
from voicebus.runtime.frames import AudioDelta, TextDelta, event_of

EVENTS: Final = 3
"""How many events one delta becomes."""


class Folded(msgspec.Struct, frozen=True, gc=False):
    """The events of one delta."""

    def unfold(self) -> tuple[RealtimeSessionEvent, RealtimeSessionEvent, RealtimeSessionEvent]:
        """All events, in order: the server's, that of the model layer, and the session's."""
        raise NotImplementedError

    def last(self) -> RealtimeSessionEvent:
        """The last of them alone."""
        return self.unfold()[-1]


class FoldedAudio(Folded, frozen=True, gc=False):
    """One delta of audio that was forwarded, as it came, and where it belongs."""

    where: ForwardAudio
    delta: AudioDelta
    info: shown.RealtimeEventInfo
    seq: int

    def unfold(self) -> tuple[RealtimeSessionEvent, RealtimeSessionEvent, RealtimeSessionEvent]:
        """The last two are about the same event of the model layer."""
        where, delta, info, seq = self.where, self.delta, self.info, self.seq
        raw, audio = RealtimeModelRawServerEvent(event_of(delta)), audio_event(delta)
        return (
            shown.RealtimeRawModelEvent(raw, info, "raw_model_event", seq),
            shown.RealtimeRawModelEvent(audio, info, "raw_model_event", seq),
            shown.RealtimeAudio(audio, where.item_id, where.content_index, info, "audio", seq),
        )


class FoldedText(Folded, frozen=True, gc=False):
    """One delta of what the agent says, and all of its item so far."""

    delta: TextDelta
    text: str
    info: shown.RealtimeEventInfo
    seq: int

    def unfold(self) -> tuple[RealtimeSessionEvent, RealtimeSessionEvent, RealtimeSessionEvent]:
        delta, text, info, seq = self.delta, self.text, self.info, self.seq
        raw = RealtimeModelRawServerEvent(event_of(delta))
        said = shown.RealtimeTranscriptDelta(
            delta.item_id, "assistant", delta.delta, text, info, "transcript_delta", seq
        )
        return (
            shown.RealtimeRawModelEvent(raw, info, "raw_model_event", seq),
            shown.RealtimeRawModelEvent(text_event(delta), info, "raw_model_event", seq),
            said,
        )


FOLDED: Final[frozenset[type]] = frozenset({FoldedAudio, FoldedText})
"""All kinds of them. Looked up by type: every event is asked, and `isinstance` of a struct costs ten times as much."""
