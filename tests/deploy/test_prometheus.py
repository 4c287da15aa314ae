"""The scrape configuration, every service at the ops port that it listens on, and the rules."""

import shutil
import subprocess
from typing import Any

import pytest
import yaml

from deploy.cluster import SERVICES, parse
from deploy.helm import ROOT


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
