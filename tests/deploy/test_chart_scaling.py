"""How many pods there are, where they stand and when one may go: autoscalers, budgets, spread, priority."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from deploy.api_server import cluster_with
from deploy.chart import FULL, MINIMAL, PRODUCTION, SMALL, chart_values, labels, of_kind, one, rendered
from deploy.helm import CHART, ROOT, Helm, find_helm
from voicebus.contracts.streams import WORKERS_GROUP, Keys
from voicebus.telemetry import metrics

# The first test of a fresh clone downloads Helm.
pytestmark = pytest.mark.timeout(300)

Values = tuple[Path, ...]
MULTI_ZONE = CHART / "examples" / "multi-zone.yaml"
BYOR = CHART / "examples" / "bring-your-own-redis.yaml"
KEDA = "--set=autoscaling.engine=keda"
HPA = "--set=autoscaling.engine=hpa"
OPERATORS = "--api-versions=monitoring.coreos.com/v1"


def upgraded(helm: Helm, kubeconfig: Path, *arguments: str) -> list[dict[str, Any]]:
    """What an upgrade in this cluster renders."""
    result = helm.run(
        *("template", "calls", str(CHART), "--namespace=voice", f"--values={PRODUCTION}", *arguments),
        *("--dry-run=server", "--disable-openapi-validation"),
        kubeconfig=kubeconfig,
    )
    assert result.returncode == 0, result.stderr
    return [item for item in yaml.load_all(result.stdout, yaml.CSafeLoader) if item]


def triggers(scaled: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {trigger["name"]: trigger["metadata"] for trigger in scaled["spec"]["triggers"]}


def replicas_wanted(scaled: dict[str, Any], measured: dict[str, float]) -> int:
    """What an HPA makes of KEDA's metrics: of each the value over its target, rounded up; of several the highest."""
    advanced = scaled["spec"]["advanced"]
    wanted = []
    if "scalingModifiers" in advanced:
        formula = advanced["scalingModifiers"]["formula"]
        assert re.fullmatch(r"[a-z0-9+/(), ]+", formula)
        value = eval(formula, {"__builtins__": {}}, {"max": max, **measured})
        wanted.append(value / float(advanced["scalingModifiers"]["target"]))
    else:
        for name, metadata in triggers(scaled).items():
            target = metadata.get("lagCount") or metadata.get("pendingEntriesCount") or metadata.get("threshold")
            wanted.append(measured[name] / float(str(target)))
    bounds = scaled["spec"]
    return int(min(max(-(-max(wanted) // 1), bounds["minReplicaCount"]), bounds["maxReplicaCount"]))


def test_workers_are_scaled_on_what_waits_and_on_what_is_in_work(helm: Helm) -> None:
    scaled = one(rendered(helm, (), KEDA), "ScaledObject", "tool-worker-default")
    found = triggers(scaled)
    assert {metadata["stream"] for metadata in found.values()} == {Keys("vb").tools("default")}
    assert {metadata["consumerGroup"] for metadata in found.values()} == {WORKERS_GROUP}
    assert found["lag0"]["lagCount"] == "5"
    # Without it KEDA takes no lagCount, and 0 is refused by some versions.
    assert found["lag0"]["activationLagCount"] == "1"
    # 0.7 of a concurrency of 20
    assert found["pending0"]["pendingEntriesCount"] == "14"
    # Nothing waits, but 3 pods of 20 have all they can: a fifth is wanted before the next call has to wait.
    assert replicas_wanted(scaled, {"lag0": 0, "pending0": 60}) == 5
    # In work as little as can be, and 35 wait.
    assert replicas_wanted(scaled, {"lag0": 35, "pending0": 2}) == 7


def test_a_worker_of_one_call_at_once_is_scaled_as_well(helm: Helm, tmp_path: Path) -> None:
    """0.7 of one is none: KEDA refuses a target of 0, and a formula would divide by it."""
    values = tmp_path / "values.yaml"
    values.write_text(
        "redis: {url: 'redis://r'}\ndatabase: {url: postgresql+psycopg://u@db/c}\nautoscaling: {engine: keda}\n"
        "gateway: {maxSessions: 1}\nguardrailWorker: {concurrency: 1}\ntoolWorkers: {default: {concurrency: 1}}\n"
    )
    objects = helm.render(values=[values])
    assert triggers(one(objects, "ScaledObject", "tool-worker-default"))["pending0"]["pendingEntriesCount"] == "1"
    assert triggers(one(objects, "ScaledObject", "gateway"))["sessions"]["threshold"] == "1"
    guardrails = one(objects, "ScaledObject", "guardrail-worker")
    shards = len(triggers(guardrails)) // 2
    measured = {f"{signal}{shard}": 1.0 for shard in range(shards) for signal in ("lag", "pending")}
    assert replicas_wanted(guardrails, measured) == shards


def test_what_waits_in_several_streams_is_one_amount_of_work(helm: Helm) -> None:
    scaled = one(rendered(helm, (), KEDA), "ScaledObject", "guardrail-worker")
    shards = chart_values()["redis"]["guardrailShards"]
    streams = {metadata["stream"] for metadata in triggers(scaled).values()}
    assert streams == {Keys("vb", guardrail_shards=shards).guardrails(shard) for shard in range(shards)}
    # Of plain triggers the highest would count: 4 where 40 entries wait.
    measured = {f"lag{shard}": 10.0 for shard in range(shards)} | {f"pending{shard}": 1.0 for shard in range(shards)}
    assert replicas_wanted(scaled, measured) == 8
    busy = {f"lag{shard}": 0.0 for shard in range(shards)} | {f"pending{shard}": 20.0 for shard in range(shards)}
    assert replicas_wanted(scaled, busy) == 6


@pytest.mark.parametrize(
    ("worker", "queues"),
    [
        ("{targets: [agents]}", {"default"}),
        ("{targets: ['agents:desk', shop.tools, shop.more]}", {"default", "shop"}),
        ("{queue: billing}", {"billing"}),
        ("{queue: billing, scaling: {queues: [a, b]}}", {"a", "b"}),
    ],
)
def test_the_streams_are_those_of_the_workers_queues(helm: Helm, worker: str, queues: set[str], tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(
        "redis: {url: 'redis://r'}\ndatabase: {url: postgresql+psycopg://u@db/c}\n"
        f"autoscaling: {{engine: keda}}\ntoolWorkers: {{default: {worker}}}\n"
    )
    scaled = one(helm.render(values=[values]), "ScaledObject", "tool-worker-default")
    assert {metadata["stream"] for metadata in triggers(scaled).values()} == {Keys("vb").tools(name) for name in queues}


@pytest.mark.parametrize(
    ("values", "kind", "address"),
    [
        ((PRODUCTION,), "redis-streams", {"address": "voice.redis.example:6379", "databaseIndex": "0"}),
        (
            (MULTI_ZONE,),
            "redis-sentinel-streams",
            {
                "addresses": "sentinel-a.redis:26379,sentinel-b.redis:26379,sentinel-c.redis:26379",
                "sentinelMaster": "voice",
                "databaseIndex": "0",
            },
        ),
        (
            (FULL,),
            "redis-sentinel-streams",
            {"addresses": "a.redis:26379,b.redis:26380", "sentinelMaster": "calls", "databaseIndex": "3"},
        ),
        (
            (BYOR,),
            "redis-cluster-streams",
            {
                "addresses": "redis-0.redis.infra:6379,redis-1.redis.infra:6379,redis-2.redis.infra:6379",
                "username": "vb-autoscaler",
            },
        ),
    ],
)
def test_keda_reaches_redis_as_the_services_do(helm: Helm, values: Values, kind: str, address: dict[str, str]) -> None:
    objects = rendered(helm, values, KEDA)
    for scaled in of_kind(objects, "ScaledObject"):
        if scaled["metadata"]["name"].endswith("-gateway"):
            continue
        for trigger in scaled["spec"]["triggers"]:
            assert trigger["type"] == kind
            assert trigger["metadata"].items() >= (address | {"enableTLS": "true"}).items()
            assert trigger["authenticationRef"]["name"].endswith("-redis")
    authentication = one(objects, "TriggerAuthentication", "redis")
    known = {item["parameter"] for item in authentication["spec"]["secretTargetRef"]}
    assert "password" in known
    assert ("ca" in known) == (values != (PRODUCTION,))
    assert ("sentinelPassword" in known) == (kind == "redis-sentinel-streams")


def test_gateways_are_scaled_on_sessions_with_a_reserve_for_what_arrives_while_a_pod_starts(helm: Helm) -> None:
    scaled = one(rendered(helm, (), KEDA), "ScaledObject", "gateway")
    (metadata,) = triggers(scaled).values()
    named = set(re.findall(r"voicebus_\w+", metadata["query"]))
    declared = {
        name
        for metric in vars(metrics).values()
        if isinstance(metric, MetricWrapperBase)
        for described in metric.describe()
        for name in (described.name, f"{described.name}_total")
    }
    assert named == {
        "voicebus_sessions_active", "voicebus_sessions_started_total", "voicebus_admission_rejected_total",
    }  # fmt: skip
    assert named <= declared
    assert 'namespace="voice",pod=~"calls-voicebus-gateway-.*"' in metadata["query"]
    assert "clamp_min(60 * (" in metadata["query"]
    assert metadata["query"].endswith("), 50)")
    # No answer is no "no calls".
    assert metadata["ignoreNullValues"] == "false"
    assert not metadata["query"].splitlines()[0].endswith("vector(0)")
    # 0.7 of 250
    assert metadata["threshold"] == "175"
    # 1,000 sessions, and two a second for the minute that a pod may need.
    assert replicas_wanted(scaled, {"sessions": 1000 + 60 * 2}) == 7


def test_a_blind_autoscaler_never_takes_pods_away(helm: Helm) -> None:
    for scaled in of_kind(rendered(helm, (PRODUCTION,), KEDA), "ScaledObject"):
        fallback = scaled["spec"]["fallback"]
        assert fallback["behavior"] == "currentReplicasIfHigher"
        assert fallback["replicas"] >= scaled["spec"]["minReplicaCount"]
    for scaled in of_kind(rendered(helm, (FULL,), KEDA), "ScaledObject"):
        assert "behavior" not in scaled["spec"]["fallback"], "KEDA before 2.17 does not know it"


@pytest.mark.parametrize("engine", [KEDA, HPA])
def test_more_come_at_once_and_fewer_slowly(helm: Helm, engine: str) -> None:
    objects = rendered(helm, (), engine)
    behaviors = {
        item["metadata"]["name"].removeprefix("calls-voicebus-"): (
            item["spec"]["behavior"]
            if "behavior" in item["spec"]
            else item["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        )
        for item in (*of_kind(objects, "ScaledObject"), *of_kind(objects, "HorizontalPodAutoscaler"))
    }
    assert behaviors.keys() == {"gateway", "guardrail-worker", "tool-worker-default"}
    for name, behavior in behaviors.items():
        assert behavior["scaleUp"]["stabilizationWindowSeconds"] == 0
        assert behavior["scaleDown"]["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 60}]
        # A gateway's calls move when it goes.
        assert behavior["scaleDown"]["stabilizationWindowSeconds"] == (600 if name == "gateway" else 300)


def test_without_keda_gateways_are_still_not_scaled_on_the_processor(helm: Helm) -> None:
    objects = rendered(helm, (), HPA)
    assert not of_kind(objects, "ScaledObject")
    (metric,) = one(objects, "HorizontalPodAutoscaler", "gateway")["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == "voicebus_sessions_active"
    assert metric["pods"]["target"]["averageValue"] == "175"
    (metric,) = one(objects, "HorizontalPodAutoscaler", "tool-worker-default")["spec"]["metrics"]
    assert metric["resource"]["name"] == "cpu"


def test_replicas_are_set_by_the_autoscaler_or_by_the_values_and_never_by_both(helm: Helm, values: Values) -> None:
    if SMALL in values:
        return
    for engine in (KEDA, HPA, "--set=autoscaling.engine=none"):
        objects = rendered(helm, values, engine)
        scaled = {
            item["spec"]["scaleTargetRef"]["name"]
            for item in (*of_kind(objects, "ScaledObject"), *of_kind(objects, "HorizontalPodAutoscaler"))
        }
        by_values = {item["metadata"]["name"] for item in of_kind(objects, "Deployment") if "replicas" in item["spec"]}
        assert scaled.isdisjoint(by_values)
        assert scaled | by_values == {item["metadata"]["name"] for item in of_kind(objects, "Deployment")}
        assert bool(scaled) == (engine != "--set=autoscaling.engine=none")


def test_an_upgrade_to_an_autoscaler_leaves_as_many_pods_as_there_are(tmp_path: Path) -> None:
    """Where `replicas` leaves a manifest Kubernetes makes it 1, and ends all other gateways with their calls."""
    helm = find_helm(3)  # Helm 4 wants a server that knows every kind there is
    with cluster_with({"calls-voicebus-gateway": 7}, tmp_path) as kubeconfig:
        objects = upgraded(helm, kubeconfig)
    assert one(objects, "Deployment", "gateway")["spec"]["replicas"] == 7
    # Of what is new the autoscaler alone says how many there are to be.
    assert "replicas" not in one(objects, "Deployment", "tool-worker-billing")["spec"]


def test_a_release_that_began_with_an_autoscaler_says_nothing_of_replicas_in_an_upgrade_either(
    helm: Helm, tmp_path: Path
) -> None:
    """Where they stood in the later revision alone, a rollback to the first took them away: to one gateway."""
    began = one(rendered(helm, (PRODUCTION,)), "Deployment", "gateway")
    there = {began["metadata"]["name"]: began["metadata"]["annotations"]}
    with cluster_with({began["metadata"]["name"]: 7}, tmp_path, annotations=there) as kubeconfig:
        later = one(upgraded(find_helm(3), kubeconfig), "Deployment", "gateway")
        changed = one(upgraded(find_helm(3), kubeconfig, "--set=autoscaling.engine=none"), "Deployment", "gateway")
    assert "replicas" not in began["spec"] | later["spec"]
    assert later["metadata"]["annotations"] == began["metadata"]["annotations"]
    # Without one it has what the values say, and keeps the field from then on.
    assert changed["spec"]["replicas"] == 4
    assert "annotations" not in changed["metadata"]


def test_a_budget_is_only_where_a_drained_node_never_waits_for_it(helm: Helm, values: Values) -> None:
    objects = rendered(helm, values)
    least = {
        **{item["metadata"]["name"]: item["spec"].get("replicas") for item in of_kind(objects, "Deployment")},
        **{
            item["spec"]["scaleTargetRef"]["name"]: item["spec"]["minReplicaCount"]
            for item in of_kind(objects, "ScaledObject")
        },
        **{
            item["spec"]["scaleTargetRef"]["name"]: item["spec"]["minReplicas"]
            for item in of_kind(objects, "HorizontalPodAutoscaler")
        },
    }
    budgets = {item["metadata"]["name"]: item["spec"] for item in of_kind(objects, "PodDisruptionBudget")}
    assert budgets.keys() == {name for name, count in least.items() if count >= 2}
    for name, budget in budgets.items():
        assert "minAvailable" not in budget
        assert budget["maxUnavailable"] in {1, "25%"}  # of two or more, 25 % is rounded up to one at least
        assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
        deployment = next(item for item in of_kind(objects, "Deployment") if item["metadata"]["name"] == name)
        assert budget["selector"]["matchLabels"] == deployment["spec"]["selector"]["matchLabels"]


def test_pods_are_spread_over_zones_as_strictly_as_the_values_say(helm: Helm) -> None:
    def spread(values: Values) -> dict[str, str]:
        deployment = one(rendered(helm, values), "Deployment", "gateway")
        terms = deployment["spec"]["template"]["spec"].get("topologySpreadConstraints", [])
        for term in terms:
            assert term["labelSelector"]["matchLabels"] == deployment["spec"]["selector"]["matchLabels"]
            assert term["matchLabelKeys"] == ["pod-template-hash"]
        return {term["topologyKey"]: term["whenUnsatisfiable"] for term in terms}

    zone, node = "topology.kubernetes.io/zone", "kubernetes.io/hostname"
    assert spread(()) == {zone: "ScheduleAnyway", node: "ScheduleAnyway"}
    assert spread((MULTI_ZONE,)) == {zone: "DoNotSchedule", node: "ScheduleAnyway"}
    assert spread((SMALL,)) == {}


def test_calls_have_the_priority_class_that_the_values_make_or_name(helm: Helm) -> None:
    def used(values: Values) -> set[str | None]:
        return {
            item["spec"]["template"]["spec"].get("priorityClassName")
            for item in of_kind(rendered(helm, values), "Deployment")
        }

    assert used(()) == {None}
    assert used((MULTI_ZONE,)) == {"voice"}
    assert not of_kind(rendered(helm, (MULTI_ZONE,)), "PriorityClass")
    (made,) = of_kind(rendered(helm, (PRODUCTION,)), "PriorityClass")
    assert used((PRODUCTION,)) == {made["metadata"]["name"]}


def test_releases_of_one_name_in_two_namespaces_have_a_priority_class_each(helm: Helm) -> None:
    """It is an object of the cluster: Helm refused to install the second."""
    (made,) = of_kind(rendered(helm, (PRODUCTION,)), "PriorityClass")
    assert made["metadata"]["name"] == "voice-calls-voicebus"
    (made,) = of_kind(rendered(helm, (PRODUCTION,), "--set=priorityClass.name=mine"), "PriorityClass")
    assert made["metadata"]["name"] == "mine"


@pytest.mark.parametrize(
    ("enabled", "arguments", "made"),
    [("auto", (), False), ("auto", (OPERATORS,), True), ("true", (), True), ("false", (OPERATORS,), False)],
)
def test_objects_of_the_prometheus_operator_are_made_where_it_is(
    helm: Helm, enabled: str, arguments: tuple[str, ...], made: bool
) -> None:
    objects = rendered(
        helm,
        (),
        *(f"--set=monitoring.{part}.enabled={enabled}" for part in ("podMonitor", "rules", "dashboards")),
        *arguments,
    )
    dashboards = [item for item in of_kind(objects, "ConfigMap") if "-dashboard-" in item["metadata"]["name"]]
    assert bool(of_kind(objects, "PodMonitor")) == bool(of_kind(objects, "PrometheusRule")) == bool(dashboards) == made


def test_a_label_for_prometheus_takes_the_place_of_the_one_of_all_objects(helms: Helm) -> None:
    """Twice in one object, it is an error of YAML to Flux and to Argo CD."""
    parts = ("podMonitor", "rules", "dashboards")
    result = helms.template(
        *MINIMAL, OPERATORS, "--set=commonLabels.release=all",
        *(f"--set=monitoring.{part}.labels.release=prometheus" for part in parts),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    found = set()
    for text in result.stdout.split("\n---\n"):
        for kind in ("PodMonitor", "PrometheusRule", "ConfigMap"):
            if f"\nkind: {kind}\n" in text:
                assert re.findall(r"^    release: .*$", text, re.MULTILINE) == ["    release: prometheus"], text[:500]
                found.add(kind)
    assert found == {"PodMonitor", "PrometheusRule", "ConfigMap"}


def test_prometheus_scrapes_every_service_at_its_ops_port(helm: Helm) -> None:
    objects = rendered(helm, (SMALL,), OPERATORS)
    (monitor,) = of_kind(objects, "PodMonitor")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"], endpoint["honorLabels"]) == ("ops", "/metrics", False)
    selector = monitor["spec"]["selector"]
    for deployment in of_kind(objects, "Deployment"):
        pod = labels(deployment)
        assert selector["matchLabels"].items() <= pod.items()
        assert pod["app.kubernetes.io/component"] not in selector["matchExpressions"][0]["values"]


def test_prometheus_is_told_of_which_release_a_pod_is(helm: Helm) -> None:
    objects = rendered(helm, (SMALL,), OPERATORS)
    (monitor,) = of_kind(objects, "PodMonitor")
    (relabeling,) = monitor["spec"]["podMetricsEndpoints"][0]["relabelings"]
    assert relabeling["targetLabel"] == "release"
    of_pods = {labels(deployment)["app.kubernetes.io/instance"] for deployment in of_kind(objects, "Deployment")}
    assert of_pods == {"calls"}, "the release's name"
    assert relabeling["sourceLabels"] == ["__meta_kubernetes_pod_label_app_kubernetes_io_instance"]


def test_each_file_of_rules_is_an_object_of_its_own_with_the_labels_that_prometheus_looks_for(helm: Helm) -> None:
    rules = ROOT / "deploy" / "prometheus" / "rules"
    files = {path.stem.removeprefix("voicebus-"): yaml.safe_load(path.read_text()) for path in rules.glob("*.yml")}
    assert files
    objects = of_kind(rendered(helm, (PRODUCTION,)), "PrometheusRule")
    made = {item["metadata"]["name"].removeprefix("calls-voicebus-"): item for item in objects}
    assert {name: item["spec"] for name, item in made.items()} == files
    assert all(item["metadata"]["labels"]["release"] == "prometheus" for item in objects)


def test_each_dashboard_is_a_config_map_that_grafanas_sidecar_finds(helm: Helm) -> None:
    files = {path.name: path.read_text(encoding="utf-8").strip() for path in (ROOT / "deploy/grafana").glob("*.json")}
    assert files
    arguments = (OPERATORS, "--set=monitoring.dashboards.annotations.grafana_folder=Calls")
    objects = of_kind(rendered(helm, (), *arguments), "ConfigMap")
    made = [item for item in objects if item["metadata"]["labels"].get("grafana_dashboard") == "1"]
    assert {name: text.strip() for item in made for name, text in item["data"].items()} == files
    # One with all of them would be refused: Kubernetes takes a megabyte.
    assert [len(item["data"]) for item in made] == [1] * len(files)
    assert all(item["metadata"]["annotations"] == {"grafana_folder": "Calls"} for item in made)
