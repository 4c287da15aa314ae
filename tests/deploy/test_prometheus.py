"""The scrape configuration, every service at the ops port that it listens on, and the rules."""

import json
import shutil
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.cluster import SERVICES, parse
from deploy.helm import ROOT
from support.prometheus import PROGRAM, PrometheusServer


def scrape_jobs() -> dict[str, Any]:
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text(encoding="utf-8"))
    return {job["job_name"]: job for job in config["scrape_configs"]}


def test_every_service_is_scraped_and_nothing_else() -> None:
    assert sorted(scrape_jobs()) == sorted(SERVICES)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_scraped_at_its_ops_port_on_each_replica(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    job = scrape_jobs()[service]
    (discovery,) = job["dns_sd_configs"]
    assert discovery["names"] == [service]
    # One A record for each replica; static targets would see one of them at random.
    assert discovery["type"] == "A"
    assert discovery["port"] == parse({}, service, monkeypatch).ops_port
    assert job.get("metrics_path", "/metrics") == "/metrics"


def test_promtool_has_nothing_to_say_against_configuration_and_rules() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    config = ROOT / "deploy/prometheus/prometheus.yml"
    found = subprocess.run([promtool, "check", "config", config], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.count("rules found") == len(list((ROOT / "deploy/prometheus/rules").glob("*.yml")))
    assert "WARN" not in found.stdout + found.stderr


class Provisioned(PrometheusServer):
    """A real Prometheus with the configuration of the compose file, and the rules where that looks for them."""

    def __init__(self) -> None:
        super().__init__()
        place = self.folder / "etc"
        shutil.copytree(ROOT / "deploy/prometheus", place)
        self._config: Path = place / "prometheus.yml"

    def api(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/{path}", timeout=10) as answer:
            return json.load(answer)["data"]


@pytest.mark.skipif(PROGRAM is None, reason="no Prometheus here: apt-get install prometheus (.ci/run does)")
def test_a_real_prometheus_starts_with_it_and_evaluates_every_rule() -> None:
    written = [
        rule
        for path in (ROOT / "deploy/prometheus/rules").glob("*.yml")
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    ]
    with Provisioned() as prometheus:
        groups = prometheus.api("rules")["groups"]
        jobs = yaml.safe_load(prometheus.api("status/config")["yaml"])["scrape_configs"]
    loaded = [rule for group in groups for rule in group["rules"]]
    assert sorted(rule["name"] for rule in loaded) == sorted(rule.get("alert") or rule["record"] for rule in written)
    assert {rule["health"] for rule in loaded} <= {"ok", "unknown"}, "unknown is one that is not due yet"
    assert sorted(job["job_name"] for job in jobs) == sorted(SERVICES)
