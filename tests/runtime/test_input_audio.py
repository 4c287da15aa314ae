"""The ring of the client's audio between two sockets. A second is 48,000 bytes, in frames of 100 ms."""

import base64
from collections.abc import Mapping
from typing import Any

import pytest

from voicebus.engine.inputs import Spoken
from voicebus.runtime.frames import append_frame, appended
from voicebus.runtime.input_audio import MAX_PIECES, InputAudio
from voicebus.runtime.placing import Placing

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


class Frames(Link):
    """What a socket was sent of sound."""

    samples = b""

    def send_frame(self, frame: bytes) -> None:
        self.samples += appended(frame)


def frame(number: int) -> bytes:
    """100 ms that begin with their number."""
    samples = number.to_bytes(4, "little") + bytes(4796)
    return append_frame(base64.b64encode(samples).decode())


def number_of(sent: bytes) -> int:
    text = sent[sent.find(b'"audio":"') + 9 : -2]
    return int.from_bytes(base64.b64decode(text)[:4], "little")


def say(audio: InputAudio, numbers: range) -> None:
    for number in numbers:
        audio.append(frame(number), number / 10)


def detecting(audio: InputAudio, detection: Any) -> None:
    hearing = {"format": {"type": "audio/pcm"}, "turn_detection": detection}
    audio.heard("session.updated", {"session": {"audio": {"input": hearing}}})


def test_frames_are_bounded_in_number_whatever_is_in_them() -> None:
    audio, link = InputAudio(Placing(0.0)), Link()
    detecting(audio, None)
    empty, tiny = append_frame(""), append_frame(base64.b64encode(bytes(4)).decode())
    for _ in range(MAX_PIECES):
        audio.append(empty, 0.0)
    audio.append(frame(7), 0.0)
    audio.release(link, whole=True)
    assert link.got == [7], "what holds no audio is not kept"
    audio.hold()
    for _ in range(MAX_PIECES + 5):
        audio.append(tiny, 0.0)
    again = Link()
    audio.release(again, whole=True)
    assert len(again.got) == MAX_PIECES


@pytest.mark.parametrize("samples", [b"\x01", bytes(2), bytes(3), bytes(2400)])
def test_samples_count_the_same_whether_their_size_is_told_or_not(samples: bytes) -> None:
    told, counted = InputAudio(Placing(0.0)), InputAudio(Placing(0.0))
    frame = append_frame(base64.b64encode(samples).decode())
    assert told.append(frame, 1.0, len(samples)) == counted.append(frame, 1.0)
    assert told.append(append_frame(""), 1.0, 0) is counted.append(append_frame(""), 1.0) is None


def test_commits_that_no_model_answers_are_bounded_too_and_the_oldest_goes() -> None:
    audio, link = InputAudio(Placing(0.0)), Link()
    audio.append(frame(7), 0.0)
    for _ in range(MAX_PIECES + 5):
        audio.send(COMMIT)
    audio.release(link, whole=True)
    assert link.got == ["commit"] * MAX_PIECES


def test_audio_goes_through_at_once_and_the_last_five_seconds_follow_to_the_next_socket_with_all_since() -> None:
    audio, first, second = InputAudio(Placing(0.0)), Link(), Link()
    audio.release(first, whole=True)
    say(audio, range(80))
    assert first.got == list(range(80))
    audio.hold()
    say(audio, range(80, 90))
    audio.release(second, whole=False)
    assert second.got == list(range(30, 90))
    say(audio, range(90, 91))
    assert second.got[-1] == 90
    assert len(first.got) == 80


def test_all_that_was_said_while_there_was_no_socket_follows_to_the_next_up_to_a_minute() -> None:
    audio, first, second, third, fourth = InputAudio(Placing(0.0)), Link(), Link(), Link(), Link()
    audio.release(first, whole=True)
    say(audio, range(80))
    audio.hold()
    say(audio, range(80, 280))
    audio.hold()
    say(audio, range(280, 300))
    audio.release(second, whole=False)
    assert second.got == list(range(30, 300))
    audio.release(third, whole=False)
    assert third.got == list(range(250, 300))
    audio.hold()
    say(audio, range(300, 1000))
    audio.release(fourth, whole=False)
    assert fourth.got == list(range(400, 1000))


def test_a_socket_that_is_lost_before_it_can_have_told_of_anything_has_heard_nothing() -> None:
    audio, first, second, third, fourth = InputAudio(Placing(0.0)), Link(), Link(), Link(), Link()
    audio.release(first, whole=True)
    say(audio, range(80))
    audio.hold()
    say(audio, range(80, 280))
    audio.release(second, whole=False)
    say(audio, range(280, 300))
    audio.hold()
    say(audio, range(300, 310))
    audio.release(third, whole=False)
    assert third.got == list(range(30, 310))
    say(audio, range(310, 360))
    audio.hold()
    audio.release(fourth, whole=False)
    assert fourth.got == list(range(310, 360)), "that has had time to tell of what it was sent"


def test_a_new_socket_that_is_lost_at_once_loses_nothing_of_what_it_was_handed_over() -> None:
    audio, second, third = InputAudio(Placing(0.0)), Link(), Link()
    audio.release(Link(), whole=True)
    audio.heard("input_audio_buffer.speech_started", {"audio_start_ms": 0})
    say(audio, range(200))
    audio.hold()
    audio.release(second, whole=True)
    assert second.got == list(range(200))
    say(audio, range(200, 210))
    audio.hold()
    audio.release(third, whole=False)
    assert third.got == list(range(210))


def test_of_what_a_lost_socket_had_made_an_item_of_nothing_is_sent_again_however_new_it_was() -> None:
    audio, second = InputAudio(Placing(0.0)), Link()
    say(audio, range(200))
    audio.release(Link(), whole=False)
    say(audio, range(200, 205))
    audio.heard("input_audio_buffer.speech_started", {"audio_start_ms": 3000})
    audio.heard("input_audio_buffer.speech_stopped", {"audio_end_ms": 6000})
    audio.heard("input_audio_buffer.committed", {"item_id": "item_1"})
    audio.hold()
    audio.release(second, whole=False)
    assert second.got == list(range(60, 205))


def test_a_socket_that_is_left_in_order_hands_over_all_that_was_not_committed() -> None:
    audio, first, second = InputAudio(Placing(0.0)), Link(), Link()
    audio.release(first, whole=True)
    detecting(audio, None)
    say(audio, range(200))
    audio.release(second, whole=True)
    assert second.got == list(range(200))


def test_a_commit_keeps_its_place_until_the_model_has_carried_it_out() -> None:
    audio, first, second, third = InputAudio(Placing(0.0)), Link(), Link(), Link()
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
    audio, first, second = InputAudio(Placing(0.0)), Link(), Link()
    audio.release(first, whole=True)
    say(audio, range(20))
    audio.heard("input_audio_buffer.speech_started", {"audio_start_ms": 300})
    audio.heard("input_audio_buffer.speech_stopped", {"audio_end_ms": 1500})
    audio.heard("input_audio_buffer.committed", {"item_id": "item_1"})
    audio.release(second, whole=False)
    assert second.got == [15, 16, 17, 18, 19]


@pytest.mark.parametrize(("kind", "second"), [("audio/pcm", 48_000), ("audio/pcmu", 8_000)])
def test_of_a_frame_in_which_speech_ended_only_what_is_behind_it_is_sent_again(kind: str, second: int) -> None:
    audio, link = InputAudio(Placing(0.0)), Frames()
    audio.understands(kind)
    audio.release(Link(), whole=True)
    samples = b"".join(number.to_bytes(1, "little") * (second // 10) for number in range(20))
    audio.append(append_frame(base64.b64encode(samples).decode()), 2.0)
    audio.heard("input_audio_buffer.speech_started", {"audio_start_ms": 300})
    audio.heard("input_audio_buffer.speech_stopped", {"audio_end_ms": 1500})
    spoken = audio.heard("input_audio_buffer.committed", {"item_id": "item_1"})
    assert isinstance(spoken, Spoken)
    event = {"type": "conversation.item.create", "item": {"id": "item_1", "role": "user", "content": ["words"]}}
    (part,) = audio.item(event, "item_1")["item"]["content"]
    assert base64.b64decode(part["audio"]) == samples[: second // 10 * 15]
    audio.release(link, whole=False)
    assert link.samples == samples[second // 10 * 15 :]
    audio.heard("input_audio_buffer.speech_started", {"audio_start_ms": 100})
    audio.heard("input_audio_buffer.speech_stopped", {"audio_end_ms": 450})
    again = audio.heard("input_audio_buffer.committed", {"item_id": "item_2"})
    assert isinstance(again, Spoken)
    assert again.ended - spoken.ended == pytest.approx(0.45), "it lies where it was said"


def test_speech_is_kept_for_its_item_until_its_words_are_known() -> None:
    audio = InputAudio(Placing(0.0))
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


# --- where what was said lies in time ------------------------------------------------------------

LOUD = (9000).to_bytes(2, "little")


def sound(audio: InputAudio, came: float, *, quiet_ms: int = 0, ms: int = 100) -> None:
    """A frame that comes at `came` (s) and is loud after `quiet_ms`."""
    samples = bytes(48 * quiet_ms) + LOUD * (24 * (ms - quiet_ms))
    audio.append(append_frame(base64.b64encode(samples).decode()), came)


def silence(audio: InputAudio, first: float, count: int) -> None:
    for number in range(count):
        sound(audio, first + number / 10, quiet_ms=100)


def detected(audio: InputAudio, start_ms: int, end_ms: int) -> tuple[float, float]:
    audio.heard("input_audio_buffer.speech_started", {"audio_start_ms": start_ms})
    audio.heard("input_audio_buffer.speech_stopped", {"audio_end_ms": end_ms})
    return committed(audio)


def committed(audio: InputAudio) -> tuple[float, float]:
    """From when to when (s) the item was spoken."""
    spoken = audio.heard("input_audio_buffer.committed", {"item_id": "item_1"})
    assert isinstance(spoken, Spoken)
    assert spoken.item_id == "item_1"
    return spoken.started, spoken.ended


def hearing(**detection: Any) -> InputAudio:
    audio = InputAudio(Placing(0.0))
    audio.release(Link(), whole=True)
    detecting(audio, {"type": "server_vad", "prefix_padding_ms": 300} | detection)
    return audio


def test_speech_begins_behind_what_the_model_puts_before_it() -> None:
    audio = hearing(prefix_padding_ms=200)
    silence(audio, 0.1, 10)
    for number in range(10):
        sound(audio, 1.1 + number / 10)
    silence(audio, 2.1, 5)
    assert detected(audio, 800, 2500) == pytest.approx((1.0, 2.5))


def test_speech_that_begins_sooner_than_so_much_could_be_put_before_it_begins_where_it_is_loud() -> None:
    audio = hearing()
    sound(audio, 5.1, quiet_ms=40)
    for number in range(9):
        sound(audio, 5.2 + number / 10)
    silence(audio, 6.1, 5)
    assert detected(audio, 0, 1500) == pytest.approx((5.04, 6.5))
    sound(audio, 6.6, quiet_ms=50)  # at once behind the turn before
    silence(audio, 6.7, 9)
    assert detected(audio, 1500, 2500) == pytest.approx((6.55, 7.5))


@pytest.mark.parametrize("prefix_ms", [0, 120, 300, 700])
def test_of_a_model_that_does_not_tell_what_it_puts_before_the_words_they_begin_behind_the_quiet(
    prefix_ms: int,
) -> None:
    audio = InputAudio(Placing(0.0))
    audio.release(Link(), whole=True)
    detecting(audio, {"type": "semantic_vad"})
    silence(audio, 0.1, 20)
    sound(audio, 2.1, quiet_ms=40)
    for number in range(9):
        sound(audio, 2.2 + number / 10)
    silence(audio, 3.1, 5)
    assert detected(audio, 2040 - prefix_ms, 3500) == pytest.approx((2.04, 3.5))


def test_where_it_is_never_quiet_a_model_that_does_not_tell_is_thought_to_put_300_ms_before_the_words() -> None:
    audio = InputAudio(Placing(0.0))
    audio.release(Link(), whole=True)
    detecting(audio, {"type": "semantic_vad"})
    for number in range(30):
        sound(audio, 0.1 + number / 10)
    assert detected(audio, 1050, 2500) == pytest.approx((1.35, 2.5))


def test_speech_of_which_the_model_tells_when_much_more_has_come_than_was_spoken_lies_where_it_begins() -> None:
    audio = hearing()
    for number in range(100):
        sound(audio, 0.1 + number / 1000, quiet_ms=0 if 10 <= number < 40 else 100)
    began, ended = detected(audio, 700, 4500)
    assert (began, ended) == pytest.approx((1.0, 4.5))


def test_speech_that_was_held_up_lies_where_it_was_spoken_however_late_the_model_tells() -> None:
    audio = hearing()
    silence(audio, 0.1, 10)
    for _ in range(3):
        sound(audio, 1.3)  # at once
    for number in range(7):
        sound(audio, 1.4 + number / 10)
    silence(audio, 2.1, 30)
    assert detected(audio, 700, 2500) == pytest.approx((1.0, 2.5))


def test_what_another_socket_hears_again_lies_where_it_was_said() -> None:
    audio = hearing()
    silence(audio, 0.1, 80)
    audio.hold()
    sound(audio, 8.1)
    audio.release(Link(), whole=False)  # five seconds, and what came since
    silence(audio, 8.2, 5)
    assert detected(audio, 4700, 5500) == pytest.approx((8.0, 8.5))


def test_what_was_said_without_a_socket_lies_where_it_was_said_and_is_kept_though_more_came_since() -> None:
    audio = hearing()
    silence(audio, 0.1, 80)
    audio.hold()
    silence(audio, 8.1, 10)
    for number in range(10):
        sound(audio, 9.1 + number / 10)
    silence(audio, 10.1, 100)
    audio.release(Link(), whole=False)  # from 3.0 on
    silence(audio, 20.1, 3)
    assert detected(audio, 5700, 7500) == pytest.approx((9.0, 10.5))
    (part,) = audio.item({"item": {}}, "item_1")["item"]["content"]
    assert len(base64.b64decode(part["audio"])) == 18 * 4800


def test_a_turn_that_is_ended_by_hand_begins_where_it_is_loud() -> None:
    audio = hearing()
    detecting(audio, None)
    silence(audio, 0.1, 10)
    sound(audio, 1.1, quiet_ms=30)
    sound(audio, 1.2)
    audio.send(COMMIT)
    assert committed(audio) == pytest.approx((1.03, 1.2))


@pytest.mark.parametrize(
    ("came", "quiet", "lies"), [(3.0, 0, 2.0), (0.2, 10, 1.1)], ids=["taken for held up", "ahead of the clock"]
)
def test_sound_that_came_at_once_lies_up_to_a_second_before_it_came(came: float, quiet: int, lies: float) -> None:
    audio = hearing()
    detecting(audio, None)
    silence(audio, 0.1, 1)
    for number in range(20):
        sound(audio, came, quiet_ms=100 if number < quiet else 0)
    audio.send(COMMIT)
    began, _ = committed(audio)
    assert began == pytest.approx(lies)


def test_a_telephones_speech_is_placed_by_its_own_measure() -> None:
    audio = hearing()
    audio.understands("audio/pcmu")
    for number in range(20):
        quiet, loud = b"\xff" * 160, b"\x90" * 160
        frame_ = append_frame(base64.b64encode(quiet if number < 10 else loud).decode())
        audio.append(frame_, 1.02 + number / 50)
    assert detected(audio, 0, 400) == pytest.approx((1.2, 1.4))


def test_of_speech_whose_place_the_model_does_not_tell_nothing_is_said() -> None:
    audio = hearing()
    silence(audio, 0.1, 10)
    audio.heard("input_audio_buffer.speech_started", {})
    audio.heard("input_audio_buffer.speech_stopped", {})
    assert audio.heard("input_audio_buffer.committed", {"item_id": "item_1"}) is None


@pytest.mark.parametrize("odd", [1e308, -1e308, 10**400], ids=["float", "below", "integer"])
def test_of_what_no_server_can_put_before_the_words_nothing_is_put_there(odd: object) -> None:
    audio = hearing(prefix_padding_ms=odd)
    silence(audio, 0.1, 10)
    assert detected(audio, 200, 700) == pytest.approx((0.2, 0.7))


def test_cleared_audio_is_gone_and_a_refused_commit_too() -> None:
    audio, link = InputAudio(Placing(0.0)), Link()
    say(audio, range(5))
    audio.send({"type": "input_audio_buffer.clear"})
    say(audio, range(5, 7))
    audio.send(COMMIT)
    audio.refused()
    audio.release(link, whole=False)
    assert link.got == [5, 6]


def test_no_more_than_a_minute_is_kept_whatever_is_said() -> None:
    audio, link = InputAudio(Placing(0.0)), Link()
    detecting(audio, None)
    say(audio, range(700))
    audio.release(link, whole=True)
    assert link.got == list(range(100, 700))
