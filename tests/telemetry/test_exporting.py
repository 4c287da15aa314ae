"""What is told of a collector that does not take spans."""

import logging

import pytest
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from voicebus.telemetry.exporting import TellingExporter


class Failing(SpanExporter):
    """Fails as often as it is told, and has a line for each time."""

    def __init__(self, times: int, logger: logging.Logger) -> None:
        self.times = times
        self.logger = logger

    def export(self, _: object) -> SpanExportResult:
        if not self.times:
            return SpanExportResult.SUCCESS
        self.times -= 1
        self.logger.error("Failed to export spans batch code: %s", 401)
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        self.times = -1


@pytest.mark.parametrize("port", [4317, 4318])
def test_it_is_told_once_with_its_address_and_reason_and_that_it_is_over(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    logger = logging.getLogger(f"an.exporter.{port}")
    failing = Failing(3, logger)
    exporter = TellingExporter(failing, f"http://user:secret@collector:{port}/v1/traces", logger)
    outcomes = [exporter.export([]) for _ in range(4)]
    assert outcomes == [SpanExportResult.FAILURE] * 3 + [SpanExportResult.SUCCESS]
    begun, over = caplog.messages
    assert begun.startswith(f"event=spans are not taken endpoint=http://collector:{port}/v1/traces")
    assert "reason=Failed to export spans batch code: 401" in begun
    assert ("OTLP over gRPC, which is not spoken; 4318" in begun) == (port == 4317)
    assert over.startswith("event=spans are not taken: over")
    assert "secret" not in caplog.text
    exporter.shutdown()
    assert failing.times == -1
