"""Sound that came while nobody listened, kept for whoever comes back.

The rule: what nobody heard is not counted as heard (the engine's clock of playback stands still), so it is still to be
heard. Up to `MISSED_S` of it are kept, in order, with the events that frame it. Beyond that, or `MAX_ENTRIES`, `add`
says so: what is said is then interrupted, as if the listener had done it, and nothing of it is kept.
"""

from collections import deque
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from voicebus.engine.outputs import ForwardAudio

MISSED_S: Final = 30
MAX_ENTRIES: Final = 2_000
AUDIO_EVENTS: Final = frozenset({"audio_start", "audio_stopped", "audio_end", "audio_interrupted"})


class MissedAudio(NamedTuple):
    where: ForwardAudio
    samples: bytes


class MissedEvent(NamedTuple):
    kind: str
    data: Mapping[str, Any]


class Missed:
    """Kept entries, oldest first. `byte_rate` is what a second of the session's output takes."""

    def __init__(self) -> None:
        self._entries: deque[MissedAudio | MissedEvent] = deque()
        self._size = 0
        self.byte_rate = 48_000

    def add(self, entry: MissedAudio | MissedEvent) -> bool:
        """Keep an entry; False where there is no more room, and nothing is kept any more."""
        if isinstance(entry, MissedEvent) and entry.kind == "audio_interrupted":
            self._drop(entry.data)
        self._entries.append(entry)
        self._size += len(entry.samples) if isinstance(entry, MissedAudio) else 0
        if self._size <= MISSED_S * self.byte_rate and len(self._entries) <= MAX_ENTRIES:
            return True
        self.take()
        return False

    def take(self) -> list[MissedAudio | MissedEvent]:
        """Everything that is kept; forgets it."""
        entries = list(self._entries)
        self._entries.clear()
        self._size = 0
        return entries

    def _drop(self, part: Mapping[str, Any]) -> None:
        """Nobody will hear the rest of this part."""
        left = self.take()
        for entry in left:
            if isinstance(entry, MissedAudio):
                if entry.where.item_id == part["item_id"] and entry.where.content_index == part["content_index"]:
                    continue
                self._size += len(entry.samples)
            self._entries.append(entry)


def output_byte_rate(audio: Mapping[str, Any]) -> int:
    """Bytes in a second of the session's output, whose formats `audio` are."""
    output = audio.get("output")
    kind = output.get("type") if isinstance(output, Mapping) else None
    return 8_000 if kind in ("audio/pcmu", "audio/pcma") else 48_000
