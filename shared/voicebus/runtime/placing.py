"""Where on a call's clock the caller's sound lies: one answer, for the recording and for the transcript.

Frames come when networks and processes let them; they were spoken one behind the other. So a frame that is late waits
until it is seen whether the next ones make up for it (something was held up, there was no pause), or none does (nothing
was sent). What is decided stays.

Positions are ticks, samples at `RATE` since the call began.
"""

from collections import deque
from typing import Final

import msgspec

from voicebus.runtime import frames

RATE: Final = 24_000
"""Samples in a second of a recording, and ticks in a second of the call's clock."""

PCM: Final = "audio/pcm"

LATE: Final = RATE // 25
"""Frames that are so late count as if they were not: networks are no metronomes."""

SETTLING: Final = RATE // 2
"""For so long it is awaited whether late frames were held up, and the next ones make up for it."""

HELD_UP: Final = RATE
"""So long before it came a frame begins at the earliest: a longer gap is a pause, whatever comes at once behind it."""

AHEAD: Final = 60 * RATE
"""So far ahead of the clock may be who sends faster than they speak; what is beyond has no place."""

# A frame ends when it came. One that is longer than this was not spoken while the one before travelled, and begins so
# long before it came.
_LONGEST_FRAME: Final = RATE // 5
UNPLACED: Final = -1
"""Where a frame begins about which nothing is decided yet."""

# Of samples that are quiet (below about -42 dB): the upper byte of PCM, all of G.711. The exponent of that stands in
# the bits 0x70, inverted by mu-law and, every other one, by A-law.
_QUIET: Final = {
    PCM: b"\x00\xff",
    "audio/pcmu": bytes(byte for byte in range(256) if byte & 0x70 == 0x70),
    "audio/pcma": bytes(byte for byte in range(256) if byte & 0x70 == 0x50),
}


def ticks_of(kind: str, size: int) -> int:
    """How long `size` bytes of this format sound."""
    return size // 2 if kind == PCM else size * 3


class Frame(msgspec.Struct, gc=False):
    """An append frame of the format `kind`. When it `came` is known once it is heard, where it `begins` once it
    `is_placed`.

    `left_out`: it has no place, and what is behind it lies as if it were not there.
    """

    data: bytes
    kind: str
    ticks: int
    came: int = 0
    begins: int = UNPLACED
    left_out: bool = False

    @property
    def is_placed(self) -> bool:
        return self.begins != UNPLACED

    @property
    def samples(self) -> bytes:
        return frames.appended(self.data)


def quiet_ticks(frame: Frame) -> int:
    """For how long a frame is quiet from its beginning: all of it, where nothing in it is loud."""
    samples = frame.samples
    if frame.kind == PCM:
        return frame.ticks - len(samples[1::2].lstrip(_QUIET[PCM]))
    return frame.ticks - len(samples.lstrip(_QUIET[frame.kind])) * 3


class Placing:
    """Places the caller's frames of a session that began at `began` (s, monotonic), from `since` on (default: then)."""

    def __init__(self, began: float, since: float | None = None) -> None:
        self._began = began
        self._end = 0 if since is None else self.ticks(since)
        self._catches_up = False
        # Late frames, and if they were held up: where the first of them begins, and the last ends.
        self._waiting: deque[Frame] = deque()
        self._first = self._next = self._end

    def ticks(self, moment: float) -> int:
        """A moment (s, monotonic) on the call's clock."""
        return max(0, int((moment - self._began) * RATE + 0.5))

    def moment(self, frame: Frame, ticks: int) -> float:
        """When (s, monotonic) the sound that is `ticks` behind the beginning of the frame lies. Decides, if need be."""
        while not frame.is_placed and self._waiting:
            self._decide()
        return self._began + (frame.begins + (0 if frame.left_out else ticks)) / RATE

    def back(self) -> None:
        """The caller was away, and says again, all at once, what may have got lost. What they say from now on would lie
        so much too late for as long as they do not pause: what is quiet is left out while it is ahead of the clock.
        """
        self._catches_up = True

    def hear(self, frame: Frame, now: float) -> bool:
        """The next frame has come, at `now` (s, monotonic): whether it came in time, and so is where it is expected."""
        frame.came = came = int((now - self._began) * RATE + 0.5)
        begins, ticks = self._end, frame.ticks
        end = begins + ticks
        if -LATE <= end - came <= LATE and ticks <= _LONGEST_FRAME and not self._waiting:
            frame.begins = begins  # in time, as nearly all are
            self._end = end
            return True
        self.settle(came)
        self._follow(frame)
        return False

    def _follow(self, frame: Frame) -> None:
        """The frame is the next one, in time or not."""
        if not self._waiting:
            self._first = self._next = max(self._end, frame.came - HELD_UP)
        if _lateness(frame, self._next) > LATE:
            self._waiting.append(frame)
            self._next += frame.ticks
            return
        if self._waiting:
            self._put(len(self._waiting), self._first)
        self._place(frame)

    def settle(self, now: int) -> None:
        """Decide about what came earlier than `SETTLING` ago."""
        while self._waiting and self._waiting[0].came + SETTLING < now:
            self._decide()

    def _decide(self) -> None:
        """Nothing makes up for all of the first frame's delay: the least delay of those that wait is a pause."""
        end, least, count = self._first, 0, 0
        for number, frame in enumerate(self._waiting, start=1):
            late = _lateness(frame, end)
            if not count or late < least:
                least, count = late, number
            end += frame.ticks
        self._put(count, self._first + least)
        again, self._waiting = self._waiting, deque()
        for frame in again:
            self._follow(frame)

    def _put(self, count: int, at: int) -> None:
        self._end = at
        for _ in range(count):
            self._place(self._waiting.popleft())

    def _place(self, frame: Frame) -> None:
        """It follows what was placed before."""
        frame.begins = self._end
        end = self._end + frame.ticks
        ahead = end - frame.came
        if ahead > AHEAD or (self._catches_up and ahead > LATE and quiet_ticks(frame) == frame.ticks):
            frame.left_out = True
        else:
            self._end = end


def _lateness(frame: Frame, place: int) -> int:
    """How much later than at `place` a frame begins, if it was not held up."""
    return frame.came - min(frame.ticks, _LONGEST_FRAME) - place
