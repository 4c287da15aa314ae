"""What the events of the last minute say: latencies, tools, ends, trips. Pure; times are ms of Redis' clock."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from voicebus.contracts.envelope import Entry
from voicebus.contracts.journal import EventType
from voicebus.errors import ContractError

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
        """One recorded event; kinds that nobody asks for here are left out.

        Raises:
            ContractError: its data is not that of such an event.
        """
        asked = _ASKED.get(entry.type)
        if asked is None:
            return
        form, kept = asked
        try:
            data = msgspec.convert(entry.data, form)
        except msgspec.ValidationError as error:
            raise ContractError(f"{entry.type}: {error}", reason="malformed") from error
        self._events.append((entry.at, EventType(entry.type), kept(data)))

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


class _Anything(msgspec.Struct):
    """Of which nothing is asked."""


class _Ended(msgspec.Struct):
    reason: str


class _Turn(msgspec.Struct):
    latencies: dict[str, float] = {}


class _Call(msgspec.Struct):
    tool: str
    outcome: str
    started_ms: int
    ended_ms: int


class _Tripped(msgspec.Struct):
    guardrails: list[str]


class _Error(msgspec.Struct):
    code: str


class _Reconnecting(msgspec.Struct):
    cause: str


# What is asked of each kind of event, and what is kept of that.
_ASKED: Final[dict[str, tuple[type[msgspec.Struct], Callable[[Any], Any]]]] = {
    EventType.SESSION_STARTED: (_Anything, lambda data: None),
    EventType.SESSION_ENDED: (_Ended, lambda data: data.reason),
    EventType.TURN_ENDED: (
        _Turn,
        lambda data: (data.latencies.get("first_audio"), data.latencies.get("first_text")),
    ),
    EventType.TOOL_END: (_Call, lambda data: (data.tool, max(0, data.ended_ms - data.started_ms), data.outcome)),
    EventType.GUARDRAIL_TRIPPED: (_Tripped, lambda data: data.guardrails),
    EventType.ERROR: (_Error, lambda data: data.code),
    EventType.MODEL_RECONNECTING: (_Reconnecting, lambda data: data.cause),
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
