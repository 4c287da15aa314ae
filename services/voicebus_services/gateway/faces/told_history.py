"""`history_updated` tells all of a history, at each change of it, though nearly all of that was told before.

So each item is encoded once, for as long as it is as it is, and every frame that tells it has the same bytes of it. A
frame is put together as it leaves (`Pieces`): one that waits for a client takes hardly anything beside those items, and
one that is never sent costs nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from voicebus.adapters.sockets.pieces import Pieces
from voicebus.runtime.frames import dump_event
from voicebus_services.gateway.faces.base import event_frame

_NO_ITEM: Final = b"null}"
_NO_ITEMS: Final = b"]}"

Item = Mapping[str, Any]


class ToldHistory:
    """Makes the frames of one session. Its items are replaced when they change, never changed in place."""

    def __init__(self) -> None:
        # By their ids: the items that were told last, each as it was then, and encoded.
        self._known: dict[str, tuple[Item, bytes]] = {}

    def added(self, seq: int, session: str, at_ms: int, item: Item) -> Pieces:
        """`history_added` with this item."""
        event = event_frame("history_added", seq, session, at_ms, {"item": None})
        return Pieces((event.removesuffix(_NO_ITEM), self._encoded(item), b"}"))

    def updated(self, seq: int, session: str, at_ms: int, history: Sequence[Item]) -> Pieces:
        """`history_updated` with these items, which are all that there are."""
        event = event_frame("history_updated", seq, session, at_ms, {"history": []})
        pieces = [event.removesuffix(_NO_ITEMS)]
        for item in history:
            pieces += (self._encoded(item), b",")
        pieces[len(pieces) - bool(history) :] = [_NO_ITEMS]
        if len(self._known) > len(history):
            shown = {item["item_id"] for item in history}
            self._known = {item_id: known for item_id, known in self._known.items() if item_id in shown}
        return Pieces(pieces)

    def _encoded(self, item: Item) -> bytes:
        item_id = item["item_id"]
        known = self._known.get(item_id)
        if known is None or known[0] is not item:
            # What is told of an item once more has often changed nothing of it.
            text = known[1] if known is not None and known[0] == item else dump_event(item)
            known = self._known[item_id] = item, text
        return known[1]
