"""The chart under real Helm 3 and 4: what it renders is valid for every supported Kubernetes, and restricted."""

import copy
import functools
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kubernetes_validate import utils

from deploy.chart import MINIMAL, PRODUCTION, SMALL, containers, labels, of_kind, one, pod_specs, rendered
from deploy.conftest import VALUES
from deploy.custom_objects import complaints, is_custom
from deploy.helm import CHART, Helm, find_helm
from deploy.restricted import violations

# The first test of a fresh clone downloads Helm, and the models of custom objects.
pytestmark = pytest.mark.timeout(300)

VERSIONS = [*(f"1.{minor}" for minor in range(28, 35)), "1.37"]
OPERATORS = ("--api-versions=monitoring.coreos.com/v1",)


def test_lint_finds_nothing(helms: Helm, values: tuple[Path, ...]) -> None:
    given = [f"--values={path}" for path in values] or MINIMAL
    result = helms.run("lint", "--strict", str(CHART), *given)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "WARNING" not in result.stdout + result.stderr


@pytest.fixture(autouse=True, scope="module")
def schemas_read_once() -> Iterator[None]:
    """The validator reads a megabyte of schemas anew for each object."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "schema_contents", functools.cache(utils.schema_contents))
        yield


@pytest.mark.parametrize("kubernetes", VERSIONS)
def test_every_object_is_valid_for_each_kubernetes(helm: Helm, values: tuple[Path, ...], kubernetes: str) -> None:
    objects = rendered(helm, values, f"--kube-version={kubernetes}.0", *OPERATORS)
    ours = [item for item in objects if not is_custom(item)]
    assert {"Deployment", "Service", "ServiceAccount", "NetworkPolicy"} <= {item["kind"] for item in ours}
    for item in ours:
        assert kubernetes_validate.validate(item, kubernetes, strict=True).startswith(kubernetes)


@pytest.mark.parametrize("kubernetes", [VERSIONS[0], VERSIONS[-1]])
def test_both_helms_render_the_same(helm: Helm, helms: Helm, values: tuple[Path, ...], kubernetes: str) -> None:
    arguments = (f"--kube-version={kubernetes}.0", *OPERATORS)
    assert rendered(helms, values, *arguments) == rendered(helm, values, *arguments)


def test_an_older_kubernetes_is_refused(helm: Helm) -> None:
    result = helm.template("--kube-version=1.27.0", values=[PRODUCTION])
    assert result.returncode != 0
    assert "kubeVersion: >=1.28.0-0" in result.stderr


def custom_objects(helm: Helm) -> list[dict[str, Any]]:
    """Each custom object that any of the values gives, with either autoscaler."""
    found: dict[str, dict[str, Any]] = {}
    for values in VALUES.values():
        engines = ["none"] if any("small" in path.name for path in values) else ["keda", "hpa"]
        for engine in engines:
            for item in rendered(helm, values, f"--set=autoscaling.engine={engine}", *OPERATORS):
                if is_custom(item):
                    found[json.dumps(item, sort_keys=True)] = item
    return list(found.values())


@pytest.mark.xdist_group("custom-objects")
def test_every_custom_object_is_what_its_operator_knows(helm: Helm) -> None:
    objects = custom_objects(helm)
    assert {item["kind"] for item in objects} == {
        *("ScaledObject", "TriggerAuthentication", "PodMonitor", "PrometheusRule", "HTTPRoute"),
    }
    assert complaints(objects) == []


@pytest.mark.xdist_group("custom-objects")
@pytest.mark.parametrize(
    ("kind", "path", "value", "why"),
    [
        ("ScaledObject", ("minReplicas",), 2, "minReplicas"),
        ("ScaledObject", ("fallback", "replicas"), "two", "not assignable"),
        ("PodMonitor", ("podMetricsEndpoints", 0, "every"), "15s", "every"),
        ("HTTPRoute", ("rules", 0, "timeouts", "request"), "1 hour", "pattern"),
    ],
)
def test_a_wrong_custom_object_would_be_noticed(
    helm: Helm, kind: str, path: tuple[str | int, ...], value: object, why: str
) -> None:
    broken = copy.deepcopy(next(item for item in custom_objects(helm) if item["kind"] == kind))
    place: Any = broken["spec"]
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert why in " ".join(complaints([broken]))


def test_every_pod_meets_the_restricted_pod_security_standard(helm: Helm, values: tuple[Path, ...]) -> None:
    seen = 0
    for workload, spec in pod_specs(rendered(helm, values)):
        assert list(violations(spec)) == [], workload["metadata"]["name"]
        seen += 1
    assert seen >= 5


def test_a_pod_that_is_not_restricted_would_be_noticed(helm: Helm) -> None:
    _, spec = next(pod_specs(rendered(helm)))
    broken = copy.deepcopy(spec)
    broken["hostNetwork"] = True
    broken["volumes"].append({"name": "node", "hostPath": {"path": "/"}})
    broken["containers"][0]["securityContext"] = {"capabilities": {"add": ["NET_ADMIN"]}}
    assert len(list(violations(broken))) == 5


def test_every_pod_goes_beyond_restricted_where_that_costs_nothing(helm: Helm, values: tuple[Path, ...]) -> None:
    for _, spec in pod_specs(rendered(helm, values)):
        assert spec["automountServiceAccountToken"] is False
        # A Service named voicebus-http would put VOICEBUS_HTTP_PORT=tcp://10.0.0.1:80 into every pod.
        assert spec["enableServiceLinks"] is False
        assert spec["securityContext"]["runAsUser"] > 0
        for container in containers(spec):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert "memory" in container["resources"].get("limits", {"memory": "unlimited by the values"})


def test_no_service_account_has_a_token(helm: Helm, values: tuple[Path, ...]) -> None:
    objects = rendered(helm, values)
    accounts = {item["metadata"]["name"] for item in of_kind(objects, "ServiceAccount")}
    assert all(item["automountServiceAccountToken"] is False for item in of_kind(objects, "ServiceAccount"))
    named = {spec["serviceAccountName"] for _, spec in pod_specs(objects)}
    # One that the values name is there already; each of ours is made for one workload.
    assert named - accounts <= {"gateway"}
    assert accounts <= named


def test_names_stay_valid_and_distinct_for_the_longest_release_name(helm: Helm) -> None:
    objects = rendered(helm, (PRODUCTION,), release="a" * 53)
    names = [(item["kind"], item["metadata"]["name"]) for item in objects]
    assert len(set(names)) == len(names)
    # A priority class has its namespace in its name, and is never a label.
    assert all(len(name) <= (253 if kind == "PriorityClass" else 63) for kind, name in names)


@pytest.mark.parametrize("values", [PRODUCTION, SMALL], ids=["production", "small"])
def test_names_leave_room_for_what_kubernetes_and_keda_make_labels_of(helm: Helm, values: Path) -> None:
    worker = f"--set=toolWorkers.{'w' * 20}.replicas=2"
    objects = rendered(helm, (values,), worker, release="a" * 53)
    kinds = {"StatefulSet": len("-0123456789"), "ScaledObject": len("keda-hpa-")}
    longest = {item["metadata"]["name"]: kinds[item["kind"]] for item in objects if item["kind"] in kinds}
    assert longest
    assert all(len(name) + more <= 63 for name, more in longest.items())


def test_what_yaml_takes_for_something_else_stays_a_name(helm: Helm) -> None:
    odd = ("no", "on", "null", "e")
    arguments = [f"--set-json=toolWorkers.{name}={{}}" for name in odd]
    arguments += [f"--set-json=gateway.serviceAccount.name={json.dumps('007')}", "--set=priorityClass.name=1e3"]
    arguments += ["--set=ingress.enabled=true,ingress.host=a.example", "--set-string=ingress.tlsSecret=42"]
    objects = rendered(helm, (), *arguments, "--set=fullnameOverride=off", release="20261130")
    for item in objects:
        assert kubernetes_validate.validate(item, VERSIONS[-1], strict=True)
    workers = {labels(item).get("voicebus/tool-worker") for item in of_kind(objects, "Deployment")}
    assert workers == {None, "default", *odd}
    spec = one(objects, "Deployment", "gateway")["spec"]["template"]["spec"]
    assert (spec["serviceAccountName"], spec["priorityClassName"]) == ("007", "1e3")


def test_the_examples_of_the_page_are_all_there() -> None:
    assert set(VALUES) == {"minimal", "full", "small", "production", "multi-zone", "bring-your-own-redis"}
    for files in VALUES.values():
        for path in files:
            assert yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("major", [3, 4])
def test_a_packaged_chart_has_rules_and_dashboards_and_renders_as_the_folder_does(major: int, tmp_path: Path) -> None:
    helm = find_helm(major)
    made = helm.run("package", str(CHART), f"--destination={tmp_path}")
    assert made.returncode == 0, made.stderr
    (package,) = tmp_path.glob("voicebus-*.tgz")
    result = helm.run("template", "calls", str(package), "--namespace=voice", f"--values={PRODUCTION}")
    assert list(filter(None, yaml.load_all(result.stdout, yaml.CSafeLoader))) == rendered(helm, (PRODUCTION,))
    with tarfile.open(package) as archive:
        names = {Path(name).parts[1] for name in archive.getnames()}
    # Links to folders outside it have become what they lead to; values of CI and examples stay out.
    assert {"rules", "dashboards", "templates", "values.schema.json"} <= names
    assert names.isdisjoint({"ci", "examples"})
