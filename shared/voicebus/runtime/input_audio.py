"""The audio of the client on its way to the model: a bounded ring of what the model may not have, for the next socket.

What was not committed is kept: the last 5 s of it, or 60 s while the user speaks or where turns are ended by hand, and
`MAX_PIECES` frames and commits. Beyond that the oldest is dropped. What was committed is kept until its words are
known, 60 s in all. Commits keep their place among the audio. Sizes are of samples, in bytes; positions count all of the
session.
"""

from collections import deque
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import pybase64

from voicebus.engine import wire
from voicebus.ports import ModelLink

Event = Mapping[str, Any]

RESENT_S: Final = 5.0
"""How much of what was not committed the next socket gets after a loss."""

KEPT_S: Final = 60.0

MAX_PIECES: Final = 20_000
"""Frames and commits that are kept at most: 60 s of 3 ms each. Frames without audio are not kept."""

_COMMIT: Final = "input_audio_buffer.commit"
_AUDIO: Final = b'"audio":"'
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


class _Piece(msgspec.Struct, frozen=True, gc=False):
    """An append frame that ends at `end`, or a commit (without a frame)."""

    end: int
    size: int
    frame: bytes = b""
    commit: Event | None = None


class InputAudio:
    """Passes appends, commits and clears on to `link`; while there is none they wait here."""

    def __init__(self) -> None:
        self._link: ModelLink | None = None
        self._ring: deque[_Piece] = deque()
        self._kept: dict[str, list[_Piece]] = {}
        self._end = 0
        # Where the present socket began to hear, and the bounds of what it takes for speech.
        self._begin = 0
        self._speech: tuple[int, int | None] | None = None
        self._rate = 48_000
        self._detects = True
        self.spoken: int = 0
        """Bytes of what came while the user was speaking, or where turns are ended by hand."""

    # --- from the client ------------------------------------------------------------------------------

    def append(self, frame: bytes) -> None:
        """One append frame, `audio` last in it."""
        size = (len(frame) - frame.find(_AUDIO) - len(_AUDIO) - 2) * 3 // 4
        if self._link is not None:
            self._link.send_frame(frame)
        if size <= 0:
            return
        self._end += size
        self._ring.append(_Piece(self._end, size, frame))
        speaks = self._speech is not None or not self._detects
        self.spoken += size if speaks else 0
        limit = KEPT_S if speaks else RESENT_S
        oldest = self._end - limit * self._rate
        while self._ring and (self._ring[0].end <= oldest or len(self._ring) > MAX_PIECES):
            self._ring.popleft()

    def send(self, event: Event) -> None:
        """A commit or a clear."""
        if wire.text(event, "type") == _COMMIT:
            self._ring.append(_Piece(self._end, 0, commit=event))
            if len(self._ring) > MAX_PIECES:
                self._ring.popleft()
        else:
            self._ring.clear()
            self._speech = None
        if self._link is not None:
            self._link.send(event)

    # --- from the model -------------------------------------------------------------------------------

    def heard(self, kind: str, event: Event) -> None:
        """One of the events `HEARD`."""
        match kind:
            case "input_audio_buffer.committed":
                self._committed(wire.text(event, "item_id"))
            case "input_audio_buffer.speech_started":
                self._speech = self._position(event, "audio_start_ms"), None
            case "input_audio_buffer.speech_stopped":
                start = self._speech[0] if self._speech is not None else self._begin
                self._speech = start, self._position(event, "audio_end_ms")
            case "session.created" | "session.updated":
                hearing = wire.mapping(wire.mapping(wire.mapping(event, "session"), "audio"), "input")
                kind = wire.text(wire.mapping(hearing, "format"), "type")
                self._rate = 8_000 if kind in ("audio/pcmu", "audio/pcma") else 48_000
                self._detects = hearing.get("turn_detection", True) is not None
            case _:
                self._kept.pop(wire.text(event, "item_id"), None)

    def refused(self) -> None:
        """The model had nothing to commit."""
        marker = next((piece for piece in self._ring if piece.commit is not None), None)
        if marker is not None:
            self._ring.remove(marker)

    def _position(self, event: Event, key: str) -> int:
        return self._begin + int(wire.number(event, key) * self._rate / 1000)

    def _committed(self, item_id: str) -> None:
        """The model has made an item of audio: up to our commit, or to the end of what it took for speech."""
        speech, self._speech = self._speech, None
        taken: list[_Piece] = []
        if any(piece.commit is not None for piece in self._ring):
            while (piece := self._ring.popleft()).commit is None:
                taken.append(piece)
        else:
            end = self._end if speech is None or speech[1] is None else speech[1]
            while self._ring and self._ring[0].end <= end:
                taken.append(self._ring.popleft())
            begin = self._begin if speech is None else speech[0]
            taken = [piece for piece in taken if piece.end > begin]
        if item_id and taken:
            self._kept[item_id] = taken
        kept = sum(piece.size for pieces in self._kept.values() for piece in pieces)
        while kept > KEPT_S * self._rate and len(self._kept) > 1:
            kept -= sum(piece.size for piece in self._kept.pop(next(iter(self._kept))))

    # --- sockets come and go --------------------------------------------------------------------------

    def hold(self) -> None:
        """There is no socket."""
        self._link = None

    def release(self, link: ModelLink, *, whole: bool) -> None:
        """The next socket gets what was not committed, and all audio from now on."""
        self._link = link
        self._speech = None
        resent: list[_Piece] = []
        room = KEPT_S if whole else RESENT_S
        left = room * self._rate
        for piece in reversed(self._ring):
            if piece.commit is not None:
                left = room * self._rate
            elif left <= 0:
                continue
            left -= piece.size
            resent.append(piece)
        resent.reverse()
        self._ring = deque(resent)
        self._begin = self._end - sum(piece.size for piece in resent)
        for piece in resent:
            if piece.commit is None:
                link.send_frame(piece.frame)
            else:
                link.send(piece.commit)

    def item(self, event: Event, item_id: str) -> Event:
        """The event that creates the user's item `item_id`, with what was said in it, where that is kept."""
        pieces = self._kept.get(item_id)
        if pieces is None:
            return event
        samples = b"".join(pybase64.b64decode(_text(piece.frame)) for piece in pieces)
        content = [{"type": "input_audio", "audio": pybase64.b64encode(samples).decode("ascii")}]
        return {**event, "item": {**event["item"], "content": content}}


def _text(frame: bytes) -> bytes:
    """The base64 text of an append frame."""
    return frame[frame.find(_AUDIO) + len(_AUDIO) : -2]
