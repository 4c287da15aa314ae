"""The server's side of a scripted conversation: ids, the open response, and valid events for what happens.

No socket here: every method returns the events of the protocol that say what it did.
"""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from voicebus.testing.scripts import RealtimeScriptError

ServerEvent = dict[str, Any]

_CHUNK_MS: Final = 100
_MS_PER_CHARACTER: Final = 20
_BYTES_PER_MS: Final = {"audio/pcm": 48, "audio/pcmu": 8, "audio/pcma": 8}
_SILENCE: Final = {"audio/pcm": b"\0", "audio/pcmu": b"\xff", "audio/pcma": b"\xd5"}
_SESSION: Final[Mapping[str, Any]] = {
    "type": "realtime",
    "object": "realtime.session",
    "model": "scripted",
    "instructions": "",
    "output_modalities": ["audio"],
    "tools": [],
    "tool_choice": "auto",
    "audio": {
        "input": {"format": {"type": "audio/pcm", "rate": 24000}, "transcription": None, "turn_detection": None},
        "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "marin"},
    },
}


@dataclass
class _Open:
    """The response under way."""

    id: str
    metadata: Any
    output: list[dict[str, Any]] = field(default_factory=list)
    item: str | None = None
    kind: str = "text"
    said: str = ""


class ServerConversation:
    """What a server knows of one connection. `session` is its effective settings, `metadata` that of the last create.

    Raises, in every method that needs another state:
        RealtimeScriptError: a response is begun while one is open, or goes on while none is.
    """

    def __init__(self, number: int = 1) -> None:
        self._prefix = f"{number}_" if number > 1 else ""
        self._made: dict[str, int] = {}
        self._open: _Open | None = None
        self._items: list[str] = []
        self.session: dict[str, Any] = {**_merged({}, _SESSION), "id": self.new_id("sess")}
        self.metadata: Any = None

    def new_id(self, kind: str) -> str:
        """The next id of a kind: `item_1`, `item_2`, and so on."""
        self._made[kind] = self._made.get(kind, 0) + 1
        return f"{kind}_{self._prefix}{self._made[kind]}"

    def event(self, kind: str, **fields: Any) -> ServerEvent:
        """One event with an id of its own."""
        return {"type": kind, "event_id": self.new_id("event"), **fields}

    def error(self, code: str, message: str, *, cause: Mapping[str, Any] | None = None) -> ServerEvent:
        """An `error` event, about the client event `cause` if there was one."""
        about = {"type": "invalid_request_error", "code": code, "message": message, "param": None}
        return self.event("error", error={**about, "event_id": (cause or {}).get("event_id")})

    @property
    def is_answering(self) -> bool:
        """Whether a response is open."""
        return self._open is not None

    # --- responses ----------------------------------------------------------------------------------

    def begin_response(self) -> Iterator[ServerEvent]:
        """A response, with the metadata of the create that asked for it."""
        if self._open is not None:
            raise RealtimeScriptError(f"the script begins a response while {self._open.id} is open")
        self._open = _Open(self.new_id("resp"), self.metadata)
        self.metadata = None
        yield self.event("response.created", response=self._response("in_progress", None))

    def begin_message(self, kind: str) -> Iterator[ServerEvent]:
        """An assistant message of `kind` text or audio."""
        response = self._current()
        response.kind, response.said = kind, ""
        response.item = self.new_id("item")
        shown = {"id": response.item, "type": "message", "role": "assistant", "status": "in_progress", "content": []}
        yield from self._added(response, shown)
        part = {"type": "text", "text": ""} if kind == "text" else {"type": "audio", "transcript": ""}
        yield self._part_event("response.content_part.added", part=part)

    def say(self, text: str, samples: bytes | None = None) -> Iterator[ServerEvent]:
        """Deltas of the open message, word by word; `samples` None is silence of about the length of the words."""
        response = self._current()
        response.said += text
        spoken = response.kind == "audio"
        delta = "response.output_audio_transcript.delta" if spoken else "response.output_text.delta"
        words = text.split(" ")
        for place, word in enumerate(words):
            yield self._part_event(delta, delta=word if place == len(words) - 1 else f"{word} ")
        if spoken:
            yield from self._sound(text, samples)

    def end_message(self, status: str = "completed") -> Iterator[ServerEvent]:
        """The open message is over."""
        response = self._current()
        said = response.said
        if response.kind == "audio":
            yield self._part_event("response.output_audio.done")
            yield self._part_event("response.output_audio_transcript.done", transcript=said)
            part: dict[str, Any] = {"type": "audio", "transcript": said}
            content = {"type": "output_audio", "transcript": said}
        else:
            yield self._part_event("response.output_text.done", text=said)
            part = {"type": "text", "text": said}
            content = {"type": "output_text", "text": said}
        yield self._part_event("response.content_part.done", part=part)
        item = {"id": response.item, "type": "message", "role": "assistant", "status": status, "content": [content]}
        yield from self._done(response, item)

    def call(self, name: str, arguments: str, call_id: str | None = None) -> Iterator[ServerEvent]:
        """A function call, whole."""
        response = self._current()
        item = {"id": self.new_id("item"), "type": "function_call", "name": name}
        item["call_id"] = call_id or self.new_id("call")
        response.item = item["id"]
        yield from self._added(response, {**item, "status": "in_progress", "arguments": ""})
        where = {"response_id": response.id, "item_id": item["id"], "output_index": len(response.output)}
        where["call_id"] = item["call_id"]
        yield self.event("response.function_call_arguments.delta", **where, delta=arguments)
        yield self.event("response.function_call_arguments.done", **where, name=name, arguments=arguments)
        yield from self._done(response, {**item, "status": "completed", "arguments": arguments})

    def end_response(
        self, status: str = "completed", details: Mapping[str, Any] | None = None
    ) -> Iterator[ServerEvent]:
        """Close what is open of the response, and the response."""
        response = self._current()
        if response.item is not None:
            yield from self.end_message("completed" if status == "completed" else "incomplete")
        shown = self._response(status, details)
        words = sum(len(str(item).split()) for item in response.output)
        shown["usage"] = _usage(words) if status != "failed" else None
        self._open = None
        yield self.event("response.done", response=shown)

    # --- the user -----------------------------------------------------------------------------------

    def user_speech(self, transcript: str | None) -> Iterator[ServerEvent]:
        """Speech that the server heard; an answer that is under way is cut off by it."""
        item = self.new_id("item")
        yield self.event("input_audio_buffer.speech_started", item_id=item, audio_start_ms=0)
        if self._open is not None:
            yield from self.end_response("cancelled", {"type": "cancelled", "reason": "turn_detected"})
        yield self.event("input_audio_buffer.speech_stopped", item_id=item, audio_end_ms=1000)
        yield from self._committed(item)
        if transcript is not None:
            usage = {"type": "duration", "seconds": 1}
            kind = "conversation.item.input_audio_transcription.completed"
            yield self.event(kind, item_id=item, content_index=0, transcript=transcript, usage=usage)

    def acknowledge(self, client: Mapping[str, Any]) -> Iterator[ServerEvent]:
        """What a server answers by itself to a client event, before and beside any script."""
        match client.get("type"):
            case "session.update":
                self.session = _merged(self.session, client.get("session") or {})
                yield self.event("session.updated", session=self.session)
            case "conversation.item.create":
                item = {"status": "completed", **(client.get("item") or {})}
                item.setdefault("id", self.new_id("item"))
                yield from self._new_item(item, client.get("previous_item_id"))
            case "conversation.item.truncate":
                about = {name: client.get(name) for name in ("item_id", "content_index", "audio_end_ms")}
                yield self.event("conversation.item.truncated", **about)
            case "conversation.item.delete":
                self._items = [item for item in self._items if item != client.get("item_id")]
                yield self.event("conversation.item.deleted", item_id=client.get("item_id"))
            case "input_audio_buffer.commit":
                yield from self._committed(self.new_id("item"))
            case "input_audio_buffer.clear":
                yield self.event("input_audio_buffer.cleared")
            case "response.cancel" if self._open is not None:
                yield from self.end_response("cancelled", {"type": "cancelled", "reason": "client_cancelled"})
            case "response.cancel":
                message = "Cancellation failed: no active response found"
                yield self.error("response_cancel_not_active", message, cause=client)
            case "response.create":
                self.metadata = (client.get("response") or {}).get("metadata")

    # --- parts --------------------------------------------------------------------------------------

    def _current(self) -> _Open:
        if self._open is None:
            raise RealtimeScriptError("the script goes on with a response, but none is open")
        return self._open

    def _added(self, response: _Open, item: dict[str, Any]) -> Iterator[ServerEvent]:
        index = len(response.output)
        yield self.event("response.output_item.added", response_id=response.id, output_index=index, item=item)
        yield self.event("conversation.item.added", previous_item_id=self._last(), item=item)
        self._items.append(item["id"])

    def _done(self, response: _Open, item: dict[str, Any]) -> Iterator[ServerEvent]:
        index = len(response.output)
        response.output.append(item)
        response.item = None
        before = self._items.index(item["id"])
        previous = self._items[before - 1] if before else None
        yield self.event("conversation.item.done", previous_item_id=previous, item=item)
        yield self.event("response.output_item.done", response_id=response.id, output_index=index, item=item)

    def _new_item(self, item: dict[str, Any], previous: Any) -> Iterator[ServerEvent]:
        place = len(self._items)
        if previous == "root":
            place = 0
        elif previous in self._items:
            place = self._items.index(previous) + 1
        before = self._items[place - 1] if place else None
        self._items.insert(place, item["id"])
        yield self.event("conversation.item.added", previous_item_id=before, item=item)
        yield self.event("conversation.item.done", previous_item_id=before, item=item)

    def _committed(self, item: str) -> Iterator[ServerEvent]:
        yield self.event("input_audio_buffer.committed", item_id=item, previous_item_id=self._last())
        content = [{"type": "input_audio", "transcript": None}]
        shown = {"id": item, "type": "message", "role": "user", "status": "completed", "content": content}
        yield from self._new_item(shown, None)

    def _last(self) -> str | None:
        return self._items[-1] if self._items else None

    def _part_event(self, kind: str, **fields: Any) -> ServerEvent:
        response = self._current()
        if response.item is None:
            raise RealtimeScriptError("the script says something, but no message is open")
        where = {"response_id": response.id, "item_id": response.item, "output_index": len(response.output)}
        return self.event(kind, **where, content_index=0, **fields)

    def _sound(self, text: str, samples: bytes | None) -> Iterator[ServerEvent]:
        encoding = self.session["audio"]["output"].get("format", {}).get("type", "audio/pcm")
        per_ms = _BYTES_PER_MS.get(encoding, 48)
        if samples is None:
            samples = _SILENCE.get(encoding, b"\0") * (per_ms * _MS_PER_CHARACTER * len(text))
        for start in range(0, len(samples), per_ms * _CHUNK_MS):
            piece = base64.b64encode(samples[start : start + per_ms * _CHUNK_MS]).decode("ascii")
            yield self._part_event("response.output_audio.delta", delta=piece)

    def _response(self, status: str, details: Mapping[str, Any] | None) -> dict[str, Any]:
        response = self._current()
        return {
            "id": response.id,
            "object": "realtime.response",
            "status": status,
            "status_details": details,
            "output": list(response.output),
            "conversation_id": "conv_1",
            "output_modalities": self.session["output_modalities"],
            "max_output_tokens": "inf",
            "audio": {"output": self.session["audio"]["output"]},
            "usage": None,
            "metadata": response.metadata,
        }


def _merged(into: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Objects field by field, everything else replaced (protocol 4.2); turn detection is replaced whole."""
    merged = dict(into)
    for name, value in change.items():
        old = merged.get(name)
        nested = isinstance(value, Mapping) and name in ("audio", "input", "output")
        merged[name] = _merged(old if isinstance(old, Mapping) else {}, value) if nested else value
    return merged


def _usage(output_tokens: int) -> dict[str, Any]:
    cached = {"text_tokens": 0, "audio_tokens": 0, "image_tokens": 0}
    details = {"text_tokens": 10, "audio_tokens": 0, "image_tokens": 0, "cached_tokens": 0}
    return {
        "total_tokens": 10 + output_tokens,
        "input_tokens": 10,
        "output_tokens": output_tokens,
        "input_token_details": {**details, "cached_tokens_details": cached},
        "output_token_details": {"text_tokens": output_tokens, "audio_tokens": 0},
    }
