"""The values of helm/voicebus, as the rules that the simulation plays."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from benchmarks.scaling.autoscaler import Bounds
from benchmarks.scaling.gateways import GatewayRule
from benchmarks.scaling.workers import WorkerRule

VALUES: Final = Path(__file__).resolve().parents[3] / "helm/voicebus/values.yaml"
# A worker starts on a node that is there: its image is, too.
WORKER_START_S: Final = 15.0


def values() -> dict[str, Any]:
    """What the chart has where nobody says otherwise."""
    read: dict[str, Any] = yaml.safe_load(VALUES.read_text(encoding="utf-8"))
    return read


def gateway_rule(chart: Mapping[str, Any]) -> GatewayRule:
    gateway = chart["gateway"]
    scaling = gateway["scaling"]
    return GatewayRule(
        slots=gateway["maxSessions"],
        target_utilization=scaling["targetUtilization"],
        start_s=scaling["startSeconds"],
        reserve_sessions=scaling["reserveSessions"],
        bounds=_bounds(scaling),
    )


def worker_rule(chart: Mapping[str, Any]) -> WorkerRule:
    worker = chart["toolWorkerDefaults"]
    scaling = worker["scaling"]
    return WorkerRule(
        concurrency=worker["concurrency"],
        start_s=WORKER_START_S,
        lag_per_replica=scaling["lagPerReplica"],
        occupancy=scaling["occupancy"],
        bounds=_bounds(scaling),
    )


def cores(service: Mapping[str, Any]) -> float:
    """What a pod of it asks for."""
    asked = str(service["resources"]["requests"]["cpu"])
    cpu = float(asked[:-1]) / 1000 if asked.endswith("m") else float(asked)
    assert math.isfinite(cpu)
    return cpu


def _bounds(scaling: Mapping[str, Any]) -> Bounds:
    down = scaling["scaleDown"]
    return Bounds(
        scaling["minReplicas"],
        scaling["maxReplicas"],
        down["stabilizationSeconds"],
        down["pods"],
        down["periodSeconds"],
    )
