"""The span of work that is done for many conversations at once: linked to each of them, and a child of none."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from opentelemetry import trace

from voicebus.telemetry.tracing import below, is_traced, span_context, tracer

MOST_LINKS: Final = 128
"""As many as the SDK keeps of one span; of more conversations the first are linked."""


@contextmanager
def batch_span(name: str, traceparents: Iterable[str | None], **attributes: int) -> Iterator[None]:
    """The block in a span linked to what sent the work; without a provider, or where nothing of it is traced, in none.

    An exception makes it an error.
    """
    links = _links(traceparents) if is_traced() else []
    if not links:
        yield
        return
    described = {f"voicebus.{key}": value for key, value in attributes.items()}
    with tracer().start_as_current_span(
        name, context=below(None), kind=trace.SpanKind.CONSUMER, links=links, attributes=described
    ):
        yield


def _links(traceparents: Iterable[str | None]) -> list[trace.Link]:
    contexts = (span_context(one) for one in dict.fromkeys(traceparents))
    sampled = [one for one in contexts if one is not None and one.trace_flags.sampled]
    return [trace.Link(one) for one in sampled[:MOST_LINKS]]
