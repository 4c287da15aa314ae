"""The span of work for many conversations: one, linked to each that is traced."""

from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from voicebus.telemetry.batched import MOST_LINKS, batch_span
from voicebus.telemetry.tracing import traceparent_of


def parent(number: int, flags: str = "01") -> str:
    return f"00-{number:032x}-{number:016x}-{flags}"


def test_a_batch_is_linked_once_to_each_conversation_that_is_traced_and_has_no_parent(
    made: InMemorySpanExporter,
) -> None:
    with batch_span("write events", [parent(1), None, parent(2), parent(1), parent(3, "00"), "nonsense"], events=6):
        pass
    (span,) = made.get_finished_spans()
    assert (span.name, span.kind, span.parent) == ("write events", SpanKind.CONSUMER, None)
    assert [traceparent_of(link.context) for link in span.links] == [parent(1), parent(2)]
    assert dict(span.attributes or {}) == {"voicebus.events": 6}


def test_where_nothing_of_a_batch_is_traced_no_span_is_made(made: InMemorySpanExporter) -> None:
    with batch_span("write events", [None, parent(3, "00")]):
        pass
    assert made.get_finished_spans() == ()


def test_links_are_bounded(made: InMemorySpanExporter) -> None:
    with batch_span("write events", map(parent, range(1, MOST_LINKS + 10))):
        pass
    (span,) = made.get_finished_spans()
    assert (len(span.links), span.dropped_links) == (MOST_LINKS, 0)
