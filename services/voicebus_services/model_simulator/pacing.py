"""When the next piece of a response goes out (at once, in real time, on a test's word), and how late its frames are."""

import asyncio
import random
from typing import Protocol


class Pace(Protocol):
    """The pacing of one response."""

    async def before_piece(self) -> None:
        """Wait until the next piece may be made."""

    async def after_piece(self, audio_ms: float) -> None:
        """Wait after a piece that held this much audio (0 for text)."""


class Burst:
    """As fast as the client reads."""

    async def before_piece(self) -> None:
        return

    async def after_piece(self, audio_ms: float) -> None:
        # Lets a cancel or speech that has arrived meanwhile be read between two pieces.
        await asyncio.sleep(0)


class RealTime:
    """Audio at `speed` times real time, counted from the first piece so that sleeping late does not add up."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._due: float | None = None

    async def before_piece(self) -> None:
        return

    async def after_piece(self, audio_ms: float) -> None:
        now = asyncio.get_running_loop().time()
        self._due = (now if self._due is None else self._due) + audio_ms / 1000 / self._speed
        await asyncio.sleep(max(0.0, self._due - now))


class StepGate:
    """Step by step under test control: a piece goes out for each permit given."""

    def __init__(self) -> None:
        self._permits = asyncio.Semaphore(0)

    def allow(self, pieces: int) -> None:
        for _ in range(pieces):
            self._permits.release()

    async def before_piece(self) -> None:
        await self._permits.acquire()

    async def after_piece(self, audio_ms: float) -> None:
        return


class FrameDelay:
    """A network that holds each frame up by between `least_ms` and `most_ms`, the same again under the same seed."""

    def __init__(self, seed: int, least_ms: float, most_ms: float) -> None:
        self._random = random.Random(seed)  # noqa: S311 - repeatable on purpose; nothing secret hangs on it
        self._least_ms, self._most_ms = least_ms, most_ms

    async def pass_by(self) -> None:
        """Wait as long as the next frame is held up."""
        if self._most_ms:
            await asyncio.sleep(self._random.uniform(self._least_ms, self._most_ms) / 1000)
