"""The ring of the client's audio between two sockets. A second is 48,000 bytes, in frames of 100 ms."""

import base64
from collections.abc import Mapping
from typing import Any

from voicebus.runtime.frames import append_frame
from voicebus.runtime.input_audio import MAX_PIECES, InputAudio

COMMIT = {"type": "input_audio_buffer.commit", "event_id": "c"}


class Link:
    """What a socket was sent: numbers of frames, and types of events."""

    def __init__(self) -> None:
        self.got: list[Any] = []

    def send(self, event: Mapping[str, Any]) -> None:
        self.got.append(event["type"].rpartition(".")[2])

    def send_frame(self, frame: bytes) -> None:
        self.got.append(number_of(frame))

    async def close(self) -> None: ...


def frame(number: int) -> bytes:
    """100 ms that begin with their number."""
    samples = number.to_bytes(4, "little") + bytes(4796)
    return append_frame(base64.b64encode(samples).decode())


def number_of(sent: bytes) -> int:
    text = sent[sent.find(b'"audio":"') + 9 : -2]
    return int.from_bytes(base64.b64decode(text)[:4], "little")


def say(audio: InputAudio, numbers: range) -> None:
    for number in numbers:
        audio.append(frame(number))


def detecting(audio: InputAudio, detection: Any) -> None:
    hearing = {"format": {"type": "audio/pcm"}, "turn_detection": detection}
    audio.heard("session.updated", {"session": {"audio": {"input": hearing}}})


def test_frames_are_bounded_in_number_whatever_is_in_them() -> None:
    audio, link = InputAudio(), Link()
    detecting(audio, None)
    empty, tiny = append_frame(""), append_frame(base64.b64encode(bytes(4)).decode())
    for _ in range(MAX_PIECES):
        audio.append(empty)
    audio.append(frame(7))
    audio.release(link, whole=True)
    assert link.got == [7], "what holds no audio is not kept"
    audio.hold()
    for _ in range(MAX_PIECES + 5):
        audio.append(tiny)
    again = Link()
    audio.release(again, whole=True)
    assert len(again.got) == MAX_PIECES


def test_commits_that_no_model_answers_are_bounded_too_and_the_oldest_goes() -> None:
    audio, link = InputAudio(), Link()
    audio.append(frame(7))
    for _ in range(MAX_PIECES + 5):
        audio.send(COMMIT)
    audio.release(link, whole=True)
    assert link.got == ["commit"] * MAX_PIECES


def test_audio_goes_through_at_once_and_the_newest_five_seconds_follow_to_the_next_socket() -> None:
    audio, first, second = InputAudio(), Link(), Link()
    audio.release(first, whole=True)
    say(audio, range(80))
    assert first.got == list(range(80))
    audio.hold()
    say(audio, range(80, 90))
    audio.release(second, whole=False)
    assert second.got == list(range(40, 90))
    say(audio, range(90, 91))
    assert second.got[-1] == 90
    assert len(first.got) == 80


def test_a_socket_that_is_left_in_order_hands_over_all_that_was_not_committed() -> None:
    audio, first, second = InputAudio(), Link(), Link()
    audio.release(first, whole=True)
    detecting(audio, None)
    say(audio, range(200))
    audio.release(second, whole=True)
    assert second.got == list(range(200))


def test_a_commit_keeps_its_place_until_the_model_has_carried_it_out() -> None:
    audio, first, second, third = InputAudio(), Link(), Link(), Link()
    audio.release(first, whole=True)
    detecting(audio, None)
    say(audio, range(3))
    audio.send(COMMIT)
    say(audio, range(3, 5))
    audio.hold()
    audio.release(second, whole=False)
    assert second.got == [0, 1, 2, "commit", 3, 4]
    audio.heard("input_audio_buffer.committed", {"item_id": "item_1"})
    audio.release(third, whole=False)
    assert third.got == [3, 4]


def test_what_the_model_took_for_speech_is_not_sent_again() -> None:
    audio, first, second = InputAudio(), Link(), Link()
    audio.release(first, whole=True)
    say(audio, range(20))
    audio.heard("input_audio_buffer.speech_started", {"audio_start_ms": 300})
    audio.heard("input_audio_buffer.speech_stopped", {"audio_end_ms": 1500})
    audio.heard("input_audio_buffer.committed", {"item_id": "item_1"})
    audio.release(second, whole=False)
    assert second.got == [15, 16, 17, 18, 19]


def test_speech_is_kept_for_its_item_until_its_words_are_known() -> None:
    audio = InputAudio()
    audio.release(Link(), whole=True)
    say(audio, range(20))
    audio.heard("input_audio_buffer.speech_started", {"audio_start_ms": 300})
    audio.heard("input_audio_buffer.speech_stopped", {"audio_end_ms": 1500})
    audio.heard("input_audio_buffer.committed", {"item_id": "item_1"})
    event = {"type": "conversation.item.create", "item": {"id": "item_1", "role": "user", "content": ["words"]}}
    (part,) = audio.item(event, "item_1")["item"]["content"]
    assert part["type"] == "input_audio"
    samples = base64.b64decode(part["audio"])
    assert len(samples) == 12 * 4800
    assert int.from_bytes(samples[:4], "little") == 3
    audio.heard("conversation.item.input_audio_transcription.completed", {"item_id": "item_1"})
    assert audio.item(event, "item_1") == event


def test_cleared_audio_is_gone_and_a_refused_commit_too() -> None:
    audio, link = InputAudio(), Link()
    say(audio, range(5))
    audio.send({"type": "input_audio_buffer.clear"})
    say(audio, range(5, 7))
    audio.send(COMMIT)
    audio.refused()
    audio.release(link, whole=False)
    assert link.got == [5, 6]


def test_no_more_than_a_minute_is_kept_whatever_is_said() -> None:
    audio, link = InputAudio(), Link()
    detecting(audio, None)
    say(audio, range(700))
    audio.release(link, whole=True)
    assert link.got == list(range(100, 700))
