"""Traces (OpenTelemetry): what a session's spans hang on, across processes, as W3C trace context.

`configure` sends spans by OTLP; the packages for it are the extra `otel`. A program that embeds a worker sets up a
provider of its own instead. Without either no span is made: it would go nowhere and cost its time.
"""

import logging
import os
import re
import socket
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any, Final

from opentelemetry import trace

_TRACEPARENT: Final = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")

# A proxy stands for "nobody has set one up".
_NONE: Final = (trace.ProxyTracerProvider, trace.NoOpTracerProvider)

# Spans leave within a second, so that of a process that is killed all but the last are there. Beyond the bound new
# ones are dropped: tracing holds nothing up.
_EVERY_MS: Final = 1_000
_QUEUE: Final = 8_192
_BATCH: Final = 512
_TIMEOUT_S: Final = 5.0


def is_traced() -> bool:
    """Whether this process has a provider; it can be given one once."""
    return not isinstance(trace.get_tracer_provider(), _NONE)


def tracer() -> trace.Tracer:
    return trace.get_tracer("voicebus", version("voicebus"))


def span_context(traceparent: str | None) -> trace.SpanContext | None:
    """The span that a `traceparent` names; None where it names none."""
    match = _TRACEPARENT.fullmatch(traceparent or "")
    if match is None:
        return None
    flags = trace.TraceFlags(int(match[3], 16))
    return trace.SpanContext(int(match[1], 16), int(match[2], 16), is_remote=True, trace_flags=flags)


def traceparent_of(context: trace.SpanContext) -> str:
    """A span as it is named to others."""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def trace_id(traceparent: str | None) -> str | None:
    """The trace's id, as logs show it and trace stores look it up."""
    return None if not traceparent or _TRACEPARENT.fullmatch(traceparent) is None else traceparent[3:35]


def current() -> str | None:
    """The span that runs here now, such as of the program that opens a session; None outside of any."""
    context = trace.get_current_span().get_span_context()
    return traceparent_of(context) if context.is_valid else None


def below(parent: trace.SpanContext | None) -> Any:
    """The context in which a span is a child of `parent`; of None it is the first of a trace of its own."""
    nobody = trace.INVALID_SPAN if parent is None else trace.NonRecordingSpan(parent)
    return trace.set_span_in_context(nobody)


def exemplar(traceparent: str | None) -> dict[str, str] | None:
    """What leads from a histogram's bucket to a trace; None where this process's spans go nowhere."""
    # Asked with every call and check: of most there is nothing to ask a provider about.
    context = span_context(traceparent) if traceparent and is_traced() else None
    if context is None or not context.trace_flags.sampled:
        return None
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}


def configure(
    service: str, *, endpoint: str, headers: Mapping[str, str] | None = None, ratio: float = 1.0
) -> Callable[[], None]:
    """Post this process's spans to `endpoint` from now on. Returns what sends the last ones, at the end.

    `ratio` of the sessions are traced of which whoever asked for them does not say; what others began is followed.

    Raises:
        ModuleNotFoundError: the packages are missing.
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from voicebus.telemetry.exporting import TellingExporter
    from voicebus.telemetry.sampling import following

    resource = Resource.create(
        {
            "service.namespace": "voicebus",
            "service.name": service,
            "service.version": version("voicebus"),
            "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",
        }
    )
    # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES are somebody's word, these are defaults.
    resource = resource.merge(OTELResourceDetector().detect())
    # A collector that is away is told of in our own words; each attempt would be a line a second.
    for noisy in ("opentelemetry.exporter.otlp", "opentelemetry.exporter.http", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    provider = TracerProvider(sampler=following(ratio), resource=resource, shutdown_on_exit=False)
    exporter = TellingExporter(
        OTLPSpanExporter(endpoint=endpoint, headers=dict(headers or {}), timeout=_TIMEOUT_S),
        endpoint,
        logging.getLogger(OTLPSpanExporter.__module__),
    )
    provider.add_span_processor(
        BatchSpanProcessor(
            exporter,
            max_queue_size=_QUEUE,
            schedule_delay_millis=_EVERY_MS,
            max_export_batch_size=_BATCH,
            export_timeout_millis=_TIMEOUT_S * 1000,
        )
    )
    trace.set_tracer_provider(provider)
    return provider.shutdown
