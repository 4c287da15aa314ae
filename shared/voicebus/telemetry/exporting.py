"""Telling of a collector that does not take spans: once, rarely while it lasts, and at its end.

The exporter itself has a line for each batch, which says nothing of where it was sent. Needs the SDK, the extra `otel`.
"""

import logging
import time
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from voicebus.telemetry.logging import get_logger
from voicebus.telemetry.outage import Outage

log: Final = get_logger(__name__)

_GRPC_PORT: Final = 4317


class _LastWord(logging.Filter):
    """Keeps what an exporter says to itself, for the one line."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def filter(self, record: logging.LogRecord) -> bool:
        self.text = record.getMessage()
        return False


class TellingExporter(SpanExporter):
    """Sends by `exporter`, whose log `logger` is, to `endpoint`; used by the batching thread alone."""

    def __init__(self, exporter: SpanExporter, endpoint: str, logger: logging.Logger) -> None:
        self._exporter = exporter
        # Without user and password, which some addresses have.
        self._endpoint = urlsplit(endpoint)._replace(netloc=urlsplit(endpoint).netloc.rpartition("@")[2]).geturl()
        self._outage = Outage(log, "spans are not taken")
        self._said = _LastWord()
        logger.addFilter(self._said)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        outcome = self._exporter.export(spans)
        if outcome is SpanExportResult.SUCCESS:
            self._outage.over(time.monotonic())
        else:
            about = {"endpoint": self._endpoint, "reason": self._said.text}
            if urlsplit(self._endpoint).port == _GRPC_PORT:
                about["hint"] = (
                    "by custom this is the port of OTLP over gRPC, which is not spoken; 4318 is the one of HTTP"
                )
            self._outage.failed(time.monotonic(), **about)
        return outcome

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)
