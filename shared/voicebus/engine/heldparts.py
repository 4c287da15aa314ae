"""What a response has said whose agent holds it back, part by part, and what of it was judged (`holding.py`)."""

from dataclasses import dataclass, field

from voicebus.engine.loudness import Loudness
from voicebus.engine.responses import MAX_TEXT, MAX_TEXT_ITEMS, MAX_TEXT_PARTS, Response, join
from voicebus.engine.window import Pace, Window


@dataclass(slots=True, eq=False)
class HeldPart:
    """A content part. `passed` is the text that a final check has let pass; without text, `allowed` says as much.

    `checked` is how many characters of it any check has let pass. `told`: some of its audio was heard.
    """

    window: Window
    loudness: Loudness = field(default_factory=Loudness)
    text: str = ""
    passed: str = ""
    checked: int = 0
    sounds: bool = False
    told: bool = False
    allowed: bool = False
    measured: bool = False

    @property
    def may_be_known(self) -> bool:
        return self.passed == self.text if self.text else self.allowed


@dataclass(slots=True, eq=False)
class Held:
    """A response whose agent holds. `asked` are the texts of the last final check of each item, `length` is that of all
    texts. `overflows`: not all that it says is kept, so that nobody can judge it.
    """

    response: Response
    pace: Pace
    parts: dict[str, dict[int, HeldPart]] = field(default_factory=dict)
    asked: dict[str, str] = field(default_factory=dict)
    length: int = 0
    overflows: bool = False

    def part(self, item_id: str, index: int) -> HeldPart:
        parts = self.parts.get(item_id, {})
        part = parts.get(index)
        if part is None:
            # The texts of several parts are judged together, and which of them may be known is told at the end only.
            part = HeldPart(Window(None if parts else self.response.agent.hold_window_ms, self.pace))
            if len(parts) < MAX_TEXT_PARTS and (item_id in self.parts or len(self.parts) < MAX_TEXT_ITEMS):
                self.parts.setdefault(item_id, parts)[index] = part
            else:
                self.overflows = True
        return part

    def said(self, part: HeldPart, text: str) -> bool:
        """The part's text has grown by `text`; True where that breaks its window."""
        part.text += text
        breaks = part.window.said(text)
        self.length += len(text)
        self.overflows = self.overflows or self.length > MAX_TEXT
        return breaks

    def text(self, item_id: str) -> str:
        return join({index: part.text for index, part in self.parts.get(item_id, {}).items()})


@dataclass(frozen=True, slots=True)
class Kept:
    """An input about a part, an item (`content_index` None) or the whole response (`item_id` None). `size` in bytes.

    `at_ms` is how much audio its part had with it, if it tells no more than it brings; None if it tells the whole.
    """

    held: Held
    item_id: str | None
    content_index: int | None
    size: int
    sounds: bool = False
    at_ms: float | None = None

    @property
    def was_judged(self) -> bool:
        """Whether all that it can tell may be known."""
        held = self.held
        if held.overflows and self.content_index is None:
            return False
        if self.item_id is None:
            return all(part.may_be_known for parts in held.parts.values() for part in parts.values())
        if self.content_index is None:
            return all(part.may_be_known for part in held.parts.get(self.item_id, {}).values())
        part = held.part(self.item_id, self.content_index)
        if part.may_be_known:
            return True
        return self.at_ms is not None and part.window.lets(self.at_ms, part.text, part.checked)
