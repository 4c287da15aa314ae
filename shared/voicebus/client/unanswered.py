"""Commands that have had no answer yet, by their ids: those that are sent again where their connection was lost."""

import secrets
from collections import OrderedDict
from typing import Any, Final

MAX_KEPT: Final = 1_000
"""Commands that are kept; beyond that the oldest is forgotten, and is not sent again."""


class Unanswered(OrderedDict[str, dict[str, Any]]):
    """Frames by id, oldest first. Ids are of this client alone: what another one of the same session has sent is not
    what this one sends again.
    """

    def __init__(self) -> None:
        super().__init__()
        self._prefix = f"{secrets.token_hex(4)}-"
        self._number = 0

    def new_id(self) -> str:
        self._number += 1
        return f"{self._prefix}{self._number}"

    def keep(self, command: str, given: str, **fields: Any) -> dict[str, Any]:
        """Keep a command until it is answered; returns its frame."""
        frame = self[given] = {"type": command, "id": given, **fields}
        if len(self) > MAX_KEPT:
            self.popitem(last=False)
        return frame
