"""Settings of a conversation as authors write them, and as the model's wire wants them (protocol section 4)."""

from collections.abc import Mapping
from typing import Any, Final, Literal, TypedDict

from voicebus.agents.guardrails import OutputGuardrail
from voicebus.errors import UserError

AudioFormat = Literal["pcm16", "g711_ulaw", "g711_alaw", "audio/pcm", "audio/pcmu", "audio/pcma", "pcm", "pcmu", "pcma"]


class RealtimeAudioInputConfig(TypedDict, total=False):
    format: AudioFormat | Mapping[str, Any]
    noise_reduction: Mapping[str, Any] | None
    transcription: Mapping[str, Any] | None
    turn_detection: Mapping[str, Any] | None


class RealtimeAudioOutputConfig(TypedDict, total=False):
    format: AudioFormat | Mapping[str, Any]
    voice: str | Mapping[str, Any]
    speed: float


class RealtimeAudioConfig(TypedDict, total=False):
    input: RealtimeAudioInputConfig
    output: RealtimeAudioOutputConfig


class RealtimeSessionModelSettings(TypedDict, total=False):
    """Settings of the model's session. Nested `audio` beats the flat names; a None that is given is sent as null."""

    model_name: str
    modalities: list[Literal["text", "audio"]]
    output_modalities: list[Literal["text", "audio"]]
    audio: RealtimeAudioConfig
    voice: str | Mapping[str, Any]
    speed: float
    input_audio_format: AudioFormat | Mapping[str, Any]
    output_audio_format: AudioFormat | Mapping[str, Any]
    input_audio_transcription: Mapping[str, Any] | None
    input_audio_noise_reduction: Mapping[str, Any] | None
    turn_detection: Mapping[str, Any] | None
    tool_choice: str | Mapping[str, Any]
    max_output_tokens: int | Literal["inf"]
    tracing: Literal["auto"] | Mapping[str, Any] | None


class RealtimeGuardrailsSettings(TypedDict, total=False):
    """`debounce_text_length`: characters of new text between two checks; -1 checks at the end of an answer only."""

    debounce_text_length: int


class RealtimeRunConfig(TypedDict, total=False):
    model_settings: RealtimeSessionModelSettings
    output_guardrails: list[OutputGuardrail]
    guardrails_settings: RealtimeGuardrailsSettings


DEFAULT_DEBOUNCE: Final = 100

DEFAULT_MODEL_SETTINGS: Final[Mapping[str, Any]] = {
    "output_modalities": ["audio"],
    "voice": "ash",
    "input_audio_format": "pcm16",
    "output_audio_format": "pcm16",
    "input_audio_transcription": {"model": "gpt-4o-mini-transcribe"},
    "turn_detection": {"type": "semantic_vad", "interrupt_response": True},
}

_FORMATS: Final[Mapping[str, Mapping[str, Any]]] = {
    "pcm16": {"type": "audio/pcm", "rate": 24000},
    "pcm": {"type": "audio/pcm", "rate": 24000},
    "audio/pcm": {"type": "audio/pcm", "rate": 24000},
    "g711_ulaw": {"type": "audio/pcmu"},
    "pcmu": {"type": "audio/pcmu"},
    "audio/pcmu": {"type": "audio/pcmu"},
    "g711_alaw": {"type": "audio/pcma"},
    "pcma": {"type": "audio/pcma"},
    "audio/pcma": {"type": "audio/pcma"},
}

# flat name -> (direction, nested name)
_FLAT: Final = {
    "input_audio_format": ("input", "format"),
    "input_audio_noise_reduction": ("input", "noise_reduction"),
    "input_audio_transcription": ("input", "transcription"),
    "turn_detection": ("input", "turn_detection"),
    "output_audio_format": ("output", "format"),
    "voice": ("output", "voice"),
    "speed": ("output", "speed"),
}


def wire_session(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Author's settings over the defaults, as part of the wire's session object (without model, instructions, tools).

    Raises:
        UserError: an unknown key, format, modality or tool choice.
    """
    unknown = set(settings) - set(RealtimeSessionModelSettings.__annotations__)
    if unknown:
        raise UserError(f"model_settings has unknown keys: {', '.join(sorted(unknown))}")
    merged: dict[str, Any] = {**DEFAULT_MODEL_SETTINGS, **settings}
    audio: dict[str, dict[str, Any]] = {"input": {}, "output": {}}
    for flat, (direction, nested) in _FLAT.items():
        if flat in merged:
            audio[direction][nested] = merged[flat]
    for direction, values in (merged.get("audio") or {}).items():
        if direction not in audio:
            raise UserError(f"model_settings audio has {direction!r}; input and output are allowed")
        audio[direction].update(values or {})
    for direction, values in audio.items():
        if "format" in values:
            values["format"] = _format(values["format"], direction)
    modalities = merged.get("modalities", merged["output_modalities"]) if "output_modalities" not in settings else None
    wire: dict[str, Any] = {
        "output_modalities": _modalities(modalities or merged["output_modalities"]),
        "audio": audio,
    }
    if "tool_choice" in merged:
        wire["tool_choice"] = _tool_choice(merged["tool_choice"])
    for plain in ("max_output_tokens", "tracing"):
        if plain in merged:
            wire[plain] = merged[plain]
    return wire


def _format(value: Any, direction: str) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    if value not in _FORMATS:
        raise UserError(f"audio {direction} format {value!r} is none of {', '.join(sorted(_FORMATS))}")
    return dict(_FORMATS[value])


def _modalities(value: Any) -> list[str]:
    if value not in (["text"], ["audio"]):
        raise UserError(f"output_modalities {value!r} must be ['audio'] or ['text']")
    return list(value)


def _tool_choice(value: Any) -> Any:
    if isinstance(value, str) and value not in ("auto", "none", "required"):
        return {"type": "function", "name": value}
    return value
