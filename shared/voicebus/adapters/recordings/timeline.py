"""Where on a call's clock the sound of its two channels lies. Knows no clock, no codec and no storage.

Positions are ticks, samples at `RATE` since the call began. Each channel is taken in order, up to a horizon that lies a
little in the past, so that what comes late, or is cut off, still finds its place.
"""

from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

RATE: Final = 24_000
"""Samples in a second of a recording, and ticks in a second of the call's clock."""

PCM: Final = "audio/pcm"

# A caller's frame lies where it was heard: it ends when it came. One that is longer than this was not spoken while the
# one before travelled, and begins so long before it came.
_LONGEST_FRAME: Final = RATE // 5
# Frames that are so late count as if they were not: networks are no metronomes.
_LATE: Final = RATE // 25
# For so long it is awaited whether late frames were held up, and the next ones make up for it.
SETTLING: Final = RATE // 2
# So much of a caller's sound may wait who sends it faster than it is spoken; what is beyond is left out.
_AHEAD: Final = 60 * RATE
# Sound whose samples are all below this is quiet (about -40 dB).
_QUIET: Final = 328
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


def ticks_of(kind: str, size: int) -> int:
    """How long `size` bytes of this format sound."""
    return size // 2 if kind == PCM else size * 3


class CallerTrack:
    """What the caller said. `dropped` counts ticks that were too far ahead of the clock to be kept."""

    def __init__(self, begins: int = 0) -> None:
        self._waiting: deque[tuple[int, Piece]] = deque()
        self._ahead = 0
        self._end = begins
        self._catches_up = False
        self.dropped: int = 0

    def back(self) -> None:
        """The caller was away, and says again, all at once, what may have got lost. What they say from now on would lie
        so much too late for as long as they do not pause: what is quiet is left out while it is ahead of the clock.
        """
        self._catches_up = True

    def hear(self, kind: str, samples: bytes, now: int) -> None:
        """A frame has come."""
        ticks = ticks_of(kind, len(samples))
        if self._ahead + ticks > _AHEAD:
            self.dropped += ticks
            return
        self._ahead += ticks
        self._waiting.append((now, Piece(ticks, kind, samples)))

    def take(self, horizon: int) -> Iterator[Piece]:
        """What lies before `horizon`; the last frame may reach beyond it, or a late one be awaited before it.

        What came until `SETTLING` after a frame that came until `SETTLING` after the horizon must have been brought.
        """
        while self._end < horizon:
            if not self._waiting or self._waiting[0][0] > horizon + SETTLING:
                silence = horizon - self._end
            elif (silence := self._silence()) > _LATE:
                silence = min(silence, horizon - self._end)
            else:
                came, piece = self._waiting.popleft()
                self._ahead -= piece.ticks
                if self._catches_up and self._end + piece.ticks > came + _LATE and _is_quiet(piece):
                    continue
                self._end += piece.ticks
                yield piece
                continue
            self._end += silence
            yield Piece(silence)

    def _silence(self) -> int:
        """How much of the first frame's delay none of those that followed it has made up for."""
        first, _ = self._waiting[0]
        end, least = self._end, first
        for came, piece in self._waiting:
            if came > first + SETTLING:
                break
            least = min(least, came - min(piece.ticks, _LONGEST_FRAME) - end)
            if least <= _LATE:
                break
            end += piece.ticks
        return least


def _is_quiet(piece: Piece) -> bool:
    if piece.kind == PCM:
        samples = memoryview(piece.samples).cast("h")
        return max(samples) < _QUIET and min(samples) > -_QUIET
    # The exponent of G.711 stands in these bits, inverted by mu-law and, every other one, by A-law.
    lowest = 0x70 if piece.kind == "audio/pcmu" else 0x50
    return all(sample & 0x70 == lowest for sample in piece.samples)


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
        at = self._end if offset and heard - self._end <= _LATE else max(heard, self._end)
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
    piece = chunk.piece
    ticks = min(max(ticks, 0), piece.ticks)
    size = ticks * 2 if piece.kind == PCM else -(-ticks // 3)
    ticks = ticks_of(piece.kind, size)
    first = Piece(ticks, piece.kind, piece.samples[:size])
    rest = Piece(piece.ticks - ticks, piece.kind, piece.samples[size:])
    after = chunk._replace(at=chunk.at + ticks, offset=chunk.offset + ticks, piece=rest)
    return chunk._replace(piece=first), after
