"""What a running tool says of how far it is: from whatever thread, and no more often than anybody wants to know."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Final

from voicebus.utf8 import sendable_text

MAX_CHARS: Final = 1_000
"""What is passed on of one text."""

EVERY_S: Final = 0.1
"""What lies between two texts of a call that are passed on; of those that come between, the last one counts."""

_CUT: Final = "…"


class Progress:
    """The progress of one call; made on its loop. `send` gets a text at a time, on the loop."""

    def __init__(self, send: Callable[[str], None]) -> None:
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._next: str | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._over = False

    def say(self, text: str) -> None:
        """Pass `text` on soon; nothing once the call has ended."""
        if threading.get_ident() == self._thread:
            self._said(text)
            return
        with contextlib.suppress(RuntimeError):  # a thread that outlived its call and its loop
            self._loop.call_soon_threadsafe(self._said, text)

    def close(self) -> None:
        """The call ends: what waits goes out before its result."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        self._pass_on()
        self._over = True

    def _said(self, text: str) -> None:
        if self._over:
            return
        text = sendable_text(text)
        self._next = text if len(text) <= MAX_CHARS else text[: MAX_CHARS - 1] + _CUT
        if self._pause is None:
            self._pass_on()
            self._pause = self._loop.call_later(EVERY_S, self._go_on)

    def _go_on(self) -> None:
        self._pause = None
        if self._next is not None:
            self._pass_on()
            self._pause = self._loop.call_later(EVERY_S, self._go_on)

    def _pass_on(self) -> None:
        text, self._next = self._next, None
        if text is not None:
            self._send(text)
