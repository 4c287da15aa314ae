"""Settings of the model's session as authors write them: names, types and defaults. How they reach the wire is
`wire_settings`' business.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, NotRequired, Protocol, TypeAlias, TypedDict

if TYPE_CHECKING:
    from voicebus.agents.handoffs import Handoff
    from voicebus.agents.tools.function_tool import FunctionTool
    from voicebus.agents.tools.hosted import HostedMCPTool
    from voicebus.agents.tools.remote import RemoteTool, RemoteTools

_KnownModel: TypeAlias = Literal["gpt-realtime-2.1", "gpt-realtime-2", "gpt-realtime", "gpt-realtime-mini"]
_KnownFormat: TypeAlias = Literal[
    "pcm16", "g711_ulaw", "g711_alaw", "audio/pcm", "audio/pcmu", "audio/pcma", "pcm", "pcmu", "pcma"
]
_KnownTranscriber: TypeAlias = Literal[
    "gpt-transcribe",
    "gpt-live-transcribe",
    "gpt-4o-transcribe",
    "gpt-4o-mini-transcribe",
    "gpt-4o-mini-transcribe-2025-12-15",
    "gpt-4o-transcribe-diarize",
    "gpt-realtime-whisper",
    "whisper-1",
]

# Known names are for the editor; the server may know others.
RealtimeModelName: TypeAlias = _KnownModel | str
"""A model of the realtime API; any name that the server knows."""

RealtimeAudioFormat: TypeAlias = _KnownFormat | str
"""The names of the three formats: 16 bit PCM at 24 kHz, G.711 µ-law and A-law at 8 kHz."""

RealtimeReasoningEffort: TypeAlias = Literal["minimal", "low", "medium", "high", "xhigh"] | str  # noqa: PYI051
"""What today's models know; a later one's own words pass as they are."""

ToolChoice: TypeAlias = Literal["auto", "none", "required"] | str | Mapping[str, Any]  # noqa: PYI051
"""`auto`, `none`, `required`, the name of a function tool, or the protocol's object."""


class TypedAudioFormat(Protocol):
    """An audio format as an object with a `type` (`audio/pcm`, ...), as other packages have it."""

    @property
    def type(self) -> Any: ...


class Prompt(TypedDict):
    """A prompt that is kept at the model's provider."""

    id: str
    version: NotRequired[str]
    variables: NotRequired[dict[str, Any]]


class RealtimeCustomVoice(TypedDict):
    """A voice of one's own, `voice_...`."""

    id: str


RealtimeVoice: TypeAlias = str | RealtimeCustomVoice


class RealtimeInputAudioTranscriptionConfig(TypedDict):
    """How the user's speech is written down. `delay` trades speed for accuracy, where the model has it."""

    language: NotRequired[str]
    model: NotRequired[_KnownTranscriber | str]
    prompt: NotRequired[str]
    keywords: NotRequired[list[str]]
    languages: NotRequired[list[str]]
    delay: NotRequired[Literal["minimal", "low", "medium", "high", "xhigh"]]


class RealtimeInputAudioNoiseReductionConfig(TypedDict):
    """For a microphone near the mouth, or far away in a room."""

    type: NotRequired[Literal["near_field", "far_field"]]


class RealtimeTurnDetectionConfig(TypedDict):
    """When the user's turn has ended. Further fields of a vendor pass through as they are.

    `type` may not be left out. `threshold` is 0 to 1. camelCase names of the fields are accepted, too.
    """

    type: NotRequired[Literal["semantic_vad", "server_vad"]]
    create_response: NotRequired[bool]
    eagerness: NotRequired[Literal["auto", "low", "medium", "high"]]
    interrupt_response: NotRequired[bool]
    prefix_padding_ms: NotRequired[int]
    silence_duration_ms: NotRequired[int]
    threshold: NotRequired[float]
    idle_timeout_ms: NotRequired[int | None]
    model_version: NotRequired[str]


class RealtimeAudioInputConfig(TypedDict, total=False):
    """What comes in. A `noise_reduction`, `transcription` or `turn_detection` of None is off, and sent as null."""

    format: RealtimeAudioFormat | Mapping[str, Any] | TypedAudioFormat
    noise_reduction: RealtimeInputAudioNoiseReductionConfig | None
    transcription: RealtimeInputAudioTranscriptionConfig | None
    turn_detection: RealtimeTurnDetectionConfig | None


class RealtimeAudioOutputConfig(TypedDict, total=False):
    """What goes out. `speed` is 0.25 to 1.5."""

    format: RealtimeAudioFormat | Mapping[str, Any] | TypedAudioFormat
    voice: RealtimeVoice
    speed: float


class RealtimeAudioConfig(TypedDict, total=False):
    """Both directions; what is said here beats the flat names of `RealtimeSessionModelSettings`."""

    input: RealtimeAudioInputConfig | None
    output: RealtimeAudioOutputConfig | None


class RealtimeReasoningConfig(TypedDict, total=False):
    """How much a reasoning model thinks before it speaks."""

    effort: RealtimeReasoningEffort


class RealtimeModelTracingConfig(TypedDict):
    """How the provider's own traces are labelled."""

    workflow_name: NotRequired[str]
    group_id: NotRequired[str]
    metadata: NotRequired[dict[str, Any]]


class RealtimeSessionModelSettings(TypedDict):
    """Settings of the model's session; what is absent has the value of `DEFAULT_MODEL_SETTINGS`, or the server's.

    Nested `audio` beats the flat names. `output_modalities` (`["audio"]` or `["text"]`) beats `modalities`.
    `instructions`, `tools` and `handoffs` come from the agent; here they stand in for an agent that names none, and
    in `initial_model_settings` they beat the agent's when the session begins. `max_output_tokens` is 1 to 4096, or
    `"inf"`. `tracing`: `"auto"`, labels, or None for none at all. `truncation` and `include` are the protocol's.
    """

    model_name: NotRequired[RealtimeModelName]
    instructions: NotRequired[str]
    prompt: NotRequired[Prompt]
    modalities: NotRequired[list[Literal["text", "audio"]]]
    output_modalities: NotRequired[list[Literal["text", "audio"]]]
    audio: NotRequired[RealtimeAudioConfig]
    voice: NotRequired[RealtimeVoice]
    speed: NotRequired[float]
    max_output_tokens: NotRequired[int | Literal["inf"]]
    input_audio_format: NotRequired[RealtimeAudioFormat | Mapping[str, Any] | TypedAudioFormat]
    output_audio_format: NotRequired[RealtimeAudioFormat | Mapping[str, Any] | TypedAudioFormat]
    input_audio_transcription: NotRequired[RealtimeInputAudioTranscriptionConfig | None]
    input_audio_noise_reduction: NotRequired[RealtimeInputAudioNoiseReductionConfig | None]
    turn_detection: NotRequired[RealtimeTurnDetectionConfig | None]
    tool_choice: NotRequired[ToolChoice]
    parallel_tool_calls: NotRequired[bool | None]
    reasoning: NotRequired[RealtimeReasoningConfig | None]
    tools: NotRequired["list[FunctionTool | RemoteTool | RemoteTools | HostedMCPTool]"]
    handoffs: NotRequired["list[Handoff[Any]]"]
    tracing: NotRequired[Literal["auto"] | RealtimeModelTracingConfig | None]
    truncation: NotRequired[str | Mapping[str, Any]]
    include: NotRequired[list[str]]


DEFAULT_MODEL: Final = "gpt-realtime-2.1"
"""The model where nobody names one."""

# Without what a program that spreads it over its own settings would say against its will: `output_modalities` beats
# `modalities`, and who joins a call may name no model.
DEFAULT_MODEL_SETTINGS: Final[RealtimeSessionModelSettings] = {
    "modalities": ["audio"],
    "voice": "ash",
    "input_audio_format": "pcm16",
    "output_audio_format": "pcm16",
    "input_audio_transcription": {"model": "gpt-4o-mini-transcribe"},
    "turn_detection": {"type": "semantic_vad", "interrupt_response": True},
}
"""What a session has where nobody says otherwise; its model is then `gpt-realtime-2.1`, and its traces are on."""
