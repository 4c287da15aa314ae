"""The audio of the client on its way to the model: a bounded ring of what the model may not have, for the next socket.

What was not committed is kept: the last 5 s of it, or 60 s while the user speaks, sends faster than they speak, ends
turns by hand, or is heard by no socket or by a new one, and `MAX_PIECES` frames and commits. Beyond that the oldest is
dropped. What was committed is kept until its words are known, 60 s in all. Commits keep their place among the audio.
Sizes are of samples, in bytes; positions count all of the session. The model tells in positions where it has heard
somebody speak; where that lies in time, the frames know.
"""

from collections import deque
from collections.abc import Mapping
from itertools import chain
from operator import attrgetter
from typing import Any, Final

import pybase64

from voicebus.engine import wire
from voicebus.engine.inputs import Spoken
from voicebus.ports import ModelLink
from voicebus.runtime.frames import append_frame
from voicebus.runtime.placing import LATE, PCM, UNPLACED, Frame, Placing, quiet_ticks, ticks_of

Event = Mapping[str, Any]

RESENT_S: Final = 5
"""How much of what was not committed the next socket gets after a loss."""

KEPT_S: Final = 60

MAX_PIECES: Final = 20_000
"""Frames and commits that are kept at most: 60 s of 3 ms each. Frames without audio are not kept."""

_COMMIT: Final = "input_audio_buffer.commit"
_AUDIO: Final = b'"audio":"'
_PADDING: Final = ord("=")
_G711: Final = frozenset({"audio/pcmu", "audio/pcma"})
# What lies before the words in what the model takes for speech, where its settings do not say (semantic detection has
# none) and no quiet before them shows it; and where such words are looked for (ms).
_PREFIX_MS: Final = 300
_WORDS_WITHIN_MS: Final = 1000
_QUIET_BEFORE_MS: Final = 20
HEARD: Final = frozenset(
    {
        "session.created",
        "session.updated",
        "input_audio_buffer.committed",
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "conversation.item.input_audio_transcription.completed",
        "conversation.item.input_audio_transcription.failed",
    }
)
"""The model's events that tell what has become of audio."""


class _Piece(Frame, gc=False):
    """An append frame of `size` that ends at `end`, or a commit (without audio)."""

    end: int = 0
    size: int = 0
    commit: Event | None = None

    @property
    def start(self) -> int:
        return self.end - self.size

    def position(self, ticks: int) -> int:
        """Where so many ticks behind its beginning are."""
        return self.start + (ticks * 2 if self.kind == PCM else ticks // 3)


# For what looks at all pieces of a turn.
_commit_of: Final = attrgetter("commit")
_size_of: Final = attrgetter("size")

Place = tuple[_Piece, int]
"""A frame, and how many ticks behind its beginning."""


class InputAudio:
    """Passes appends, commits and clears on to `link`; while there is none they wait here. `placing` places appends."""

    def __init__(self, placing: Placing) -> None:
        self._placing = placing
        self._link: ModelLink | None = None
        self._ring: deque[_Piece] = deque()
        self._kept: dict[str, list[_Piece]] = {}
        self._end = 0
        # From where on no socket has heard anything, while there is none; how much had come when the present one began.
        self._unheard = 0
        self._released = 0
        # Where the present socket began to hear, and the bounds of what it takes for speech.
        self._begin = 0
        self._speech: tuple[int, int | None] | None = None
        # Where the words in it began and ended, and before what the model cannot have taken anything for speech.
        self._words: Place | None = None
        self._stop: Place | None = None
        self._floor = 0
        self._kind = PCM
        self._rate = 48_000
        self._prefix_ms: float | None = None
        self._detects = True
        self.spoken: int = 0
        """Bytes of what came while the user was speaking, or where turns are ended by hand."""

    # --- from the client ------------------------------------------------------------------------------

    def append(self, frame: bytes, now: float, size: int | None = None) -> Frame | None:
        """One append frame, `audio` last in it, that came at `now` (s, monotonic); None where it holds no audio. `size`
        is that of its samples, where that is known.
        """
        if size is None:
            size = _size(frame)
        if self._link is not None:
            send_frame = self._link.send_frame  # not called as it is looked up: where it is no method, that is slow
            send_frame(frame)
        if size <= 0:
            return None
        self._end += size
        kind = self._kind
        ticks = size // 2 if kind == PCM else size * 3  # as `ticks_of`, which would be a call for each frame
        piece = _Piece(frame, kind, ticks, 0, UNPLACED, False, self._end, size)
        in_time = self._placing.hear(piece, now)
        self._ring.append(piece)
        limit = RESENT_S
        if self._speech is not None or not self._detects:
            self.spoken += size
            limit = KEPT_S
        elif self._link is None:
            limit = KEPT_S  # whether somebody speaks in it, only the next socket can tell
        elif not in_time and piece.begins + piece.ticks > piece.came + LATE:
            limit = KEPT_S  # of speech that comes faster than it is spoken the model tells when much more has come
        oldest = self._end - limit * self._rate
        if oldest < self._released:  # of what the socket was sent at its beginning it may not have told yet
            oldest = self._end - KEPT_S * self._rate
        while self._ring and (self._ring[0].end <= oldest or len(self._ring) > MAX_PIECES):
            self._ring.popleft()
        return piece

    def send(self, event: Event) -> None:
        """A commit or a clear."""
        if wire.text(event, "type") == _COMMIT:
            self._ring.append(_Piece(b"", self._kind, 0, end=self._end, commit=event))
            if len(self._ring) > MAX_PIECES:
                self._ring.popleft()
        else:
            self._ring.clear()
            self._speech, self._floor = None, self._end
        if self._link is not None:
            self._link.send(event)

    # --- from the model -------------------------------------------------------------------------------

    def understands(self, kind: str) -> None:
        """What is appended from now on is of this format; "" for as before."""
        if kind:
            self._kind = kind if kind in _G711 else PCM
            self._rate = 8_000 if kind in _G711 else 48_000

    def heard(self, kind: str, event: Event) -> Spoken | None:
        """One of the events `HEARD`; where what it is about was spoken, if it is an item of speech."""
        match kind:
            case "input_audio_buffer.committed":
                return self._committed(wire.text(event, "item_id"))
            case "input_audio_buffer.speech_started":
                start = self._position(event, "audio_start_ms")
                self._speech = start, None
                self._words, self._stop = self._first_words(start) if "audio_start_ms" in event else None, None
            case "input_audio_buffer.speech_stopped":
                start = self._speech[0] if self._speech is not None else self._begin
                self._speech = start, self._position(event, "audio_end_ms")
                self._stop = self._at(self._speech[1]) if "audio_end_ms" in event else None
            case "session.created" | "session.updated":
                hearing = wire.mapping(wire.mapping(wire.mapping(event, "session"), "audio"), "input")
                self.understands(wire.text(wire.mapping(hearing, "format"), "type"))
                detection = hearing.get("turn_detection", True)
                self._detects = detection is not None
                asked = wire.mapping(hearing, "turn_detection")
                says = asked.get("prefix_padding_ms") is not None
                self._prefix_ms = wire.number(asked, "prefix_padding_ms") if says else None
            case _:
                self._kept.pop(wire.text(event, "item_id"), None)
        return None

    def refused(self) -> None:
        """The model had nothing to commit."""
        marker = next((piece for piece in self._ring if piece.commit is not None), None)
        if marker is not None:
            self._ring.remove(marker)

    def _position(self, event: Event, key: str) -> int:
        return self._begin + self._bytes(wire.number(event, key))

    def _first_words(self, start: int) -> Place | None:
        """Where speech begins that the model tells of from `start` on: so far behind as it puts before the words, but
        where it cannot have put so much before them, at the first that is loud; so, too, behind quiet, where it does
        not tell how much it puts there.
        """
        end = start + self._bytes(_PREFIX_MS if self._prefix_ms is None else self._prefix_ms)
        words = self._at(end)
        if start <= self._floor + self._bytes(1):
            loud = _loud(self._between(start, end))
            return words if loud is None or (words is not None and words[0].end < loud[0].end) else loud
        if self._prefix_ms is not None:
            return words
        before = start - self._bytes(_QUIET_BEFORE_MS)
        loud = _loud(self._between(before, start + self._bytes(_WORDS_WITHIN_MS)))
        return words if loud is None or loud[0].position(loud[1]) <= before else loud

    def _between(self, start: int, end: int) -> list[_Piece]:
        return [piece for piece in self._ring if piece.size and piece.end > start and piece.start < end]

    def _bytes(self, ms: float) -> int:
        return int(ms * self._rate / 1000)

    def _at(self, position: int) -> Place | None:
        """Where that is, if it is known still; the end of what came, where it lies beyond that."""
        for piece in reversed(self._ring):
            if piece.size and piece.start <= position:
                return piece, ticks_of(piece.kind, min(position - piece.start, piece.size))
        return None

    def _committed(self, item_id: str) -> Spoken | None:
        """The model has made an item of audio: up to our commit, or to the end of what it took for speech."""
        speech, self._speech = self._speech, None
        taken: list[_Piece] = []
        if any(map(_commit_of, self._ring)):
            while (piece := self._ring.popleft()).commit is None:
                taken.append(piece)
            self._floor = piece.end
        else:
            end = self._end if speech is None or speech[1] is None else speech[1]
            later: list[_Piece] = []
            while self._ring and self._ring[-1].end > end:  # few: the model tells soon of what it has taken
                later.append(self._ring.pop())
            taken.extend(self._ring)
            self._ring = deque(reversed(later))
            if self._ring and self._ring[0].start < end:
                taken.append(self._part(end))
            begin = self._begin if speech is None else speech[0]
            first = next((number for number, piece in enumerate(taken) if piece.end > begin), len(taken))
            taken = taken[first:]
            self._floor = end
        if item_id and taken:
            self._kept[item_id] = taken
        kept = sum(map(_size_of, chain.from_iterable(self._kept.values())))
        while kept > KEPT_S * self._rate and len(self._kept) > 1:
            kept -= sum(map(_size_of, self._kept.pop(next(iter(self._kept)))))
        return self._spoken(item_id, taken, detected=speech is not None)

    def _part(self, end: int) -> _Piece:
        """The part of the first frame up to `end`, which it has no more."""
        piece = self._ring.popleft()
        size = end - piece.start
        if piece.kind == PCM:
            size -= size % 2
        self._placing.moment(piece, 0)  # both parts lie where it does
        samples, ticks = piece.samples, ticks_of(piece.kind, size)
        begins = piece.begins + (0 if piece.left_out else ticks)
        self._ring.appendleft(_piece(samples[size:], piece, begins, piece.end))
        return _piece(samples[:size], piece, piece.begins, piece.start + size)

    def _spoken(self, item_id: str, taken: list[_Piece], *, detected: bool) -> Spoken | None:
        """Where an item of `taken` lies in time; a turn that was ended by hand, from the first that is loud in it."""
        words, stop, self._words, self._stop = self._words, self._stop, None, None
        if not detected and taken:
            words = _loud(taken) or (taken[0], 0)
        if taken and stop is None:
            stop = taken[-1], taken[-1].ticks
        if words is None or stop is None:
            return None
        started = self._placing.moment(*words)
        ended = max(started, self._placing.moment(*stop))
        return Spoken(item_id, started, ended)

    # --- sockets come and go --------------------------------------------------------------------------

    def hold(self) -> None:
        """There is no socket. One that went so soon that it may have told of nothing has heard nothing."""
        if self._link is not None:
            new = self._end - RESENT_S * self._rate < self._released
            self._unheard = self._begin if new else self._end
        self._link = None

    def release(self, link: ModelLink, *, whole: bool) -> None:
        """The next socket gets what was not committed, and all audio from now on."""
        unheard = self._end - self._unheard if self._link is None else 0
        self._link, self._released = link, self._end
        self._speech = self._words = self._stop = None
        resent: list[_Piece] = []
        room = (KEPT_S if whole else RESENT_S) * self._rate + unheard
        left = room
        for piece in reversed(self._ring):
            if piece.commit is not None:
                left = room
            elif left <= 0:
                continue
            left -= piece.size
            resent.append(piece)
        resent.reverse()
        self._ring = deque(resent)
        self._begin = self._floor = self._end - sum(piece.size for piece in resent)
        for piece in resent:
            if piece.commit is None:
                link.send_frame(piece.data)
            else:
                link.send(piece.commit)

    def item(self, event: Event, item_id: str) -> Event:
        """The event that creates the user's item `item_id`, with what was said in it, where that is kept."""
        pieces = self._kept.get(item_id)
        if pieces is None:
            return event
        samples = b"".join(piece.samples for piece in pieces)
        content = [{"type": "input_audio", "audio": pybase64.b64encode(samples).decode("ascii")}]
        return {**event, "item": {**event["item"], "content": content}}


def _piece(samples: bytes, of: _Piece, begins: int, end: int) -> _Piece:
    """A part `of` a frame."""
    frame = append_frame(pybase64.b64encode(samples).decode("ascii"))
    size = len(samples)
    return _Piece(frame, of.kind, ticks_of(of.kind, size), of.came, begins, of.left_out, end, size)


def _size(frame: bytes) -> int:
    size = (len(frame) - frame.find(_AUDIO) - len(_AUDIO) - 2) * 3 // 4
    if frame[-3] == _PADDING:
        size -= 1 + (frame[-4] == _PADDING)
    return size


def _loud(pieces: list[_Piece]) -> Place | None:
    """The first that is loud in them."""
    for piece in pieces:
        if (quiet := quiet_ticks(piece)) < piece.ticks:
            return piece, quiet
    return None
