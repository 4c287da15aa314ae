"""What the engine measures has a metric, under the labels that the metric has."""

import re
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

import voicebus.engine
from voicebus.telemetry import metrics
from voicebus.telemetry.measurements import MEASUREMENTS, observe

OBSERVED = re.compile(r'observe\(\s*"(\w+)"([^)]*)')


def test_every_measurement_of_the_engine_is_known_with_its_labels() -> None:
    found: dict[str, set[str]] = {}
    for path in Path(voicebus.engine.__path__[0]).glob("*.py"):
        for name, rest in OBSERVED.findall(path.read_text()):
            found.setdefault(name, set()).update(re.findall(r"(\w+)=", rest))
    assert set(found) == set(MEASUREMENTS)
    for name, labels in found.items():
        assert labels == set(MEASUREMENTS[name]._labelnames), name


def test_counters_count_and_histograms_observe() -> None:
    def value(name: str) -> float:
        return REGISTRY.get_sample_value(name) or 0.0

    barge_ins, answers = value("voicebus_barge_in_total"), value("voicebus_response_latency_seconds_count")
    observe("barge_in", 1.0, {})
    observe("response_latency", 0.4, {})
    assert value("voicebus_barge_in_total") == barge_ins + 1
    assert value("voicebus_response_latency_seconds_count") == answers + 1


def test_an_unknown_measurement_is_an_error() -> None:
    with pytest.raises(KeyError):
        observe("of nothing", 1.0, {})


def test_the_operators_page_lists_every_metric_with_its_labels() -> None:
    page = (Path(voicebus.engine.__path__[0]).parents[2] / "docs" / "metrics.md").read_text()
    rows = {}
    for line in page.splitlines():
        if line.startswith("| `voicebus_"):
            name, kind, labels, *_ = [cell.strip() for cell in line.strip("|").split("|")]
            rows[name.strip("`")] = (kind, set(re.findall(r"`(\w+)`", labels)))
    declared = {
        (metric._name + "_total" if metric._type == "counter" else metric._name): (
            metric._type,
            set(metric._labelnames),
        )
        for metric in vars(metrics).values()
        if isinstance(metric, MetricWrapperBase)
    }
    assert rows == declared
