"""The ports of the model-simulator: what decides, hears, speaks and detects speech.

The single home of the interfaces between the protocol and whatever imitates the model behind it. Audio that crosses
them is always signed 16-bit little-endian mono PCM without a header; 24 000 Hz unless a rate is passed along.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Say:
    """An assistant message: spoken and transcribed in an audio session, written in a text session."""

    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """A function call; `arguments` is the JSON text exactly as the client shall receive it (it may be invalid JSON)."""

    name: str
    arguments: str


Output = Say | Call

FaultKind = Literal["drop", "silence", "stall", "failed", "malformed", "transcription_failed"]


@dataclass(frozen=True, slots=True)
class Fault:
    """A failure to act out.

    Attributes:
        kind: `drop` cuts the socket in the middle of the response; `silence` answers nothing at all; `stall` creates
            the response and never goes on; `failed` ends it with `response.done` failed; `malformed` puts a frame that
            is not JSON before the rest; `transcription_failed` makes the transcription of the user's item fail.
        code: for `failed`, the error code, such as `rate_limit_exceeded`, `insufficient_quota` or `server_error`.
    """

    kind: FaultKind
    code: str = "server_error"


@dataclass(frozen=True, slots=True)
class BrainContext:
    """What the model knows when it answers.

    Attributes:
        instructions: the instructions in force for this response.
        tools: the function tools in force, as `{"type": "function", "name", "description", "parameters"}`.
        tool_choice: "auto", "none", "required" or `{"type": "function", "name": …}`.
        items: the conversation, oldest first, shaped as in the protocol. A content part of type `input_audio` or
            `output_audio` carries its words in `transcript` (never None here, "" when nothing was understood).
    """

    instructions: str
    tools: tuple[JsonObject, ...]
    tool_choice: str | JsonObject
    items: tuple[JsonObject, ...]


@dataclass(frozen=True, slots=True)
class BrainReply:
    """What the model answers: its outputs in order, and optionally a wait before the first one and a fault.

    Attributes:
        delay_ms: how long the model thinks before its first output.
    """

    outputs: tuple[Output, ...] = field(default=())
    fault: Fault | None = None
    delay_ms: int = 0


class Brain(Protocol):
    """Decides what the model says or calls. One instance serves every session; it keeps no state between calls
    other than what `items` shows, so that sessions stay isolated."""

    async def respond(self, context: BrainContext) -> BrainReply: ...


class Meaning(Protocol):
    """Tells what a sentence means, as a direction: the product of two is their likeness. One instance serves every
    session; it is asked in threads, as an answer may take some 10 ms."""

    def embed(self, text: str) -> Sequence[float]: ...


class Ears(Protocol):
    """Turns speech into words; "" when there are none. One instance serves every session."""

    async def transcribe(self, pcm16_24k: bytes) -> str: ...


class Voice(Protocol):
    """Turns words into speech. One instance serves every session."""

    async def speak(self, text: str) -> bytes: ...


class VoiceActivityDetector(Protocol):
    """Says of each 20 ms frame whether somebody speaks in it.

    One instance belongs to one session's input and sees its frames in order. `pcm16` holds exactly 20 ms at
    `sample_rate`, which is 24000, or 8000 where the session's input is G.711.
    """

    def is_speech(self, pcm16: bytes, sample_rate: int) -> bool: ...


class DetectorFactory(Protocol):
    """Makes the detector of a new input; `threshold` is the session's 0…1, where higher needs clearer speech."""

    def __call__(self, threshold: float) -> VoiceActivityDetector: ...
