"""The way to the model: what has been sent and is not confirmed yet, and what waits while there is no socket.

Rules:

1. While the socket is open everything goes out at once. Events that change the conversation are remembered until the
   model confirms or refuses them; when the socket is lost they are the first that wait for the next one.
2. Without a socket, what follows from the session's own state is not kept, as the replay tells it: settings, creates
   and cancels of responses, truncations. Commits and clears go to the driver, which keeps them in order with the
   audio. Everything else waits.
3. At most `_MAX_WAITING` events of `_MAX_CHARS` characters wait, and as many commits. Beyond that the newest is
   refused, with an error.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from voicebus.engine import wire
from voicebus.engine.bounds import REMEMBERED, Recent

Event = Mapping[str, Any]

_MAX_WAITING: Final = 256
_MAX_CHARS: Final = 4 * 1024 * 1024
# Of all `extras` together; the newest is kept at any size.
_MAX_EXTRA_CHARS: Final = 16_000_000

_CREATE: Final = "conversation.item.create"
_DELETE: Final = "conversation.item.delete"
_TRUNCATE: Final = "conversation.item.truncate"
_COMMIT: Final = "input_audio_buffer.commit"
_WITH_AUDIO: Final = frozenset({_COMMIT, "input_audio_buffer.clear"})
_DERIVED: Final = frozenset({"session.update", "response.create", "response.cancel", _TRUNCATE})


CONFIRMATIONS: Final = frozenset(
    {
        "conversation.item.added",
        "conversation.item.created",
        "conversation.item.deleted",
        "input_audio_buffer.committed",
        "error",
    }
)
"""Events of the model that confirm or refuse what it was sent."""


class Uplink:
    """Passes events on to the model's socket, or keeps them. `refused` hears of an event that finds no room,
    `too_large` of one that is given up, as the model has closed its socket over it.

    `commits` are those that the model has not carried out; `was_asked`: the last turn ended by one of them.
    `extras` are the items that the session or the client has made and the history does not show, by id, each with the
    id of the item before it. `missing` are calls that the present socket was not told of, as they had no output.
    `untold` are items of the history that the present socket was not told of, as a model can make nothing of them.
    `spoken_texts` are items of the assistant that the present socket knows as text, since they were replayed;
    `truncated` are the truncations that no socket can carry out on them.
    """

    def __init__(self) -> None:
        self.open: bool = True
        self.commits: int = 0
        self.was_asked: bool = False
        self.extras: dict[str, tuple[str | None, Event]] = {}
        self.missing: dict[str, tuple[str, Event]] = {}
        self.replayed: set[str] = set()
        self.untold: set[str] = set()
        self.spoken_texts: set[str] = set()
        self.truncated: list[Event] = []
        self.refused: Callable[[Event], None] = lambda event: None
        self.too_large: Callable[[Event], None] = lambda event: None
        self.is_shown: Callable[[Event], bool] = lambda item: False
        self._unconfirmed: deque[Event] = deque(maxlen=_MAX_WAITING)
        self._extra_sizes: dict[str, int] = {}
        self._extra_size = 0
        self._waiting: deque[Event] = deque()
        self._size = 0
        self._committed = Recent()
        self._added = Recent()

    @property
    def is_quiet(self) -> bool:
        """Whether the model has confirmed everything."""
        return not self._unconfirmed and not self.commits

    @property
    def unadded(self) -> list[str]:
        """The user's items that the model has committed and not told of yet."""
        return [item_id for item_id in self._committed if item_id not in self._added]

    @property
    def unheard(self) -> list[Event]:
        """The user's messages that the model has not confirmed."""
        items = [wire.mapping(event, "item") for event in (*self._unconfirmed, *self._waiting)]
        return [item for item in items if wire.text(item, "type") == "message" and wire.text(item, "role") == "user"]

    def said(self) -> list[Event]:
        """What the user has typed and the model has not confirmed, in order, for `restore`."""
        creates = (event for event in (*self._unconfirmed, *self._waiting) if event["type"] == _CREATE)
        return [event for event in creates if wire.text(wire.mapping(event, "item"), "role") == "user"]

    def restore(self, said: Sequence[Event]) -> None:
        """There is no socket yet, and this waits for it."""
        self.open = False
        for event in said:
            self._keep(event)

    # --- to the model ---------------------------------------------------------------------------------

    def outgoing(self, event: Event) -> Sequence[Event]:
        """What is to be sent for `event` now."""
        kind = wire.text(event, "type")
        if kind in _WITH_AUDIO:
            if kind == _COMMIT and not self.open and self.commits >= _MAX_WAITING:
                self.refused(event)
                return ()
            self.commits += kind == _COMMIT
            return (event,)
        if kind == _TRUNCATE and (not self.open or wire.text(event, "item_id") in self.spoken_texts):
            self.truncated.append(event)
            return ()
        if not self.open:
            if kind not in _DERIVED:
                self._keep(event)
            return ()
        if kind in (_CREATE, _DELETE):
            self._unconfirmed.append(event)
        if kind == _CREATE:
            return self._with_call(event)
        return (event,)

    def retract_output(self, call_id: str) -> None:
        """The call is taken out of the conversation; an output that waits for the next socket would be left of it."""
        self._waiting = deque(event for event in self._waiting if not _is_output(event, call_id))
        self._size = sum(wire.size(event) for event in self._waiting)

    def _keep(self, event: Event) -> None:
        size = wire.size(event)
        if len(self._waiting) >= _MAX_WAITING or self._size + size > _MAX_CHARS:
            self.refused(event)
            return
        self._waiting.append(event)
        self._size += size

    def _with_call(self, event: Event) -> Sequence[Event]:
        """An output goes behind its call, which the present socket may not know of yet."""
        item = wire.mapping(event, "item")
        known = self.missing.pop(wire.text(item, "call_id"), None)
        if known is None or wire.text(item, "type") != "function_call_output":
            return (event,)
        item_id, call = known
        self.replayed.add(item_id)
        return (call, event)

    # --- from the model -------------------------------------------------------------------------------

    def heard(self, kind: str, event: Event) -> None:
        """An event of the model, of `CONFIRMATIONS`: it may confirm or refuse something."""
        if kind == "conversation.item.added" or kind == "conversation.item.created":
            self._confirmed(wire.mapping(event, "item"), wire.text(event, "previous_item_id") or None)
        elif kind == "conversation.item.deleted":
            item_id = wire.text(event, "item_id")
            self.replayed.discard(item_id)
            self.spoken_texts.discard(item_id)
            self._forget_extra(item_id)
            self._drop(lambda one: one["type"] == _DELETE and wire.text(one, "item_id") == item_id)
        elif kind == "input_audio_buffer.committed":
            self.was_asked = self.commits > 0
            self.commits = max(0, self.commits - 1)
            self._committed.add(wire.text(event, "item_id"))
        elif kind == "error":
            self._failed(wire.mapping(event, "error"))

    def _failed(self, error: Event) -> None:
        event_id, about = wire.text(error, "event_id"), _about(error)
        if wire.text(error, "code") == "input_audio_buffer_commit_empty":
            self.commits = max(0, self.commits - 1)
        if event_id:
            self._drop(lambda one: wire.text(one, "event_id") == event_id)
        elif about is not None:
            # A model answers in order: of those that have no id it is the first.
            self._drop(lambda one: one["type"] == about and not wire.text(one, "event_id"))

    def _confirmed(self, item: Event, previous: str | None) -> None:
        item_id, kind, role = wire.text(item, "id"), wire.text(item, "type"), wire.text(item, "role")
        self._added.add(item_id)
        if item_id in self._committed or (role == "assistant" and not self._unconfirmed):
            return
        match: Event | None = None
        for one in self._unconfirmed:
            made = wire.mapping(one, "item")
            own_id = wire.text(made, "id")
            same = own_id == item_id or (
                not own_id and wire.text(made, "type") == kind and wire.text(made, "role") == role
            )
            if same and one["type"] == _CREATE:
                match = one
                break
        if match is None:
            return
        self._unconfirmed.remove(match)
        if not self.is_shown(item):
            self._keep_extra(item_id, previous, {**wire.mapping(match, "item"), "id": item_id})

    def _keep_extra(self, item_id: str, previous: str | None, item: Event) -> None:
        """Keep an item that the history does not show, and make room for it."""
        self._forget_extra(item_id)
        self.extras[item_id] = previous, item
        self._extra_sizes[item_id] = size = wire.size(item)
        self._extra_size += size
        while len(self.extras) > REMEMBERED or (self._extra_size > _MAX_EXTRA_CHARS and len(self.extras) > 1):
            self._forget_extra(next(iter(self.extras)))

    def _forget_extra(self, item_id: str) -> None:
        self.extras.pop(item_id, None)
        self._extra_size -= self._extra_sizes.pop(item_id, 0)

    def _drop(self, is_it: Callable[[Event], bool]) -> None:
        found = next((one for one in self._unconfirmed if is_it(one)), None)
        if found is not None:
            self._unconfirmed.remove(found)

    # --- sockets come and go --------------------------------------------------------------------------

    @property
    def messages(self) -> list[Event]:
        """The creates of messages that the model has not confirmed."""
        return [event for event in self._unconfirmed if wire.text(wire.mapping(event, "item"), "type") == "message"]

    def give_up(self, event: Event) -> None:
        """One of `messages` is not sent again."""
        self._unconfirmed.remove(event)
        self.too_large(event)

    def lost(self, *, sure: bool = False) -> None:
        """There is no socket any more: what was not confirmed waits, ahead of all that comes now.

        `sure`: the model may have it nevertheless, so that only what it would refuse to do twice is sent again.
        """
        self.open = False
        if sure:
            self._unconfirmed = deque(
                (event for event in self._unconfirmed if wire.text(wire.mapping(event, "item"), "id")),
                maxlen=_MAX_WAITING,
            )
        self._waiting.extendleft(reversed(self._unconfirmed))
        self._size = sum(wire.size(event) for event in self._waiting)
        self._unconfirmed.clear()
        self.forget()

    def forget(self) -> None:
        """Another socket takes over, which knows nothing of what this one was told."""
        self.missing.clear()
        self.replayed.clear()
        self.untold.clear()
        self.spoken_texts.clear()

    def reopened(self) -> list[Event]:
        """The next socket knows the conversation: what waited, in order."""
        self.open = True
        waiting, self._waiting, self._size = list(self._waiting), deque(), 0
        return waiting


def _about(error: Event) -> str | None:
    """What kind of event a model has refused, of those that change the conversation, where it can be told."""
    code, param = wire.text(error, "code"), wire.text(error, "param").partition(".")[0]
    if code.startswith("item_delete_"):
        return _DELETE
    if code.startswith("item_create_") or param in ("item", "previous_item_id"):
        return _CREATE
    return None


def _is_output(event: Event, call_id: str) -> bool:
    item = wire.mapping(event, "item")
    return wire.text(item, "type") == "function_call_output" and wire.text(item, "call_id") == call_id
