"""The chart under real Helm: what it renders is valid, agrees with the services' settings and keeps secrets out."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from deploy.cluster import CLOSING_S, SERVICES, SETTINGS, parse
from deploy.helm import CHART, ROOT, Helm

# The first test of a fresh clone downloads Helm.
pytestmark = pytest.mark.timeout(300)

STAND_INS = {
    "VOICEBUS_REDIS_URL": "rediss://:secret@redis:6379/0",
    "VOICEBUS_DATABASE_URL": "postgresql+psycopg://voicebus:secret@postgres/voicebus",
    "VOICEBUS_MODEL_API_KEY": "sk-secret",
}
"""What the referenced secrets hold."""

PLACEHOLDER = "model-simulator"
"""The key for the simulator, which takes any: no secret."""

FULL = CHART / "ci" / "full-values.yaml"
TRIAL = CHART / "ci" / "trial-values.yaml"


def of_kind(objects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [item for item in objects if item["kind"] == kind]


def pods(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Command, pod spec and container of each workload."""
    for item in objects:
        if item["kind"] in {"Deployment", "Job"}:
            spec = item["spec"]["template"]["spec"]
            (container,) = spec["containers"]
            yield container["args"][0], spec, container


def environment(container: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry.get("value", STAND_INS.get(entry["name"], "")) for entry in container["env"]}


def test_lint_finds_nothing(helm: Helm, values: list[Path]) -> None:
    result = helm.run("lint", "--strict", str(CHART), *(f"--values={path}" for path in values))
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("kubernetes", ["1.30", "1.34", "1.37"])
def test_every_object_is_valid_for_kubernetes(helm: Helm, values: list[Path], kubernetes: str) -> None:
    objects = helm.render(values=values)
    assert {item["kind"] for item in objects} == {"Deployment", "Service", "Job"}
    for item in objects:
        assert kubernetes_validate.validate(item, kubernetes, strict=True).startswith(kubernetes)


def test_every_service_is_deployed(helm: Helm) -> None:
    commands = [command for command, _, _ in pods(helm.render(values=[TRIAL]))]
    assert sorted(commands) == sorted([*SERVICES, "migrate"])


def test_each_containers_environment_parses_into_its_settings(
    helm: Helm, values: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for command, _, container in pods(helm.render(values=values)):
        settings = parse(environment(container), command, monkeypatch)
        assert settings.log_format == "json"


def test_the_values_reach_the_settings_they_are_named_for(helm: Helm, monkeypatch: pytest.MonkeyPatch) -> None:
    read = {
        command: parse(environment(container), command, monkeypatch).model_dump(mode="json", exclude_unset=True)
        for command, _, container in pods(helm.render("--set=toolWorkers.default=null", values=[FULL]))
    }
    bus = {"stream_prefix": "prod", "event_shards": 64, "guardrail_shards": 8, "log_level": "debug"}
    assert (
        read["gateway"].items()
        >= (
            bus
            | {
                "max_sessions": 250,
                "tool_timeout": "PT10S",
                "guardrail_timeout": "PT0.5S",
                "drain_timeout": "PT10M",
                "model_url": "wss://example.openai.azure.com/openai/v1/realtime",
                "model_name": "gpt-realtime-eu",
            }
        ).items()
    )
    worker = {"queue": "billing", "concurrency": 5, "tool_timeout": "PT1M", "drain_timeout": "PT1M30S"}
    assert read["tool-worker"].items() >= (bus | worker).items()
    checks = {"concurrency": 50, "guardrail_timeout": "PT0.5S", "drain_timeout": "PT5S"}
    assert read["guardrail-worker"].items() >= (bus | checks).items()
    assert read["transcript-archiver"].items() >= (bus | {"drain_timeout": "PT20S"}).items()


def test_a_gateway_serves_tls_with_the_pair_of_a_secret_that_is_followed(
    helm: Helm, monkeypatch: pytest.MonkeyPatch
) -> None:
    for given, secret in (([], None), ([FULL], "calls-tls")):
        ((spec, container),) = [
            (spec, container) for command, spec, container in pods(helm.render(values=given)) if command == "gateway"
        ]
        settings = parse(environment(container), "gateway", monkeypatch).model_dump()
        mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        if secret is None:
            assert (settings["tls_cert"], settings["tls_key"], "tls" in mounts) == (None, None, False)
            continue
        folder = Path(mounts["tls"]["mountPath"])
        assert (settings["tls_cert"], settings["tls_key"]) == (folder / "tls.crt", folder / "tls.key")
        assert volumes["tls"]["secret"]["secretName"] == secret
        assert "subPath" not in mounts["tls"], "what is mounted by a sub-path is never renewed"


def test_every_setting_is_set_by_the_chart_or_left_alone_for_a_reason(helm: Helm) -> None:
    left_alone = {
        "ops_port": "the default is the port that the pod names",
        "http_port": "the default is the port that the pod names",
        "model_headers": "may hold a secret: comes by envFrom",
        "model_fallbacks": "may hold secrets: come by envFrom",
        "model_token": "names a function of the image's own: comes by envFrom",
        "mcp": "addresses may hold credentials, commands belong to an image of one's own: comes by envFrom",
        "mcp_headers": "may hold secrets: come by envFrom",
        "mcp_prefix": "belongs to mcp",
        "reload": "for developers; the files of a pod do not change",
    }
    # The model-simulator is not looked at: most of its settings are for tests.
    forgotten = {
        f"{command}: {name}"
        for command, _, container in pods(helm.render(values=[FULL]))
        for name in SETTINGS[command].model_fields.keys() - left_alone.keys()
        if f"VOICEBUS_{name.upper()}" not in environment(container)
    }
    # `voicebus migrate` neither drains nor has an ops port; a worker without a queue of its own serves all.
    assert forgotten == {"migrate: ops_host", "migrate: drain_timeout", "tool-worker: queue"}


def test_secrets_come_by_reference_only(helm: Helm, values: list[Path]) -> None:
    objects = helm.render(values=values)
    assert not of_kind(objects, "Secret")
    for _, _, container in pods(objects):
        for entry in container["env"]:
            if entry["name"] in STAND_INS and entry.get("value") != PLACEHOLDER:
                assert entry.keys() == {"name", "valueFrom"}
                assert entry["valueFrom"].keys() == {"secretKeyRef"}
            assert "@" not in entry.get("value", ""), f"{entry['name']} may hold credentials"


def test_each_service_gets_the_secrets_it_needs_and_no_other(helm: Helm) -> None:
    given = {
        command: {entry["name"] for entry in container["env"] if "valueFrom" in entry}
        | {volume["secret"]["secretName"] for volume in spec["volumes"] if "secret" in volume}
        for command, spec, container in pods(helm.render())
    }
    redis, database = "VOICEBUS_REDIS_URL", "VOICEBUS_DATABASE_URL"
    assert given == {
        "gateway": {redis, "VOICEBUS_MODEL_API_KEY", "voicebus-api-keys"},
        "tool-worker": {redis},
        "guardrail-worker": {redis},
        "transcript-archiver": {redis, database, "voicebus-api-keys"},
        "migrate": {database},
    }


def test_the_api_keys_file_is_mounted_where_the_setting_says(helm: Helm, values: list[Path]) -> None:
    with_keys = 0
    for command, spec, container in pods(helm.render(values=values)):
        path = environment(container).get("VOICEBUS_API_KEYS_FILE")
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert ("api-keys" in mounts) == (path is not None) == (command in {"gateway", "transcript-archiver"})
        if path is not None:
            (volume,) = [volume for volume in spec["volumes"] if volume["name"] == "api-keys"]
            (item,) = volume["secret"]["items"]
            assert path == f"{mounts['api-keys']}/{item['path']}"
            with_keys += 1
    assert with_keys == 2


def test_each_deployment_is_probed_on_its_ops_port(
    helm: Helm, values: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for deployment in of_kind(helm.render(values=values), "Deployment"):
        ((command, _, container),) = pods([deployment])
        settings = parse(environment(container), command, monkeypatch)
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert ports["ops"] == settings.ops_port
        assert settings.ops_host == "0.0.0.0"
        probes = {name: container[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
        assert probes == {
            "startupProbe": {"path": "/livez", "port": "ops"},
            "readinessProbe": {"path": "/readyz", "port": "ops"},
            "livenessProbe": {"path": "/livez", "port": "ops"},
        }


def test_services_publish_the_http_port_and_never_the_ops_port(
    helm: Helm, values: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = helm.render(values=values)
    for service in of_kind(objects, "Service"):
        selected = [
            item
            for item in of_kind(objects, "Deployment")
            if service["spec"]["selector"].items() <= item["spec"]["template"]["metadata"]["labels"].items()
        ]
        ((command, _, container),) = pods(selected)
        settings = parse(environment(container), command, monkeypatch)
        (port,) = service["spec"]["ports"]
        (http,) = [entry for entry in container["ports"] if entry["name"] == "http"]
        assert port["targetPort"] == "http"
        assert port["port"] == http["containerPort"] == settings.model_dump()["http_port"]


def test_a_deployment_selects_its_own_pods_and_no_others(helm: Helm, values: list[Path]) -> None:
    objects = helm.render(values=values)
    labels = {
        item["metadata"]["name"]: item["spec"]["template"]["metadata"]["labels"]
        for item in objects
        if item["kind"] in {"Deployment", "Job"}
    }
    for deployment in of_kind(objects, "Deployment"):
        selector = deployment["spec"]["selector"]["matchLabels"]
        assert [name for name, own in labels.items() if selector.items() <= own.items()] == [
            deployment["metadata"]["name"]
        ]


def test_every_pod_meets_the_restricted_pod_security_standard(helm: Helm, values: list[Path]) -> None:
    for _, spec, container in pods(helm.render(values=values)):
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "memory" in container["resources"].get("limits", {"memory": "unlimited by the values"})


def test_service_links_cannot_pass_for_settings(helm: Helm, values: list[Path]) -> None:
    # A Service named voicebus-http would put VOICEBUS_HTTP_PORT=tcp://10.0.0.1:80 into every pod.
    assert all(spec["enableServiceLinks"] is False for _, spec, _ in pods(helm.render(values=values)))


def test_the_grace_period_outlasts_pre_stop_and_drain(
    helm: Helm, values: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for deployment in of_kind(helm.render(values=values), "Deployment"):
        ((command, spec, container),) = pods([deployment])
        drain = parse(environment(container), command, monkeypatch).drain_timeout.total_seconds()
        pre_stop = container.get("lifecycle", {"preStop": {"sleep": {"seconds": 0}}})["preStop"]["sleep"]["seconds"]
        assert spec["terminationGracePeriodSeconds"] >= pre_stop + drain + CLOSING_S


def test_a_gateway_rollout_never_goes_below_its_replicas(helm: Helm) -> None:
    (gateway,) = [item for item in of_kind(helm.render(), "Deployment") if item["metadata"]["name"].endswith("gateway")]
    assert gateway["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    ((_, _, container),) = pods([gateway])
    assert container["lifecycle"]["preStop"]["sleep"]["seconds"] >= 5


def test_each_tool_worker_overrides_the_defaults_with_what_it_names(helm: Helm) -> None:
    workers = {
        item["spec"]["template"]["metadata"]["labels"]["voicebus/tool-worker"]: item
        for item in of_kind(helm.render(values=[FULL]), "Deployment")
        if item["metadata"]["labels"]["app.kubernetes.io/component"] == "tool-worker"
    }
    assert workers.keys() == {"default", "billing"}
    assert workers["default"]["spec"]["replicas"] == 0
    assert workers["billing"]["spec"]["replicas"] == 4
    ((_, _, default),) = pods([workers["default"]])
    ((_, _, billing),) = pods([workers["billing"]])
    assert default["args"] == ["tool-worker", "hotel.agents", "shop.agents:runner"]
    assert billing["args"] == ["tool-worker", "billing_tools"]
    assert "VOICEBUS_QUEUE" not in environment(default)
    assert billing["envFrom"] == [{"prefix": "BILLING_", "secretRef": {"name": "billing"}}]


def test_the_simulator_takes_the_models_place_only_when_enabled(helm: Helm) -> None:
    def gateway_model(*values: Path) -> tuple[str, bool]:
        objects = helm.render(values=values)
        (container,) = [container for command, _, container in pods(objects) if command == "gateway"]
        simulators = [item for item in objects if item["metadata"]["name"].endswith("model-simulator")]
        return environment(container)["VOICEBUS_MODEL_URL"], bool(simulators)

    assert gateway_model() == ("wss://api.openai.com/v1/realtime", False)
    url, deployed = gateway_model(TRIAL)
    assert deployed
    services = {item["metadata"]["name"]: item for item in of_kind(helm.render(values=[TRIAL]), "Service")}
    host, _, rest = url.removeprefix("ws://").partition(":")
    port, _, path = rest.partition("/")
    assert services[host]["spec"]["ports"][0]["port"] == int(port)
    assert path == "v1/realtime"


def test_migrations_run_as_a_hook_before_install_and_upgrade(helm: Helm) -> None:
    (job,) = of_kind(helm.render(), "Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert job["spec"]["template"]["spec"]["containers"][0]["args"] == ["migrate"]
    assert not of_kind(helm.render("--set=migration.enabled=false"), "Job")


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("gateways.replicas=1", "gateways"),
        ("gateway.replica=1", "replica"),
        ("gateway.service.typ=NodePort", "typ"),
        ("gateway.drainSeconds=60s", "drainSeconds"),
        ("gateway.toolTimeout=soon", "toolTimeout"),
        ("redis.url=redis://redis", "url"),
        ("redis.existingSecret=", "existingSecret"),
        ("redis.streamPrefix=v b", "streamPrefix"),
        ("model.apiKey=sk-1", "apiKey"),
        ("model.url=https://api.openai.com", "url"),
        ("toolWorkers.default.concurrent=3", "concurrent"),
        ("toolWorkers.Billing.replicas=3", "Billing"),
        ("toolWorkers.default=null", "toolWorkers"),
        ("toolWorkerDefaults.replica=1", "replica"),
        ("modelSimulator.enable=true", "enable"),
        ("logLevel=verbose", "logLevel"),
        ("targets={}", "targets"),
        ("targets={front-desk}", "targets"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("gateway.resources.request.cpu=1", "request"),
        ("gateway.envFrom[0].secretref.name=a", "secretref"),
    ],
)
def test_a_wrong_value_is_refused_by_name(helm: Helm, setting: str, named: str) -> None:
    result = helm.template(f"--set={setting}")
    assert result.returncode != 0
    assert "schema" in result.stderr
    assert named in result.stderr


def test_the_schema_leaves_no_object_open() -> None:
    schema = yaml.safe_load((CHART / "values.schema.json").read_text(encoding="utf-8"))
    # Helm's own, and affinities, whose terms Kubernetes checks.
    open_on_purpose = {"/properties/global"} | {
        f"/definitions/affinity/properties/{name}" for name in ("nodeAffinity", "podAffinity", "podAntiAffinity")
    }

    def open_objects(node: Any, path: str) -> Iterator[str]:
        if isinstance(node, dict):
            if node.get("type") == "object" and node.get("additionalProperties", True) is True:
                yield path
            for key, child in node.items():
                yield from open_objects(child, f"{path}/{key}")

    assert set(open_objects(schema, "")) == open_on_purpose


def test_names_stay_valid_and_distinct_for_the_longest_release_name(helm: Helm) -> None:
    objects = helm.render(values=[TRIAL], release="a" * 53)
    for kind in ("Deployment", "Service"):
        names = [item["metadata"]["name"] for item in of_kind(objects, kind)]
        assert len(set(names)) == len(names)
        assert all(len(name) <= 63 for name in names)


def test_the_charts_app_version_is_the_distributions() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert chart["appVersion"] == project["version"]
