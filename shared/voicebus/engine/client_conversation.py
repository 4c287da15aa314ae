"""The order of the model's conversation and which of its items a client must not see.

The single home of that order for a client's view: it answers what stands before an item in the client's eyes, and
where an insert of the client has to go.
"""

from typing import Final

from voicebus.engine.bounds import REMEMBERED, Recent

# Stands before the first item and behind the last one, so that neither end is a special case.
_EDGE: Final = ""


class Conversation:
    """Item ids as a linked list. Ids are non-empty text; anything else is ignored."""

    def __init__(self) -> None:
        self._before: dict[str, str] = {_EDGE: _EDGE}
        self._after: dict[str, str] = {_EDGE: _EDGE}
        self._hidden = Recent()

    def hide(self, item_id: str) -> None:
        """From now on `item_id`, in the conversation or still to come, does not exist for the client."""
        self._hidden.add(item_id)

    def hides(self, item_id: object) -> bool:
        return isinstance(item_id, str) and item_id in self._hidden

    def hidden_in(self, text: str) -> bool:
        """Whether `text` names a hidden item."""
        return any(item_id in text for item_id in self._hidden)

    def add(self, item_id: str, *, behind: str | None) -> None:
        """Put `item_id` behind another one; `None` is the front, an unknown one (or itself) the end."""
        if not item_id:
            return
        self.remove(item_id)
        if behind != item_id:
            self._meet(behind)
        before = _EDGE if behind is None else behind if behind in self._before else self._before[_EDGE]
        after = self._after[before]
        self._before[item_id], self._after[item_id] = before, after
        self._after[before] = self._before[after] = item_id
        if len(self._before) > REMEMBERED:
            self.remove(self._after[_EDGE])

    def append(self, item_id: str) -> None:
        self.add(item_id, behind=self._before[_EDGE] or None)

    def remove(self, item_id: str) -> None:
        if item_id and item_id in self._before:
            before, after = self._before.pop(item_id), self._after.pop(item_id)
            self._after[before], self._before[after] = after, before

    def last_visible(self, item_id: str | None) -> str | None:
        """`item_id`, or where it is hidden the last visible item before it; None if there is none."""
        self._meet(item_id)
        while item_id and item_id in self._hidden:
            item_id = self._before.get(item_id, _EDGE)
        return item_id or None

    def _meet(self, item_id: str | None) -> None:
        """A hidden item is mentioned: where its own event did not come, it is taken to stand at the end."""
        if item_id and item_id in self._hidden and item_id not in self._before:
            self.append(item_id)

    def last_hidden_follower(self, item_id: str) -> str:
        """The last of the hidden items that follow `item_id` without a visible one between; else itself."""
        if not item_id or item_id not in self._after:
            return item_id
        while (follower := self._after[item_id]) and follower in self._hidden:
            item_id = follower
        return item_id
