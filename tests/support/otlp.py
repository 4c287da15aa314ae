"""A real receiver of traces: an HTTP server that takes OTLP's protobuf, as a collector does."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Span:
    """One span as it arrived; ids are hex, `parent` is "" where there is none, `links` are (trace, span)."""

    service: str
    name: str
    kind: int
    trace: str
    id: str
    parent: str
    links: Sequence[tuple[str, str]]
    attributes: dict[str, Any]
    failed: bool
    start_ns: int
    end_ns: int


@dataclass
class Collector:
    """What has come, in order; `headers` are those of the requests."""

    port: int
    spans: list[Span]
    headers: list[dict[str, str]]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def named(self, name: str, **attributes: Any) -> list[Span]:
        """Spans of a name, with these attributes of ours (`outcome` is `voicebus.outcome`)."""
        return [
            span
            for span in self.spans
            if span.name == name
            and all(span.attributes.get(f"voicebus.{key}") == value for key, value in attributes.items())
        ]


@contextmanager
def collector() -> Iterator[Collector]:
    """Receive spans on a free port while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.headers.append({**dict(self.headers), ":path": self.path})
            found.spans.extend(_read(body))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found = Collector(server.server_port, [], [])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)


def _read(body: bytes) -> Iterator[Span]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        service = {one.key: _value(one.value) for one in resource.resource.attributes}["service.name"]
        for span in (span for scope in resource.scope_spans for span in scope.spans):
            yield Span(
                service,
                span.name,
                span.kind,
                span.trace_id.hex(),
                span.span_id.hex(),
                span.parent_span_id.hex(),
                [(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
                {one.key: _value(one.value) for one in span.attributes},
                span.status.code == span.status.STATUS_CODE_ERROR,
                span.start_time_unix_nano,
                span.end_time_unix_nano,
            )


def _value(value: Any) -> Any:
    return getattr(value, value.WhichOneof("value"))
