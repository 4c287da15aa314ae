"""A tool call runs in its session's trace, in a thread as well, and its end is one line of the log."""

from collections.abc import AsyncIterator, Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from support.tool_calls import Caller, calling
from support.waiting import wait_until
from voicebus import ToolWorker, function_tool
from voicebus.contracts.streams import Keys
from voicebus.ports import SessionRef

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    monkeypatch.setattr(trace, "get_tracer", lambda *names: provider.get_tracer(names[0]))
    yield exporter
    provider.shutdown()


@pytest.fixture
def keys(stream_prefix: str) -> Keys:
    return Keys(stream_prefix)


@pytest.fixture
async def caller(redis_url: str, keys: Keys) -> AsyncIterator[Caller]:
    async with calling(redis_url, keys) as caller:
        yield caller


@function_tool(queue="default")
def where() -> str:
    """Tell the trace that this runs in, from a thread."""
    return f"{trace.get_current_span().get_span_context().trace_id:032x}"


async def test_a_tool_on_a_worker_runs_in_its_sessions_trace_and_its_end_is_one_line(
    redis_url: str, keys: Keys, caller: Caller, spans: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    caller.session = SessionRef("s1", 1, TRACEPARENT)
    with caplog.at_level("INFO"):
        async with ToolWorker([where], redis_url=redis_url, stream_prefix=keys.prefix):
            caller.call("where")
            assert (await caller.result()).output == TRACE
            await wait_until(spans.get_finished_spans, description="the span")
    (line,) = [record.getMessage() for record in caplog.records if "tool call done" in record.getMessage()]
    for part in (
        "session=s1",
        "call=c1",
        "tool=where",
        f"trace={TRACE}",
        "outcome=ok",
        "queued_ms=",
        "duration_ms=",
        "deliveries=1",
    ):
        assert part in line
