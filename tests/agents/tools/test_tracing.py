"""A tool call runs in its session's trace, in a thread as well, and its end is one line of the log."""

from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from support.spans import TRACE, TRACEPARENT, collected_spans
from support.tool_calls import Caller, worker
from support.waiting import wait_until
from voicebus import function_tool
from voicebus.contracts.streams import Keys
from voicebus.ports import SessionRef


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    with collected_spans(monkeypatch) as exporter:
        yield exporter


@function_tool(queue="default")
def where() -> str:
    """Tell the trace that this runs in, from a thread."""
    return f"{trace.get_current_span().get_span_context().trace_id:032x}"


async def test_a_tool_on_a_worker_runs_in_its_sessions_trace_and_its_end_is_one_line(
    redis_url: str, keys: Keys, caller: Caller, spans: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    caller.session = SessionRef("s1", 1, TRACEPARENT)
    with caplog.at_level("INFO"):
        async with worker(redis_url, keys, where):
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
