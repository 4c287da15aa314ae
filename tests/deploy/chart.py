"""The chart, rendered: each combination of Helm, values and arguments once, and ways to look at what came of it."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from deploy.helm import CHART, Helm

MINIMAL: Final = (
    "--set=redis.url=rediss://redis:6379/0",
    "--set=database.url=postgresql+psycopg://voicebus@postgres/calls",
)
"""What has no default."""

FULL: Final = CHART / "ci" / "full-values.yaml"
SMALL: Final = CHART / "examples" / "small.yaml"
PRODUCTION: Final = CHART / "examples" / "production.yaml"

STAND_INS: Final = {
    "VOICEBUS_REDIS_PASSWORD": "secret/one",
    "VOICEBUS_REDIS_SENTINEL_PASSWORD": "secret",
    "PGPASSWORD": "secret",
    "VOICEBUS_MODEL_API_KEY": "sk-secret",
}
"""What the referenced secrets hold."""

Object = dict[str, Any]


@functools.cache
def rendered(helm: Helm, values: tuple[Path, ...] = (), *arguments: str, release: str = "calls") -> list[Object]:
    """The objects; without a values file what has no default is given. Not to be changed: others read the same."""
    return helm.render(*(() if values else MINIMAL), *arguments, values=values, release=release)


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    return [item for item in objects if item["kind"] == kind]


def one(objects: list[Object], kind: str, suffix: str) -> Object:
    """The object of this kind whose name ends so."""
    (found,) = [item for item in of_kind(objects, kind) if item["metadata"]["name"].endswith(f"-{suffix}")]
    return found


def pod_specs(objects: list[Object]) -> Iterator[tuple[Object, Object]]:
    """Each workload, of ours or not, with its pods' spec."""
    for item in objects:
        if item["kind"] in {"Deployment", "Job", "StatefulSet"}:
            yield item, item["spec"]["template"]["spec"]


def containers(spec: Object) -> list[Object]:
    return [*spec.get("initContainers", []), *spec["containers"]]


def pods(objects: list[Object]) -> Iterator[tuple[str, Object, Object]]:
    """Command, pod spec and container of each container of ours."""
    for _, spec in pod_specs(objects):
        for container in containers(spec):
            if container.get("command") == ["voicebus"]:
                yield container["args"][0], spec, container


def environment(container: Object) -> dict[str, str]:
    return {entry["name"]: entry.get("value", STAND_INS.get(entry["name"], "")) for entry in container.get("env", [])}


def labels(workload: Object) -> dict[str, str]:
    """Those of a workload's pods."""
    found: dict[str, str] = workload["spec"]["template"]["metadata"]["labels"]
    return found


def selects(selector: Object, pod: dict[str, str]) -> bool:
    """Whether a label selector selects a pod with these labels."""
    for term in selector.get("matchExpressions", []):
        assert term["operator"] in {"In", "NotIn"}
        if (pod.get(term["key"]) in term["values"]) != (term["operator"] == "In"):
            return False
    matching: dict[str, str] = selector.get("matchLabels", {})
    return matching.items() <= pod.items()


def chart_values() -> Object:
    read: Object = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    return read
