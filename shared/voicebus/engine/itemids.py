"""Ids of items as a model's socket knows them: one that makes ids itself refuses longer ones of others.

Ids come from servers, clients and programs, and a conversation may move from one kind of server to another. An item
that is created on a socket under an id that is too long has a short one there, made of its own; whoever else speaks of
it knows the long one alone. What a socket has named itself is left as it is.
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

from voicebus.engine import wire
from voicebus.engine.dialects import MAX_ID_CHARS
from voicebus.engine.view import OWN_PREFIX

Event = Mapping[str, Any]

MAX_CHARS: Final = 32
"""Longest id of an item that OpenAI's servers take (protocol section 5)."""

_NAMING: Final = ("item_id", "previous_item_id")


class ItemIds:
    """The ids of one socket's items. Each method gives the event itself where nothing is to be changed."""

    def __init__(self) -> None:
        self._short: dict[str, str] = {}
        self._long: dict[str, str] = {}

    def outgoing(self, event: Event) -> Event:
        """An event for the socket; an item that it creates has a short id from now on."""
        item = wire.mapping(event, "item")
        item_id = wire.text(item, "id")
        if MAX_CHARS < len(item_id) <= MAX_ID_CHARS and event.get("type") == "conversation.item.create":
            short = f"{OWN_PREFIX}{sha256(item_id.encode('utf-8', 'surrogatepass')).hexdigest()[:28]}"
            self._short[item_id], self._long[short] = short, item_id
        if not self._short:
            return event
        named = _renamed(event, self._short)
        response = wire.mapping(event, "response")
        given = wire.mappings(response, "input")
        if any(wire.text(one, "id") in self._short for one in given):
            renamed = [_with_id(one, self._short) for one in given]
            named = {**named, "response": {**response, "input": renamed}}
        return named

    def incoming(self, event: Event) -> Event:
        """An event of the socket, with the ids that the session knows."""
        if not self._long:
            return event
        named = _renamed(event, self._long)
        error = wire.mapping(event, "error")
        message = told = wire.text(error, "message")
        for short, known in self._long.items() if message else ():
            told = told.replace(short, known)
        return named if told == message else {**named, "error": {**error, "message": told}}


def _renamed(event: Event, names: Mapping[str, str]) -> Event:
    changed: dict[str, Any] = {
        key: names[named] for key in _NAMING if isinstance(named := event.get(key), str) and named in names
    }
    item = wire.mapping(event, "item")
    if wire.text(item, "id") in names:
        changed["item"] = _with_id(item, names)
    return {**event, **changed} if changed else event


def _with_id(item: Event, names: Mapping[str, str]) -> Event:
    known = names.get(wire.text(item, "id"))
    return item if known is None else {**item, "id": known}
