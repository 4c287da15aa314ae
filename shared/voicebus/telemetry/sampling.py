"""Which spans are made where no parent says so. Needs the SDK, the extra `otel`."""

from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes


class LinkBased(Sampler):
    """Follows what a span is linked to, as others follow their parent; `root` decides where there is no link.

    By a ratio alone hardly any span that begins a trace of its own would be there for the conversation that is traced.
    """

    def __init__(self, root: Sampler) -> None:
        self._root = root

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        chosen = self._root
        if links:
            chosen = ALWAYS_ON if any(link.context.trace_flags.sampled for link in links) else ALWAYS_OFF
        return chosen.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        return f"LinkBased({self._root.get_description()})"


def following(ratio: float) -> Sampler:
    """What others began or left out is followed; of what begins here `ratio` is traced."""
    return ParentBased(LinkBased(TraceIdRatioBased(ratio)))
