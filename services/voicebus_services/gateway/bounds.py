"""What one session may cost: its length, its idle time and its tokens. A session beyond one of them is ended."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from voicebus.contracts.envelope import Message
from voicebus.contracts.journal import EventType, ToolEnd, ToolStart, TurnEnded
from voicebus.engine.inputs import End, Input, Trouble
from voicebus.runtime.surroundings import ClientFace
from voicebus.telemetry import metrics

WARNING_S: Final = 60.0
"""How long before the end of its time a session's client is told."""

# Recorded events that are no sign of a conversation.
_NOTHING: Final = frozenset(
    {EventType.ERROR, EventType.MODEL_RECONNECTING, EventType.MODEL_RECONNECTED, EventType.TRANSCRIPT_GAP}
)

_LOOKS: Final = 10


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one session; 0 is no bound. Times in s."""

    length_s: float = 0
    idle_s: float = 0
    tokens: float = 0


@dataclass(frozen=True, slots=True)
class Spent:
    """What a session has used of its bounds already, with another owner: time (s), tokens, and the calls that run."""

    elapsed_s: float = 0
    tokens: int = 0
    calls: frozenset[str] = frozenset()


class BoundedFace:
    """Stands before a client's face and watches what the session records. Implements `ClientFace`.

    `feed` brings the session its end; `note` hears of the tokens that were used, for the next owner. Call `stop` once
    the session is over.

    A session is idle while nothing is recorded of it, no call runs, its client commands nothing, and nobody is heard to
    speak: sound alone is no sign of life, as an open microphone sends it for ever. `signs` counts what shows in no
    record, the client's commands and speech. It is looked at ten times in `idle_s`.
    """

    def __init__(
        self,
        face: ClientFace,
        bounds: Bounds,
        feed: Callable[[Input], None],
        signs: Callable[[], int] = lambda: 0,
        *,
        spent: Spent = Spent(),
        note: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._face = face
        self._bounds = bounds
        self._feed = feed
        self._loop = asyncio.get_running_loop()
        self._tokens = spent.tokens
        self._elapsed_s = spent.elapsed_s
        self._note = note
        self._last = (0, 0)
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._signs = signs
        self._seen = 0
        self._alive_at = self._loop.time()
        self._calls: set[str] = set(spent.calls)
        # The face's own: audio does not pay for bounds.
        self.emit = face.emit
        self.server_event = face.server_event
        self.audio = face.audio
        self.close = face.close

    def ready(self) -> None:
        self._face.ready()
        length_s = self._bounds.length_s
        if length_s and "length" not in self._timers:
            left_s = max(0.0, length_s - self._elapsed_s)
            if left_s > WARNING_S:
                self._timers["warning"] = self._loop.call_later(left_s - WARNING_S, self._warn)
            self._timers["length"] = self._loop.call_later(left_s, self._too_long)
        if self._bounds.idle_s and "idle" not in self._timers:
            self._alive_at = self._loop.time()
            self._look_later()

    def record(self, seq: int, kind: EventType, at_ms: int, data: Message) -> None:
        self._face.record(seq, kind, at_ms, data)
        self._last = (seq, at_ms)
        if kind not in _NOTHING:
            self._alive_at = self._loop.time()
        if isinstance(data, ToolStart):
            self._calls.add(data.call_id)
        elif isinstance(data, ToolEnd):
            self._calls.discard(data.call_id)
        if isinstance(data, TurnEnded) and data.usage is not None and self._bounds.tokens:
            self._tokens += _total(data.usage)
            self._note(self._tokens)
            if self._tokens >= self._bounds.tokens:
                limit = self._bounds.tokens
                self._end("session_tokens", f"The session has used {self._tokens} tokens, of {limit:g} that it may.")

    def stop(self) -> None:
        """Watch no more."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._bounds = Bounds()

    def _look_later(self) -> None:
        self._timers["idle"] = self._loop.call_later(self._bounds.idle_s / _LOOKS, self._look)

    def _look(self) -> None:
        now, signs = self._loop.time(), self._signs()
        if signs != self._seen or self._calls:
            self._seen, self._alive_at = signs, now
        if now - self._alive_at >= self._bounds.idle_s:
            self._idle()
        else:
            self._look_later()

    def _warn(self) -> None:
        seq, at_ms = self._last
        self._face.emit("session_expiring", seq, at_ms, {"ends_in_ms": round(WARNING_S * 1000)})

    def _too_long(self) -> None:
        self._end("session_length", f"The session has lasted {self._bounds.length_s:g} s, as long as it may.")

    def _idle(self) -> None:
        self._end("idle_time", f"Nothing was said for {self._bounds.idle_s:g} s, so the session is ended.")

    def _end(self, limit: str, message: str) -> None:
        metrics.LIMITS_REACHED.labels(limit=limit).inc()
        self.stop()
        code = f"{limit}_exceeded"
        # Recorded, and so told to clients of the native face; those of the OpenAI face hear of it here.
        error = {"type": "invalid_request_error", "code": code, "message": message, "param": None, "event_id": None}
        self._face.server_event({"type": "error", "error": error})
        self._feed(Trouble(code, message, "gateway"))
        self._feed(End(limit))


def _total(usage: Mapping[str, Any]) -> int:
    total = usage.get("total_tokens")
    return total if isinstance(total, int) else 0
