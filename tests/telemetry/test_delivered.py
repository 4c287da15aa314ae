"""The spans of work from a stream: a child of what sent it, linked instead where it was delivered before."""

from collections.abc import Sequence

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from support.spans import SPAN, TRACE, TRACEPARENT
from voicebus.telemetry.delivered import Received
from voicebus.telemetry.tracing import exemplar, span_context, trace_id, traceparent_of

EARLIER = f"00-{TRACE}-00f067aa0ba902b7-01"


def run(sent: str | None, *, redelivered: bool = False, earlier: str | None = None, outcome: str = "ok") -> None:
    received = Received(
        "tool pay", sent, queued_at_ms=1000, redelivered=redelivered, earlier=earlier, attributes={"voicebus.tool": "p"}
    )
    with received.running() as told:
        told.ended(outcome, good=outcome == "ok")


def named(spans: Sequence[ReadableSpan]) -> tuple[ReadableSpan, ReadableSpan]:
    waited, ran = spans
    assert (waited.name, ran.name) == ("receive tool pay", "tool pay")
    assert ran.parent is not None
    assert waited.context is not None
    assert ran.parent.span_id == waited.context.span_id
    return waited, ran


def test_a_first_delivery_is_a_child_of_what_sent_it_from_when_it_was_sent(made: InMemorySpanExporter) -> None:
    run(TRACEPARENT)
    waited, ran = named(made.get_finished_spans())
    assert waited.parent is not None
    assert traceparent_of(waited.parent) == TRACEPARENT
    assert (waited.start_time, waited.links) == (1_000_000_000, ())
    assert (ran.attributes or {})["voicebus.outcome"] == "ok"
    assert ran.status.is_unset


def test_a_second_one_has_a_trace_of_its_own_linked_to_sender_and_first_attempt(made: InMemorySpanExporter) -> None:
    run(TRACEPARENT, redelivered=True, earlier=EARLIER, outcome="timeout")
    waited, ran = named(made.get_finished_spans())
    assert waited.parent is None
    assert [traceparent_of(link.context) for link in waited.links] == [TRACEPARENT, EARLIER]
    assert ran.status.status_code is trace.StatusCode.ERROR


@pytest.mark.parametrize("sent", [None, "", "00-zz-1-1", f"00-{'0' * 32}-{SPAN}-01"])
def test_what_names_no_span_makes_a_trace_of_its_own(made: InMemorySpanExporter, sent: str | None) -> None:
    run(sent)
    assert named(made.get_finished_spans())[0].parent is None
    assert (span_context(sent), trace_id(sent), exemplar(sent)) == (None, None, None)


def test_what_is_not_sampled_is_not_sampled_here_either(made: InMemorySpanExporter) -> None:
    run(TRACEPARENT[:-1] + "0")
    assert made.get_finished_spans() == ()
    assert exemplar(TRACEPARENT[:-1] + "0") is None


def test_an_exemplar_names_trace_and_span_where_spans_go_somewhere(made: InMemorySpanExporter) -> None:
    assert exemplar(TRACEPARENT) == {"trace_id": TRACE, "span_id": SPAN}


def test_without_a_provider_there_is_no_span_and_no_exemplar() -> None:
    received = Received("tool pay", TRACEPARENT, queued_at_ms=0, redelivered=False)
    with received.running() as told:
        told.ended("ok", good=True)
        assert not trace.get_current_span().get_span_context().is_valid
    assert (received.traceparent, exemplar(TRACEPARENT)) == (None, None)
