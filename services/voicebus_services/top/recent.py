"""What the events of the last minute say: latencies, tools, ends, trips. Pure; times are ms of Redis' clock."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from voicebus.contracts.envelope import Entry
from voicebus.contracts.journal import EventType

WINDOW_MS: Final = 60_000
# Of each kind; what is older goes first, so that a flood bounds the window and not the memory.
_MOST: Final = 20_000


@dataclass(frozen=True, slots=True)
class Quantiles:
    """In ms; `count` is of how many."""

    count: int
    p50: float
    p95: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Quantiles | None":
        """None of nothing."""
        ranked = sorted(values)
        if not ranked:
            return None
        return cls(len(ranked), _at(ranked, 0.5), _at(ranked, 0.95), ranked[-1])


@dataclass(frozen=True, slots=True)
class ToolSeen:
    """What became of a tool's calls."""

    tool: str
    took: Quantiles | None
    outcomes: dict[str, int]


@dataclass(frozen=True, slots=True)
class LastMinute:
    """`first_audio` and `first_text` from the end of the user's turn."""

    started: int
    ended: dict[str, int]
    turns: int
    first_audio: Quantiles | None
    first_text: Quantiles | None
    tools: Sequence[ToolSeen]
    trips: dict[str, int]
    errors: dict[str, int]
    reconnects: dict[str, int]


class Recent:
    """Takes events in any order and forgets those older than a minute. Of each it keeps what is counted, no text."""

    def __init__(self) -> None:
        self._events: deque[tuple[int, EventType, Any]] = deque(maxlen=_MOST)

    def add(self, entry: Entry) -> None:
        """One recorded event; kinds that nobody asks for here are left out."""
        kept = _KEPT.get(entry.type)
        if kept is not None:
            self._events.append((entry.at, EventType(entry.type), kept(entry.data)))

    def seen(self, now: int) -> LastMinute:
        """The minute before `now`."""
        # Shards are read one after another, so what is old does not stand at the head alone.
        horizon = now - WINDOW_MS
        self._events = deque((one for one in self._events if one[0] >= horizon), maxlen=_MOST)
        turns = self._of(EventType.TURN_ENDED)
        return LastMinute(
            started=len(self._of(EventType.SESSION_STARTED)),
            ended=_counted(self._of(EventType.SESSION_ENDED)),
            turns=len(turns),
            first_audio=Quantiles.of(audio for audio, _ in turns if audio is not None),
            first_text=Quantiles.of(text for _, text in turns if text is not None),
            tools=_tools(self._of(EventType.TOOL_END)),
            trips=_counted(rule for rules in self._of(EventType.GUARDRAIL_TRIPPED) for rule in rules),
            errors=_counted(self._of(EventType.ERROR)),
            reconnects=_counted(self._of(EventType.MODEL_RECONNECTING)),
        )

    def _of(self, kind: EventType) -> list[Any]:
        return [kept for _, each, kept in self._events if each is kind]


def _turn(data: dict[str, Any]) -> tuple[float | None, float | None]:
    latencies = data.get("latencies") or {}
    return latencies.get("first_audio"), latencies.get("first_text")


def _call(data: dict[str, Any]) -> tuple[str, float, str]:
    return data["tool"], max(0, data["ended_ms"] - data["started_ms"]), data["outcome"]


_KEPT: Final[dict[str, Callable[[dict[str, Any]], Any]]] = {
    EventType.SESSION_STARTED: lambda data: None,
    EventType.SESSION_ENDED: lambda data: data["reason"],
    EventType.TURN_ENDED: _turn,
    EventType.TOOL_END: _call,
    EventType.GUARDRAIL_TRIPPED: lambda data: list(data["guardrails"]),
    EventType.ERROR: lambda data: data["code"],
    EventType.MODEL_RECONNECTING: lambda data: data["cause"],
}


def _tools(calls: Iterable[tuple[str, float, str]]) -> list[ToolSeen]:
    by_tool: dict[str, list[tuple[float, str]]] = {}
    for tool, took, outcome in calls:
        by_tool.setdefault(tool, []).append((took, outcome))
    return [
        ToolSeen(tool, Quantiles.of(took for took, _ in ends), _counted(outcome for _, outcome in ends))
        for tool, ends in sorted(by_tool.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(Counter(names).most_common())


def _at(ranked: Sequence[float], share: float) -> float:
    return ranked[min(len(ranked) - 1, int(len(ranked) * share))]
