"""What one response of the model is, and what one wish for a response is. When each goes out, `turns.py` decides."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from voicebus.engine.config import AgentSpec

# What is kept of one response's texts: characters together, items, and parts of each.
MAX_TEXT: Final = 200_000
MAX_TEXT_ITEMS: Final = 1024
MAX_TEXT_PARTS: Final = 64


def join(parts: Mapping[int, str]) -> str:
    """The text of an item from those of its content parts."""
    if len(parts) == 1:  # nearly every item
        return next(iter(parts.values()))
    return " ".join(part for _, part in sorted(parts.items()) if part)


class Create(Struct, eq=False):
    """One wish for a response. `follows` is the response whose server calls it continues, or that it asks for again,
    `commit` the id of the buffer commit without which it makes no sense. `own_tools` are the client's, None where it
    named none: which of the server's stand beside them is known only when the create is sent, since a handoff may come
    before. `event_id` is under what it is sent: its `id`, which is its mark, or what the program gave it. `raw` ones
    are the program's own, sent as they stand. `nudge`: the model should have begun by itself, and was overdue.
    `interlude`: it only says something while the calls of `follows` run. `replaces`: how many answers in a row
    guardrails have stopped before this one, which stands for them."""

    id: str
    event_id: str
    manual: bool = False
    optional: bool = False
    raw: bool = False
    response: Mapping[str, Any] = {}
    client_event_id: str | None = None
    follows: "Response | None" = None
    commit: str | None = None
    own_tools: Sequence[Mapping[str, Any]] | None = None
    sent_at: float = 0.0
    attempts: int = 0
    withdrawn: bool = False
    nudge: bool = False
    interlude: bool = False
    replaces: int = 0

    @property
    def out_of_band(self) -> bool:
        return self.response.get("conversation") == "none"


class Response(Struct, eq=False):
    """One response of the model; `agent` is the one in charge when it began, snapshotted (parity 2.10, 112).

    `muted`: what still comes of it is not for the listener. `unwanted`: nobody waits for it any more, so that the calls
    that it still makes are not run: the same may be asked for again. `unseen`: the client's chain that it would have
    continued has ended, so a client of the OpenAI face is told nothing of it. `spoken`: its text is the transcript of
    audio. `overflows`: it has said more than is kept of its texts. `waited_from` is the end of the user's turn that it
    answers (s), None where it continues an answer that has been heard already. `last_event` is when something came of
    it last (s). `texts` is what it says, by item and part. `model_id` is what the model calls it, "" where it has not
    named it; `started`: `response.created` has come. `over`: the model has ended it, although its end is still held
    back.
    """

    id: str
    agent: AgentSpec
    began: float
    model_id: str = ""
    started: bool = False
    create: Create | None = None
    out_of_band: bool = False
    active: bool = True
    over: bool = False
    muted: bool = False
    unwanted: bool = False
    unseen: bool = False
    cancelling: bool = False
    tripped: bool = False
    continues: bool = True
    client_calls: bool = False
    spoken: bool = False
    overflows: bool = False
    waited_from: float | None = None
    first_audio: float | None = None
    first_text: float | None = None
    announced: bool = False
    last_event: float = 0.0
    texts: dict[str, dict[int, str]] = {}
    _size: int = 0

    def say(self, item_id: str, content_index: int, text: str, *, whole: bool = False) -> str:
        """Add to a part's text, or set it whole, as far as texts are kept; returns the item's text so far."""
        parts = self.texts.get(item_id, {})
        before = parts.get(content_index, "")
        after = (text or before) if whole else before + text
        room = MAX_TEXT - self._size
        if len(after) - len(before) > room:
            after = after[: len(before) + max(0, room)]
            self.overflows = True
        if content_index in parts or (len(parts) < MAX_TEXT_PARTS and self._has_room(item_id)):
            self._size += len(after) - len(before)
            self.texts.setdefault(item_id, parts)[content_index] = after
            if len(parts) == 1:  # as nearly every item has
                return after
        elif text:
            self.overflows = True
        return join(parts)

    def keep(self, item_id: str, parts: dict[int, str]) -> dict[int, str]:
        """The texts of an item by its parts, kept in `parts` if none are yet, as far as there is room for items."""
        return self.texts.setdefault(item_id, parts) if self._has_room(item_id) else parts

    def _has_room(self, item_id: str) -> bool:
        return item_id in self.texts or len(self.texts) < MAX_TEXT_ITEMS

    @property
    def said(self) -> str:
        """All that it says, in the order of its items."""
        return " ".join(text for text in map(join, self.texts.values()) if text)

    def forget_texts(self) -> None:
        """It has ended, and nobody asks for its texts any more."""
        self.texts = {}

    @property
    def interlude_in(self) -> "Response | None":
        """The response whose calls run meanwhile, where this one is an interlude."""
        return self.create.follows if self.create is not None and self.create.interlude else None

    @property
    def reference(self) -> float:
        """What latencies are measured from (s)."""
        if self.waited_from is not None:
            return self.waited_from
        return self.create.sent_at if self.create is not None else self.began


def follow_up_parameters(follows: Response | None) -> Mapping[str, Any]:
    """The parameters of the chain's own create, without those that would make the model call the tool for ever.

    `input` would hide the call and its output, and a forced `tool_choice` would ask for the same call again. Those of
    a program's raw create are for one response (parity 132).
    """
    if follows is None or follows.create is None or follows.create.raw:
        return {}
    parameters = {key: value for key, value in follows.create.response.items() if key != "input"}
    if parameters.get("tool_choice") not in (None, "auto", "none"):
        parameters["tool_choice"] = "auto"
    return parameters
