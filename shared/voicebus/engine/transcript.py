"""Which lines the conversation's record gets: `item_recorded` for each message item, once, in order, when it is final.

A user's audio is final with its transcript, or when that has been waited for long enough. An assistant's text is final
with its item. An assistant's audio is final only when it is known what of it was heard: a truncation may come long
after the model has finished. Where the caller is on a call (WebRTC, SIP), it is the model's side that plays, and tells
when it begins and ends; it has begun when it says so, and what is not told of counts as heard.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from voicebus.contracts.journal import EventType
from voicebus.engine import wire
from voicebus.engine.bounds import REMEMBERED, Recent, trim
from voicebus.engine.inputs import Spoken
from voicebus.engine.outbox import Outbox
from voicebus.engine.playback import PlaybackTracker
from voicebus.engine.responses import Response, join

NOT_TRANSCRIBED: Final = "[audio not transcribed]"
"""What stands for the words of speech whose model's socket was lost before they came."""

TRANSCRIPT_TIMEOUT: Final = 10.0
TRANSCRIPT_TIMER: Final = "transcript:"
HEARD_TIMER: Final = "heard"

# Speech that is never committed leaves no item: so much of it is remembered.
_MAX_SPEECH: Final = 8
# Lines that may wait to be final; then the first is recorded as it is, and the others get their turn.
_MAX_LINES: Final = 64
# How long a character is spoken, about (ms): 15 of them in a second. For audio that passes elsewhere.
_CHARACTER_MS: Final = 67.0
# Of one line, in characters, and its parts.
_MAX_TEXT: Final = 100_000
_MAX_PARTS: Final = 64


def heard_share(text: str, played_ms: float, received_ms: float) -> str:
    """What of `text` was heard when `played_ms` of `received_ms` were played.

    An estimate: speech is taken as even, so the text is cut at the same share, back to the last whole word. The
    model's transcript tends to run ahead of its audio, so that in a cut answer this is rather a word too much.
    """
    if not text or received_ms <= 0 or played_ms <= 0:
        return ""
    if played_ms >= received_ms:
        return text
    cut = int(len(text) * played_ms / received_ms)
    kept = text[:cut]
    if not text[cut].isspace() and not kept[-1:].isspace():
        kept = kept[: len(kept) - len(kept.split()[-1])] if kept else ""
    return kept.rstrip()


@dataclass(slots=True, eq=False)
class Line:
    """A message item on its way into the record. Times in s on the session's clock."""

    item_id: str
    role: str
    agent: str
    started: float
    ended: float
    response: Response | None = None
    parts: dict[int, str] = field(default_factory=dict)
    audio: bool = False
    complete: bool = False
    waits_for_transcript: bool = False
    incomplete: bool = False
    heard_text: str | None = None
    cut: bool = False
    withheld: bool = False

    @property
    def text(self) -> str:
        return join(self.parts)

    def put(self, index: int, text: str) -> None:
        """Set a part's text, as far as the line has room for it."""
        others = sum(len(part) for place, part in self.parts.items() if place != index)
        self.parts[index] = text[: max(0, _MAX_TEXT - others)]


def _spoken(line: Line) -> bool:
    """Whether its text is the transcript of audio."""
    return line.response is not None and line.response.spoken


class Transcript:
    """Open lines in conversation order. Call `flush` after each input; it records from the front."""

    def __init__(self, out: Outbox, playback: PlaybackTracker, *, elsewhere: bool = False) -> None:
        self._out = out
        self._playback = playback
        self._elsewhere = elsewhere
        # The response that the model's side plays to the caller now.
        self._playing = ""
        self._lines: dict[str, Line] = {}
        self._order: list[str] = []
        self._recorded = Recent()
        self._heard: dict[str, str] = {}
        self._speech: dict[str, tuple[float, float]] = {}
        self._spoken: dict[str, tuple[float, float]] = {}
        # What was said to a socket that was lost before it told the words; another one may tell them.
        self._wordless = Recent()
        # When the front line will have been heard (s), and what had changed of playback when that was reckoned.
        self._armed: float | None = None
        self._armed_at = 0

    def open_lines(self) -> list[list[Any]]:
        """The lines that are not recorded yet, for `restore`."""
        out = self._out
        return [
            [
                line.item_id,
                line.role,
                line.agent,
                out.ms(line.started),
                out.ms(line.ended) if line.complete else None,
                line.heard_text if line.cut else None,
                line.text if line.withheld else None,
            ]
            for line in map(self._lines.__getitem__, self._order)
        ]

    def restore(
        self,
        recorded: Mapping[str, str | None],
        lines: Iterable[Sequence[Any]],
        texts: Callable[[str], str],
        goes_on: Response | None = None,
        *,
        until_ms: int | None = None,
    ) -> None:
        """Go on from what another owner has kept: what was recorded, and what was not yet; what is not complete is of
        the response that `goes_on`, if one does, and was said up to `until_ms` (ms of the call; None: up to now).

        Nobody knows how much of those lines was heard, unless they were cut: all that `texts` tells counts as heard.
        """
        for item_id, heard in recorded.items():
            self._recorded.add(item_id)
            if heard is not None:
                self._heard[item_id] = heard
        trim(self._heard, REMEMBERED)
        for item_id, role, agent, started_ms, ended_ms, heard, withheld in lines:
            if item_id in self._recorded:
                continue
            started = self._out.moment(started_ms)
            last_ms = until_ms if ended_ms is None else ended_ms
            ended = self._out.now if last_ms is None else max(started, self._out.moment(last_ms))
            line = Line(item_id, role, agent, started, ended, complete=True, incomplete=ended_ms is None)
            line.put(0, texts(item_id) if withheld is None else withheld)
            line.cut, line.heard_text, line.withheld = heard is not None, heard, withheld is not None
            if role == "user":
                line.incomplete = False
                if not line.text:
                    self._wordless.add(item_id)
            elif ended_ms is None and goes_on is not None and role == "assistant":
                line.complete = line.incomplete = False
                line.response, goes_on.texts[item_id] = goes_on, line.parts
            self._lines[item_id] = line
            self._order.append(item_id)

    def speech_started(self, item_id: str) -> None:
        self._speech[item_id] = (self._out.now, self._out.now)
        trim(self._speech, _MAX_SPEECH)

    def speech_stopped(self, item_id: str) -> None:
        started, _ = self._speech.get(item_id, (self._out.now, 0.0))
        self._speech[item_id] = (started, self._out.now)
        trim(self._speech, _MAX_SPEECH)

    def spoken(self, heard: Spoken) -> None:
        """Where that speech lies is known better than from when the model told of it."""
        self._spoken[heard.item_id] = (heard.started, heard.ended)
        trim(self._spoken, _MAX_SPEECH)

    def open(
        self, item: Mapping[str, Any], previous: str | None, agent: str, response: Response | None = None
    ) -> Line | None:
        """A message item exists now; None where it has been recorded already, or is no message."""
        item_id, role = wire.text(item, "id"), wire.text(item, "role")
        if not item_id or item_id in self._recorded or role not in ("user", "assistant", "system"):
            return None
        line = self._lines.get(item_id)
        if line is None:
            place = self._order.index(previous) + 1 if previous in self._lines else len(self._order)
            told = self._speech.pop(item_id, (self._out.now, self._out.now))
            line = Line(item_id, role, agent, *self._spoken.pop(item_id, told))
            self._order.insert(place, item_id)
            self._lines[item_id] = line
        if response is not None and line.response is None:
            line.response = response
            line.agent = response.agent.name
            line.parts = response.keep(item_id, line.parts)
            if response.muted:
                line.cut, line.heard_text = True, ""
        return line

    def is_open(self, item_id: str) -> bool:
        """Whether the item has a line that is not recorded yet."""
        return item_id in self._lines

    def said(self, item: Mapping[str, Any], *, transcribes: bool) -> None:
        """A user's, a system's or a seeded assistant's item stands."""
        line = self._lines.get(wire.text(item, "id"))
        if line is None or line.response is not None:
            return
        for index, part in enumerate(wire.mappings(item, "content")[:_MAX_PARTS]):
            spoken = wire.text(part, "type") == "input_audio"
            text = wire.text(part, "transcript") or wire.text(part, "text")
            line.put(index, text or line.parts.get(index, ""))
            if spoken and transcribes and not line.parts[index] and not line.complete:
                line.waits_for_transcript = True
        if not line.complete:
            line.complete = True
            if line.waits_for_transcript:
                self._out.set_timer(TRANSCRIPT_TIMER + line.item_id, TRANSCRIPT_TIMEOUT)

    def transcribed(self, item_id: str, transcript: str) -> None:
        """A user's transcript is complete, or failed (then it is "")."""
        line = self._lines.get(item_id)
        if line is None or line.role != "user":
            return
        line.parts = {0: transcript[:_MAX_TEXT]} if line.waits_for_transcript else line.parts
        line.waits_for_transcript = False
        self._out.cancel_timer(TRANSCRIPT_TIMER + item_id)

    def transcript_overdue(self, item_id: str) -> str | None:
        """The words will not come; what stands for them, where they were lost with a socket."""
        line = self._lines.get(item_id)
        if line is None:
            return None
        line.waits_for_transcript = False
        return NOT_TRANSCRIBED if item_id in self._wordless and not line.text else None

    def disconnected(self, unadded: Iterable[str]) -> None:
        """The socket is lost that was to tell the words of what was said last; of `unadded` it has told nothing."""
        waiting = [line.item_id for line in self._lines.values() if line.waits_for_transcript]
        for item_id in (*waiting, *unadded):
            self._wordless.add(item_id)

    def untold(self, item_id: str, agent: str) -> None:
        """The user has said something of which no socket will tell more."""
        self._wordless.add(item_id)
        self.open({"id": item_id, "role": "user"}, None, agent)

    def finished(self, item: Mapping[str, Any]) -> None:
        """An assistant's item is finished by the model."""
        line = self._lines.get(wire.text(item, "id"))
        if line is None or line.complete:
            return
        for index, part in enumerate(wire.mappings(item, "content")[:_MAX_PARTS]):
            text = wire.text(part, "transcript") or wire.text(part, "text")
            if text:
                line.put(index, text)
        line.complete = True
        line.incomplete = wire.text(item, "status") == "incomplete"
        line.ended = max(line.ended, self._out.now)

    def sounds(self, item_id: str, response: Response, started: float) -> None:
        """The first audio of an assistant's item is here; it is played from `started` on."""
        line = self.open({"id": item_id, "role": "assistant"}, None, response.agent.name, response)
        if line is not None and not line.audio:
            line.audio = True
            line.started = started

    def muted(self, response: Response) -> None:
        """Nothing more of that response reaches the listener: a text so far was read, speech without audio was not."""
        for line in self._lines.values():
            if line.response is response and not line.complete and not line.cut and not line.audio:
                line.cut, line.heard_text = True, "" if response.spoken else line.text

    def withheld(self, item_id: str, response: Response, texts: Mapping[int, str]) -> None:
        """What the item says is kept back: it was said, and never heard."""
        if response.out_of_band:
            return
        line = self.open({"id": item_id, "role": "assistant"}, None, response.agent.name, response)
        if line is not None and not line.audio:
            line.parts = dict(texts)
            line.cut, line.heard_text, line.withheld = True, "", True

    def deleted(self, item_id: str) -> None:
        """The model has forgotten the item; that it was said stays true."""
        line = self._lines.get(item_id)
        if line is not None:
            line.complete = True

    def response_ended(self, response: Response) -> None:
        """Whatever of that response is still open will not go on."""
        for line in self._lines.values():
            if line.response is response and not line.complete:
                line.complete = line.incomplete = True
                line.ended = max(line.ended, self._out.now)

    def cut(self, item_id: str, played_ms: float, received_ms: float) -> None:
        """The listener heard only `played_ms` of the item."""
        line = self._lines.get(item_id)
        if line is None or line.cut:
            return
        self._armed_at = -1  # it may be the front line
        line.cut = True
        line.heard_text = heard_share(line.text, played_ms, received_ms)
        line.ended = max(line.started, min(self._out.now, line.started + played_ms / 1000))

    def heard(self, item_id: str) -> str | None:
        """What of the item reached the listener; None where nothing is known to be missing."""
        line = self._lines.get(item_id)
        if line is None:
            return self._heard.get(item_id)
        if line.cut:
            return line.heard_text
        return "" if line.incomplete and not line.audio and _spoken(line) else None

    def has_words(self, item_id: str) -> bool:
        """Whether what the user said in this item is known, as far as it will be."""
        line = self._lines.get(item_id)
        if line is None:
            return item_id in self._recorded
        return line.complete and not line.waits_for_transcript

    @property
    def awaits_words(self) -> bool:
        """Whether the words of something that the user said are still to come."""
        return any(line.waits_for_transcript for line in self._lines.values())

    def plays(self, response_id: str) -> None:
        """The model's side plays this response to the caller, and no other any more; "" for none."""
        if self._elsewhere:
            self._playing = response_id

    def cut_elsewhere(self, item_id: str, played_ms: float) -> None:
        """The model's side has played only `played_ms` of the item; how long all of it would be is reckoned."""
        line = self._lines.get(item_id)
        if line is not None and self._elsewhere:
            self.cut(item_id, played_ms, max(played_ms, len(line.text) * _CHARACTER_MS))

    def flush(self, *, everything: bool = False) -> None:
        """Record every line from the front that is final, all of them if the session ends."""
        if not self._order and self._armed is None:
            return
        if not everything and self._is_waiting():
            return
        due = None
        while self._order:
            line = self._lines[self._order[0]]
            due = self._heard_at(line)
            if not everything and len(self._order) <= _MAX_LINES and not self._is_final(line, due):
                break
            due = None
            self._out.cancel_timer(TRANSCRIPT_TIMER + line.item_id)
            self._order.pop(0)
            del self._lines[line.item_id]
            self._record(line)
        self._arm(None if self._playback.is_away else due)

    def _is_waiting(self) -> bool:
        """Whether the front line is being heard, as it was at the last look, and holds back no more than it may."""
        if self._armed is None or self._out.now >= self._armed:
            return False
        return self._armed_at == self._playback.changes and len(self._order) <= _MAX_LINES

    def _heard_at(self, line: Line) -> float | None:
        """When the audio of a line whose words stand will have been heard; None where nothing of it is to come."""
        if not line.audio or line.cut or not line.complete or line.waits_for_transcript:
            return None
        return self._playback.heard_at(line.item_id, self._out.now)

    def _is_final(self, line: Line, heard_at: float | None) -> bool:
        if not line.complete or line.waits_for_transcript:
            return False
        if self._playing and line.response is not None and line.response.model_id == self._playing:
            return line.cut
        return heard_at is None

    def _record(self, line: Line) -> None:
        self._recorded.add(line.item_id)
        text = line.text or (NOT_TRANSCRIBED if line.item_id in self._wordless else "")
        if line.audio and not line.cut and not self._playback.is_heard(line.item_id, self._out.now):
            # The session ends while this is being played: what was not heard until now never will be.
            played_ms, received_ms = self._playback.progress(line.item_id, self._out.now)
            line.heard_text = heard_share(line.text, played_ms, received_ms)
            line.ended = max(line.started, self._out.now)
        elif line.audio and not line.cut:
            line.ended = max(line.started, self._playback.ends_at(line.item_id, default=line.ended))
        elif line.incomplete and not line.cut and _spoken(line) and not self._elsewhere:
            line.heard_text = ""  # stopped between its first words and their audio
        if line.heard_text == "" and line.started > self._out.now:  # it was to be heard behind others, and never was
            line.started = line.ended = self._out.now
        heard = line.heard_text if line.heard_text != text else None
        if heard is not None:
            self._heard[line.item_id] = heard
            trim(self._heard, REMEMBERED)
        self._out.record(
            EventType.ITEM_RECORDED,
            item_id=line.item_id,
            role=line.role,
            agent=line.agent,
            text=text,
            heard_text=heard,
            truncated=heard is not None or line.incomplete,
            started_ms=self._out.ms(line.started),
            ended_ms=self._out.ms(line.ended),
            withheld=line.withheld,
        )

    def _arm(self, due: float | None) -> None:
        """A timer for when the front line will have been heard."""
        self._armed_at = self._playback.changes
        if due == self._armed:
            return
        self._armed = due
        if due is None:
            self._out.cancel_timer(HEARD_TIMER)
        else:
            self._out.set_timer(HEARD_TIMER, max(0.0, due - self._out.now))

    def heard_timer_fired(self) -> None:
        self._armed = None
