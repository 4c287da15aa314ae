"""Conversation items: which ones a client may create, how they look on the wire, and the ordered list of them."""

from dataclasses import dataclass, field
from typing import Any

from voicebus_services.model_simulator.protocol.audio import base64_text, bytes_per_ms, decode_base64
from voicebus_services.model_simulator.protocol.checks import (
    Check,
    Required,
    any_object,
    array,
    boolean,
    nullable,
    obj,
    one_of,
    string,
    tagged,
    wrong_type,
)
from voicebus_services.model_simulator.protocol.refusal import RefusedError

JsonObject = dict[str, Any]

MAX_ITEMS = 10_000

_id = nullable(string(longest=128, shortest=1))


def _base64(value: Any, path: str) -> Any:
    if not isinstance(value, str):
        raise wrong_type(value, path, "a string")
    try:
        decode_base64(value)
    except ValueError as error:
        raise RefusedError(
            f"Invalid '{path}'. Expected base64-encoded audio bytes, but got something that is not base64.",
            code="invalid_value",
            param=path,
        ) from error
    return value


def _item(**fields: Check | Required) -> Check:
    return obj(
        {
            "id": _id,
            "type": string(),
            "object": nullable(string()),
            "status": nullable(one_of("completed", "incomplete", "in_progress")),
            **fields,
        }
    )


_text = Required(string())
_message = tagged(
    "role",
    {
        "system": _item(
            role=string(),
            content=Required(array(tagged("type", {"input_text": obj({"type": string(), "text": _text})}))),
        ),
        "user": _item(
            role=string(),
            content=Required(
                array(
                    tagged(
                        "type",
                        {
                            "input_text": obj({"type": string(), "text": _text}),
                            "input_audio": obj(
                                {"type": string(), "audio": Required(_base64), "transcript": nullable(string())}
                            ),
                            "input_image": obj(
                                {
                                    "type": string(),
                                    "image_url": Required(string(longest=32 * 1024 * 1024)),
                                    "detail": nullable(one_of("auto", "low", "high")),
                                }
                            ),
                        },
                    )
                )
            ),
        ),
        # The official types still allow "text" here; assistant audio cannot be created by a client.
        "assistant": _item(
            role=string(),
            content=Required(
                array(
                    tagged(
                        "type",
                        {
                            "output_text": obj({"type": string(), "text": _text}),
                            "text": obj({"type": string(), "text": _text}),
                        },
                    )
                )
            ),
            phase=nullable(string()),
        ),
    },
)
_shapes: dict[str, Check] = {
    "message": _message,
    "function_call": _item(call_id=nullable(string()), name=_text, arguments=_text),
    "function_call_output": _item(call_id=_text, output=_text),
    "mcp_list_tools": _item(server_label=_text, tools=Required(array(any_object))),
    "mcp_call": _item(
        server_label=_text,
        name=_text,
        arguments=_text,
        output=nullable(string()),
        approval_request_id=nullable(string()),
        error=nullable(any_object),
    ),
    "mcp_approval_request": _item(server_label=_text, name=_text, arguments=_text),
    "mcp_approval_response": _item(approval_request_id=_text, approve=Required(boolean), reason=nullable(string())),
}
check_item: Check = tagged("type", _shapes)
check_input_item: Check = tagged(
    "type", {**_shapes, "item_reference": obj({"type": string(), "id": Required(string())})}
)


@dataclass(slots=True)
class Audio:
    """The sound of one content part.

    Attributes:
        data: samples in the wire format they came or went in; None once the session's audio budget dropped them.
        format: that format's `type`.
        duration_ms: what was sent or received; what a truncate is checked against.
    """

    data: bytes | None
    format: str
    duration_ms: float


@dataclass(slots=True)
class Item:
    """One conversation item: its wire fields, and beside them what the wire leaves out."""

    body: JsonObject
    audio: Audio | None = None
    heard: str | None = None
    truncated_ms: int | None = None

    @property
    def id(self) -> str:
        identity: str = self.body["id"]
        return identity

    def cut_audio(self) -> None:
        """Drop the samples behind the truncation, if there was one."""
        if self.truncated_ms is not None and self.audio is not None:
            self.audio.duration_ms = min(self.audio.duration_ms, self.truncated_ms)
            if self.audio.data is not None:
                self.audio.data = self.audio.data[: self.truncated_ms * bytes_per_ms(self.audio.format)]

    def copy_of_body(self, *, status: str | None = None) -> JsonObject:
        """A snapshot for an event; the item may change after it was sent."""
        body = dict(self.body)
        if "content" in body:
            body["content"] = [dict(part) for part in body["content"]]
        if status is not None:
            body["status"] = status
        return body

    def with_audio(self) -> JsonObject:
        """The body as `conversation.item.retrieved` shows it."""
        body = self.copy_of_body()
        if self.audio is not None and self.audio.data is not None:
            for part in body.get("content", ()):
                if part["type"] in ("input_audio", "output_audio"):
                    part["audio"] = base64_text(self.audio.data)
                    break
        return body

    def as_context(self) -> JsonObject:
        """The body as a brain sees it: every spoken part with its words."""
        body = self.copy_of_body()
        for part in body.get("content", ()):
            if part["type"] in ("input_audio", "output_audio"):
                part["transcript"] = (self.heard if self.heard is not None else part.get("transcript")) or ""
        return body


@dataclass(slots=True)
class Conversation:
    """The items in order, found by id."""

    id: str
    _order: list[str] = field(default_factory=list)
    _items: dict[str, Item] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Any:
        return (self._items[identity] for identity in self._order)

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._items

    def get(self, item_id: str) -> Item | None:
        return self._items.get(item_id)

    def previous(self, item_id: str) -> str | None:
        """The id of the item directly before this one now, None for the first."""
        place = self._order.index(item_id)
        return self._order[place - 1] if place else None

    @property
    def last_id(self) -> str | None:
        return self._order[-1] if self._order else None

    def insert(self, item: Item, after: str | None = None) -> str | None:
        """Add `item` behind item `after` ("root": in front; None: at the end) and return the id now before it.

        Raises:
            RefusedError: the id is taken, `after` is unknown, or the conversation is full.
        """
        if item.id in self._items:
            raise RefusedError(
                f"Error adding item: an item with id '{item.id}' already exists.",
                code="item_create_duplicate_item_id",
                param="item.id",
            )
        if after is not None and after != "root" and after not in self._items:
            raise RefusedError(
                f"Error adding item: the previous item with id '{after}' does not exist.",
                code="item_create_invalid_previous_item_id",
                param="previous_item_id",
            )
        if len(self._order) >= MAX_ITEMS:
            raise RefusedError(
                f"Error adding item: the conversation already holds {MAX_ITEMS} items.", code="invalid_value"
            )
        place = len(self._order) if after is None else 0 if after == "root" else self._order.index(after) + 1
        self._order.insert(place, item.id)
        self._items[item.id] = item
        return self._order[place - 1] if place else None

    def remove(self, item_id: str) -> Item | None:
        item = self._items.pop(item_id, None)
        if item is not None:
            self._order.remove(item_id)
        return item


def from_client(fields: JsonObject, item_id: str, call_id: str) -> Item:
    """The stored item for a checked client item; both ids are used only where the client gave none."""
    body = {key: value for key, value in fields.items() if value is not None and key != "phase"}
    body["id"] = fields.get("id") or item_id
    body["object"] = "realtime.item"
    # The status a client gives has no effect: its items come back completed.
    body["status"] = "completed"
    if body["type"] == "function_call":
        body.setdefault("call_id", call_id)
    if body["type"].startswith("mcp_"):
        del body["status"]
    item = Item(body)
    if body["type"] == "message":
        content = []
        for given in body["content"]:
            part = {key: value for key, value in given.items() if value is not None}
            if part["type"] == "text":
                part["type"] = "output_text"
            if part["type"] == "input_audio":
                item.audio = Audio(decode_base64(part.pop("audio")), "", 0.0)
                item.heard = part.get("transcript")
                part.setdefault("transcript", None)
            content.append(part)
        body["content"] = content
    return item
