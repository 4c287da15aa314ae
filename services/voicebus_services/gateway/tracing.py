"""A session's span: in its client's trace, else in one of its own, and what its lines in the log carry.

It lasts as long as this gateway has the session. The next owner's is a child of it, also where it never ended, as its
gateway was killed.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from opentelemetry import trace

from voicebus.telemetry.tracing import below, is_traced, span_context, trace_id, traceparent_of, tracer
from voicebus_services.gateway.held import Held

TRACEPARENT = "traceparent"
"""The field of a session's state that names its span."""


class SessionSpan:
    """`traceparent` names it, also where no span is made: entries carry their client's trace all the same."""

    def __init__(self, traceparent: str, span: trace.Span | None) -> None:
        self.traceparent = traceparent
        self._span = span

    def ended(self, reason: str) -> None:
        """Why the session ended here."""
        if self._span is not None:
            self._span.set_attribute("voicebus.end_reason", reason)
            if reason in ("error", "model_lost"):
                self._span.set_status(trace.StatusCode.ERROR, reason)


@contextmanager
def session_span(held: Held) -> Iterator[SessionSpan]:
    """The span of the time that this gateway has the session, and the context of its lines in the log."""
    face = held.face
    former = None if held.inherited is None else held.inherited.left.state.get(TRACEPARENT)
    span = None
    if is_traced():
        attributes = {"voicebus.session": held.id, "voicebus.tenant": held.tenant, "voicebus.agent": face.agent}
        parent = span_context(former) or span_context(face.traceparent) or trace.get_current_span().get_span_context()
        span = tracer().start_span(
            "session",
            context=below(parent if parent.is_valid else None),
            kind=trace.SpanKind.SERVER,
            attributes={**attributes, "voicebus.taken_over": held.inherited is not None},
        )
        traceparent = traceparent_of(span.get_span_context())
    else:
        traceparent = session_traceparent(former or face.traceparent)
    bound = {"session": held.id, "tenant": held.tenant, "agent": face.agent, "trace": trace_id(traceparent)}
    try:
        with structlog.contextvars.bound_contextvars(**bound):
            yield SessionSpan(traceparent, span)
    finally:
        if span is not None:
            span.end()


def session_traceparent(given: str | None) -> str:
    """A new span id in the client's trace, else in a trace of its own; for a session whose span is not made here."""
    context = span_context(given)
    if context is None:
        return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
    return f"00-{context.trace_id:032x}-{secrets.token_hex(8)}-{context.trace_flags:02x}"
