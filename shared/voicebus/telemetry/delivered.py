"""The spans of work that came through a stream: how long it waited, and then its run.

A first delivery is a child of the span that sent it. One that was delivered again begins a trace of its own, linked to
that span and to the attempt before: a trace in which one step has two children of the same name tells nobody which of
them counted.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from opentelemetry import trace

from voicebus.telemetry.tracing import below, is_traced, span_context, traceparent_of, tracer

_NS_PER_MS: Final = 1_000_000


class WorkSpan:
    """What is told of one run; without a provider to nobody. `traceparent` names it to others, None where it is not."""

    def __init__(self, span: trace.Span | None = None, received: str | None = None) -> None:
        self._span = span
        self.traceparent: str | None = received

    def ended(self, outcome: str, *, good: bool) -> None:
        """How it ended; what is not `good` makes the span an error."""
        if self._span is not None:
            self._span.set_attribute("voicebus.outcome", outcome)
            if not good:
                self._span.set_status(trace.StatusCode.ERROR, outcome)


_UNTRACED: Final = WorkSpan()


class Received:
    """Work that was taken from a stream, `queued_at_ms` being when it was put there (ms since 1970).

    Its span ends with its wait: it is with the collector also where the process is killed while it runs, for the next
    attempt to link to. `earlier` is the `traceparent` of the attempt before.
    """

    def __init__(
        self,
        name: str,
        traceparent: str | None,
        *,
        queued_at_ms: int,
        redelivered: bool,
        earlier: str | None = None,
        attributes: Mapping[str, str | int] | None = None,
    ) -> None:
        self._name = name
        self._attributes = attributes or {}
        self.traceparent: str | None = None
        if not is_traced():
            return
        sent = span_context(traceparent)
        links = [trace.Link(one) for one in (sent, span_context(earlier)) if one is not None]
        span = tracer().start_span(
            f"receive {name}",
            context=below(None if redelivered else sent),
            kind=trace.SpanKind.CONSUMER,
            links=links if redelivered else None,
            attributes={**self._attributes, "messaging.system": "redis"},
            start_time=queued_at_ms * _NS_PER_MS,
        )
        span.end()
        self.traceparent = traceparent_of(span.get_span_context())

    @contextmanager
    def running(self) -> Iterator[WorkSpan]:
        """The span of its run, which is the current one in the block."""
        parent = span_context(self.traceparent)
        if parent is None:
            yield _UNTRACED
            return
        with tracer().start_as_current_span(self._name, context=below(parent), attributes=self._attributes) as span:
            yield WorkSpan(span, self.traceparent)
