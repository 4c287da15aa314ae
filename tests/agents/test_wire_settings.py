"""Settings as authors write them, and what the wire gets of them."""

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from voicebus.agents.config import DEFAULT_MODEL_SETTINGS, RealtimeSessionModelSettings, wire_audio_format, wire_session
from voicebus.errors import UserError

PCM = {"type": "audio/pcm", "rate": 24000}


def audio_input(**settings: Any) -> dict[str, Any]:
    return dict(wire_session(settings)["audio"]["input"])


@pytest.mark.parametrize(
    ("name", "wire"),
    [
        *((name, PCM) for name in ("pcm16", "pcm", "audio/pcm")),
        *((name, {"type": "audio/pcmu"}) for name in ("g711_ulaw", "pcmu", "audio/pcmu")),
        *((name, {"type": "audio/pcma"}) for name in ("g711_alaw", "pcma", "audio/pcma")),
        ({"type": "audio/pcm", "rate": 16000}, PCM),
        ({"type": "audio/pcmu", "rate": 8000}, {"type": "audio/pcmu"}),
        (SimpleNamespace(type="audio/pcma"), {"type": "audio/pcma"}),
        ("opus", None),
        ({"type": "audio/opus"}, None),
    ],
)
def test_an_audio_format_has_many_names(name: Any, wire: dict[str, Any] | None) -> None:
    assert wire_audio_format(name) == wire


def test_an_unknown_format_is_left_to_the_server() -> None:
    assert "format" not in audio_input(input_audio_format="opus")


def test_a_joined_call_keeps_its_formats_unless_others_are_given() -> None:
    joined = wire_session({"output_audio_format": "g711_ulaw"}, call_id=True)["audio"]
    assert "format" not in joined["input"]
    assert joined["input"]["transcription"] == {"model": "gpt-4o-mini-transcribe"}
    assert joined["output"] == {"voice": "ash", "format": {"type": "audio/pcmu"}}


def test_every_nested_setting_beats_its_flat_name() -> None:
    flat = {
        "input_audio_format": "g711_ulaw", "input_audio_noise_reduction": {"type": "near_field"},
        "input_audio_transcription": {"model": "whisper-1"}, "turn_detection": {"type": "server_vad"},
        "output_audio_format": "g711_ulaw", "voice": "echo", "speed": 1.1,
    }  # fmt: skip
    assert wire_session(flat)["audio"] == {
        "input": {
            "format": {"type": "audio/pcmu"}, "noise_reduction": {"type": "near_field"},
            "transcription": {"model": "whisper-1"}, "turn_detection": {"type": "server_vad"},
        },
        "output": {"format": {"type": "audio/pcmu"}, "voice": "echo", "speed": 1.1},
    }  # fmt: skip
    nested: dict[str, dict[str, Any]] = {
        "input": {
            "format": "pcma", "noise_reduction": {"type": "far_field"}, "transcription": {"language": "de"},
            "turn_detection": {"type": "semantic_vad", "eagerness": "low"},
        },
        "output": {"format": "pcma", "voice": {"id": "voice_1"}, "speed": 0.5},
    }  # fmt: skip
    assert wire_session({**flat, "audio": nested})["audio"] == {
        "input": {**nested["input"], "format": {"type": "audio/pcma"}},
        "output": {**nested["output"], "format": {"type": "audio/pcma"}},
    }


def test_none_is_sent_where_it_switches_something_off() -> None:
    off = {"input_audio_noise_reduction": None, "input_audio_transcription": None, "turn_detection": None}
    assert audio_input(**off) == {"format": PCM, "noise_reduction": None, "transcription": None, "turn_detection": None}
    nested = {"noise_reduction": None, "transcription": None, "turn_detection": None}
    assert audio_input(turn_detection={"type": "server_vad"}, audio={"input": nested})["turn_detection"] is None


def test_none_is_as_good_as_absent_everywhere_else() -> None:
    absent: dict[str, Any] = {
        "voice": None, "speed": None, "input_audio_format": None, "audio": {"input": None, "output": {"voice": None}},
        "modalities": None, "tool_choice": None, "max_output_tokens": None, "parallel_tool_calls": None,
        "reasoning": None, "prompt": None, "truncation": None, "include": None,
    }  # fmt: skip
    assert wire_session(absent) == wire_session({})
    assert wire_session({"audio": None}) == wire_session({})
    assert "noise_reduction" not in audio_input()


def test_turn_detection_takes_camel_case_and_keeps_what_a_vendor_adds() -> None:
    camel = {
        "type": "server_vad", "createResponse": False, "interruptResponse": True, "prefixPaddingMs": 1,
        "silenceDurationMs": 2, "idleTimeoutMs": 5000, "modelVersion": "v2", "threshold": 0.4,
        "remove_filler_words": True,
    }  # fmt: skip
    assert audio_input(turn_detection=camel)["turn_detection"] == {
        "type": "server_vad", "create_response": False, "interrupt_response": True, "prefix_padding_ms": 1,
        "silence_duration_ms": 2, "idle_timeout_ms": 5000, "model_version": "v2", "threshold": 0.4,
        "remove_filler_words": True,
    }  # fmt: skip
    both = {"type": "server_vad", "create_response": True, "createResponse": False}
    assert audio_input(turn_detection=both)["turn_detection"] == {"type": "server_vad", "create_response": True}


def test_transcription_keeps_all_its_fields() -> None:
    wanted = {
        "model": "gpt-transcribe", "language": "en", "prompt": "hotel", "keywords": ["suite"],
        "languages": ["en", "de"], "delay": "xhigh",
    }  # fmt: skip
    assert audio_input(input_audio_transcription=wanted)["transcription"] == wanted


def test_output_modalities_beat_modalities() -> None:
    assert wire_session({"output_modalities": ["text"], "modalities": ["audio"]})["output_modalities"] == ["text"]
    assert wire_session({"modalities": ["text"]})["output_modalities"] == ["text"]


@pytest.mark.parametrize(
    ("choice", "wire"),
    [
        ("auto", "auto"),
        ("none", "none"),
        ("required", "required"),
        ("get_weather", {"type": "function", "name": "get_weather"}),
        ({"type": "mcp", "server_label": "crm"}, {"type": "mcp", "server_label": "crm"}),
        (SimpleNamespace(server_label="crm", name="find"), {"type": "mcp", "server_label": "crm", "name": "find"}),
        (SimpleNamespace(server_label="crm"), {"type": "mcp", "server_label": "crm"}),
    ],
)
def test_a_tool_choice_is_a_mode_a_tool_or_an_object(choice: Any, wire: Any) -> None:
    assert wire_session({"tool_choice": choice})["tool_choice"] == wire


def test_programmatic_tool_calling_is_refused() -> None:
    for choice in ("programmatic_tool_calling", {"type": "programmatic_tool_calling"}):
        with pytest.raises(UserError, match="programmatic_tool_calling"):
            wire_session({"tool_choice": choice})


def test_the_plain_settings_reach_the_wire_as_they_are() -> None:
    plain: dict[str, Any] = {
        "prompt": {"id": "pmpt_1", "version": "3", "variables": {"city": "Rome"}}, "max_output_tokens": 4096,
        "parallel_tool_calls": False, "reasoning": {"effort": "xhigh"}, "include": ["x"], "truncation": "disabled",
    }  # fmt: skip
    wire = wire_session(plain)
    assert {key: wire[key] for key in plain} == plain
    assert wire_session({"max_output_tokens": "inf"})["max_output_tokens"] == "inf"
    ratio = {"type": "retention_ratio", "retention_ratio": 0.8, "token_limits": {"post_instructions": 100}}
    assert wire_session({"truncation": ratio})["truncation"] == ratio
    assert wire_session({"prompt": {"id": "pmpt_1", "version": None}})["prompt"] == {"id": "pmpt_1"}


def test_tracing_is_automatic_labelled_or_off() -> None:
    assert wire_session({})["tracing"] == "auto"
    labels = {"workflow_name": "w", "group_id": "g", "metadata": {"a": 1}}
    assert wire_session({"tracing": labels})["tracing"] == labels
    assert "tracing" not in wire_session({"tracing": None})


def test_without_defaults_only_what_is_given_is_said() -> None:
    assert wire_session({}, defaults={}) == {}
    assert wire_session({"voice": "echo"}, defaults={}) == {"audio": {"output": {"voice": "echo"}}}
    assert wire_session({"tracing": "auto"}, defaults={}) == {"tracing": "auto"}


def test_what_the_agent_brings_is_checked_and_left_to_whoever_sends_it() -> None:
    own: RealtimeSessionModelSettings = {"model_name": "m", "instructions": "hi", "tools": [], "handoffs": []}
    assert wire_session(own) == wire_session({})


def test_the_defaults_may_be_spread_over_settings_of_a_programs_own() -> None:
    assert wire_session({**DEFAULT_MODEL_SETTINGS}) == wire_session({})
    assert wire_session({**DEFAULT_MODEL_SETTINGS, "modalities": ["text"]})["output_modalities"] == ["text"]
    assert "model_name" not in DEFAULT_MODEL_SETTINGS, "who joins a call may name no model"


class Dumped:
    """An object of another package."""

    def model_dump(self, *, exclude_none: bool) -> Mapping[str, Any]:
        return {"type": "server_vad"} if exclude_none else {}


def test_objects_of_other_packages_are_read_as_what_they_hold() -> None:
    assert audio_input(turn_detection=Dumped())["turn_detection"] == {"type": "server_vad"}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"voise": 1, "xyz": 2}, "model_settings has unknown keys: voise (did you mean voice?), xyz"),
        ({"model_name": ""}, "model_name must be a non-empty string, not ''"),
        ({"instructions": 7}, "instructions must be text, not 7"),
        ({"tools": "x"}, "tools must be a list"),
        ({"handoffs": {}}, "handoffs must be a list"),
        ({"output_modalities": ["text", "audio"]}, "output_modalities must be"),
        ({"modalities": "text"}, "modalities must be"),
        ({"audio": []}, "audio must be an object"),
        ({"audio": {"both": {}}}, "audio has unknown keys: both; input, output exist"),
        ({"audio": {"input": {"voice": "ash"}}}, "audio.input has unknown keys: voice"),
        ({"audio": {"output": 3}}, "audio.output must be an object, not 3"),
        ({"input_audio_format": 3}, "input_audio_format must be one of"),
        ({"audio": {"output": {"format": {"rate": 1}}}}, "audio.output.format must be one of"),
        ({"input_audio_noise_reduction": {"type": "loud"}}, "input_audio_noise_reduction.type must be one of"),
        ({"input_audio_transcription": "whisper-1"}, "input_audio_transcription must be an object"),
        ({"input_audio_transcription": {"model": 1}}, "input_audio_transcription.model must be text"),
        ({"input_audio_transcription": {"keywords": "x"}}, "input_audio_transcription.keywords must be a list"),
        ({"input_audio_transcription": {"delay": "none"}}, "input_audio_transcription.delay must be one of"),
        ({"turn_detection": "server_vad"}, "turn_detection must be an object"),
        ({"turn_detection": {"type": 1}}, "turn_detection.type must be a non-empty string"),
        ({"tools": [print]}, "tools: <built-in function print> is no FunctionTool"),
        ({"handoffs": ["b"]}, "handoffs: realtime_handoff: agent must be a RealtimeAgent, not 'b'"),
        ({"turn_detection": {}}, "turn_detection.type must be a non-empty string, not None"),
        ({"turn_detection": {"eagerness": "low"}}, "turn_detection.type must be"),
        ({"audio": {"input": {"turn_detection": {"type": None}}}}, "audio.input.turn_detection.type must be"),
        (
            {"turn_detection": {"type": "v", "create_response": 1}},
            "turn_detection.create_response must be True",
        ),
        ({"turn_detection": {"type": "v", "interruptResponse": 1}}, "turn_detection.interrupt_response must be True"),
        ({"turn_detection": {"type": "v", "eagerness": "wild"}}, "turn_detection.eagerness must be one of"),
        ({"turn_detection": {"type": "v", "silence_duration_ms": -1}}, "turn_detection.silence_duration_ms must be"),
        ({"turn_detection": {"type": "v", "threshold": 2}}, "turn_detection.threshold must be a number from 0 to 1"),
        ({"voice": 1}, "voice must be a non-empty string"),
        ({"voice": {"name": "x"}}, "voice has unknown keys: name"),
        ({"audio": {"output": {"voice": {"id": 1}}}}, "audio.output.voice.id must be a non-empty string"),
        ({"speed": 2}, "speed must be a number from 0.25 to 1.5, not 2"),
        ({"speed": True}, "speed must be a number"),
        ({"speed": math.nan}, "speed must be a number"),
        ({"tool_choice": 3}, "tool_choice must be"),
        ({"tool_choice": ""}, "tool_choice must be a non-empty string"),
        ({"max_output_tokens": 0}, "max_output_tokens must be a whole number from 1 to 4096, or 'inf', not 0"),
        ({"max_output_tokens": 4097}, "max_output_tokens must be"),
        ({"max_output_tokens": True}, "max_output_tokens must be"),
        ({"parallel_tool_calls": "no"}, "parallel_tool_calls must be True or False"),
        ({"reasoning": {"effort": 3}}, "reasoning.effort must be a non-empty string"),
        ({"prompt": "pmpt_1"}, "prompt must be an object"),
        ({"prompt": {"version": "1"}}, "prompt.id must be a non-empty string"),
        ({"prompt": {"id": "p", "version": 1}}, "prompt.version must be a non-empty string"),
        ({"prompt": {"id": "p", "variables": 1}}, "prompt.variables must be an object"),
        ({"prompt": {"id": "p", "more": 1}}, "prompt has unknown keys: more"),
        ({"tracing": "on"}, "tracing must be an object"),
        ({"tracing": {"group": "x"}}, "tracing has unknown keys: group"),
        ({"tracing": {"group_id": 1}}, "tracing.group_id must be text"),
        ({"tracing": {"metadata": "x"}}, "tracing.metadata must be an object"),
        ({"truncation": "off"}, "truncation must be one of auto, disabled"),
        ({"truncation": {"type": "retention_ratio", "retention_ratio": 2}}, "truncation.retention_ratio must be"),
        ({"include": "x"}, "include must be a list of strings"),
    ],
)
def test_a_wrong_setting_is_a_sentence_with_its_name_and_value(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as refused:
        wire_session(settings)
    assert sentence in str(refused.value)
