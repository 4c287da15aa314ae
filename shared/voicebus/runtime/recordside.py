"""What a session's recorder is told beside what the caller says: what of the agent's was heard, and consent."""

from collections.abc import Callable
from typing import Any

from voicebus.engine.outputs import CutSound, HoldSound
from voicebus.errors import CommandRefusedError
from voicebus.runtime.placing import Placing
from voicebus.runtime.surroundings import CallRecorder


class RecordSide:
    """`performs` are the engine's outputs that the recorder, or the `placing` of what it hears, has to know of."""

    def __init__(self, recorder: CallRecorder | None, placing: Placing) -> None:
        self._recorder = recorder
        self._placing = placing
        self.performs: dict[type, Callable[[Any], None]] = {CutSound: self._cut, HoldSound: self._hold}

    def consent(self, given: bool) -> bool:
        """The caller agrees to be recorded from now on, or does not; False where there is nothing to take note of.

        Raises:
            CommandRefusedError: `not_recorded`, as nothing would be recorded.
        """
        if self._recorder is not None:
            self._recorder.consent(given)
            return True
        if given:
            raise CommandRefusedError("not_recorded", "this session is not recorded")
        return False

    def _cut(self, output: CutSound) -> None:
        if self._recorder is not None:
            self._recorder.cut(output.item_id, output.content_index, output.heard_ms)

    def _hold(self, output: HoldSound) -> None:
        if self._recorder is not None:
            self._recorder.hold(output.held)
        if not output.held:
            self._placing.back()
