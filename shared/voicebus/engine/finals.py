"""What a response says by events that tell a text whole, and the final check of each of its items.

Servers differ in which events have a text: its deltas, the end of the text, its part, its item or the response.
Whatever has it is judged, once.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from voicebus.engine import wire
from voicebus.engine.guarding import Guard
from voicebus.engine.responses import Response, join

Event = Mapping[str, Any]


class Finals:
    """Call before the response's texts are forgotten. `overflowed` hears of a text that is not kept whole."""

    def __init__(self, guard: Guard, overflowed: Callable[[Response, str], None]) -> None:
        self._guard = guard
        self._overflowed = overflowed

    def part(self, response: Response, item_id: str, index: int, content: Event) -> None:
        """A content part, or its text, has ended."""
        self._judge(response, item_id, self._say(response, item_id, index, content))

    def item(self, response: Response, item: Event) -> None:
        """An item has ended."""
        if wire.text(item, "type") != "message":
            return
        item_id = wire.text(item, "id")
        others = (self._say(response, item_id, *one) for one in enumerate(wire.mappings(item, "content")))
        self._judge(response, item_id, " ".join(filter(None, others)))

    def known(self, response: Response | None, item: Event) -> None:
        """An item of the conversation has ended, perhaps one of what `response` says."""
        if response is not None and wire.text(item, "id") in response.texts:
            self.item(response, item)

    def response(self, response: Response, items: Iterable[Event]) -> None:
        """The response has ended, as its `items` tell: also texts are judged of which no end came."""
        for item in items:
            self.item(response, item)
        for item_id in list(response.texts):
            self._judge(response, item_id, "")

    @staticmethod
    def _say(response: Response, item_id: str, index: int, content: Event) -> str:
        """The text that the part had before where `content` has another one, "" where it only has more."""
        whole = wire.text(content, "transcript") or wire.text(content, "text")
        before = response.texts.get(item_id, {}).get(index, "")
        response.say(item_id, index, whole, whole=True)
        return "" if before in whole or not whole else before

    def _judge(self, response: Response, item_id: str, other: str) -> None:
        if response.overflows:
            self._overflowed(response, item_id)
        text = join(response.texts.get(item_id, {}))
        self._guard.final(response, item_id, f"{other} {text}" if other else text)
