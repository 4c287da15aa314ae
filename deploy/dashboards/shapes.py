"""Queries that several panels have in the same shape."""

from collections.abc import Sequence
from typing import Final

from dashboards.panels import Query
from dashboards.queries import quantile, worst

_PERCENTILES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_WINDOWS: Final = ("5m", "30m", "1h", "6h")


def percentiles(histogram: str, recorded: Sequence[str] = (), *, names: Sequence[str] = ("p50", "p95")) -> list[Query]:
    """A latency's percentiles over all processes, worst release first where a recording rule has them."""
    return [
        Query(worst(f"release:{histogram}:{name}_5m"), name)
        if name in recorded
        else Query(quantile(_PERCENTILES[name], histogram), name)
        for name in names
    ]


def objective(recorded: str) -> list[Query]:
    """An objective's share of failures over the windows of its burn rates."""
    return [Query(worst(f"{recorded}{window}"), window) for window in _WINDOWS]
