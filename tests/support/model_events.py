"""Server events of the model, as tests of the engine need them: a conversation that keeps its own order and ids."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Event = dict[str, Any]
USAGE: Mapping[str, Any] = {
    "total_tokens": 15,
    "input_tokens": 10,
    "output_tokens": 5,
    "input_token_details": {
        "text_tokens": 10,
        "audio_tokens": 0,
        "cached_tokens": 4,
        "cached_tokens_details": {"text_tokens": 4, "audio_tokens": 0},
    },
    "output_token_details": {"text_tokens": 5, "audio_tokens": 0},
}


class ModelScript:
    """Makes the events of one conversation. `order` is the model's own order of items."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self._count = 0

    def item(self, item: Mapping[str, Any], *, behind: str | None = "end") -> list[Event]:
        """Added and done of an item that somebody created; `behind` None is the front."""
        place = len(self.order) if behind == "end" else 0 if behind is None else self.order.index(behind) + 1
        previous = self.order[place - 1] if place else None
        self.order.insert(place, item["id"])
        return [
            {"type": f"conversation.item.{step}", "event_id": self._id(), "previous_item_id": previous, "item": item}
            for step in ("added", "done")
        ]

    def user(self, item_id: str, **kwargs: Any) -> list[Event]:
        content = [{"type": "input_text", "text": "hello"}]
        return self.item({"id": item_id, "type": "message", "role": "user", "content": content}, **kwargs)

    def output(self, item_id: str, call_id: str) -> list[Event]:
        return self.item({"id": item_id, "type": "function_call_output", "call_id": call_id, "output": "21 degrees"})

    def response(self, response_id: str, items: Sequence[Mapping[str, Any]], **kwargs: Any) -> list[Event]:
        """All events of a response at once; arguments as of `responding`."""
        return list(self.responding(response_id, items, **kwargs))

    def responding(
        self,
        response_id: str,
        items: Sequence[Mapping[str, Any]],
        *,
        status: str = "completed",
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
        out_of_band: bool = False,
        usage: Mapping[str, Any] | None = USAGE,
    ) -> Iterator[Event]:
        """A response with these items, from created to done; an item takes its place when its turn has come."""
        base = {
            "id": response_id,
            "object": "realtime.response",
            "conversation_id": None if out_of_band else "conv_1",
            "output_modalities": ["text"],
            "metadata": metadata,
        }
        created = {**base, "status": "in_progress", "status_details": None, "output": [], "usage": None}
        details = None if reason is None else {"type": status, "reason": reason}
        done = {**base, "status": status, "status_details": details, "output": list(items), "usage": usage}
        yield {"type": "response.created", "event_id": self._id(), "response": created}
        for index, item in enumerate(items):
            for event in self._output_item(response_id, index, item, out_of_band=out_of_band):
                yield {"event_id": self._id(), **event}
        yield {"type": "response.done", "event_id": self._id(), "response": done}

    def _output_item(
        self, response_id: str, index: int, item: Mapping[str, Any], *, out_of_band: bool
    ) -> Iterator[Event]:
        address = {"response_id": response_id, "output_index": index}
        part = {**address, "item_id": item["id"]}
        empty: Event = {"arguments": ""} if item["type"] == "function_call" else {"content": []}
        started = {**item, **empty, "status": "in_progress"}
        yield {"type": "response.output_item.added", **address, "item": started}
        added, done = (None, None) if out_of_band else self.item(started)
        if added is not None:
            yield added
        if item["type"] == "function_call":
            called = {**part, "call_id": item["call_id"]}
            arguments = item["arguments"]
            yield {"type": "response.function_call_arguments.delta", **called, "delta": arguments}
            final = {"name": item["name"], "arguments": arguments}
            yield {"type": "response.function_call_arguments.done", **called, **final}
        else:
            text = item["content"][0]["text"]
            here = {**part, "content_index": 0}
            yield {"type": "response.content_part.added", **here, "part": {"type": "text", "text": ""}}
            yield {"type": "response.output_text.delta", **here, "delta": text}
            yield {"type": "response.output_text.done", **here, "text": text}
            yield {"type": "response.content_part.done", **here, "part": {"type": "text", "text": text}}
        if done is not None:
            yield {**done, "item": item}
        yield {"type": "response.output_item.done", **address, "item": item}

    def _id(self) -> str:
        self._count += 1
        return f"event_{self._count}"


def message(item_id: str, text: str = "It is warm.") -> Event:
    content = [{"type": "output_text", "text": text}]
    return {"id": item_id, "type": "message", "status": "completed", "role": "assistant", "content": content}


def call(item_id: str, call_id: str, name: str, arguments: str = "{}") -> Event:
    return {
        "id": item_id,
        "type": "function_call",
        "status": "completed",
        "name": name,
        "call_id": call_id,
        "arguments": arguments,
    }
