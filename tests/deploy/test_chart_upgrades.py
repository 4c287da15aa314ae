"""An upgrade from a chart that had fewer values, with those of the release before and no file of one's own."""

from pathlib import Path

import pytest
import yaml

from deploy.api_server import cluster_with
from deploy.chart import environment, one
from deploy.helm import CHART, Helm


@pytest.fixture
def release_before(tmp_path: Path) -> Path:
    """A release as Helm keeps it: of a chart without two of today's values, with some of an operator's own."""
    defaults = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    del defaults["access"]["requestsPerMinute"], defaults["networkPolicy"]["dnsPorts"]
    at = "2026-11-01T00:00:00Z"
    own = {
        "redis": {"url": "rediss://redis:6379/0"},
        "database": {"url": "postgresql://voicebus@postgres/calls"},
        "gateway": {"maxSessions": 77},
    }
    release = {
        "name": "calls", "namespace": "voice", "version": 1, "manifest": "", "config": own,
        "info": {"status": "deployed", "first_deployed": at, "last_deployed": at, "deleted": ""},
        "chart": {
            "metadata": yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8")),
            "templates": [], "values": defaults,
        },
    }  # fmt: skip
    file = tmp_path / "releases.yaml"
    file.write_text(yaml.safe_dump([release]), encoding="utf-8")
    return file


@pytest.mark.parametrize("flag", ["--reset-then-reuse-values", "--reuse-values"])
def test_the_values_of_the_release_before_are_taken_or_what_they_lack_is_named(
    helms: Helm, tmp_path: Path, release_before: Path, flag: str
) -> None:
    kept = {"HELM_DRIVER": "memory", "HELM_MEMORY_DRIVER_DATA": str(release_before)}
    upgrade = ("upgrade", "calls", str(CHART), "--namespace=voice", "--dry-run=client", flag)
    with cluster_with({}, tmp_path) as kubeconfig:
        ran = helms.run(*upgrade, kubeconfig=kubeconfig, variables=kept)
    if flag == "--reuse-values":
        assert ran.returncode != 0
        assert "requestsPerMinute" in ran.stderr
        assert "dnsPorts" in ran.stderr
        return
    assert ran.returncode == 0, ran.stderr
    _, _, manifest = ran.stdout.partition("\nMANIFEST:\n")
    objects = [item for item in yaml.load_all(manifest.partition("\nNOTES:\n")[0], yaml.CSafeLoader) if item]
    (gateway,) = one(objects, "Deployment", "gateway")["spec"]["template"]["spec"]["containers"]
    assert environment(gateway)["VOICEBUS_MAX_SESSIONS"] == "77", "the operator's own"
    ports = {
        entry["port"] for rule in one(objects, "NetworkPolicy", "gateway")["spec"]["egress"] for entry in rule["ports"]
    }
    assert 53 in ports, "a value that the chart before did not have"
