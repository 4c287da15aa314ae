"""One response: its output items, how each is streamed as events, and how it is closed, cut or cancelled.

`ResponseRun` writes events through the `Emit` it was given and decides nothing about when: each `step()` emits the next
piece and says how many milliseconds of audio it held, and the driver waits as its pacing wants.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from voicebus_services.model_simulator.brains import Call, Output, Say
from voicebus_services.model_simulator.protocol.items import Audio, Conversation, Item
from voicebus_services.model_simulator.protocol.usage import CHARS_PER_TOKEN, OUTPUT_MS_PER_TOKEN, Tokens, text_tokens

JsonObject = dict[str, Any]
Emit = Callable[..., None]

_WORDS = re.compile(r"\s*\S+\s*$|\s*\S+")
_ARGUMENT_PIECE = 12
# What "inf" comes to: the most that a model makes in one response.
MODEL_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class Chunk:
    """One audio delta, already encoded."""

    base64: str
    size: int
    ms: float


@dataclass(frozen=True, slots=True)
class Utterance:
    """Spoken words in a wire format, cut into deltas once and shared by every session that says them."""

    format: str
    data: bytes
    chunks: tuple[Chunk, ...]
    duration_ms: float


def words(text: str) -> list[str]:
    """Pieces that put together give `text` again; a text of blanks is one piece."""
    return _WORDS.findall(text) or ([text] if text else [])


@dataclass(frozen=True, slots=True)
class ResponseSettings:
    """What is in force for one response: the session's values under those of its `response.create`."""

    instructions: str
    modality: str
    tools: list[JsonObject]
    tool_choice: Any
    max_output_tokens: Any
    format: JsonObject
    voice: Any
    metadata: JsonObject | None
    in_conversation: bool


@dataclass(slots=True)
class ResponseRun:
    """A response from its creation to its `response.done`."""

    id: str
    settings: ResponseSettings
    conversation: Conversation
    context: list[Item]
    mint: Callable[[str], str]
    emit: Emit
    status: str = "in_progress"
    announced: bool = False
    outputs: list[Item] = field(default_factory=list)
    made: Tokens = field(default_factory=Tokens)
    audio_ms: float = 0.0
    cut: bool = False
    _open: Item | None = None
    _sent: list[str] = field(default_factory=list)
    _sent_chars: int = 0
    _steps: Iterator[float] | None = None
    _spoken: Utterance | None = None
    _spoken_bytes: int = 0

    @property
    def active(self) -> bool:
        return self.status == "in_progress"

    def begin(self, output: Output, utterance: Utterance | None) -> None:
        """Open the next output item; `utterance` is the speech of a `Say` in an audio response."""
        if isinstance(output, Call):
            self._steps = self._call(output)
        elif utterance is not None:
            self._steps = self._speak(output, utterance)
        else:
            self._steps = self._write(output)

    def step(self) -> float | None:
        """Emit the next piece; the milliseconds of audio in it, or None when the item is finished."""
        return None if self._steps is None else next(self._steps, None)

    # -- the three kinds of output -------------------------------------------------------------------------------

    def _open_item(self, body: JsonObject) -> Item:
        item = Item({"id": self.mint("item"), "object": "realtime.item", "status": "in_progress", **body})
        self.outputs.append(item)
        self._open, self._sent, self._sent_chars = item, [], 0
        self.emit("response.output_item.added", **self._place(), item=item.copy_of_body())
        if self.settings.in_conversation:
            previous = self.conversation.insert(item)
            self.emit("conversation.item.added", previous_item_id=previous, item=item.copy_of_body())
        return item

    def _place(self) -> JsonObject:
        return {"response_id": self.id, "output_index": len(self.outputs) - 1}

    def _part(self, item: Item) -> JsonObject:
        return {"response_id": self.id, "item_id": item.id, "output_index": len(self.outputs) - 1, "content_index": 0}

    def _afford(self, text: int = 0, audio: float = 0) -> bool:
        limit = self.settings.max_output_tokens
        if limit == "inf":
            limit = MODEL_LIMIT
        spent = -(-self._sent_chars // CHARS_PER_TOKEN) + self.made.total
        self.cut = spent + text + audio / OUTPUT_MS_PER_TOKEN > limit
        return not self.cut

    def _count(self, piece: str) -> None:
        self._sent.append(piece)
        self._sent_chars += len(piece)

    def _speak(self, output: Say, utterance: Utterance) -> Iterator[float]:
        item = self._open_item({"type": "message", "role": "assistant", "content": []})
        item.audio = Audio(b"", utterance.format, 0.0)
        self._spoken, self._spoken_bytes = utterance, 0
        place = self._part(item)
        self.emit("response.content_part.added", **place, part={"type": "audio", "transcript": ""})
        pending = words(output.text)[::-1]
        shown, total = 0, len(output.text)
        for chunk in utterance.chunks:
            # The words that this stretch of audio holds go first; the last stretch takes what is left.
            share = (item.audio.duration_ms + chunk.ms) / utterance.duration_ms
            while pending and (share > 0.9999 or shown < share * total):
                word = pending.pop()
                if not self._afford(text=text_tokens(word)):
                    break
                shown += len(word)
                self._count(word)
                self.emit("response.output_audio_transcript.delta", **place, delta=word)
            if self.cut or not self._afford(audio=item.audio.duration_ms + chunk.ms):
                break
            self.emit("response.output_audio.delta", **place, delta=chunk.base64)
            self._spoken_bytes += chunk.size
            item.audio.duration_ms += chunk.ms
            self.audio_ms += chunk.ms
            yield chunk.ms
        self._close_open("incomplete" if self.cut else "completed")

    def _write(self, output: Say) -> Iterator[float]:
        item = self._open_item({"type": "message", "role": "assistant", "content": []})
        place = self._part(item)
        self.emit("response.content_part.added", **place, part={"type": "text", "text": ""})
        for word in words(output.text):
            if not self._afford(text=text_tokens(word)):
                break
            self._count(word)
            self.emit("response.output_text.delta", **place, delta=word)
            yield 0.0
        self._close_open("incomplete" if self.cut else "completed")

    def _call(self, output: Call) -> Iterator[float]:
        item = self._open_item(
            {"type": "function_call", "name": output.name, "call_id": self.mint("call"), "arguments": ""}
        )
        place = {"response_id": self.id, "item_id": item.id, "output_index": len(self.outputs) - 1}
        for start in range(0, len(output.arguments), _ARGUMENT_PIECE):
            piece = output.arguments[start : start + _ARGUMENT_PIECE]
            if not self._afford(text=text_tokens(piece)):
                break
            self._count(piece)
            self.emit("response.function_call_arguments.delta", **place, call_id=item.body["call_id"], delta=piece)
            yield 0.0
        self._close_open("incomplete" if self.cut else "completed")

    # -- closing -------------------------------------------------------------------------------------------------

    def _close_open(self, status: str) -> None:
        item, self._open = self._open, None
        if item is None:
            return
        text = "".join(self._sent)
        self._sent, self._sent_chars = [], 0
        self.made.text += text_tokens(text)
        item.body["status"] = status
        if item.body["type"] == "function_call":
            item.body["arguments"] = text
            self.emit(
                "response.function_call_arguments.done",
                **self._place(),
                item_id=item.id,
                call_id=item.body["call_id"],
                name=item.body["name"],
                arguments=text,
            )
        elif item.audio is not None:
            self.made.audio += int(item.audio.duration_ms // OUTPUT_MS_PER_TOKEN)
            if self._spoken is not None:
                item.audio.data = self._spoken.data[: self._spoken_bytes]
                item.cut_audio()
            self.emit("response.output_audio.done", **self._part(item))
            self.emit("response.output_audio_transcript.done", **self._part(item), transcript=text)
            part = {"type": "audio", "transcript": text}
            self.emit("response.content_part.done", **self._part(item), part=part)
            # A part truncated while it was still being generated stays without its transcript.
            spoken: JsonObject = {"type": "output_audio"}
            item.body["content"] = [spoken if item.truncated_ms is not None else {**spoken, "transcript": text}]
        else:
            self.emit("response.output_text.done", **self._part(item), text=text)
            self.emit("response.content_part.done", **self._part(item), part={"type": "text", "text": text})
            item.body["content"] = [{"type": "output_text", "text": text}]
        if self.settings.in_conversation and item.id in self.conversation:
            self.emit(
                "conversation.item.done",
                previous_item_id=self.conversation.previous(item.id),
                item=item.copy_of_body(),
            )
        self.emit("response.output_item.done", **self._place(), item=item.copy_of_body())

    def end(self, status: str) -> None:
        """Close what is open (as incomplete) and take the final status; `response.done` is the session's to send."""
        self._steps = None
        self._close_open("incomplete")
        self.status = status

    def body(self, *, status_details: JsonObject | None, usage: JsonObject | None) -> JsonObject:
        """The response object of created and done."""
        settings = self.settings
        return {
            "object": "realtime.response",
            "id": self.id,
            "status": self.status,
            "status_details": status_details,
            "output": [] if self.active else [item.copy_of_body() for item in self.outputs],
            "conversation_id": self.conversation.id if settings.in_conversation else None,
            "output_modalities": [settings.modality],
            "max_output_tokens": settings.max_output_tokens,
            "audio": {"output": {"format": settings.format, "voice": settings.voice}},
            "usage": usage,
            "metadata": settings.metadata,
        }
