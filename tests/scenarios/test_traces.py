"""Traces of real processes, as a real receiver of OTLP gets them; and the log's lines, which name them."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from opentelemetry import trace

from support.callers import calling
from support.cluster import ClusterUnderTest, running_cluster
from support.otlp import Collector, Span, collector
from support.servers import RedisServer
from support.waiting import wait_until
from voicebus import connect

pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("traces"), pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture
def client() -> trace.SpanContext:
    """The span of a client, which its own tracing has made."""
    return trace.SpanContext(secrets.randbits(128) | 1, secrets.randbits(64) | 1, False, trace.TraceFlags(1))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def spans(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[ClusterUnderTest, Collector]]:
    database = tmp_path_factory.mktemp("traced") / "v.db"
    with collector() as received, RedisServer() as redis:
        async with running_cluster(
            redis_url=redis.url,
            database_url=f"sqlite:///{database}",
            stream_prefix="traced",
            targets=["support.observed_desk:runner"],
            event_shards=1,
            guardrail_shards=1,
            otlp_endpoint=received.endpoint,
            otlp_headers='{"x-tenant": "ours"}',
            log_level="info",
            log_format="json",
        ) as cluster:
            yield cluster, received


async def until_received(
    received: Collector, name: str, client: trace.SpanContext | None = None, **attributes: Any
) -> Span:
    """A span of this name, in the trace of `client`."""

    def found() -> list[Span]:
        spans = received.named(name, **attributes)
        return spans if client is None else [span for span in spans if span.trace == f"{client.trace_id:032x}"]

    return (await wait_until(found, description=f"a span {name} {attributes}", timeout=30))[0]


@asynccontextmanager
async def conversing(url: str, client: trace.SpanContext) -> AsyncIterator[None]:
    """A client with a span of its own asks for a tool, and hears the answer."""
    with trace.use_span(trace.NonRecordingSpan(client)):
        session = connect(url, agent="first")
    async with asyncio.timeout(30), session:
        await session.send_message('go [[call: quick {"word": "one"}]]')
        async for event in session:
            if event.type == "agent_end" and "quick one" in event.output:
                break
        yield


async def test_a_call_with_a_tool_and_a_guardrail_is_one_trace_from_the_client_to_the_model_and_back(
    spans: tuple[ClusterUnderTest, Collector], client: trace.SpanContext, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster, received = spans
    async with conversing(cluster.gateway.url, client):
        await until_received(received, "tool quick", client)
        await until_received(received, "guardrail check", client, outcome="passed", final=True)
    session = await until_received(received, "session", client)
    the_trace = session.trace
    of_trace = [span for span in received.spans if span.trace == the_trace]
    (ran,) = [span for span in of_trace if span.name == "tool quick"]
    assert (session.parent, session.service) == (f"{client.span_id:016x}", "gateway")
    # gateway → stream → worker, and its answer back at the gateway
    by_id = {span.id: span for span in of_trace}
    waited = by_id[ran.parent]
    called = by_id[waited.parent]
    assert [one.service for one in (ran, waited, called)] == ["tool-worker", "tool-worker", "gateway"]
    assert [one.name for one in (waited, called)] == ["receive tool quick", "tool call quick"]
    assert called.parent == session.id
    assert called.start_ns <= waited.end_ns <= ran.end_ns <= called.end_ns
    assert (called.attributes["voicebus.outcome"], ran.attributes["voicebus.outcome"]) == ("ok", "ok")
    # the same of the check
    of_worker = [span for span in of_trace if span.name == "guardrail check" and span.service == "guardrail-worker"]
    assert of_worker
    for check in of_worker:
        assert check.attributes["voicebus.tenant"] == "local"
        assert by_id[by_id[check.parent].parent].name == "guardrail check"
        assert by_id[by_id[check.parent].parent].parent == session.id
    # the model: once for the call, and once for the answer, which began after the result
    responses = sorted((span for span in of_trace if span.name == "model response"), key=lambda span: span.start_ns)
    assert [span.parent for span in responses] == [session.id] * 2
    assert responses[1].start_ns >= called.end_ns
    assert responses[1].attributes["gen_ai.usage.output_tokens"] > 0
    assert not any(span.failed for span in of_trace)
    assert all(headers["x-tenant"] == "ours" and headers[":path"] == "/v1/traces" for headers in received.headers)
    # what was said is committed by the archiver, for many conversations at once: linked to this one
    written = await wait_until(
        lambda: [span for span in received.named("write events") if (the_trace, session.id) in span.links],
        description="the events to be written",
        timeout=30,
    )
    assert {(span.service, span.parent) for span in written} == {("transcript-archiver", "")}
    assert all(span.trace != the_trace and span.attributes["voicebus.events"] > 0 for span in written)
    logged = list(_logged(capsys.readouterr().err))
    for service, event in (("gateway", "session ended"), ("tool-worker", "tool call done")):
        (line,) = [
            line
            for line in logged
            if line["service"] == service and line["event"] == event and line["trace"] == the_trace
        ]
        assert (line["tenant"], line["agent"], line["trace"]) == ("local", "first", the_trace), line
        assert line["session"] == session.attributes["voicebus.session"]


async def test_the_second_attempt_links_to_the_first_whose_worker_was_killed(
    spans: tuple[ClusterUnderTest, Collector], tmp_path: Path
) -> None:
    cluster, received = spans
    (doomed,) = cluster.services["tool-worker"]
    async with calling(cluster.gateway.url, agent="first") as caller:
        file = tmp_path / "begun"
        await caller.types(f"go [[call: repeats {json.dumps({'started': str(file), 'seconds': 60})}]]")
        await wait_until(file.exists, description="the call to begin", timeout=30)
        first = await until_received(received, "receive tool repeats")
        await cluster.start("tool-worker")
        await cluster.kill(doomed)
        await caller.hears("repeated")
        await caller.hangs_up()
    session = await until_received(received, "session", session=caller.session)
    second = await until_received(received, "tool repeats", outcome="ok")
    waited = next(span for span in received.spans if span.id == second.parent)
    sent = next(span for span in received.spans if span.id == first.parent)
    assert (sent.name, sent.parent) == ("tool call repeats", session.id)
    assert waited.parent == ""
    assert waited.links == [(sent.trace, sent.id), (first.trace, first.id)]
    assert (first.attributes["voicebus.attempt"], waited.attributes["voicebus.attempt"]) == (1, 2)


async def test_histograms_lead_to_a_trace_by_their_exemplars(
    spans: tuple[ClusterUnderTest, Collector], client: trace.SpanContext
) -> None:
    cluster, received = spans
    async with conversing(cluster.gateway.url, client):
        await until_received(received, "guardrail check", client, outcome="passed")
    wanted = {
        "gateway": "voicebus_session_first_answer_seconds",
        "tool-worker": "voicebus_tool_duration_seconds",
        "guardrail-worker": "voicebus_guardrail_latency_seconds",
    }
    async with httpx2.AsyncClient(headers={"Accept": "application/openmetrics-text; version=1.0.0"}) as http:
        for service, metric in wanted.items():
            (process,) = cluster.services[service]
            page = (await http.get(f"http://127.0.0.1:{process.ops_port}/metrics")).text
            rows = [line for line in page.splitlines() if line.startswith(f"{metric}_bucket") and " # {" in line]
            assert any(f'trace_id="{client.trace_id:032x}"' in row for row in rows), (service, rows)


def _logged(text: str) -> Any:
    for line in text.splitlines():
        _, _, rest = line.partition("| ")
        if rest.startswith("{"):
            yield json.loads(rest)
