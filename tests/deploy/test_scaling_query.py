"""What gateways are scaled on, as Prometheus' own rule tester evaluates it."""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from deploy.chart import one, rendered
from deploy.helm import Helm

# The first test of a fresh clone downloads Helm.
pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        shutil.which("promtool") is None, reason="promtool is not installed: apt-get install prometheus"
    ),
]

POD = 'namespace="voice",pod="calls-voicebus-gateway-6d-{}"'
ACTIVE, STARTED = "voicebus_sessions_active", "voicebus_sessions_started_total"
REJECTED = "voicebus_admission_rejected_total"


def two(metric: str, each: str, labels: str = "") -> dict[str, str]:
    """The same of two gateways."""
    return {f"{metric}{{{POD.format(name)}{labels}}}": each for name in "ab"}


@pytest.mark.parametrize(
    ("series", "wanted"),
    [
        # 500 each, and one new one a second each: room for those of the minute that a pod may need.
        ({**two(ACTIVE, "500x40"), **two(STARTED, "0+15x40")}, 1000 + 60 * 2),
        # At night there is still room for 50.
        ({**two(ACTIVE, "3x40"), **two(STARTED, "7x40")}, 6 + 50),
        # Who is turned away as the gateways are full would have come: one in 15 s each, besides two a second.
        (
            {**two(ACTIVE, "500x40"), **two(STARTED, "0+15x40"), **two(REJECTED, "0+15x40", ',reason="full"')},
            1000 + 60 * 4,
        ),
        # Who is turned away for another reason, or at another cluster's gateways, would not.
        (
            {
                **two(ACTIVE, "500x40"),
                **two(STARTED, "0+15x40"),
                **two(REJECTED, "0+15x40", ',reason="too_many_sessions"'),
                'voicebus_sessions_active{namespace="other",pod="calls-voicebus-gateway-x"}': "900x40",
                'voicebus_sessions_active{namespace="voice",pod="beside-voicebus-gateway-x"}': "900x40",
            },
            1000 + 60 * 2,
        ),
        # Gateways that have just begun and had no session yet.
        (two(ACTIVE, "0x40"), 50),
        # Nothing is known of them: that is no zero, but no answer.
        ({}, None),
    ],
)
def test_sessions_and_a_reserve_for_arrivals_are_asked_for(
    helm: Helm, tmp_path: Path, series: Mapping[str, str], wanted: float | None
) -> None:
    (trigger,) = one(rendered(helm, (), "--set=autoscaling.engine=keda"), "ScaledObject", "gateway")["spec"]["triggers"]
    asked = {
        "expr": trigger["metadata"]["query"],
        "eval_time": "9m",
        "exp_samples": [] if wanted is None else [{"labels": "{}", "value": wanted}],
    }
    tests = {
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "15s",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": [asked],
            }
        ],
    }
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(tests), encoding="utf-8")
    found = subprocess.run(
        ["promtool", "test", "rules", "tests.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr
