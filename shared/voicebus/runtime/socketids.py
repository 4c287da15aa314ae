"""Ids that a server gives again on another socket: it may count them, or draw the same ones after its restart.

Items, responses and calls are known by their ids for as long as a session lasts, across all its sockets. What a later
socket names as something of an earlier one is another thing all the same, and gets an id here under which all but that
socket know it. Left alone is what the socket was told of: a conversation is told again under the ids that it has.
"""

from collections.abc import Callable, Iterable, Mapping
from secrets import token_hex
from typing import Any, Final

from msgspec.structs import replace

from voicebus.engine import wire
from voicebus.engine.bounds import REMEMBERED, Recent, trim
from voicebus.engine.dialects import MAX_ID_CHARS
from voicebus.runtime.frames import AudioDelta

Event = Mapping[str, Any]

_ITEM: Final = "item"
_RESPONSE: Final = "resp"
_CALL: Final = "call"
_KINDS: Final = (_ITEM, _RESPONSE, _CALL)

_FIELDS: Final = {
    "item_id": _ITEM,
    "previous_item_id": _ITEM,
    "approval_request_id": _ITEM,
    "response_id": _RESPONSE,
    "call_id": _CALL,
}
# Whose `id` it is, by the field in which the object stands, alone or in a list.
_WITHIN: Final = {"item": _ITEM, "output": _ITEM, "input": _ITEM, "response": _RESPONSE}

_CREATE: Final = "conversation.item.create"
_TRANSCRIPTION: Final = "conversation.item.input_audio_transcription."


def _of_item(event: Event) -> Iterable[tuple[str, str]]:
    item = wire.mapping(event, "item")
    return (_ITEM, wire.text(item, "id")), (_CALL, wire.text(item, "call_id"))


def _of_output(event: Event) -> Iterable[tuple[str, str]]:
    return (_RESPONSE, wire.text(event, "response_id")), *_of_item(event)


def _of_speech(event: Event) -> Iterable[tuple[str, str]]:
    return ((_ITEM, wire.text(event, "item_id")),)


def _of_response(event: Event) -> Iterable[tuple[str, str]]:
    return ((_RESPONSE, wire.text(wire.mapping(event, "response"), "id")),)


# Events that may name something for the first time, and whether they never answer what the socket was told.
_NAMING: Final[Mapping[str, tuple[bool, Callable[[Event], Iterable[tuple[str, str]]]]]] = {
    "response.created": (True, _of_response),
    "response.done": (True, _of_response),
    "response.output_item.added": (True, _of_output),
    "response.output_item.done": (True, _of_output),
    "input_audio_buffer.speech_started": (True, _of_speech),
    "input_audio_buffer.committed": (True, _of_speech),
    "input_audio_buffer.timeout_triggered": (True, _of_speech),
    "conversation.item.added": (False, _of_item),
    "conversation.item.created": (False, _of_item),
    "conversation.item.done": (False, _of_item),
    f"{_TRANSCRIPTION}delta": (False, _of_speech),
    f"{_TRANSCRIPTION}completed": (False, _of_speech),
    f"{_TRANSCRIPTION}failed": (False, _of_speech),
}


class _Names:
    """The ids of one kind: `told` to the socket, `met` in what it said, and what stands for them both ways."""

    def __init__(self) -> None:
        self.told = Recent()
        self.met = Recent()
        self.known: dict[str, str] = {}
        self.own: dict[str, str] = {}


class SocketIds:
    """The ids of one socket. `incoming` and `outgoing` give the event itself where nothing is to be changed.

    `former` are the ids that were used before, by kind: those that this socket gives are added.
    """

    def __init__(self, former: Mapping[str, Recent] | None = None) -> None:
        self._former = former or {kind: Recent() for kind in _KINDS}
        self._names = {kind: _Names() for kind in _KINDS}
        self.renames: bool = False
        """Whether any id stands for another."""

    def another(self, history: Iterable[Event] = ()) -> "SocketIds":
        """Those of another socket of the session, which is told these items of it."""
        other = SocketIds(self._former)
        other.tell(history)
        return other

    def tell(self, history: Iterable[Event]) -> None:
        """The socket was told these items of the session."""
        for item in history:
            for kind, field in (_ITEM, "item_id"), (_CALL, "call_id"):
                if (id_ := wire.text(item, field)) != "":
                    self._names[kind].told.add(id_)
                    self._former[kind].add(id_)

    def outgoing(self, event: Event) -> Event:
        """An event for the socket."""
        if event.get("type") == _CREATE:
            for kind, id_ in _of_item(event):
                self._names[kind].told.add(id_)
        return self._renamed(event, incoming=False) if self.renames else event

    def incoming(self, event: Event) -> Event:
        """An event of the socket, with the ids that the session knows."""
        naming = _NAMING.get(event["type"])
        if naming is not None:
            is_new, named = naming
            for kind, id_ in named(event):
                self._meet(kind, id_, is_new=is_new)
        return self._renamed(event, incoming=True) if self.renames else event

    def audio(self, delta: AudioDelta) -> AudioDelta:
        """The same of a delta of audio."""
        if not self.renames:
            return delta
        response_id = self._names[_RESPONSE].known.get(delta.response_id, delta.response_id)
        item_id = self._names[_ITEM].known.get(delta.item_id, delta.item_id)
        if response_id == delta.response_id and item_id == delta.item_id:
            return delta
        return replace(delta, response_id=response_id, item_id=item_id)

    def _meet(self, kind: str, id_: str, *, is_new: bool) -> None:
        names = self._names[kind]
        if not 0 < len(id_) <= MAX_ID_CHARS or id_ in names.met or (id_ in names.told and not is_new):
            return
        names.met.add(id_)
        if id_ in self._former[kind]:
            self.renames = True
            names.known[id_] = f"{kind}_{token_hex(11)}"
            names.own[names.known[id_]] = id_
            trim(names.known, REMEMBERED)
            trim(names.own, REMEMBERED)
        self._former[kind].add(id_)

    def _renamed(self, event: Event, *, incoming: bool) -> Event:
        tables = {kind: names.known if incoming else names.own for kind, names in self._names.items()}
        return _put(event, None, tables)


def _put(value: Event, within: str | None, tables: Mapping[str, Mapping[str, str]]) -> Event:
    """`value`, whose `id` is of the kind `within`, with what stands for its ids; itself where nothing does."""
    changed: dict[str, Any] = {}
    for key, field in value.items():
        after: Any = field
        if type(field) is str:
            kind = within if key == "id" else _FIELDS.get(key)
            after = field if kind is None else tables[kind].get(field, field)
        elif (inner := _WITHIN.get(key)) is not None:
            if wire.is_mapping(field):
                after = _put(field, inner, tables)
            elif isinstance(field, (list, tuple)):
                after = [_put(one, inner, tables) if wire.is_mapping(one) else one for one in field]
        if after is not field:
            changed[key] = after
    return {**value, **changed} if changed else value
