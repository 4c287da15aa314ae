"""`RealtimePlaybackTracker`: a program's own report of what its listener has heard, instead of an estimate."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, TypedDict

from voicebus.agents import checking
from voicebus.errors import UserError
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

_SAMPLES: Final = (bytes, bytearray, memoryview)
_DEFAULT_BYTES_PER_MS: Final = 48
_G711_BYTES_PER_MS: Final = 8
# How often a subclass that keeps the account itself is asked for it (s).
_ASKED_EVERY_S: Final = 0.02
_NAMES: Final[Mapping[Any, str]] = {"audio/pcm": "pcm16", "audio/pcmu": "g711_ulaw", "audio/pcma": "g711_alaw"}
_G711: Final = frozenset({"g711_ulaw", "g711_alaw", "pcmu", "pcma", "audio/pcmu", "audio/pcma"})

Report = Callable[[str, int, float], None]
"""`(item_id, content_index, played_ms)`."""


class RealtimePlaybackState(TypedDict):
    """What is being played, and how much of it has been, in ms; all None where nothing is."""

    current_item_id: str | None
    current_item_content_index: int | None
    elapsed_ms: float | None


class RealtimePlaybackTracker:
    """Tell it what was played, as it is played, so that an interruption truncates exactly what was not heard.

    Give one to a session as `RealtimeModelConfig["playback_tracker"]`, one per conversation. Its methods may be called
    from any thread, such as that of an audio device. A subclass may keep the account itself, as of a player that knows
    its position: its `get_state` is asked every 20 ms, on the session's loop.
    """

    def __init__(self) -> None:
        # Reentrant: what is reported may come back as `on_interrupted`.
        self._lock = threading.RLock()
        self._bytes_per_ms = _DEFAULT_BYTES_PER_MS
        self._item: tuple[str, int] | None = None
        self._elapsed_ms = 0.0
        self._report: Report | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._asking: asyncio.TimerHandle | None = None
        self._told: tuple[str, int, float] | None = None
        self._fails = False

    def on_play_bytes(self, item_id: str, item_content_index: int, bytes: bytes) -> None:  # noqa: A002 - its public name
        """These samples of a part have been played, in the session's output format.

        Raises:
            UserError: an argument is of another type.
        """
        if not isinstance(bytes, _SAMPLES):
            raise UserError(f"bytes must be the samples that were played, not {type(bytes).__name__}")
        self.on_play_ms(item_id, item_content_index, len(bytes) / self._bytes_per_ms)

    def on_play_ms(self, item_id: str, item_content_index: int, ms: float) -> None:
        """So much more of a part has been played. Another part than before starts at 0.

        Raises:
            UserError: an argument is of another type.
        """
        _check(item_id, item_content_index, ms)
        with self._lock:
            if self._item != (item_id, item_content_index):
                self._item, self._elapsed_ms = (item_id, item_content_index), 0.0
            self._elapsed_ms += ms
            self._tell(item_id, item_content_index, self._elapsed_ms)

    def on_interrupted(self) -> None:
        """Playback was stopped; nothing is current until more is played."""
        with self._lock:
            self._item, self._elapsed_ms = None, 0.0

    def set_audio_format(self, format: str | Mapping[str, Any]) -> None:  # noqa: A002 - its public name
        """The format of the samples; a session sets it by itself. Anything but G.711 counts as PCM16 at 24 kHz."""
        kind: Any = format.get("type") if isinstance(format, Mapping) else getattr(format, "type", format)
        if kind is not None and not isinstance(kind, str):
            checking.refuse(
                "RealtimePlaybackTracker", "format", "a format's name, or an object with one as type", format
            )
        self._bytes_per_ms = _G711_BYTES_PER_MS if kind in _G711 else _DEFAULT_BYTES_PER_MS

    def get_state(self) -> RealtimePlaybackState:
        """What is being played, and how many ms of it have been."""
        with self._lock:
            item_id, index = self._item or (None, None)
            return {
                "current_item_id": item_id,
                "current_item_content_index": index,
                "elapsed_ms": self._elapsed_ms if item_id is not None else None,
            }

    # --- the model's side ---------------------------------------------------------------------------

    def bind(self, report: Report) -> None:
        """Call `report` on this thread's running loop for everything that is played, until `unbind`."""
        with self._lock:
            self._report, self._loop, self._thread = report, asyncio.get_running_loop(), threading.get_ident()
            self._told = None
        if type(self).get_state is not RealtimePlaybackTracker.get_state:
            self._ask_later(self._loop)

    def unbind(self) -> None:
        """Report to nobody any more."""
        with self._lock:
            self._report = self._loop = None
        if self._asking is not None:
            self._asking.cancel()

    def end(self) -> None:
        """The conversation is over: report to nobody any more, and know of nothing that is played."""
        self.unbind()
        self.start_over()

    def start_over(self) -> None:
        """What was being played is played no more."""
        try:
            self.on_interrupted()
        except Exception:  # a program's own ends no session
            log.exception("a playback tracker does not start over")

    def _ask(self) -> None:
        if self._report is None or self._loop is None:
            return
        self._ask_later(self._loop)
        try:
            state = self.get_state()
            item_id, index, ms = state["current_item_id"], state["current_item_content_index"] or 0, state["elapsed_ms"]
            if item_id is not None and ms is not None and self._told != (item_id, index, ms):
                _check(item_id, index, ms)
                self._told = (item_id, index, ms)
                self._report(item_id, index, ms)
        except Exception:  # one that cannot tell now may be able to later; it is told of once until then
            if not self._fails:
                log.exception("a playback tracker does not tell what was heard")
            self._fails = True
        else:
            self._fails = False

    def _ask_later(self, loop: asyncio.AbstractEventLoop) -> None:
        self._asking = loop.call_later(_ASKED_EVERY_S, self._ask)

    def _tell(self, item_id: str, content_index: int, played_ms: float) -> None:
        if self._report is None or self._loop is None:
            return
        if threading.get_ident() == self._thread:
            self._report(item_id, content_index, played_ms)
        else:
            self._loop.call_soon_threadsafe(self._report, item_id, content_index, played_ms)


def format_name(audio_format: Mapping[str, Any]) -> str | Mapping[str, Any]:
    """A format of the protocol as programs call it; one without a name as it is."""
    return _NAMES.get(audio_format.get("type"), audio_format)


def _check(item_id: object, content_index: object, ms: object) -> None:
    if not isinstance(item_id, str):
        raise UserError(f"item_id must be the id of an item, not {item_id!r}")
    if not checking.is_number(ms):
        raise UserError(f"ms must be a number of milliseconds, not {ms!r}")
    checking.whole("RealtimePlaybackTracker", "item_content_index", content_index)
