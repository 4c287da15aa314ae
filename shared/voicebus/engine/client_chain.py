"""One response as a client sees it, made of as many model responses as the server's tools needed.

The single home of what is folded: ids, output indexes, items, usage and metadata.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from voicebus.engine import wire
from voicebus.engine.bounds import trim
from voicebus.engine.failures import without_key
from voicebus.engine.view import public_metadata

# A response object of the protocol has none of these; some servers echo them, and they are the server side's own.
_SECRET: Final = ("instructions", "tools", "tool_choice", "prompt")
# Visible items of one chain, and places of outputs in it; a long one has ten.
_MAX_ITEMS: Final = 128
_MAX_INDEXES: Final = 1024
# The protocol's has counters two levels deep; a server may nest as deep as a frame can be read.
_DEEPEST_USAGE: Final = 16


class Chain:
    """From the client's `response.created` to its `response.done`.

    `running` is the model's id of the response that is being generated; None while the chain rests on tools.
    `responses` are the model's ids of all that it was made of so far. `cut`: the running one is not its last, as the
    model's socket was lost in the middle of it and it will be asked for again, or as it is said while tools run.
    """

    def __init__(self, response_id: str, response: Mapping[str, Any]) -> None:
        self.id = response_id
        self.running: str | None = response_id
        self.responses: list[str] = [response_id]
        self.server_called: bool = False
        self.cut: bool = False
        self._response = response
        self._metadata = public_metadata(response.get("metadata"))
        self._output: list[Any] = []
        self._usage: Any = None
        self._items: dict[str, Any] = {}
        self._indexes: dict[tuple[str, int], int] = {}

    def created(self) -> dict[str, Any]:
        """The response object of the client's `response.created`."""
        return self._as_client(self._response)

    def resume(self, response_id: str) -> None:
        """A follow-up began."""
        self.running = response_id
        self.responses.append(response_id)
        self.server_called = self.cut = False

    def index(self, response_id: str, output_index: int) -> int:
        """The client's index of an output of a model response: dense, in order of first mention."""
        if len(self._indexes) >= _MAX_INDEXES:
            return self._indexes.get((response_id, output_index), len(self._indexes))
        return self._indexes.setdefault((response_id, output_index), len(self._indexes))

    def see(self, item: Mapping[str, Any]) -> None:
        """A visible item of the running response; the last state of each is kept."""
        if isinstance(item_id := item.get("id"), str):
            self._items[item_id] = item
            trim(self._items, _MAX_ITEMS)

    def finish(self, response: Mapping[str, Any], output: Sequence[Any]) -> bool:
        """Take in a model response that ended; `output` are the visible ones of its items.

        Returns whether the chain may go on: it completed with calls of the server's tools and none of the client's, or
        it is not the last one (`cut`).
        """
        # Some servers leave the output of a final response out, or empty.
        output = output or list(self._items.values())
        self._response = {**self._response, **_without_key(response)}  # one that was given up says little of itself
        self._output = [*self._output, *output][-_MAX_ITEMS:]
        self._usage = add_usage(self._usage, response.get("usage"))
        self._items = {}
        self.running = None
        client_called = any(isinstance(item, Mapping) and item.get("type") == "function_call" for item in output)
        if self.cut:
            return True
        return response.get("status") == "completed" and self.server_called and not client_called

    def done(self) -> dict[str, Any]:
        """The response object of the client's `response.done`, after the last `finish`."""
        return {**self._as_client(self._response), "output": self._output, "usage": self._usage}

    def ended(self, status: str, reason: str) -> dict[str, Any]:
        """As `done`, for a chain that ends although no model response does."""
        return {**self.done(), "status": status, "status_details": _status_details(status, reason)}

    def _as_client(self, response: Mapping[str, Any]) -> dict[str, Any]:
        public = {key: value for key, value in response.items() if key not in _SECRET}
        return {**public, "id": self.id, "metadata": self._metadata}


def add_usage(total: Any, more: Any, depth: int = _DEEPEST_USAGE) -> Any:
    """The sum of two usage objects, counter by counter `depth` deep; what only one of them has is kept."""
    if total is None or more is None:
        return more if total is None else total
    if isinstance(total, Mapping) and isinstance(more, Mapping) and depth:
        return {key: add_usage(total.get(key), more.get(key), depth - 1) for key in {**total, **more}}
    if isinstance(total, int | float) and isinstance(more, int | float):
        with suppress(OverflowError):  # a server may write an integer that no float can hold
            return total + more
    return more


def _without_key(response: Mapping[str, Any]) -> Mapping[str, Any]:
    details = wire.mapping(response, "status_details")
    error = wire.mapping(details, "error")
    return {**response, "status_details": {**details, "error": without_key(error)}} if error else response


def _status_details(status: str, reason: str) -> dict[str, Any] | None:
    if status == "completed":
        return None
    if status == "failed":
        error = {"type": "server_error", "code": reason, "message": "The server could not finish this response."}
        return {"type": "failed", "error": error}
    return {"type": status, "reason": reason}
