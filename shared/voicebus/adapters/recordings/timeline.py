"""Where on a call's clock the sound of its two channels lies. Knows no clock, no codec and no storage.

Positions are ticks, samples at `RATE` since the call began. Each channel is taken in order, up to a horizon that lies a
little in the past, so that what comes late, or is cut off, still finds its place.
"""

from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

from voicebus.engine.playback import AWAITED
from voicebus.runtime.placing import AHEAD, HELD_UP, PCM, RATE, SETTLING, Frame, Placing, ticks_of

LAG: Final = SETTLING + HELD_UP
"""What lies so long ago is decided: nothing that may still come, or waits to be placed, belongs before it."""

_AWAITED: Final = round(AWAITED * RATE)
# Of an answer that is ahead of its being heard; the end of a longer one is left out.
_UNHEARD: Final = 600 * RATE


class Piece(NamedTuple):
    """Sound of `ticks`: samples of the format `kind`, or silence where there are none."""

    ticks: int
    kind: str = PCM
    samples: bytes = b""


class _Chunk(NamedTuple):
    """Samples that begin at `at`; `offset` is where they begin in their part."""

    at: int
    part: tuple[str, int]
    offset: int
    piece: Piece


class CallerTrack:
    """What the caller said from `begins` on, in its `placing`. `dropped` counts ticks that nobody fetched in time."""

    def __init__(self, placing: Placing, begins: int = 0) -> None:
        self._placing = placing
        self._waiting: deque[Frame] = deque()
        self._ahead = 0
        self._end = begins
        self.dropped: int = 0

    def hear(self, frame: Frame) -> None:
        """A frame has come."""
        if self._ahead + frame.ticks > AHEAD:
            self.dropped += frame.ticks
            return
        self._ahead += frame.ticks
        self._waiting.append(frame)

    def take(self, horizon: int) -> Iterator[Piece]:
        """What lies before `horizon`, silence included; the last frame may reach beyond it.

        What came until `LAG` after the horizon must have been brought.
        """
        self._placing.settle(horizon + LAG)
        while self._waiting and self._waiting[0].is_placed and self._waiting[0].begins < horizon:
            frame = self._waiting.popleft()
            self._ahead -= frame.ticks
            if frame.left_out:
                continue
            if frame.begins > self._end:
                yield Piece(frame.begins - self._end)
                self._end = frame.begins
            # What was spoken before the first position does not belong here.
            _, piece = _halves(Piece(frame.ticks, frame.kind, frame.samples), self._end - frame.begins)
            if piece.ticks:
                yield piece
                self._end += piece.ticks
        if self._end < horizon:
            yield Piece(horizon - self._end)
            self._end = horizon


class AgentTrack:
    """What the caller heard of the agent: parts one after another, each as far as it was played.

    While the sound is held (nobody listens) it stands still, and goes on from there. `dropped` counts ticks that were
    too far ahead of their being heard to be kept.
    """

    def __init__(self, begins: int = 0) -> None:
        self._chunks: deque[_Chunk] = deque()
        self._sizes: dict[tuple[str, int], int] = {}
        self._written = begins
        self._end = begins
        self._held: int | None = None
        self.dropped: int = 0

    def say(self, item_id: str, content_index: int, kind: str, samples: bytes, now: int) -> None:
        """More of a part is on its way to the caller: heard at once, or after what is still to be heard."""
        part, ticks = (item_id, content_index), ticks_of(kind, len(samples))
        heard = now if self._held is None else self._held
        if self._end + ticks - heard > _UNHEARD:
            self.dropped += ticks
            return
        offset = self._sizes.get(part, 0)
        # Of a part that goes on, a delta that is hardly late was awaited by nobody.
        at = self._end if offset and heard - self._end <= _AWAITED else max(heard, self._end)
        self._sizes[part] = offset + ticks
        self._chunks.append(_Chunk(at, part, offset, Piece(ticks, kind, samples)))
        self._end = at + ticks
        if len(self._sizes) > 64:
            del self._sizes[next(iter(self._sizes))]

    def cut(self, item_id: str, content_index: int, heard_ms: float) -> None:
        """Only so much of a part was heard."""
        part, limit = (item_id, content_index), round(heard_ms * RATE / 1000)
        kept: deque[_Chunk] = deque()
        for chunk in self._chunks:
            if chunk.part != part or chunk.offset + chunk.piece.ticks <= limit:
                kept.append(chunk)
            elif chunk.offset < limit:
                kept.append(_split(chunk, limit - chunk.offset)[0])
        self._chunks = kept
        self._sizes.pop(part, None)
        self._end = max([self._written, *(chunk.at + chunk.piece.ticks for chunk in kept)])

    def hold(self, now: int) -> None:
        """Nobody listens from now on."""
        if self._held is None:
            self._held = now

    def go_on(self, now: int) -> None:
        """Somebody listens again, from where the sound stood."""
        if self._held is None:
            return
        held, self._held = self._held, None
        later = now - held
        moved: deque[_Chunk] = deque()
        for chunk in self._chunks:
            before, after = _split(chunk, held - chunk.at)
            moved.extend(half for half in (before, after._replace(at=after.at + later)) if half.piece.ticks)
        self._chunks = moved
        if self._end > held:
            self._end += later

    def take(self, horizon: int) -> Iterator[Piece]:
        """What lies between what was taken before and `horizon`, silence included."""
        heard = horizon if self._held is None else min(horizon, self._held)
        while self._chunks and self._chunks[0].at < heard:
            first = self._chunks.popleft()
            chunk, rest = _split(first, heard - first.at)
            if rest.piece.ticks:
                self._chunks.appendleft(rest)
            if chunk.at > self._written:
                yield Piece(chunk.at - self._written)
            yield chunk.piece
            self._written = chunk.at + chunk.piece.ticks
        if self._written < horizon:
            yield Piece(horizon - self._written)
            self._written = horizon


def _split(chunk: _Chunk, ticks: int) -> tuple[_Chunk, _Chunk]:
    """The first `ticks` of a chunk, and the rest; either may be empty."""
    first, rest = _halves(chunk.piece, ticks)
    after = chunk._replace(at=chunk.at + first.ticks, offset=chunk.offset + first.ticks, piece=rest)
    return chunk._replace(piece=first), after


def _halves(piece: Piece, ticks: int) -> tuple[Piece, Piece]:
    ticks = min(max(ticks, 0), piece.ticks)
    size = ticks * 2 if piece.kind == PCM else -(-ticks // 3)
    ticks = ticks_of(piece.kind, size)
    first = Piece(ticks, piece.kind, piece.samples[:size])
    return first, Piece(piece.ticks - ticks, piece.kind, piece.samples[size:])
