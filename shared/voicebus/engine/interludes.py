"""What the model says while tools run: how far they are, and that it is still there (hold phrases).

Rules:

1. An interlude is a response of the conversation, so that it can be interrupted, is judged and recorded like any other.
   It is asked for only in silence (`silence.py`).
2. It may call nothing, and nothing follows it: the answer follows the calls, as if there had been no interlude. One
   that the model refuses, or that is cut off, is not tried again.
3. News of a call's progress come before hold phrases; of a call's news the last counts, news of several calls are said
   together, and `_BETWEEN` s lie between two interludes for news.
4. A hold phrase is said after `after_ms` of silence, for all calls that run then; again after each further `every_ms`,
   else once for each call.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from voicebus.engine.calls import Call
from voicebus.engine.config import HoldSpec, ToolSpec
from voicebus.engine.outbox import Outbox
from voicebus.engine.silence import Silence
from voicebus.engine.turns import Turns

INTERLUDE_TIMER: Final = "interlude"

# Between two interludes that tell of progress (s).
_BETWEEN: Final = 3.0
# Times are added up; so much (s) is no difference.
_ROUNDING: Final = 1e-6

_SAY_NEWS: Final = (
    "A tool is running for the user, and its result is not there yet. Say in one short sentence, in the language of "
    "the conversation, how far it is, and nothing else: "
)
SAY_EXACTLY: Final = "Say exactly this to the user, and nothing else: "


def having_said(instructions: str, how: str, text: str) -> str:
    """`instructions` for one response that says `text` in the manner of `how`."""
    return f"{instructions}\n\n{how}{json.dumps(text, ensure_ascii=False)}".lstrip()


@dataclass(slots=True, eq=False)
class _Running:
    """A call that may be talked about while it runs. `said`: hold phrases so far."""

    call: Call
    since: float
    hold: HoldSpec | None
    speaks: bool
    news: str | None = None
    said: int = 0

    @property
    def is_awaited(self) -> bool:
        """Whether the answer that the call is made for is still wanted."""
        return self.call.response.continues or self.call.is_background

    def hold_due(self, silent_from: float) -> float:
        """When the next hold phrase is due (s), never where none is."""
        wait_ms = None if self.hold is None else self.hold.after_ms if self.said == 0 else self.hold.every_ms
        return math.inf if wait_ms is None else max(silent_from, self.since) + wait_ms / 1000


class Interludes:
    """Decides when something is said for calls that run. `instructions` are those in force."""

    def __init__(self, out: Outbox, turns: Turns, silence: Silence, instructions: Callable[[], str]) -> None:
        self._out = out
        self._turns = turns
        self._silence = silence
        self._instructions = instructions
        self._running: dict[str, _Running] = {}
        self._told_at: float | None = None
        self._timer: float | None = None

    def started(self, call: Call) -> None:
        spec = call.spec
        if isinstance(spec, ToolSpec) and (spec.hold is not None or spec.speak_progress):
            hold = None if call.is_background else spec.hold
            self._running[call.id] = _Running(call, self._out.now, hold, spec.speak_progress)

    def progressed(self, call: Call, text: str) -> None:
        running = self._running.get(call.id)
        if running is not None and running.speaks and text.strip():
            running.news = text

    def ended(self, call: Call) -> None:
        if self._running.pop(call.id, None) is not None and not self._running:
            self._set_timer(None)

    def fired(self) -> None:
        """The timer: what is due is said as after each input."""
        self._timer = None

    def settle(self) -> None:
        """After each input: say what is due, or come back when it is."""
        if not self._running:
            return
        now, silent_from = self._out.now, self._silence.since()
        if silent_from is None:
            self._set_timer(None)
            return
        news_at = self._news_due(silent_from)
        hold_at, held = self._next_hold(silent_from)
        due = min(news_at, hold_at)
        if due > now + _ROUNDING:
            self._set_timer(due if due < math.inf else None)
        elif news_at <= now + _ROUNDING:
            self._tell()
        elif held is not None:
            self._hold(held)

    def _news_due(self, silent_from: float) -> float:
        if not any(running.news is not None and running.is_awaited for running in self._running.values()):
            return math.inf
        return silent_from if self._told_at is None else max(silent_from, self._told_at + _BETWEEN)

    def _next_hold(self, silent_from: float) -> tuple[float, _Running | None]:
        """When a hold phrase is due, and whose it is."""
        due = [(running.hold_due(silent_from), running) for running in self._running.values() if running.is_awaited]
        return min(due, key=lambda pair: pair[0], default=(math.inf, None))

    def _tell(self) -> None:
        self._told_at = self._out.now
        telling = [running for running in self._running.values() if running.news is not None and running.is_awaited]
        text = " ".join(running.news or "" for running in telling)
        for running in telling:
            running.news = None
        self._say(telling[0].call, _SAY_NEWS, text)

    def _hold(self, held: _Running) -> None:
        phrases = held.hold.phrases if held.hold is not None else ("",)
        phrase = phrases[held.said % len(phrases)]
        for running in self._running.values():
            running.said += 1
        self._say(held.call, SAY_EXACTLY, phrase)

    def _say(self, call: Call, how: str, text: str) -> None:
        self._silence.broken()
        self._set_timer(None)
        self._turns.interlude(call.response, having_said(self._instructions(), how, text))

    def _set_timer(self, due: float | None) -> None:
        if due == self._timer:
            return
        self._timer = due
        if due is None:
            self._out.cancel_timer(INTERLUDE_TIMER)
        else:
            self._out.set_timer(INTERLUDE_TIMER, max(0.0, due - self._out.now))
