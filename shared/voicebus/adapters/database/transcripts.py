"""What is read back: transcripts as the HTTP API gives them (contract section 5), and the order of their lines."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

Status = Literal["active", "ended", "interrupted"]
Role = Literal["user", "assistant", "system"]
Rows = Literal["lines", "sessions", "turns"]
"""What is exported, each a row; turns are model responses that ended."""
ItemType = Literal["message", "tool_call", "handoff", "guardrail", "error"]


class Item(BaseModel):
    """One line of a conversation; what does not apply to its type is null.

    `text` is what was said (message), judged (guardrail, with the rules' names in `outcome`), went wrong (error, with
    its code in `outcome`), or `FROM -> TO` (handoff). `heard_text` is what of it reached the listener, null for all.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True)

    seq: int
    at: datetime
    type: ItemType
    role: str | None
    agent: str | None
    item_id: str | None
    text: str | None
    heard_text: str | None
    truncated: bool | None
    start_ms: int | None
    end_ms: int | None
    tool: str | None
    call_id: str | None
    arguments: str | None
    output: str | None
    outcome: str | None


class Transcript(BaseModel):
    """One conversation. `gaps` are the ranges of `seq` that never arrived, both ends included."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True)

    session: str
    agent: str | None
    status: Status
    started_at: datetime
    ended_at: datetime | None
    end_reason: str | None
    last_seq: int
    gaps: list[tuple[int, int]]
    items: list[Item]


class TranscriptSummary(BaseModel):
    """A conversation in a list; `items` counts its lines, `agent` is the one that it started with."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True)

    session: str
    agent: str | None
    status: Status
    started_at: datetime
    ended_at: datetime | None
    items: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a session has come. `stored` and `lost` are events; together `last_seq`, but for a gap that is looked
    into. `epoch` is the highest of its owners'.
    """

    session: str
    month: int
    status: Status
    ended_at: datetime | None
    end_reason: str | None
    last_seq: int
    stored: int
    lost: int
    epoch: int

    @property
    def has_gap(self) -> bool:
        """Whether events below `last_seq` are missing, and not given up."""
        return self.last_seq > self.stored + self.lost


class LastEvent(NamedTuple):
    """The newest event of a session, and whose that is. `epoch` is the highest; times in ms."""

    tenant: str | None
    started_at: int
    seq: int
    epoch: int
    at: int
    has_gap: bool


# Where a line stands: its time, the order of those that share it, whether it is not the user's, its seq.
_Place = tuple[int, int, bool, int]


class Revised(NamedTuple):
    """A line as it is since the event `seq`, which is above that of whatever was known of it before."""

    seq: int
    item: Item


def in_conversation_order(items: Iterable[Item]) -> list[Item]:
    """The lines as they followed each other.

    By where they start, as what is no message is often recorded before the words of those who asked for it; but never
    before a message that was recorded before: those come in their order, and sound that came faster than it is spoken
    lies in the call, as in its recording, behind its own answer or before what it answers. Nor is what is no message
    before words of the user that had been said by then, which stand later where they were typed while answers were
    still to be heard. Of two that start in the same millisecond the user's comes first, else the earlier recorded.
    """
    last, placed = 0, list[tuple[_Place, Item]]()
    for item in sorted(items, key=lambda item: item.seq):
        start = item.start_ms or 0
        place = max(start, last)
        placed.append(((place, item.seq if start < last else 0, item.role != "user", item.seq), item))
        if item.type == "message":
            last = place
    return [item for _, item in sorted(_behind_words(placed), key=itemgetter(0))]


def _behind_words(placed: Sequence[tuple[_Place, Item]]) -> Iterator[tuple[_Place, Item]]:
    """Each line with its place; what is no message behind the last words of the user that had been said by then."""
    words = list[tuple[int, _Place]]()  # the last ones first, of which each started before those
    for place, item in reversed(placed):
        start, behind = item.start_ms or 0, place
        if item.role == "user":
            if not words or start < words[-1][0]:
                words.append((start, place))
        elif item.type != "message":
            first = bisect_left(words, -start, key=lambda said: -said[0])
            if first < len(words):
                when, order, *_ = words[first][1]
                behind = (when, order, True, item.seq)
        yield max(place, behind), item
