"""Who calls when: times in seconds from the day's start, in order. The same seed gives the same day."""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Call:
    """One conversation: when its caller comes, how long it lasts, when in it tools are called and for how long."""

    at: float
    lasts: float
    tools: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Day:
    """Calls in order; `node_losses` are times at which a third of the pods vanishes."""

    name: str
    calls: Sequence[Call]
    seconds: int
    node_losses: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Habits:
    """What calls are like: means in seconds, lengths and tools' run times log-normal."""

    call_s: float = 180.0
    tool_every_s: float = 20.0
    tool_s: float = 0.8


def office_day(peak_per_s: float, habits: Habits, *, seed: int = 7, seconds: int = DAY_S) -> Day:
    """Low at night, high before noon and in the afternoon, with bursts: some minutes bring half as many again."""
    source = random.Random(seed)
    bursts = [1.5 if source.random() < 0.1 else 1.0 for _ in range(seconds // 60 + 1)]
    return Day("office day", _calls(peak_per_s, bursts, seconds, habits, source), seconds)


def flash_crowd(peak_per_s: float, habits: Habits, *, seed: int = 7, seconds: int = DAY_S) -> Day:
    """An office day on which, at noon, six times as many call within a minute, for a quarter of an hour."""
    source = random.Random(seed)
    noon = seconds // 2 // 60
    bursts = [6.0 if noon <= minute < noon + 15 else 1.0 for minute in range(seconds // 60 + 1)]
    return Day("flash crowd", _calls(peak_per_s, bursts, seconds, habits, source), seconds)


def node_loss(peak_per_s: float, habits: Habits, *, seed: int = 7, seconds: int = DAY_S) -> Day:
    """An office day on which a third of all pods vanishes at the busiest hour."""
    day = office_day(peak_per_s, habits, seed=seed, seconds=seconds)
    return Day("node loss", day.calls, seconds, (0.45 * seconds,))


def recorded(file: Path, habits: Habits, *, seed: int = 7) -> Day:
    """A day of one's own: a line for each call, `at` and (optional) `lasts` in seconds, separated by a comma.

    Raises:
        ValueError: a line is something else; the text names it.
    """
    source = random.Random(seed)
    calls = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            at, *lasts = (float(part) for part in line.split(","))
        except ValueError as error:
            raise ValueError(f"{file}, line {number}: `at` and `lasts` in seconds are wanted, not {line!r}") from error
        calls.append(_call(at, habits, source, lasts[0] if lasts else None))
    calls.sort(key=lambda call: call.at)
    return Day(file.stem, calls, int(max(call.at + call.lasts for call in calls)) + 1 if calls else 0)


def _office(share: float) -> float:
    """How busy it is at this part of the day, 0.02 to 1."""
    hour = share * 24
    morning = math.exp(-((hour - 10.8) ** 2) / 6)
    afternoon = 0.85 * math.exp(-((hour - 15.5) ** 2) / 8)
    return max(0.02, min(1.0, morning + afternoon))


def _calls(
    peak_per_s: float, bursts: Sequence[float], seconds: int, habits: Habits, source: random.Random
) -> list[Call]:
    return [_call(at, habits, source) for at in _arrivals(peak_per_s, bursts, seconds, source)]


def _arrivals(peak_per_s: float, bursts: Sequence[float], seconds: int, source: random.Random) -> Iterator[float]:
    """Poisson arrivals whose rate changes by the minute: those of the highest rate, thinned out."""
    most = peak_per_s * max(bursts)
    at = source.expovariate(most)
    while at < seconds:
        rate = peak_per_s * _office(at / seconds) * bursts[int(at) // 60]
        if source.random() < rate / most:
            yield at
        at += source.expovariate(most)


def _call(at: float, habits: Habits, source: random.Random, lasts: float | None = None) -> Call:
    length = _lognormal(habits.call_s, 0.8, source) if lasts is None else lasts
    tools = []
    then = source.expovariate(1 / habits.tool_every_s)
    while then < length:
        tools.append((at + then, _lognormal(habits.tool_s, 0.7, source)))
        then += source.expovariate(1 / habits.tool_every_s)
    return Call(at, length, tools)


def _lognormal(mean: float, sigma: float, source: random.Random) -> float:
    return source.lognormvariate(math.log(mean) - sigma * sigma / 2, sigma)
