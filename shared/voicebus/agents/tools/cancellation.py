"""Whether a running call is still wanted: the way to tell a function that nobody can stop.

An async tool gets `CancelledError`. One that runs in a thread looks here now and then, or waits here instead of
sleeping.
"""

import threading
from typing import Final

from voicebus.agents import checking
from voicebus.errors import ToolCancelledError

_making: Final = threading.Lock()


class Cancellation:
    """The cancellation of one call. Safe to use from any thread; set once, by whoever runs the call."""

    def __init__(self) -> None:
        self._reason: str | None = None
        # Made by the first who waits: nearly nobody does, and making one takes longer than all else here.
        self._event: threading.Event | None = None

    def __repr__(self) -> str:
        return f"<Cancellation {self._reason or 'not cancelled'}>"

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the result any more."""
        return self._reason is not None

    @property
    def reason(self) -> str | None:
        """`session_ended`, `interrupted`, `timeout`, or what else the caller said; None while it is wanted."""
        return self._reason

    def wait(self, seconds: float | None = None) -> bool:
        """Sleep for `seconds` (None: for ever), or until it is cancelled; tells whether it is.

        Raises:
            UserError: `seconds` is no number from 0.
        """
        checking.number("Cancellation.wait", "seconds", seconds, optional=True)
        with _making:
            event = self._event = self._event or threading.Event()
        # After it is there for `cancel` to see.
        return self._reason is not None or event.wait(seconds)

    def raise_if_cancelled(self) -> None:
        """Go on only while the result is wanted.

        Raises:
            ToolCancelledError: it is not.
        """
        if self._reason is not None:
            raise ToolCancelledError(f"the call was cancelled ({self._reason})")

    def cancel(self, reason: str) -> None:
        """Nobody waits any more; the first reason counts."""
        if self._reason is None:
            self._reason = reason
            if self._event is not None:
                self._event.set()
