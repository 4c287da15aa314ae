"""A tool call as a span of its session's trace (OpenTelemetry), where the program has set up a provider.

The first delivery is a child of the session's span. One that was delivered again has a span of its own, linked to it:
a trace in which one step has two children of the same name tells nobody which of them counted.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from opentelemetry import trace

from voicebus.contracts.tools import Outcome

_TRACEPARENT: Final = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")

# A proxy stands for "nobody has set one up": no span is made then, as it would go nowhere and costs its time.
_NONE: Final = (trace.ProxyTracerProvider, trace.NoOpTracerProvider)


class CallSpan:
    """What is told of a call's span; without a provider to nobody."""

    def __init__(self, span: trace.Span | None) -> None:
        self._span = span

    def ended(self, outcome: Outcome) -> None:
        """How the call ended; anything but `ok` makes the span an error."""
        if self._span is not None:
            self._span.set_attribute("voicebus.outcome", outcome.value)
            if outcome is not Outcome.OK:
                self._span.set_status(trace.StatusCode.ERROR, outcome.value)


def is_traced() -> bool:
    """Whether the program has set up a provider; it can do so once."""
    return not isinstance(trace.get_tracer_provider(), _NONE)


@contextmanager
def call_span(traceparent: str | None, *, tool: str, queue: str, attempt: int, redelivered: bool) -> Iterator[CallSpan]:
    """The span of one run of a tool, which is the current one in the block."""
    if not is_traced():
        yield CallSpan(None)
        return
    session = _context(traceparent)
    parent = None if session is None or redelivered else trace.set_span_in_context(trace.NonRecordingSpan(session))
    tracer = trace.get_tracer("voicebus")
    with tracer.start_as_current_span(
        f"tool {tool}",
        context=parent,
        kind=trace.SpanKind.CONSUMER,
        links=[trace.Link(session)] if session is not None and redelivered else None,
        attributes={"voicebus.tool": tool, "voicebus.queue": queue, "voicebus.attempt": attempt},
    ) as span:
        yield CallSpan(span)


def _context(traceparent: str | None) -> trace.SpanContext | None:
    match = _TRACEPARENT.fullmatch(traceparent or "")
    if match is None:
        return None
    flags = trace.TraceFlags(int(match[3], 16))
    return trace.SpanContext(int(match[1], 16), int(match[2], 16), is_remote=True, trace_flags=flags)
