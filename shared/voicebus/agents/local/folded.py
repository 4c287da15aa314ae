"""Audio as it waits for a program: one small object for the three events that are shown of each delta.

Nearly everything that waits is audio. Events are made when they are read, so what waits stays out of the garbage
collector's sight: it would go through all of it again and again, at a quarter of the whole cost of a delta.
"""

from typing import Final

import msgspec

from voicebus.agents import events as shown
from voicebus.agents.models.events import RealtimeModelAudioEvent, RealtimeModelRawServerEvent
from voicebus.agents.models.translate import audio_event, raw_audio
from voicebus.engine.outputs import ForwardAudio
from voicebus.runtime.frames import AudioDelta

EVENTS: Final = 3
"""How many events one delta becomes."""


class FoldedAudio(msgspec.Struct, frozen=True, gc=False):
    """One delta of audio that was forwarded, as it came, and where it belongs."""

    where: ForwardAudio
    delta: AudioDelta
    info: shown.RealtimeEventInfo
    seq: int

    def unfold(self) -> tuple[shown.RealtimeRawModelEvent, shown.RealtimeRawModelEvent, shown.RealtimeAudio]:
        """All events, in order; the last two are about the same one of the model layer."""
        audio, info, seq = audio_event(self.delta), self.info, self.seq
        raw = RealtimeModelRawServerEvent(raw_audio(self.delta))
        return (
            shown.RealtimeRawModelEvent(raw, info, "raw_model_event", seq),
            shown.RealtimeRawModelEvent(audio, info, "raw_model_event", seq),
            self._shown(audio),
        )

    def audio(self) -> shown.RealtimeAudio:
        """The last of them alone."""
        return self._shown(audio_event(self.delta))

    def _shown(self, audio: RealtimeModelAudioEvent) -> shown.RealtimeAudio:
        where = self.where
        return shown.RealtimeAudio(audio, where.item_id, where.content_index, self.info, "audio", self.seq)
