"""What a client says before its session is configured: kept in order, so that nothing reaches the model unconfigured.

Overflow: audio is worth hearing only while it is fresh, so the oldest append is dropped while those after it make up
`kept_s`; hence a single append is never lost, however long. Everything else is kept; above `MAX_EARLY` bytes in
all, `is_full` tells that the client's socket is not to be read.
"""

from collections import deque
from typing import Final

AUDIO_KEPT_S: Final = 5
MAX_EARLY: Final = 1024 * 1024


class EarlyFrames:
    """Frames in the order of their coming; binary ones are marked."""

    def __init__(self) -> None:
        self._frames: dict[int, tuple[bool, bytes]] = {}
        self._audio: deque[tuple[int, int]] = deque()
        self._count = 0
        self._size = 0
        self._kept = 0
        self.kept_s: float = AUDIO_KEPT_S
        """Seconds of audio that are kept."""
        self.dropped = 0
        """Bytes of samples that were dropped."""

    @property
    def is_full(self) -> bool:
        return self._size > MAX_EARLY

    def add(self, binary: bool, message: bytes, *, samples: int, byte_rate: int) -> None:
        """Keep a frame. `samples` are its bytes of audio (0: none), `byte_rate` what a second of audio takes."""
        self._count += 1
        self._frames[self._count] = (binary, message)
        self._size += len(message)
        if samples:
            self._audio.append((self._count, samples))
            self._kept += samples
            self._trim(byte_rate)

    def take(self, *, byte_rate: int) -> list[tuple[bool, bytes]]:
        """Everything that is still worth hearing, now that the format is known for certain; forgets it."""
        self._trim(byte_rate)
        frames = list(self._frames.values())
        self._frames.clear()
        self._audio.clear()
        self._size = self._kept = 0
        return frames

    def _trim(self, byte_rate: int) -> None:
        while self._audio and self._kept - self._audio[0][1] >= self.kept_s * byte_rate:
            number, samples = self._audio.popleft()
            _, message = self._frames.pop(number)
            self._size -= len(message)
            self._kept -= samples
            self.dropped += samples
