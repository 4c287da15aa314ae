"""Fixtures of the telemetry's tests."""

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from support.spans import collected_spans


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    with collected_spans(monkeypatch) as exporter:
        yield exporter
