"""What an operator adds to pods, of one service or of all, arrives as Kubernetes means it, and takes nothing away."""

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.chart import FULL, SMALL, Object, environment, labels, of_kind, one, pod_specs, pods, rendered
from deploy.helm import Helm

# The first test of a fresh clone downloads Helm.
pytestmark = pytest.mark.timeout(300)


def spec_of(objects: list[Object], kind: str, suffix: str) -> dict[str, Any]:
    found: dict[str, Any] = one(objects, kind, suffix)["spec"]["template"]["spec"]
    return found


def test_a_common_label_is_on_every_object_and_every_pod_and_selects_nothing(helm: Helm) -> None:
    for values in ((FULL,), (SMALL,)):
        label = "--set=commonLabels.example\\.com/cost-center=x"
        objects = rendered(helm, values, label)
        without = {
            f"{item['kind']} {item['metadata']['name']}"
            for item in objects
            if item["metadata"]["labels"].get("example.com/cost-center") != "x"
        }
        assert without == set()
        for workload, _ in pod_specs(objects):
            assert labels(workload)["example.com/cost-center"] == "x"
            assert "example.com/cost-center" not in str(workload["spec"].get("selector"))


def test_further_containers_stand_beside_the_service_and_before_it(helm: Helm) -> None:
    for kind, suffix in (("Deployment", "gateway"), ("Job", "migrate")):
        spec = spec_of(rendered(helm, (FULL,)), kind, suffix)
        assert [container["name"] for container in spec["initContainers"]] == ["helper"]
        assert spec["containers"][0]["command"] == ["voicebus"], "kubectl exec and logs take the first one"
    assert [one["name"] for one in spec_of(rendered(helm, (FULL,)), "Deployment", "gateway")["containers"][1:]] == [
        "proxy"
    ]


def test_init_containers_of_a_trials_archiver_come_before_its_migrations(helm: Helm) -> None:
    waiting = (
        "--set=transcriptArchiver.initContainers[0].name=wait",
        "--set=transcriptArchiver.initContainers[0].image=w",
    )
    spec = spec_of(rendered(helm, (SMALL,), *waiting), "Deployment", "transcript-archiver")
    assert [container["name"] for container in spec["initContainers"]] == ["wait", "migrate"]


def test_what_is_said_of_all_pods_is_said_of_migrations_too(helm: Helm) -> None:
    for workload, spec in pod_specs(rendered(helm, (FULL,))):
        name = workload["metadata"]["name"]
        assert spec["hostAliases"] == [{"ip": "10.1.0.7", "hostnames": ["a.redis", "b.redis"]}], name
        assert (spec["dnsPolicy"], spec["dnsConfig"]["nameservers"]) == ("None", ["10.96.0.10"])
        assert spec["runtimeClassName"] == "gvisor"
        assert spec["imagePullSecrets"] == [{"name": "registry"}]
    plain = spec_of(rendered(helm), "Deployment", "gateway")
    assert not plain.keys() & {"hostAliases", "dnsPolicy", "dnsConfig", "runtimeClassName", "initContainers"}


def test_a_cluster_that_gives_users_itself_is_left_to_do_so_and_root_stays_refused(helm: Helm) -> None:
    none = [f"--set=pods.securityContext.{name}=null" for name in ("runAsUser", "runAsGroup", "fsGroup")]
    left = spec_of(rendered(helm, (), *none), "Deployment", "gateway")["securityContext"]
    assert left == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    own = spec_of(rendered(helm, (FULL,)), "Deployment", "gateway")["securityContext"]
    assert own == left | {"runAsUser": 65532, "supplementalGroups": [2000]}
    ours = spec_of(rendered(helm), "Deployment", "gateway")["securityContext"]
    assert (ours["runAsUser"], ours["runAsGroup"], ours["fsGroup"]) == (10001, 10001, 10001)


def test_a_migration_is_placed_labelled_and_fed_as_a_service_is(helm: Helm) -> None:
    objects = rendered(helm, (FULL,))
    job = one(objects, "Job", "migrate")
    spec, metadata = job["spec"]["template"]["spec"], job["spec"]["template"]["metadata"]
    assert spec["nodeSelector"] == {"kubernetes.io/arch": "amd64"}
    assert spec["tolerations"] == [{"key": "dedicated", "operator": "Exists"}]
    assert metadata["annotations"] == {"sidecar.istio.io/inject": "false"}, "a mesh's sidecar keeps a job from ending"
    assert metadata["labels"]["team"] == "voice"
    assert job["metadata"]["annotations"].items() >= {"example.com/owner": "voice"}.items()
    (container,) = spec["containers"]
    assert {"name": "PGSSLCRLDIR", "value": "/crl"} in container["env"]
    assert container["envFrom"] == [{"secretRef": {"name": "migrate"}}]
    assert {"name": "crl", "mountPath": "/crl", "readOnly": True} in container["volumeMounts"]
    assert {"name": "crl", "configMap": {"name": "crl"}} in spec["volumes"]
    (policy,) = [item for item in of_kind(objects, "NetworkPolicy") if item["metadata"]["name"].endswith("migrate")]
    assert {"to": [{"ipBlock": {"cidr": "10.9.0.0/16"}}], "ports": [{"port": 443, "protocol": "TCP"}]} in policy[
        "spec"
    ]["egress"]


def test_images_of_a_trials_servers_are_pulled_with_the_same_credentials(helm: Helm) -> None:
    objects = rendered(helm, (SMALL,), "--set=image.pullSecrets={registry}")
    assert {workload["kind"] for workload, _ in pod_specs(objects)} == {"Deployment", "StatefulSet"}
    for workload, spec in pod_specs(objects):
        assert spec["imagePullSecrets"] == [{"name": "registry"}], workload["metadata"]["name"]


def test_a_deployment_has_its_annotations_and_keeps_as_many_revisions_as_is_said(helm: Helm) -> None:
    gateway = one(rendered(helm, (FULL,)), "Deployment", "gateway")
    assert gateway["metadata"]["annotations"]["reloader.stakater.com/auto"] == "true"
    assert gateway["spec"]["revisionHistoryLimit"] == 0
    assert one(rendered(helm), "Deployment", "gateway")["spec"]["revisionHistoryLimit"] == 5


def test_a_variable_of_the_values_takes_the_place_of_the_charts(helm: Helm) -> None:
    """Helm 4 applies on the server, which refuses a list that has a name twice."""
    objects = rendered(
        helm, (),
        "--set=gateway.env[0].name=VOICEBUS_LOG_LEVEL,gateway.env[0].value=debug",
        "--set=migration.env[0].name=PGSSLMODE,migration.env[0].value=require",
        "--set=migration.env[1].name=VOICEBUS_LOG_LEVEL,migration.env[1].value=warning",
        "--set=database.tls.existingSecret=ca",
    )  # fmt: skip
    for command, _, container in pods(objects):
        names = [entry["name"] for entry in container["env"]]
        assert len(names) == len(set(names)), command
    told = {command: environment(container) for command, _, container in pods(objects)}
    levels = {command: variables["VOICEBUS_LOG_LEVEL"] for command, variables in told.items()}
    assert levels["gateway"] == "debug"
    assert levels["migrate"] == "warning"
    assert {levels[command] for command in levels.keys() - {"gateway", "migrate"}} == {"info"}
    assert (told["migrate"]["PGSSLMODE"], told["transcript-archiver"]["PGSSLMODE"]) == ("require", "verify-full")


def test_a_volume_called_tmp_takes_the_place_of_the_charts(helm: Helm) -> None:
    larger = '[{"name": "tmp", "emptyDir": {"sizeLimit": "2Gi"}}]'
    objects = rendered(helm, (), f"--set-json=gateway.volumes={larger}", f"--set-json=migration.volumes={larger}")
    for workload in (one(objects, "Deployment", "gateway"), one(objects, "Job", "migrate")):
        spec = workload["spec"]["template"]["spec"]
        assert [volume for volume in spec["volumes"] if volume["name"] == "tmp"] == json.loads(larger)
        assert {"name": "tmp", "mountPath": "/tmp"} in spec["containers"][0]["volumeMounts"]


def test_a_service_is_of_the_families_of_addresses_that_are_asked_for(helm: Helm) -> None:
    assert one(rendered(helm, (FULL,)), "Service", "gateway")["spec"]["ipFamilyPolicy"] == "PreferDualStack"
    assert "ipFamilyPolicy" not in one(rendered(helm), "Service", "gateway")["spec"]


def test_prometheus_relabels_as_it_is_told(helm: Helm) -> None:
    (monitor,) = of_kind(rendered(helm, (FULL,)), "PodMonitor")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["relabelings"][1:] == [{"targetLabel": "cluster", "replacement": "eu"}]
    assert endpoint["metricRelabelings"] == [{"sourceLabels": ["__name__"], "regex": "python_.*", "action": "drop"}]


def test_without_an_endpoint_the_standard_variables_of_traces_count(helm: Helm) -> None:
    def given(*arguments: str, values: tuple[Path, ...] = ()) -> set[str]:
        (container,) = spec_of(rendered(helm, values, *arguments), "Deployment", "guardrail-worker")["containers"]
        return {entry["name"] for entry in container["env"]}

    ours = {"VOICEBUS_OTLP_ENDPOINT", "VOICEBUS_TRACE_RATIO"}
    assert not given() & ours, "or a ratio of ours would go before OTEL_TRACES_SAMPLER"
    assert given(values=(FULL,)) >= ours
