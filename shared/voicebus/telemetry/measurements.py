"""From the engine's `Observe` outputs to metrics: the one table between their names."""

from collections.abc import Mapping
from typing import Any, Final

from prometheus_client import Counter, Histogram

from voicebus.telemetry import metrics

MEASUREMENTS: Final[Mapping[str, Counter | Histogram]] = {
    "response_latency": metrics.RESPONSE_LATENCY,
    "first_answer": metrics.FIRST_ANSWER,
    "dead_air": metrics.DEAD_AIR,
    "barge_in": metrics.BARGE_IN,
    "tokens": metrics.MODEL_TOKENS,
    "model_reconnect": metrics.MODEL_RECONNECTS,
    "model_error": metrics.MODEL_ERRORS,
    "guardrail_trip": metrics.GUARDRAIL_TRIPS,
    "guardrail_reaction": metrics.GUARDRAIL_REACTION,
    "guardrail_unjudged": metrics.GUARDRAIL_UNJUDGED,
    "hold_window_broken": metrics.HOLD_WINDOW_BROKEN,
    "transcript_lag": metrics.TRANSCRIPT_LAG,
    "tool_outcome": metrics.TOOL_OUTCOMES,
}


# What was measured already: looking a metric's labels up costs as much as all else. As bounded as the labels are.
_targets: Final[dict[tuple[Any, ...], Counter | Histogram]] = {}


def observe(name: str, value: float, labels: Mapping[str, str], exemplar: dict[str, str] | None = None) -> None:
    """Feed one measurement; a histogram's `exemplar` names the trace that it is from.

    Raises:
        KeyError: the engine measures what no metric is for.
    """
    key = (name, *labels.items())
    target = _targets.get(key)
    if target is None:
        metric = MEASUREMENTS[name]
        target = _targets[key] = metric.labels(**labels) if labels else metric
    if isinstance(target, Counter):
        target.inc(value)
    else:
        target.observe(value, exemplar)
