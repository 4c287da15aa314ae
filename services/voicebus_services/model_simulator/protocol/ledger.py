"""What one session truly said and heard, line by line, to compare a transcript with."""

from collections.abc import Callable
from typing import Any

from voicebus_services.model_simulator.protocol.items import Item

JsonObject = dict[str, Any]

_MAX_LINES = 10_000


class Ledger:
    """Lines `{at, speaker, item_id, text, …}` in the order in which they became final; the oldest go beyond 10 000."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.lines: list[JsonObject] = []

    def add(self, speaker: str, text: str, *, item_id: str, **details: Any) -> None:
        self.lines.append(
            {"at": round(self._clock(), 3), "speaker": speaker, "item_id": item_id, "text": text, **details}
        )
        del self.lines[:-_MAX_LINES]

    def add_item(self, item: Item) -> None:
        """A written item of the client, or a final item of the model."""
        body = item.body
        if body["type"] == "function_call":
            self.add("call", body["arguments"], item_id=item.id, name=body["name"], call_id=body["call_id"])
        elif body["type"] == "function_call_output":
            self.add("tool", body["output"], item_id=item.id, call_id=body["call_id"])
        elif body["type"] == "message" and (body["role"] != "user" or item.audio is None or item.heard is not None):
            parts = (part.get("text") or part.get("transcript") or "" for part in body["content"])
            details: JsonObject = {"status": body["status"]}
            if item.audio is not None:
                details["audio_ms"] = round(item.audio.duration_ms, 1)
            if item.truncated_ms is not None:  # while it was still being said
                details["truncated_ms"] = item.truncated_ms
            speaker = "agent" if body["role"] == "assistant" else body["role"]
            self.add(speaker, " ".join(part for part in parts if part), item_id=item.id, **details)

    def truncated(self, item_id: str, end_ms: int) -> None:
        """Note on an agent's line how much of it the listener heard."""
        for line in reversed(self.lines):
            if line["item_id"] == item_id:
                line["truncated_ms"] = end_ms
                return
