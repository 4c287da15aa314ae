"""The input buffer, turn detection on appended audio, and transcription."""

from typing import Any

import pytest

from services.model_simulator.bench import MANUAL, Bench, Say, error, joined, only, silence, speech, types
from voicebus_services.model_simulator import tape
from voicebus_services.model_simulator.protocol.audio import base64_text, from_pcm16_24k
from voicebus_services.model_simulator.protocol.quirks import Quirks

TURN = [
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
    "conversation.item.added",
    "conversation.item.done",
]


def manual() -> Bench:
    bench = Bench()
    bench.send("session.update", session=MANUAL)
    return bench


def vad(**settings: Any) -> Bench:
    bench = Bench()
    detection = {"type": "server_vad", "create_response": False, "silence_duration_ms": 500, **settings}
    bench.update(audio={"input": {"turn_detection": detection}})
    return bench


def test_without_turn_detection_no_amount_of_audio_yields_an_event() -> None:
    bench = manual()
    assert bench.append(speech(3000) + silence(3000) + speech(3000), frame=48_000) == []


@pytest.mark.parametrize("audio", ["AAA", "AAAA!AAA", "\u00e4\u00e4\u00e4\u00e4", "AAAA="])
def test_audio_that_is_not_base64_is_an_error_and_leaves_the_buffer_unchanged(audio: str) -> None:
    bench = manual()
    bench.append(silence(150))
    refused = error(bench.send("input_audio_buffer.append", audio=audio, event_id="e1"))
    assert (refused["code"], refused["param"], refused["event_id"]) == ("invalid_value", "audio", "e1")
    item = only(bench.send("input_audio_buffer.commit"), "input_audio_buffer.committed")["item_id"]
    retrieved = only(bench.send("conversation.item.retrieve", item_id=item), "conversation.item.retrieved")
    assert retrieved["item"]["content"][0]["audio"] == base64_text(silence(150))


def test_an_append_beyond_15_mib_is_refused() -> None:
    bench = manual()
    assert (
        error(bench.send("input_audio_buffer.append", audio=base64_text(bytes(15 * 1024 * 1024 + 2))))["param"]
        == "audio"
    )


@pytest.mark.parametrize("ms", [0, 99])
def test_a_commit_of_less_than_100_ms_is_refused_and_makes_no_item(ms: int) -> None:
    bench = manual()
    bench.append(silence(ms))
    refused = error(bench.send("input_audio_buffer.commit"))
    assert refused["code"] == "input_audio_buffer_commit_empty"
    assert f"buffer only has {ms}.00ms of audio" in refused["message"]
    assert len(bench.session.conversation) == 0


def test_a_commit_gives_committed_added_done_with_one_id_no_audio_and_no_response() -> None:
    bench = manual()
    bench.write()
    bench.append(silence(100))
    events = bench.send("input_audio_buffer.commit")
    assert types(events) == TURN[2:]
    committed, added, done = events
    assert committed["item_id"] == added["item"]["id"] == done["item"]["id"]
    assert committed["previous_item_id"] == added["previous_item_id"] == done["previous_item_id"] is not None
    assert added["item"]["content"] == [{"type": "input_audio", "transcript": None}]
    assert not bench.session.responder.active


def test_clear_answers_also_when_the_buffer_is_empty() -> None:
    bench = manual()
    assert types(bench.send("input_audio_buffer.clear")) == ["input_audio_buffer.cleared"]
    bench.append(silence(500))
    assert types(bench.send("input_audio_buffer.clear")) == ["input_audio_buffer.cleared"]
    assert error(bench.send("input_audio_buffer.commit"))["code"] == "input_audio_buffer_commit_empty"


@pytest.mark.parametrize("frame", [960, 962, 4800, 48_000, 480_000])
def test_an_utterance_is_one_turn_with_one_id_however_it_is_cut(frame: int) -> None:
    bench = vad()
    events = bench.append(silence(1000) + speech(900) + silence(1000), frame=frame)
    assert types(events) == TURN
    started, stopped, committed, added, done = events
    ids = {started["item_id"], stopped["item_id"], committed["item_id"], added["item"]["id"], done["item"]["id"]}
    assert len(ids) == 1
    assert started["audio_start_ms"] == 1000 - 300
    # Detection works in frames of 20 ms; the speech ended at 1900.
    assert 1900 + 500 <= stopped["audio_end_ms"] <= 1920 + 500


def test_the_start_is_never_before_the_audio_nor_before_the_previous_commit() -> None:
    bench = vad(prefix_padding_ms=2000, silence_duration_ms=200)
    first = bench.append(speech(600) + silence(400))
    assert first[0]["audio_start_ms"] == 0
    second = bench.append(speech(600) + silence(400))
    assert second[0]["audio_start_ms"] == first[1]["audio_end_ms"]


def test_silence_shorter_than_the_setting_does_not_end_a_turn() -> None:
    bench = vad(silence_duration_ms=500)
    events = bench.append(speech(600) + silence(440) + speech(600) + silence(440))
    assert types(events) == TURN[:1]
    assert types(bench.append(silence(200))) == TURN[1:]


def test_the_item_holds_the_turn_with_its_padding_and_trailing_silence() -> None:
    bench = vad(prefix_padding_ms=100, silence_duration_ms=200)
    audio = silence(500) + speech(600) + silence(600)
    events = bench.append(audio)
    started, stopped = events[0], events[1]
    item = only(bench.send("conversation.item.retrieve", item_id=started["item_id"]), "conversation.item.retrieved")[
        "item"
    ]
    assert item["content"][0]["audio"] == base64_text(
        audio[started["audio_start_ms"] * 48 : stopped["audio_end_ms"] * 48]
    )


def test_quiet_noise_is_not_speech_and_a_higher_threshold_needs_more() -> None:
    quiet = bytes(sample for n in range(24_000) for sample in ((60 if n % 2 else -60) & 0xFFFF).to_bytes(2, "little"))
    middling = bytes(
        sample for n in range(24_000) for sample in ((900 if n % 2 else -900) & 0xFFFF).to_bytes(2, "little")
    )
    assert vad().append(quiet) == []
    assert types(vad(threshold=0.5).append(middling)) == TURN[:1]
    assert vad(threshold=1.0).append(middling) == []


@pytest.mark.parametrize("law", ["audio/pcmu", "audio/pcma"])
def test_turns_are_detected_and_understood_in_g711(law: str) -> None:
    bench = vad()
    bench.update(audio={"input": {"format": {"type": law}, "transcription": {"model": "whisper-1"}}})
    wire = from_pcm16_24k(silence(600) + tape.record("call me back") + silence(1200), law)
    events = bench.append(wire, frame=160)
    assert types(events) == TURN
    assert events[0]["audio_start_ms"] == 300
    assert joined(bench.listen(), "conversation.item.input_audio_transcription.delta") == "call me back"


def test_a_detected_turn_starts_a_response_unless_create_response_is_false() -> None:
    bench = vad(create_response=True)
    bench.append(speech(600) + silence(600))
    assert bench.session.responder.active is not None
    bench = vad(create_response=False)
    bench.append(speech(600) + silence(600))
    assert bench.session.responder.active is None


def test_a_manual_commit_during_speech_takes_the_announced_item() -> None:
    bench = vad()
    started = only(bench.append(silence(500) + speech(600)), TURN[0])
    assert types(committed := bench.send("input_audio_buffer.commit")) == TURN[2:]
    assert committed[0]["item_id"] == started["item_id"]
    assert bench.append(silence(1000)) == []


def test_clear_drops_an_announced_turn() -> None:
    bench = vad()
    bench.append(speech(600))
    bench.send("input_audio_buffer.clear")
    assert bench.append(silence(2000)) == []


@pytest.mark.parametrize(("eagerness", "cap"), [("high", 2), ("medium", 4), ("auto", 4), ("low", 8)])
def test_semantic_vad_emits_the_same_sequence_and_waits_at_most_its_cap(eagerness: str, cap: int) -> None:
    detection = {"type": "semantic_vad", "eagerness": eagerness, "create_response": False}
    bench = Bench()
    bench.update(audio={"input": {"turn_detection": detection}})
    assert types(bench.append(speech(600) + silence(cap * 1000))) == TURN
    bench.append(speech(600))
    assert bench.tick(cap - 0.1) == []
    assert types(bench.tick(0.1)) == TURN[1:]


def test_lower_eagerness_waits_longer() -> None:
    def end(eagerness: str) -> int:
        bench = Bench()
        bench.update(audio={"input": {"turn_detection": {"type": "semantic_vad", "eagerness": eagerness}}})
        stopped: int = only(bench.append(speech(600) + silence(3000)), TURN[1])["audio_end_ms"]
        return stopped

    assert end("high") < end("medium") == end("auto") < end("low")


def transcribing(model: str = "gpt-4o-transcribe", **session: Any) -> Bench:
    bench = manual()
    bench.update(audio={"input": {"transcription": {"model": model}}}, **session)
    bench.append(tape.record("what is the time"))
    bench.send("input_audio_buffer.commit")
    return bench


def test_transcription_gives_deltas_and_one_completed_with_usage_after_the_item() -> None:
    events = transcribing().listen()
    completed = events[-1]
    assert set(types(events[:-1])) == {"conversation.item.input_audio_transcription.delta"}
    assert completed["transcript"] == joined(events, events[0]["type"]) == "what is the time"
    usage = completed["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert (
        usage["input_tokens"]
        == usage["input_token_details"]["audio_tokens"]
        == len(tape.record("what is the time")) // 4800
    )


def test_whisper_gives_one_delta_and_a_duration() -> None:
    events = transcribing("whisper-1").listen()
    assert len(events) == 2
    assert events[1]["usage"]["type"] == "duration"


def test_log_probabilities_come_when_they_are_included() -> None:
    events = transcribing(include=["item.input_audio_transcription.logprobs"]).listen()
    assert [entry["token"] for entry in events[-1]["logprobs"]] == ["what", " is", " the", " time"]


def test_without_transcription_no_transcription_event_is_sent() -> None:
    bench = manual()
    bench.append(tape.record("hello"))
    bench.send("input_audio_buffer.commit")
    assert bench.listen() == []


def test_audio_without_words_still_completes_with_a_delta() -> None:
    bench = manual()
    bench.update(audio={"input": {"transcription": {"model": "gpt-4o-transcribe"}}})
    bench.append(silence(500))
    bench.send("input_audio_buffer.commit")
    events = bench.listen()
    assert types(events) == [f"conversation.item.input_audio_transcription.{name}" for name in ("delta", "completed")]
    assert events[-1]["transcript"] == ""


def test_barge_in_reports_the_speech_before_the_cancelled_response() -> None:
    bench = vad(create_response=True)
    bench.write()
    bench.send("response.create")
    bench.partly(Say("a long story that nobody wants to hear to its end"))
    events = bench.append(speech(300))
    assert types(events)[0] == "input_audio_buffer.speech_started"
    done = only(events, "response.done")["response"]
    assert done["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
    assert types(bench.append(silence(1000))) == TURN[1:]
    assert bench.session.responder.active is not None


def test_speech_leaves_an_uninterruptible_response_alone_and_the_new_turn_waits_for_it() -> None:
    bench = vad(create_response=True, interrupt_response=False)
    bench.write()
    bench.send("response.create")
    run = bench.partly(Say("please let me finish"))
    assert types(bench.append(speech(600) + silence(600))) == TURN
    assert bench.session.responder.active is run
    bench.session.responder.complete(run)
    assert only(bench.taken(), "response.done")["response"]["status"] == "completed"
    assert bench.session.responder.active not in (None, run)


def test_a_new_turn_during_an_uninterruptible_response_fails_when_so_switched() -> None:
    bench = Bench(quirks=Quirks(overlapping_turn="fail"))
    bench.update(audio={"input": {"turn_detection": {"type": "server_vad", "interrupt_response": False}}})
    bench.write()
    bench.send("response.create")
    events = bench.append(speech(600) + silence(600))
    assert only(events, "error")["error"]["code"] == "conversation_already_has_active_response"


def test_an_idle_user_is_reported_after_the_playback_and_the_model_speaks_again() -> None:
    bench = vad(create_response=True, idle_timeout_ms=6000)
    bench.write()
    playback = (
        sum(event["type"] == "response.output_audio.delta" for event in bench.respond(Say("Anything else?"))) * 0.1
    )
    assert bench.tick(5.9 + playback - 0.1) == []
    events = bench.tick(0.3)
    assert types(events) == ["input_audio_buffer.timeout_triggered", *TURN[2:]]
    assert events[0]["audio_end_ms"] - events[0]["audio_start_ms"] == 6000
    assert bench.session.responder.active is not None


def test_speech_stops_the_idle_timer() -> None:
    bench = vad(idle_timeout_ms=5000)
    bench.write()
    bench.respond(Say("Anything else?"))
    bench.append(speech(600))
    assert bench.tick(60) == []


def test_a_transcribed_item_is_retrieved_with_its_words() -> None:
    bench = transcribing()
    item_id = bench.listen()[-1]["item_id"]
    (part,) = only(bench.send("conversation.item.retrieve", item_id=item_id), "conversation.item.retrieved")["item"][
        "content"
    ]
    assert part["transcript"] == "what is the time"
    assert part["audio"]
