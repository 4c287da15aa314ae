"""A session's recorder, and what is said where there is none."""

import pytest

from voicebus.engine.outputs import CutSound, HoldSound
from voicebus.errors import CommandRefusedError
from voicebus.runtime.placing import Frame, Placing
from voicebus.runtime.recordside import RecordSide


class Recorder:
    def __init__(self) -> None:
        self.told: list[object] = []

    def hear(self, frame: Frame) -> None:
        self.told.append(frame)

    def consent(self, given: bool) -> None:
        self.told.append(given)

    def cut(self, item_id: str, content_index: int, heard_ms: float) -> None:
        self.told.append((item_id, content_index, heard_ms))

    def hold(self, held: bool) -> None:
        self.told.append(held)


def test_the_recorder_is_told_what_the_engine_decides_and_what_the_caller_agrees_to() -> None:
    recorder = Recorder()
    side = RecordSide(recorder, Placing(0.0))
    assert side.consent(False)
    for output in (CutSound("item", 1, 20.0), HoldSound(True)):
        side.performs[type(output)](output)
    assert recorder.told == [False, ("item", 1, 20.0), True]


def test_without_a_recorder_only_consent_is_refused() -> None:
    side = RecordSide(None, Placing(0.0))
    for output in (CutSound("item", 1, 20.0), HoldSound(True)):
        side.performs[type(output)](output)
    assert not side.consent(False)
    with pytest.raises(CommandRefusedError, match="this session is not recorded"):
        side.consent(True)
