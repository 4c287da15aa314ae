"""The compose file: it agrees with the services' settings, is hardened, and reads on old and new Compose alike."""

import re
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest
import yaml

from deploy.cluster import CLOSING_S, SERVICES, SETTINGS, parse
from deploy.compose_schema import compose_schema
from deploy.helm import ROOT
from deploy.wheels import WheelUnavailableError
from voicebus_services.access.keystore import KeyStore
from voicebus_services.settings import DatabaseSettings

FILE: Final = ROOT / "docker-compose.yml"
OURS: Final = "voicebus:latest"
VARIABLE: Final = re.compile(r"\$\{(\w+):-([^{}]*)\}")


def without_variables(node: Any) -> Any:
    """What Compose reads where nobody set a variable: each `${NAME:-default}` becomes its default."""
    if isinstance(node, dict):
        return {key: without_variables(value) for key, value in node.items()}
    if isinstance(node, list):
        return [without_variables(value) for value in node]
    return VARIABLE.sub(r"\2", node) if isinstance(node, str) else node


COMPOSE: Final[dict[str, Any]] = without_variables(yaml.safe_load(FILE.read_text(encoding="utf-8")))
CONTAINERS: Final[dict[str, dict[str, Any]]] = COMPOSE["services"]
RUN: Final = {name: container for name, container in CONTAINERS.items() if container["image"] == OURS}


def test_it_runs_every_service_and_what_they_need() -> None:
    assert RUN.keys() == SETTINGS.keys()
    assert CONTAINERS.keys() - RUN.keys() == {"redis", "postgres", "prometheus", "grafana"}
    for name, container in RUN.items():
        assert container["command"] == [name]


@pytest.mark.parametrize("name", RUN)
def test_each_services_environment_parses_into_its_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read = parse(RUN[name].get("environment", {}), name, monkeypatch).model_dump()
    if "redis_url" in read:
        assert read["redis_url"] == "redis://redis:6379/0"
    if "database_url" in read:
        assert "@postgres:5432/" in read["database_url"]
    if "model_url" in read:
        assert read["model_url"] == "ws://model-simulator:8090/v1/realtime"
        assert read["model_api_key"] is not None


def test_the_database_is_reached_with_the_password_it_was_made_with(monkeypatch: pytest.MonkeyPatch) -> None:
    made = CONTAINERS["postgres"]["environment"]
    settings = parse(RUN["migrate"]["environment"], "migrate", monkeypatch)
    assert isinstance(settings, DatabaseSettings)
    credentials = f"{made['POSTGRES_USER']}:{made['POSTGRES_PASSWORD']}"
    assert settings.database_url == f"postgresql+psycopg://{credentials}@postgres:5432/{made['POSTGRES_DB']}"
    assert RUN["transcript-archiver"]["environment"]["VOICEBUS_DATABASE_URL"] == settings.database_url


@pytest.mark.parametrize("name", SERVICES)
def test_health_is_asked_of_the_ops_port(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    port = parse(RUN[name].get("environment", {}), name, monkeypatch).ops_port
    test = RUN[name]["healthcheck"]["test"]
    assert f"'http://127.0.0.1:{port}/readyz'" in test[-1]
    assert not any(" " in word for word in test)


@pytest.mark.parametrize("name", SERVICES)
def test_a_stopping_service_has_time_to_drain(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drain = parse(RUN[name].get("environment", {}), name, monkeypatch).drain_timeout.total_seconds()
    assert float(RUN[name]["stop_grace_period"].removesuffix("s")) >= drain + CLOSING_S


def test_what_is_needed_first_is_waited_for() -> None:
    waits = {
        name: {other: wait["condition"] for other, wait in container.get("depends_on", {}).items()}
        for name, container in RUN.items()
    }
    healthy = "service_healthy"
    assert waits == {
        "migrate": {"postgres": healthy},
        "transcript-archiver": {"redis": healthy, "migrate": "service_completed_successfully"},
        "gateway": {"redis": healthy, "model-simulator": healthy},
        "tool-worker": {"redis": healthy},
        "guardrail-worker": {"redis": healthy},
        "model-simulator": {},
    }
    for others in waits.values():
        assert all("healthcheck" in CONTAINERS[other] for other, wait in others.items() if wait == healthy)


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_is_hardened(name: str) -> None:
    container = CONTAINERS[name]
    assert container["read_only"] is True
    assert "/tmp" in container["tmpfs"]
    assert container["cap_drop"] == ["ALL"]
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert not container.keys() & {"privileged", "cap_add", "network_mode", "pid"}


@pytest.mark.parametrize("name", CONTAINERS)
def test_only_this_machine_is_served_and_the_ops_ports_nobody(name: str) -> None:
    ports = {"gateway": ["8080"], "transcript-archiver": ["8081"], "prometheus": ["9090"], "grafana": ["3000"]}
    published = ports.get(name, [])
    assert CONTAINERS[name].get("ports", []) == [f"127.0.0.1:{port}:{port}" for port in published]


def test_foreign_images_are_pinned_to_a_version() -> None:
    for container in CONTAINERS.values():
        if container["image"] != OURS:
            assert re.fullmatch(r"[\w/]+:v?\d+\.\d+(\.\d+)?(-\w+)?", container["image"]), container["image"]


def test_grafana_shows_the_dashboards_to_whoever_asks_and_lets_nobody_change_them() -> None:
    grafana = CONTAINERS["grafana"]
    options = grafana["environment"]
    assert (options["GF_AUTH_ANONYMOUS_ENABLED"], options["GF_AUTH_ANONYMOUS_ORG_ROLE"]) == ("true", "Viewer")
    # The account admin:admin of a new Grafana is not made, and none could log in.
    assert options["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert (options["GF_AUTH_BASIC_ENABLED"], options["GF_AUTH_DISABLE_LOGIN_FORM"]) == ("false", "true")
    mounts = dict(mount.removesuffix(":ro").split(":") for mount in grafana["volumes"])
    (provisioning,) = [source for source, target in mounts.items() if target == "/etc/grafana/provisioning"]
    (provider,) = provisioned(provisioning, "dashboards", "providers")
    assert mounts["./deploy/grafana"] == provider["options"]["path"]
    assert provider["allowUiUpdates"] is False
    home = Path(options["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert str(home.parent) == provider["options"]["path"]
    assert (ROOT / "deploy/grafana" / home.name).is_file()


def test_grafana_asks_the_prometheus_of_the_same_file() -> None:
    (source,) = provisioned("deploy/docker/grafana", "datasources", "datasources")
    assert (source["type"], source["url"], source["isDefault"]) == ("prometheus", "http://prometheus:9090", True)
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text(encoding="utf-8"))
    assert source["jsonData"]["timeInterval"] == scraped["global"]["scrape_interval"]


def provisioned(folder: str, kind: str, key: str) -> list[dict[str, Any]]:
    """What Grafana is given of a kind, from every file of its folder."""
    found: list[dict[str, Any]] = []
    for file in (ROOT / folder / kind).glob("*.yml"):
        found += yaml.safe_load(file.read_text(encoding="utf-8"))[key]
    return found


def test_prometheus_has_the_rules_that_the_repository_has() -> None:
    mounts = dict(mount.removesuffix(":ro").split(":") for mount in CONTAINERS["prometheus"]["volumes"])
    assert mounts["./deploy/prometheus/rules"] == "/etc/prometheus/rules"
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text(encoding="utf-8"))
    assert config["rule_files"] == ["rules/*.yml"]
    assert list((ROOT / "deploy/prometheus/rules").glob("*.yml"))


def test_redis_keeps_what_it_is_given() -> None:
    command = CONTAINERS["redis"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    kept = {"--appendonly": "yes", "--appendfsync": "everysec", "--maxmemory-policy": "noeviction"}
    assert options.items() >= kept.items()
    assert CONTAINERS["redis"]["volumes"] == ["redis-data:/data"]


def test_mounted_files_exist_and_are_read_only() -> None:
    # examples holds the agents; it may be named anew by VOICEBUS_AGENTS_DIR.
    for name, container in CONTAINERS.items():
        for mount in container.get("volumes", []):
            source, target, *mode = mount.split(":")
            if source in COMPOSE["volumes"]:
                continue
            assert (ROOT / source).exists(), f"{name} mounts {source} at {target}"
            assert mode == ["ro"]


def test_the_trial_key_is_one_that_the_services_accept() -> None:
    (source,) = {
        mount.split(":")[0]
        for container in RUN.values()
        for mount in container.get("volumes", [])
        if mount.endswith(":/run/api-keys:ro")
    }
    trial = KeyStore(ROOT / source).find("voicebus-trial-key")
    assert trial is not None
    assert trial.tenant == "trial"
    for container in RUN.values():
        mounted = any(mount.endswith(":/run/api-keys:ro") for mount in container.get("volumes", []))
        assert mounted == ("VOICEBUS_API_KEYS_FILE" in container.get("environment", {}))


def test_the_default_target_is_in_the_mounted_folder() -> None:
    for name in ("gateway", "tool-worker", "guardrail-worker"):
        target = RUN[name]["environment"]["VOICEBUS_TARGETS"]
        (agents,) = [mount for mount in RUN[name]["volumes"] if mount.endswith(":/app:ro")]
        assert (ROOT / agents.split(":")[0] / f"{target}.py").is_file()


def test_nothing_is_used_that_docker_compose_1_29_does_not_know() -> None:
    text = FILE.read_text(encoding="utf-8")
    assert "!reset" not in text
    assert "!override" not in text
    # A default in a default is read by newer versions only.
    assert not re.search(r"\$\{[^}]*\$\{", text)
    assert {key for key in COMPOSE if not key.startswith("x-")} == {"services", "volumes"}
    known = {
        *("build", "image", "command", "restart", "user", "read_only", "tmpfs", "cap_drop", "security_opt"),
        *("stop_grace_period", "environment", "volumes", "ports", "depends_on", "healthcheck"),
    }
    for container in CONTAINERS.values():
        assert container.keys() <= known


def test_it_is_built_from_the_dockerfile() -> None:
    for container in RUN.values():
        assert container["build"] == {"context": ".", "dockerfile": "deploy/docker/Dockerfile"}
        assert (Path(ROOT) / container["build"]["dockerfile"]).is_file()


@pytest.fixture(scope="module")
def schema() -> jsonschema.Draft7Validator:
    try:
        return jsonschema.Draft7Validator(compose_schema())
    except WheelUnavailableError as error:
        pytest.skip(f"no schema to judge the file by: {error}")


@pytest.mark.timeout(150)  # the first test of a fresh clone downloads it
def test_it_fits_the_schema_of_compose(schema: jsonschema.Draft7Validator) -> None:
    assert [f"{list(error.path)}: {error.message}" for error in schema.iter_errors(COMPOSE)] == []


@pytest.mark.timeout(150)
def test_a_misspelt_key_would_be_noticed(schema: jsonschema.Draft7Validator) -> None:
    wrong = {**COMPOSE, "services": {**CONTAINERS, "gateway": {**CONTAINERS["gateway"], "heathcheck": {}}}}
    assert ["heathcheck" in error.message for error in schema.iter_errors(wrong)] == [True]
