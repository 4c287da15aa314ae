"""Which spans are made: those of a trace that others began, of what is linked to one, and of a ratio of the rest."""

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from voicebus.telemetry.sampling import following
from voicebus.telemetry.tracing import below, span_context

TRACED, LEFT_OUT = (
    span_context(f"00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333{flags}-0{flags}") for flags in (1, 0)
)


def is_made(
    ratio: float, *, parent: trace.SpanContext | None = None, linked: list[trace.SpanContext | None] | None = None
) -> bool:
    provider = TracerProvider(sampler=following(ratio), shutdown_on_exit=False)
    links = [trace.Link(one) for one in linked or [] if one is not None]
    return provider.get_tracer("test").start_span("work", context=below(parent), links=links).is_recording()


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_what_others_began_or_left_out_is_followed_whatever_the_ratio(ratio: float) -> None:
    assert is_made(ratio, parent=TRACED)
    assert not is_made(ratio, parent=LEFT_OUT)


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_a_trace_of_its_own_is_made_where_anything_it_is_linked_to_is_traced(ratio: float) -> None:
    """As of a call that is delivered again: by the ratio hardly any would be there for the trace that needs it."""
    assert is_made(ratio, linked=[LEFT_OUT, TRACED])
    assert not is_made(ratio, linked=[LEFT_OUT])


def test_of_what_begins_here_the_ratio_is_made() -> None:
    assert is_made(1.0)
    assert not is_made(0.0)
