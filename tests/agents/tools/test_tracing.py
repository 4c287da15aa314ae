"""The span of a tool call: in the trace of its session, linked instead where the call was delivered before."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry import trace

from support.tool_calls import Caller, calling
from support.waiting import wait_until
from voicebus import ToolWorker, function_tool
from voicebus.agents.tools.tracing import call_span
from voicebus.contracts.streams import Keys
from voicebus.contracts.tools import Outcome
from voicebus.ports import SessionRef

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"


class Spans:
    """A provider that notes what spans are made of."""

    def __init__(self) -> None:
        self.made: list[dict[str, Any]] = []

    def get_tracer(self, *_: Any, **__: Any) -> "Spans":
        return self

    @contextmanager
    def start_as_current_span(
        self, name: str, *, context: Any, kind: trace.SpanKind, links: Sequence[trace.Link] | None,
        attributes: dict[str, Any],
    ) -> Iterator[trace.Span]:  # fmt: skip
        parent = trace.get_current_span(context).get_span_context()
        made = {"name": name, "parent": parent, "links": list(links or ()), **attributes, "status": None}
        self.made.append(made)

        class Span(trace.NonRecordingSpan):
            def set_attribute(self, key: str, value: Any) -> None:
                made[key] = value

            def set_status(self, status: Any, description: str | None = None) -> None:
                made["status"] = status

        with trace.use_span(Span(parent)) as span:
            yield span


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Spans:
    found = Spans()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: found)
    monkeypatch.setattr(trace, "get_tracer", found.get_tracer)
    return found


def test_a_first_delivery_is_a_child_of_its_session_and_a_second_is_linked_to_it(spans: Spans) -> None:
    for redelivered in (False, True):
        span = call_span(TRACEPARENT, tool="pay", queue="q", attempt=1, redelivered=redelivered)
        with span as told:
            told.ended(Outcome.TIMEOUT if redelivered else Outcome.OK)
    first, second = spans.made
    assert (f"{first['parent'].trace_id:032x}", f"{first['parent'].span_id:016x}", first["links"]) == (TRACE, SPAN, [])
    assert (second["parent"].is_valid, f"{second['links'][0].context.span_id:016x}") == (False, SPAN)
    assert (first["name"], first["voicebus.tool"], first["voicebus.outcome"]) == ("tool pay", "pay", "ok")
    assert (first["status"], second["status"]) == (None, trace.StatusCode.ERROR)


def test_what_is_no_trace_context_makes_a_trace_of_its_own(spans: Spans) -> None:
    for traceparent in (None, "", "00-zz-1-1", f"00-{'0' * 32}-{SPAN}-01"):
        with call_span(traceparent, tool="pay", queue="q", attempt=1, redelivered=False):
            pass
    assert [span["parent"].is_valid for span in spans.made] == [False] * 4


def test_without_a_provider_there_is_no_span() -> None:
    with call_span(TRACEPARENT, tool="pay", queue="q", attempt=1, redelivered=False) as told:
        told.ended(Outcome.OK)
        assert not trace.get_current_span().get_span_context().is_valid


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
    redis_url: str, keys: Keys, caller: Caller, spans: Spans, caplog: pytest.LogCaptureFixture
) -> None:
    caller.session = SessionRef("s1", 1, TRACEPARENT)
    with caplog.at_level("INFO"):
        async with ToolWorker([where], redis_url=redis_url, stream_prefix=keys.prefix):
            caller.call("where")
            assert (await caller.result()).output == TRACE
            await wait_until(lambda: spans.made, description="the span")
    (line,) = [record.getMessage() for record in caplog.records if "tool call done" in record.getMessage()]
    for part in ("session=s1", "call=c1", "tool=where", "outcome=ok", "queued_ms=", "duration_ms=", "deliveries=1"):
        assert part in line
