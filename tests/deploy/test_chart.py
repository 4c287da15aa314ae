"""What the chart renders agrees with the services' settings, and keeps secrets out."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.chart import FULL, PRODUCTION, SMALL, STAND_INS, environment, labels, of_kind, one, pods, rendered
from deploy.cluster import CLOSING_S, SERVICES, SETTINGS, parse
from deploy.helm import CHART, ROOT, Helm

# The first test of a fresh clone downloads Helm.
pytestmark = pytest.mark.timeout(300)

Values = tuple[Path, ...]

PLACEHOLDER = "model-simulator"
"""The key for the simulator, which takes any: no secret."""

BYOR = CHART / "examples" / "bring-your-own-redis.yaml"


def test_every_service_is_deployed(helm: Helm) -> None:
    commands = [command for command, _, _ in pods(rendered(helm, (SMALL,)))]
    assert sorted(commands) == sorted([*SERVICES, "migrate"])


def test_each_containers_environment_parses_into_its_settings(
    helm: Helm, values: Values, monkeypatch: pytest.MonkeyPatch
) -> None:
    for command, _, container in pods(rendered(helm, values)):
        settings = parse(environment(container), command, monkeypatch)
        assert settings.log_format == "json"


def test_the_values_reach_the_settings_they_are_named_for(helm: Helm, monkeypatch: pytest.MonkeyPatch) -> None:
    read = {
        command: parse(environment(container), command, monkeypatch).model_dump(mode="json", exclude_unset=True)
        for command, _, container in pods(rendered(helm, (FULL,), "--set=toolWorkers.default=null"))
    }
    bus = {"stream_prefix": "prod", "event_shards": 64, "guardrail_shards": 8, "log_level": "debug"}
    gateway = bus | {
        "max_sessions": 250,
        "tool_timeout": "PT10S",
        "guardrail_timeout": "PT0.5S",
        "drain_timeout": "PT10M",
        "model_url": "wss://example.openai.azure.com/openai/v1/realtime",
        "model_name": "gpt-realtime-eu",
    }
    assert read["gateway"].items() >= gateway.items()
    worker = {"queue": "billing", "concurrency": 5, "tool_timeout": "PT1M", "drain_timeout": "PT1M30S"}
    assert read["tool-worker"].items() >= (bus | worker).items()
    checks = {"concurrency": 50, "guardrail_timeout": "PT0.5S", "drain_timeout": "PT5S"}
    assert read["guardrail-worker"].items() >= (bus | checks).items()
    assert read["transcript-archiver"].items() >= (bus | {"drain_timeout": "PT20S"}).items()


def test_each_service_opens_redis_as_its_own_user_where_it_has_one(helm: Helm, monkeypatch: pytest.MonkeyPatch) -> None:
    def urls(values: Values) -> dict[str, str]:
        return {
            f"{command} {environment(container).get('VOICEBUS_QUEUE', '')}".strip(): str(
                parse(environment(container), command, monkeypatch).model_dump()["redis_url"]
            )
            for command, _, container in pods(rendered(helm, values))
            if command in {"gateway", "tool-worker", "guardrail-worker", "transcript-archiver"}
        }

    assert urls((SMALL,))["gateway"] == "redis://calls-voicebus-redis:6379/0"
    assert urls((PRODUCTION,))["tool-worker billing"] == "rediss://:secret%2Fone@voice.redis.example:6379/0"
    users = {name: url.partition("://")[2].partition(":")[0] for name, url in urls((BYOR,)).items()}
    assert users == {
        "gateway": "vb-gateway",
        "tool-worker": "vb-tool-worker",
        "tool-worker billing": "vb-tool-worker-billing",
        "guardrail-worker": "vb-guardrail-worker",
        "transcript-archiver": "vb-transcript-archiver",
    }
    everyone_else = {name: url.partition("://")[2].partition(":")[0] for name, url in urls((FULL,)).items()}
    assert everyone_else["gateway"] == "voice-gateway"
    assert everyone_else["guardrail-worker"] == "voice"
    assert everyone_else["tool-worker billing"] == "billing"


@pytest.mark.parametrize("what", ["redis", "database"])
def test_certificates_to_trust_are_mounted_where_the_settings_say(
    helm: Helm, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusting = 0
    for command, spec, container in pods(rendered(helm, (FULL,))):
        given = environment(container)
        path = given.get({"redis": "VOICEBUS_REDIS_TLS_CA", "database": "PGSSLROOTCERT"}[what])
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert (path is not None) == (f"{what}-ca" in mounts)
        if path is None:
            continue
        trusting += 1
        (volume,) = [volume for volume in spec["volumes"] if volume["name"] == f"{what}-ca"]
        (item,) = volume["secret"]["items"]
        assert path == f"{mounts[f'{what}-ca']}/{item['path']}"
        if what == "redis":
            assert str(parse(given, command, monkeypatch).model_dump()["redis_tls_ca"]) == path
        else:
            assert given["PGSSLMODE"] == "verify-full"
    assert trusting == {"redis": 5, "database": 2}[what]


def test_a_gateway_serves_tls_with_the_pair_of_a_secret_that_is_followed(
    helm: Helm, monkeypatch: pytest.MonkeyPatch
) -> None:
    for given, secret in (((), None), ((FULL,), "calls-tls")):
        ((spec, container),) = [
            (spec, container) for command, spec, container in pods(rendered(helm, given)) if command == "gateway"
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
        "otlp_headers": "may hold a secret: comes by envFrom",
        "model_fallbacks": "may hold secrets: come by envFrom",
        "model_token": "names a function of the image's own: comes by envFrom",
        "mcp": "addresses may hold credentials, commands belong to an image of one's own: comes by envFrom",
        "mcp_headers": "may hold secrets: come by envFrom",
        "mcp_connect_timeout": "belongs to mcp",
        "mcp_prefix": "belongs to mcp",
        "reload": "for developers; the files of a pod do not change",
    }
    # The model-simulator is not looked at: most of its settings are for tests.
    forgotten = {
        f"{command}: {name}"
        for command, _, container in pods(rendered(helm, (FULL,)))
        for name in SETTINGS[command].model_fields.keys() - left_alone.keys()
        if f"VOICEBUS_{name.upper()}" not in environment(container)
    }
    # `voicebus migrate` neither drains nor has an ops port nor a trace; a worker without a queue of its own serves all.
    assert forgotten == {
        "migrate: ops_host", "migrate: drain_timeout", "migrate: otlp_endpoint", "migrate: trace_ratio",
        "tool-worker: queue",
    }  # fmt: skip


def test_secrets_come_by_reference_only(helm: Helm, values: Values) -> None:
    objects = rendered(helm, values)
    assert not of_kind(objects, "Secret")
    for _, _, container in pods(objects):
        for entry in container["env"]:
            if entry["name"] in STAND_INS and entry.get("value") != PLACEHOLDER:
                assert entry.keys() == {"name", "valueFrom"}
                assert entry["valueFrom"].keys() == {"secretKeyRef"}
            if entry["name"].endswith("_URL"):
                credentials = entry.get("value", "").partition("://")[2].rpartition("@")[0]
                assert ":" not in credentials, f"{entry['name']} holds a password"


def test_each_service_gets_the_secrets_it_needs_and_no_other(helm: Helm) -> None:
    given = {
        command: {entry["name"] for entry in container["env"] if "valueFrom" in entry}
        | {volume["secret"]["secretName"] for volume in spec["volumes"] if "secret" in volume}
        for command, spec, container in pods(rendered(helm))
    }
    redis, database = "VOICEBUS_REDIS_PASSWORD", "PGPASSWORD"
    assert given == {
        "gateway": {redis, "VOICEBUS_MODEL_API_KEY", "voicebus-api-keys"},
        "tool-worker": {redis},
        "guardrail-worker": {redis},
        "transcript-archiver": {redis, database, "voicebus-api-keys"},
        "migrate": {database},
    }


def test_the_api_keys_file_is_mounted_where_the_setting_says(helm: Helm, values: Values) -> None:
    with_keys = 0
    for command, spec, container in pods(rendered(helm, values)):
        path = environment(container).get("VOICEBUS_API_KEYS_FILE")
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert ("api-keys" in mounts) == (path is not None) == (command in {"gateway", "transcript-archiver"})
        if path is not None:
            (volume,) = [volume for volume in spec["volumes"] if volume["name"] == "api-keys"]
            (item,) = volume["secret"]["items"]
            assert path == f"{mounts['api-keys']}/{item['path']}"
            with_keys += 1
    assert with_keys == 2


def test_each_deployment_is_probed_on_its_ops_port(helm: Helm, values: Values, monkeypatch: pytest.MonkeyPatch) -> None:
    for deployment in of_kind(rendered(helm, values), "Deployment"):
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        settings = parse(environment(container), container["args"][0], monkeypatch)
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert ports["ops"] == settings.ops_port
        assert settings.ops_host == "::", "each address of the pod, also where it has one of IPv6 alone"
        probes = {name: container[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
        assert probes == {
            "startupProbe": {"path": "/livez", "port": "ops"},
            "readinessProbe": {"path": "/readyz", "port": "ops"},
            "livenessProbe": {"path": "/livez", "port": "ops"},
        }


def test_services_publish_the_http_port_and_never_the_ops_port(
    helm: Helm, values: Values, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = rendered(helm, values)
    published = set()
    for service in of_kind(objects, "Service"):
        (selected,) = [
            item
            for item in objects
            if item["kind"] in {"Deployment", "StatefulSet"}
            and service["spec"]["selector"].items() <= labels(item).items()
        ]
        (port,) = service["spec"]["ports"]
        if selected["kind"] == "StatefulSet":
            continue
        container = selected["spec"]["template"]["spec"]["containers"][0]
        settings = parse(environment(container), container["args"][0], monkeypatch)
        (http,) = [entry for entry in container["ports"] if entry["name"] == "http"]
        assert port["targetPort"] == "http"
        assert http["containerPort"] == settings.model_dump()["http_port"]
        published.add(port["port"])
    assert published == ({443, 81} if FULL in values else {8080, 8081} | ({8090} if SMALL in values else set()))


def test_a_workload_selects_its_own_pods_and_no_others(helm: Helm, values: Values) -> None:
    objects = rendered(helm, values)
    own = {
        item["metadata"]["name"]: labels(item)
        for item in objects
        if item["kind"] in {"Deployment", "Job", "StatefulSet"}
    }
    for workload in (*of_kind(objects, "Deployment"), *of_kind(objects, "StatefulSet")):
        selector = workload["spec"]["selector"]["matchLabels"]
        assert [name for name, has in own.items() if selector.items() <= has.items()] == [workload["metadata"]["name"]]


@pytest.mark.parametrize("kubernetes", ["1.28", "1.34"])
def test_the_grace_period_outlasts_pre_stop_and_drain(
    helm: Helm, values: Values, kubernetes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for deployment in of_kind(rendered(helm, values, f"--kube-version={kubernetes}.0"), "Deployment"):
        spec = deployment["spec"]["template"]["spec"]
        container = spec["containers"][0]
        drain = parse(environment(container), container["args"][0], monkeypatch).drain_timeout.total_seconds()
        assert spec["terminationGracePeriodSeconds"] >= pre_stop_s(container) + drain + CLOSING_S


def pre_stop_s(container: dict[str, Any]) -> float:
    """How long a pod goes on before it is told to stop."""
    hook = container.get("lifecycle", {}).get("preStop", {"sleep": {"seconds": 0}})
    if "sleep" in hook:
        return float(hook["sleep"]["seconds"])
    python, option, program = hook["exec"]["command"]
    assert (python, option) == ("python", "-c")
    assert program.startswith("import time; time.sleep(")
    return float(program.removeprefix("import time; time.sleep(").removesuffix(")"))


def test_a_gateway_rollout_never_goes_below_its_replicas(helm: Helm) -> None:
    gateway = one(rendered(helm), "Deployment", "gateway")
    assert gateway["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert gateway["spec"]["minReadySeconds"] >= 10
    (container,) = gateway["spec"]["template"]["spec"]["containers"]
    assert pre_stop_s(container) >= 5


def test_each_tool_worker_overrides_the_defaults_with_what_it_names(helm: Helm) -> None:
    workers = {
        labels(item)["voicebus/tool-worker"]: item
        for item in of_kind(rendered(helm, (FULL,), "--set=autoscaling.engine=none"), "Deployment")
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
    digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    assert default["image"] == f"registry.example/voice/agents:2026.11.1@{digest}"
    assert (billing["image"], billing["imagePullPolicy"]) == ("registry.example/billing:7", "Never")


@pytest.mark.parametrize(
    ("own", "image"),
    [
        ("toolWorkers.a.image.tag=v7", "registry.example/all:v7"),
        (f"toolWorkers.a.image.digest=sha256:{'0' * 64}", f"registry.example/all:0.1.0@sha256:{'0' * 64}"),
        ("toolWorkers.a.image.pullPolicy=Always", f"registry.example/all:v5@sha256:{'f' * 64}"),
        ("toolWorkers.a.image.repository=b", "b:0.1.0"),
        ("toolWorkerDefaults.image.repository=b,toolWorkers.a.image.tag=v7", "b:v7"),
        ("toolWorkerDefaults.image.tag=v6,toolWorkers.a.image.pullPolicy=Always", "registry.example/all:v6"),
    ],
)
def test_a_tool_workers_tag_or_digest_alone_is_of_the_same_repository(helm: Helm, own: str, image: str) -> None:
    """It was ignored without a word, and the worker went on with the tag of all."""
    of_all = f"--set=image.repository=registry.example/all,image.tag=v5,image.digest=sha256:{'f' * 64}"
    worker = one(rendered(helm, (), of_all, f"--set=toolWorkers.a.replicas=1,{own}"), "Deployment", "tool-worker-a")
    assert worker["spec"]["template"]["spec"]["containers"][0]["image"] == image


def test_a_service_gets_further_variables_and_volumes_as_kubernetes_means_them(helm: Helm) -> None:
    spec = one(rendered(helm, (FULL,)), "Deployment", "gateway")["spec"]["template"]["spec"]
    container = spec["containers"][0]
    assert {"name": "HOTEL", "value": "7"} in container["env"]
    assert {"name": "prompts", "configMap": {"name": "prompts"}} in spec["volumes"]
    assert {"name": "prompts", "mountPath": "/app/prompts", "readOnly": True} in container["volumeMounts"]
    assert spec["serviceAccountName"] == "gateway"


def test_the_simulator_takes_the_models_place_only_when_enabled(helm: Helm) -> None:
    def gateway_model(*values: Path) -> tuple[str, bool]:
        objects = rendered(helm, values)
        (container,) = [container for command, _, container in pods(objects) if command == "gateway"]
        simulators = [item for item in objects if item["metadata"]["name"].endswith("model-simulator")]
        return environment(container)["VOICEBUS_MODEL_URL"], bool(simulators)

    assert gateway_model() == ("wss://api.openai.com/v1/realtime", False)
    url, deployed = gateway_model(SMALL)
    assert deployed
    services = {item["metadata"]["name"]: item for item in of_kind(rendered(helm, (SMALL,)), "Service")}
    host, _, rest = url.removeprefix("ws://").partition(":")
    port, _, path = rest.partition("/")
    assert services[host]["spec"]["ports"][0]["port"] == int(port)
    assert path == "v1/realtime"


def test_migrations_run_before_install_and_upgrade_with_what_they_need(helm: Helm) -> None:
    objects = rendered(helm)
    (job,) = of_kind(objects, "Job")
    assert job["spec"]["template"]["spec"]["containers"][0]["args"] == ["migrate"]
    hooks = {
        item["kind"]: item["metadata"]["annotations"]
        for item in objects
        if "helm.sh/hook" in item["metadata"].get("annotations", {})
    }
    # A hook comes before everything else: what it needs has to be one as well, and earlier.
    assert hooks.keys() == {"Job", "ServiceAccount", "NetworkPolicy"}
    assert all(hook["helm.sh/hook"] == "pre-install,pre-upgrade" for hook in hooks.values())
    weights = {kind: int(hook["helm.sh/hook-weight"]) for kind, hook in hooks.items()}
    assert max(weights["ServiceAccount"], weights["NetworkPolicy"]) < weights["Job"]
    # Helm forgets hooks: what were not deleted here would stay behind when the release is gone.
    assert {hook["helm.sh/hook-delete-policy"] for hook in hooks.values()} == {"before-hook-creation,hook-succeeded"}
    assert not of_kind(rendered(helm, (), "--set=migration.enabled=false"), "Job")


def test_a_trials_database_is_migrated_by_the_archiver_as_it_comes_up_with_the_release(helm: Helm) -> None:
    objects = rendered(helm, (SMALL,))
    assert not of_kind(objects, "Job")
    archiver = one(objects, "Deployment", "transcript-archiver")["spec"]["template"]["spec"]
    (migrate,) = archiver["initContainers"]
    (container,) = archiver["containers"]
    assert migrate["args"] == ["migrate"]
    assert environment(migrate)["VOICEBUS_DATABASE_URL"] == environment(container)["VOICEBUS_DATABASE_URL"]


def test_a_trials_servers_are_where_the_services_look_and_keep_what_they_are_given(helm: Helm) -> None:
    objects = rendered(helm, (SMALL,))
    ports = {item["metadata"]["name"]: item["spec"]["ports"][0]["port"] for item in of_kind(objects, "Service")}
    seen = {
        value
        for _, _, container in pods(objects)
        for name, value in environment(container).items()
        if name in {"VOICEBUS_REDIS_URL", "VOICEBUS_DATABASE_URL"}
    }
    assert seen == {
        f"redis://calls-voicebus-redis:{ports['calls-voicebus-redis']}/0",
        f"postgresql+psycopg://voicebus@calls-voicebus-postgresql:{ports['calls-voicebus-postgresql']}/voicebus",
    }
    redis = one(objects, "StatefulSet", "redis")["spec"]["template"]["spec"]["containers"][0]
    options = dict(zip(redis["args"][1::2], redis["args"][2::2], strict=True))
    assert options.items() >= {"--appendonly": "yes", "--maxmemory-policy": "noeviction"}.items()
    assert not any(item["kind"] == "StatefulSet" for item in rendered(helm, (PRODUCTION,)))


def test_the_notes_say_what_an_operator_has_to_know(helm: Helm) -> None:
    def notes(*values: Path) -> str:
        result = helm.run(
            *("install", "calls", str(CHART), "--namespace=voice", "--dry-run=client"),
            *(f"--values={path}" for path in values),
        )
        assert result.returncode == 0, result.stderr
        return result.stdout.partition("NOTES:")[2]

    trial = notes(SMALL)
    assert "exec deploy/calls-voicebus-gateway -- voicebus doctor --for gateway front_desk\n" in trial
    assert "ws://calls-voicebus-gateway.voice:8080/v1/realtime" in trial
    assert "for trials only" in trial
    production = notes(PRODUCTION)
    assert "wss://calls.example/v1/realtime" in production
    # preStop 10, drain 300, closing 60
    assert "370 s" in production
    assert "--max-graceful-termination-sec" in production
    assert "for trials only" not in production


def test_the_charts_app_version_is_the_distributions() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert chart["appVersion"] == project["version"]


def test_the_privacy_file_is_mounted_where_the_setting_says(helm: Helm) -> None:
    with_rules = set()
    for command, spec, container in pods(rendered(helm, (FULL,))):
        path = environment(container).get("VOICEBUS_PRIVACY_FILE")
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert (path is not None) == ("privacy" in mounts)
        if path is not None:
            (volume,) = [volume for volume in spec["volumes"] if volume["name"] == "privacy"]
            (item,) = volume["configMap"]["items"]
            assert (item["key"], path) == ("rules.yaml", f"{mounts['privacy']}/{item['path']}")
            with_rules.add(command)
    assert with_rules == {"gateway", "transcript-archiver"}
