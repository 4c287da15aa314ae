"""The transcription events of one user item, in the shapes of the different transcription models."""

from collections.abc import Iterator
from typing import Any

from voicebus_services.model_simulator.protocol.items import Item
from voicebus_services.model_simulator.protocol.responses import words
from voicebus_services.model_simulator.protocol.usage import INPUT_MS_PER_TOKEN, text_tokens

JsonObject = dict[str, Any]
_PREFIX = "conversation.item.input_audio_transcription"


def transcription_events(
    item: Item, text: str | None, failure: str, settings: JsonObject, include: list[str] | None
) -> Iterator[tuple[str, JsonObject]]:
    """Deltas and one `completed`, or one `failed` where `text` is None."""
    place: JsonObject = {"item_id": item.id, "content_index": 0}
    if text is None:
        error = {"type": "transcription_error", "code": "audio_unintelligible", "message": failure, "param": None}
        yield f"{_PREFIX}.failed", {**place, "error": error}
        return
    whole = settings.get("model") == "whisper-1"
    duration_ms = item.audio.duration_ms if item.audio is not None else 0.0
    logprobs: list[JsonObject] = []
    for piece in [text] if whole or not text else words(text):
        fields: JsonObject = {**place, "delta": piece}
        if include:
            fields["logprobs"] = [{"token": piece, "bytes": list(piece.encode()), "logprob": -0.01}]
            logprobs += fields["logprobs"]
        yield f"{_PREFIX}.delta", fields
    usage: JsonObject = {"type": "duration", "seconds": round(duration_ms / 1000, 2)}
    if not whole:
        heard, written = int(duration_ms // INPUT_MS_PER_TOKEN), text_tokens(text)
        usage = {
            "type": "tokens",
            "total_tokens": heard + written,
            "input_tokens": heard,
            "output_tokens": written,
            "input_token_details": {"audio_tokens": heard, "text_tokens": 0},
        }
    completed: JsonObject = {**place, "transcript": text, "usage": usage}
    if include:
        completed["logprobs"] = logprobs
    yield f"{_PREFIX}.completed", completed
