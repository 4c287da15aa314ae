"""Token counts: 1 per 100 ms of user audio, 1 per 50 ms of assistant audio, 1 per 4 characters of text."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from voicebus_services.model_simulator.protocol.items import Item

JsonObject = dict[str, Any]

INPUT_MS_PER_TOKEN = 100
OUTPUT_MS_PER_TOKEN = 50
CHARS_PER_TOKEN = 4
_IMAGE_TOKENS = 85


def text_tokens(text: str) -> int:
    return -(-len(text) // CHARS_PER_TOKEN)


@dataclass(slots=True)
class Tokens:
    """A count by modality."""

    text: int = 0
    audio: int = 0
    image: int = 0

    @property
    def total(self) -> int:
        return self.text + self.audio + self.image

    def add_item(self, item: Item) -> None:
        body = item.body
        for name in ("arguments", "output", "name"):
            if isinstance(body.get(name), str):
                self.text += text_tokens(body[name])
        for part in body.get("content", ()):
            if part["type"] == "input_audio":
                self.audio += int((item.audio.duration_ms if item.audio else 0) // INPUT_MS_PER_TOKEN)
            elif part["type"] == "output_audio":
                kept = (
                    item.truncated_ms if item.truncated_ms is not None else item.audio.duration_ms if item.audio else 0
                )
                self.audio += int(kept // OUTPUT_MS_PER_TOKEN)
                self.text += text_tokens(part.get("transcript") or "")
            elif part["type"] == "input_image":
                self.image += _IMAGE_TOKENS
            else:
                self.text += text_tokens(part.get("text") or "")


def of_context(items: Iterable[Item], instructions: str, tools: str) -> Tokens:
    tokens = Tokens(text=text_tokens(instructions) + text_tokens(tools))
    for item in items:
        tokens.add_item(item)
    return tokens


def report(given: Tokens, cached: Tokens, made: Tokens) -> JsonObject:
    """The `usage` object; `cached` never exceeds `given` in any modality."""
    kept = Tokens(min(cached.text, given.text), min(cached.audio, given.audio), min(cached.image, given.image))
    return {
        "total_tokens": given.total + made.total,
        "input_tokens": given.total,
        "output_tokens": made.total,
        "input_token_details": {
            "text_tokens": given.text,
            "audio_tokens": given.audio,
            "image_tokens": given.image,
            "cached_tokens": kept.total,
            "cached_tokens_details": {
                "text_tokens": kept.text,
                "audio_tokens": kept.audio,
                "image_tokens": kept.image,
            },
        },
        "output_token_details": {"text_tokens": made.text, "audio_tokens": made.audio},
    }
