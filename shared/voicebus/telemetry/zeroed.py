"""Counters with labels begin at 0, for every set of labels that is known before its first event.

A counter that appears with its first event has no value before it, so `rate()` and `increase()` do not see that event.
What enumerations bound begins with its process; tools and guardrails when the process, or a session, learns of them.
What only others name, such as the codes of a model's errors, begins with its event.
"""

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Final

from prometheus_client import Counter, Histogram

from voicebus.contracts.tools import Outcome
from voicebus.telemetry import metrics

_BURIED: Final = ("malformed", "unexpected_type", "unsupported_version")
_ENDED: Final = (
    "ended", "hangup", "error", "drained", "model_lost", "model_expired", "session_length", "idle_time",
    "session_tokens", "migrated", "taken_over", "other",
)  # fmt: skip
_REFUSED: Final = ("circuit_open", "overloaded", "no_worker", "bus_refused")
_ADMISSION: Final = (
    "full", "draining", "unavailable", "session_unavailable", "bus_unavailable", "owner_gone", "owner_silent",
    "not_moved", "too_many_sessions", "too_many_connections", "too_many_failures", "credentials", "origin_not_allowed",
    "invalid_parameter", "invalid_value", "beta_api_shape_disabled", "unknown_agent", "unknown_session", "unknown_call",
)  # fmt: skip
_LIMITS: Final = (
    "message_rate", "message_bytes", "audio_speed", "slow_reader", "session_length", "idle_time", "session_tokens",
    "unfinished_messages",
)  # fmt: skip
_PORT_LIMITS: Final = ("silent_connections", "request_rate")
_RECONNECTS: Final = (
    "dropped", "expired", "renewal", "silent", "unreachable", "fallback", "dead_air", "takeover", "migrate",
)  # fmt: skip

# A session names its tools and guardrails at its begin; nearly always they are known by then.
_known: Final[set[tuple[str, str]]] = set()


def of_gateway() -> None:
    """What a gateway counts."""
    _bus("gateway")
    _zero(metrics.MESSAGE_QUEUE, ("gateway",))
    _zero(metrics.ADMISSION_REJECTED, _ADMISSION)
    _zero(metrics.SESSIONS_ENDED, _ENDED)
    _zero(metrics.MESSAGES_DEADLETTERED, ("gateway",), ("expired",))
    _zero(metrics.SESSION_MIGRATIONS, ("takeover", "drain"), ("taken", "lost", "failed"))
    _zero(metrics.LIMITS_REACHED, _LIMITS)
    _zero(metrics.MODEL_RECONNECTS, _RECONNECTS)
    _zero(metrics.RECORDING_FAILURES, ("write", "complete"))
    _public_port()


def of_worker(service: str) -> None:
    """What a worker of either kind counts."""
    _bus(service)
    _zero(metrics.MESSAGE_QUEUE, (service,))
    _zero(metrics.MESSAGES_CLAIMED, (service,), ("dead", "idle"))
    _zero(metrics.MESSAGES_REDELIVERED, (service,))
    _zero(metrics.MESSAGES_DEADLETTERED, (service,), ("too_many_deliveries",))


def of_archiver(service: str) -> None:
    """What an archiver counts."""
    _bus(service, failovers=False)
    _zero(metrics.MESSAGES_CLAIMED, (service,), ("shard_taken",))
    _zero(metrics.MESSAGES_REDELIVERED, (service,))
    _zero(metrics.MESSAGES_DEADLETTERED, (service,), ("rejected_by_database", "seq_taken", "outdated_owner"))
    _zero(metrics.SESSIONS_ENDED, ("interrupted",))
    _zero(metrics.RECORDING_FAILURES, ("complete",))
    for erased in (metrics.ERASED_SESSIONS, metrics.ERASED_ROWS, metrics.ERASED_RECORDING_BYTES):
        _zero(erased, ("retention", "recording"))
    _public_port()


def ended_as(reason: str) -> str:
    """Why a session ended, as a label: whoever ends one may say so in a word of their own, and of these is no end."""
    return reason if reason in _ENDED else "other"


def tools(names: Iterable[str]) -> None:
    """What a gateway counts of these tools; cheap where they are known."""
    for name in _new("tool", names):
        _zero(metrics.TOOL_OUTCOMES, (name,), tuple(outcome.value for outcome in Outcome))
        _zero(metrics.TOOL_REFUSED, (name,), _REFUSED)


def run_tools(names: Iterable[str]) -> None:
    """What a worker counts of the tools that it runs."""
    for name in _new("run", names):
        _zero(metrics.TOOL_BLOCKED, (name,))
        _zero(metrics.TOOL_DURATION, (name,))


def guardrails(names: Iterable[str]) -> None:
    """What a gateway counts of these guardrails; cheap where they are known."""
    for name in _new("rule", names):
        _zero(metrics.GUARDRAIL_TRIPS, (name,))
        _zero(metrics.GUARDRAIL_UNJUDGED, (name,), ("error", "unavailable"), ("open", "closed"))


def judged_guardrails(names: Iterable[str]) -> None:
    """What a worker counts of the guardrails that it judges with."""
    for name in _new("judged", names):
        _zero(metrics.GUARDRAIL_LATENCY, (name,))


def _bus(service: str, *, failovers: bool = True) -> None:
    _zero(metrics.MESSAGES_DEADLETTERED, (service,), _BURIED)
    _zero(metrics.REDIS_DISRUPTIONS, (service,))
    if failovers:
        _zero(metrics.REDIS_FAILOVERS, (service,))


def _public_port() -> None:
    _zero(metrics.CREDENTIALS_REFUSED, ("not_valid", "too_many_failures"))
    _zero(metrics.LIMITS_REACHED, _PORT_LIMITS)


def _new(kind: str, names: Iterable[str]) -> list[str]:
    found = [name for name in names if (kind, name) not in _known]
    _known.update((kind, name) for name in found)
    return found


def _zero(counter: Counter | Histogram, *values: Sequence[str]) -> None:
    """A child for each combination of the labels' values, in the order of the labels: it is at 0 from then on."""
    for combination in product(*values):
        counter.labels(*combination)
