"""How much of a session's audio is kept for `conversation.item.retrieve`: 16 MiB, the oldest parts go first."""

from collections import deque

from voicebus_services.model_simulator.protocol.items import Item

_BUDGET_BYTES = 16 * 1024 * 1024


class KeptAudio:
    """The items of one session whose audio is still there, oldest first."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._bytes = 0

    def keep(self, item: Item) -> None:
        """Count the item's audio, and drop that of the oldest items beyond the budget; the newest always stays."""
        if item.audio is None or not item.audio.data:
            return
        self._items.append(item)
        self._bytes += len(item.audio.data)
        while self._bytes > _BUDGET_BYTES and len(self._items) > 1:
            oldest = self._items.popleft()
            if oldest.audio is not None and oldest.audio.data is not None:
                self._bytes -= len(oldest.audio.data)
                oldest.audio.data = None
