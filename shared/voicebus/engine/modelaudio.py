"""What the model's audio means where it is not just more of a part: who may hear it, and under which ids."""

from voicebus.engine.dialects import MAX_ID_CHARS
from voicebus.engine.inputs import ModelAudio
from voicebus.engine.modelside import ModelSide
from voicebus.engine.outputs import ForwardAudio
from voicebus.engine.parts import Parts


class AudioSide:
    """Begins the parts; what only goes on takes `Session.carry_on`."""

    def __init__(self, parts: Parts, model: ModelSide) -> None:
        self._p = parts
        self._model = model

    def heard(self, item: ModelAudio) -> None:
        """The first delta of a part, or one that nobody is to hear."""
        p = self._p
        if len(item.item_id) > MAX_ID_CHARS or len(item.response_id) > MAX_ID_CHARS:
            p.out.ignore("audio with an id that is too long")
            return
        response = self._model.touch(item.response_id)
        if response is None or response.muted:
            return
        p.settings.voice_locked = True
        if response.out_of_band:
            # Nothing of it is in the conversation: there is nothing to truncate, and nothing to record.
            p.out.add(self._address(item))
            return
        part = p.playback.parts.get((item.item_id, item.content_index))
        if part is None:
            part = p.playback.begin(response, item.item_id, item.content_index, p.out.now)
            p.out.emit("audio_start", item_id=item.item_id, content_index=item.content_index)
            p.transcript.sounds(item.item_id, response, p.playback.starts_at(part, p.out.now))
            if response.first_audio is None:
                p.turns.responses.sounded(response)
            if not response.active:
                p.untold.ended(response)
        p.playback.receive(part, item.size, p.out.now)
        forward = self._address(item)
        if not response.agent.holds:
            part.forward = forward
        p.out.add(forward)

    def _address(self, item: ModelAudio) -> ForwardAudio:
        """Under which ids the client knows this audio."""
        response_id, output_index = item.response_id, item.output_index
        if self._p.face is not None:
            response_id, output_index = self._p.face.view.audio_address(response_id, output_index)
        return ForwardAudio(response_id, item.item_id, output_index, item.content_index)
