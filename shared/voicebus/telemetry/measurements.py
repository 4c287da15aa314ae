"""From the engine's `Observe` outputs to metrics: the one table between their names."""

from collections.abc import Mapping
from typing import Final

from prometheus_client import Counter, Histogram

from voicebus.telemetry import metrics

Measurement: Final[Mapping[str, Counter | Histogram]] = {
    "response_latency_seconds": metrics.RESPONSE_LATENCY,
    "barge_in_total": metrics.BARGE_IN,
    "model_tokens_total": metrics.MODEL_TOKENS,
    "model_errors_total": metrics.MODEL_ERRORS,
    "guardrail_trips_total": metrics.GUARDRAIL_TRIPS,
}


def observe(name: str, value: float, labels: Mapping[str, str]) -> None:
    """Feed one measurement.

    Raises:
        KeyError: the engine measures what no metric is for.
    """
    metric = Measurement[name]
    target = metric.labels(**labels) if labels else metric
    if isinstance(target, Counter):
        target.inc(value)
    else:
        target.observe(value)
