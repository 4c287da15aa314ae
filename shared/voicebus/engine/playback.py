"""What the listener has heard: audio received per item and content part, and how much of it was played.

Two sources. Where the listener reports playback, its reports count. Otherwise played time is estimated: from the
arrival of a part's first delta, or, where the part before was still playing then, from that one's end, since parts
are played one after another however fast they arrive. A part that has run dry stands still until more of it arrives.

Time in which nobody listens (`leave` to `come_back`) does not count: parts are kept in the listener's time, which
stands still then. What the listener's side had in hand when it left is thereby heard later than it may have been,
never earlier.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from voicebus.engine.bounds import trim
from voicebus.engine.outputs import ForwardAudio
from voicebus.engine.responses import Response

AWAITED: Final = 0.04
"""Audio that is so late (s) goes on without a pause: networks are no metronomes."""

# A listener that reports may stop doing so (a lost tab); after this many s beyond the estimated end a part counts
# as heard to the end.
_REPORT_SLACK: Final = 10.0
# Times are added up, and a timer that is due may come a rounding too early: so much (s) is no difference.
_ROUNDING: Final = 1e-6
# How soon a listener that reports may tell of the end of what plays (s).
_REPORT_EVERY: Final = 0.1
# Parts remembered at once; answers have one or two. Beyond that the oldest is forgotten as if it had been heard.
_MAX_PARTS: Final = 64


@dataclass(slots=True, eq=False)
class Part:
    """One content part's audio. Times in s of the listener's time, sizes in bytes; `reported` is what the listener
    said, in ms. `starts` moves by the pauses in which it ran dry.

    `forward` is the answer to each further delta, made once: this is the path that runs 20 times a second. `ended`: no
    more of it comes, and the listener's side knows.
    """

    response: Response
    item_id: str
    content_index: int
    starts: float
    received: int = 0
    reported: float | None = None
    forward: ForwardAudio | None = None
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Cut:
    """Where an interruption met a part; `finished`: it had been played to the end of what was received.

    `unknown`: the program's own tracker had told of nothing that was being played.
    """

    part: Part
    end_ms: int
    received_ms: float
    finished: bool
    unknown: bool = False


class PlaybackTracker:
    """Remembers parts until they are interrupted, or played and followed by another (parity 119-123, 2.24-2.27).

    `tracked`: the listener's reports count from the start, and are all there is (`SessionConfig.tracked_playback`).
    `changes` counts what has changed the time at which anything was heard, but for more audio, which makes it later.
    """

    def __init__(self, bytes_per_ms: int, *, tracked: bool = False) -> None:
        self.bytes_per_ms: int = bytes_per_ms
        self._tracked = tracked
        self._told = False
        self.parts: dict[tuple[str, int], Part] = {}
        self._reports = tracked
        self._left: float | None = None
        self._absent = 0.0
        self.changes: int = 0

    @property
    def is_away(self) -> bool:
        """Whether nobody listens now."""
        return self._left is not None

    def measure(self, bytes_per_ms: int) -> None:
        """So many bytes of audio are a ms from now on."""
        self.changes += self.bytes_per_ms != bytes_per_ms
        self.bytes_per_ms = bytes_per_ms

    def leave(self, now: float) -> None:
        """Nobody listens from now on."""
        self.changes += 1
        if self._left is None:
            self._left = now

    def come_back(self, now: float) -> None:
        """Somebody listens again, from where playback stood."""
        self.changes += 1
        if self._left is not None:
            self._absent += now - self._left
            self._left = None

    def begin(self, response: Response, item_id: str, content_index: int, now: float) -> Part:
        """The first delta of a part has arrived."""
        self.changes += 1
        ends = [self._ends(part) for part in self.parts.values()]
        for key in [key for key, part in self.parts.items() if self._is_finished(part, now)]:
            del self.parts[key]
        part = Part(response, item_id, content_index, starts=max([self._heard_until(now), *ends]))
        self.parts[item_id, content_index] = part
        trim(self.parts, _MAX_PARTS)
        return part

    def receive(self, part: Part, size: int, now: float) -> None:
        """More of a part is here: heard behind what was received before, or at once where that has been played."""
        received = part.received
        # Of `_heard_until` and `_ends`, which would cost each frame of audio a call.
        heard_until = (now if self._left is None else self._left) - self._absent
        late = heard_until - part.starts - received / self.bytes_per_ms / 1000
        if late > AWAITED and received:
            part.starts += late
        part.received = received + size

    def starts_at(self, part: Part, now: float) -> float:
        """When a part that begins now is heard first (s); while nobody listens, at once."""
        return max(now, part.starts + self._absent)

    def parts_of(self, item_id: str) -> list[Part]:
        return [part for part in self.parts.values() if part.item_id == item_id]

    def report(self, item_id: str, content_index: int, played_ms: float) -> bool:
        """The listener has heard `played_ms` of a part; False where that part is not remembered."""
        self.changes += 1
        self._reports = self._told = True
        part = self.parts.get((item_id, content_index))
        if part is None or not math.isfinite(played_ms):
            return False
        part.reported = max(0.0, played_ms)
        return True

    def received_ms(self, part: Part) -> float:
        return part.received / self.bytes_per_ms

    def played_ms(self, part: Part, now: float) -> float:
        """Of this part, in ms; may exceed what was received, while it has run dry."""
        if self._reports:
            return part.reported or 0.0
        return max(0.0, (self._heard_until(now) - part.starts) * 1000)

    def is_heard(self, item_id: str, now: float) -> bool:
        """Whether nothing of the item remains to be played."""
        return self.heard_at(item_id, now) is None

    def is_playing(self, now: float) -> bool:
        """Whether anything remains to be played."""
        return not all(self._is_finished(part, now) for part in self.parts.values())

    def silent_from(self, now: float) -> float:
        """Since when nothing plays, or from when on it will not (s), by the estimate; 0 where nothing ever did."""
        return max((self._over_at(part, now) for part in self.parts.values()), default=0.0)

    def _over_at(self, part: Part, now: float) -> float:
        ends = self._ends(part) + self._absent
        # A listener that reports may be ahead of the estimate, or behind it.
        return min(ends, now) if self._is_finished(part, now) else max(ends, now + _REPORT_EVERY)

    def ends_at(self, item_id: str, *, default: float) -> float:
        """When the item's audio ends by the estimate (s); `default` where none of it is remembered."""
        ends = [self._ends(part) + self._absent for part in self.parts.values() if part.item_id == item_id]
        return max(ends, default=default)

    def heard_at(self, item_id: str, now: float) -> float | None:
        """When the item counts as played to its end at the latest (s), if somebody listens until then.

        None where nothing of it remains to be played.
        """
        latest = None
        for part in self.parts.values():
            if part.item_id == item_id and not self._is_finished(part, now):
                at = self._ends(part) + self._absent + (_REPORT_SLACK if self._reports else 0.0)
                latest = at if latest is None or at > latest else latest
        return latest

    def progress(self, item_id: str, now: float) -> tuple[float, float]:
        """How much of the item was played and received, in ms."""
        parts = [part for part in self.parts.values() if part.item_id == item_id]
        played = sum(min(self.played_ms(part, now), self.received_ms(part)) for part in parts)
        return played, sum(self.received_ms(part) for part in parts)

    def interrupt(self, now: float, rounding: Callable[[float], int], *, response_id: str | None = None) -> list[Cut]:
        """Stop and forget what is being played, only that of `response_id` if given.

        The last part is always among the cuts, also where it was finished long ago; earlier ones only while they
        are unfinished. `end_ms` never lies beyond what was received: the model refuses such a truncation.
        """
        self.changes += 1
        chosen = [part for part in self.parts.values() if response_id is None or part.response.id == response_id]
        cuts = []
        for part in chosen:
            finished = self._is_finished(part, now)
            if finished and part is not chosen[-1]:
                continue
            received = self.received_ms(part)
            end_ms = min(rounding(self.played_ms(part, now)), math.floor(received))
            cuts.append(Cut(part, end_ms, received, finished, unknown=self._tracked and not self._told))
        for part in chosen:
            del self.parts[part.item_id, part.content_index]
        self._told = False
        return cuts

    def forget(self, item_id: str) -> None:
        """The item's audio was cut by somebody else."""
        self.changes += 1
        for part in self.parts_of(item_id):
            del self.parts[part.item_id, part.content_index]

    def _ends(self, part: Part) -> float:
        return part.starts + part.received / self.bytes_per_ms / 1000

    def _heard_until(self, now: float) -> float:
        """The listener's time."""
        return (now if self._left is None else self._left) - self._absent

    def _is_finished(self, part: Part, now: float) -> bool:
        if self._reports:
            # Reports come in whole ms, sizes need not: one ms of grace.
            if self.played_ms(part, now) >= self.received_ms(part) - 1:
                return True
            return self._heard_until(now) >= self._ends(part) + _REPORT_SLACK - _ROUNDING
        return self._heard_until(now) >= self._ends(part) - _ROUNDING
