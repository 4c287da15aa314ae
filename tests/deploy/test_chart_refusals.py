"""Wrong values of the chart: each is refused, by name where the schema sees it, in a sentence where it does not fit."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.chart import MINIMAL, PRODUCTION, SMALL, chart_values, environment, pods
from deploy.cluster import parse
from deploy.helm import CHART, Helm

# The first test of a fresh clone downloads Helm.
pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("gateways.replicas=1", "gateways"),
        ("gateway.replica=1", "replica"),
        ("gateway.service.typ=NodePort", "typ"),
        ("gateway.drainSeconds=60s", "drainSeconds"),
        ("gateway.toolTimeout=soon", "toolTimeout"),
        ("gateway.scaling.minReplicas=0", "minReplicas"),
        ("gateway.scaling.targetUtilization=70", "targetUtilization"),
        ("redis.url=http://redis", "url"),
        ("redis.url=redis://:password@redis:6379", "url"),
        ("redis.password=hunter2", "password"),
        ("redis.existingSecret=A_B", "existingSecret"),
        ("redis.streamPrefix=v b", "streamPrefix"),
        ("redis.users.archiver.username=a", "archiver"),
        ("database.url=postgresql+psycopg://voicebus:hunter2@db/calls", "url"),
        ("database.url=postgres://voicebus:hunter2@db/calls", "url"),
        ("database.url=mysql://voicebus@db/calls", "url"),
        ("model.apiKey=sk-1", "apiKey"),
        ("model.url=https://api.openai.com", "url"),
        ("toolWorkers.default.concurrent=3", "concurrent"),
        ("toolWorkers.default.image.repo=a", "repo"),
        ("toolWorkers.default.scaling.lag=3", "lag"),
        ("toolWorkers.Billing.replicas=3", "Billing"),
        ("toolWorkers.default=null", "toolWorkers"),
        ("toolWorkerDefaults.replica=1", "replica"),
        ("guardrailWorker.scaling.queues={a}", "scaling"),
        ("modelSimulator.enable=true", "enable"),
        ("autoscaling.engine=knative", "engine"),
        ("topologySpread.zones=strict", "zones"),
        ("networkPolicy.redis.from=1", "from"),
        ("networkPolicy.dnsPorts={}", "dnsPorts"),
        ("ingress.hosts={a}", "hosts"),
        ("ingress.host=https://calls.example", "host"),
        ("httpRoute.parentRef=a", "parentRef"),
        ("monitoring.podMonitor.enabled=yes", "enabled"),
        ("logLevel=verbose", "logLevel"),
        ("targets={}", "targets"),
        ("targets={front-desk}", "targets"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("image.digest=latest", "digest"),
        ("gateway.resources.request.cpu=1", "request"),
        ("gateway.envFrom[0].secretref.name=a", "secretref"),
        ("gateway.resources.limits.memori=1Gi", "memori"),
        ("gateway.resources.limits.memory=1GB", "memory"),
        ("gateway.resources.requests.cpu=lots", "cpu"),
        ("gateway.modelConnectTimeout=0s", "modelConnectTimeout"),
        ("image.repository=registry.example/Voice", "repository"),
        ("image.tag=a:b", "tag"),
        ("networkPolicy.redis.to[0].ipBlock.cidr=10.0.0.5", "cidr"),
        ("networkPolicy.redis.to[0].ipBlock.cdir=10.0.0.0/8", "cdir"),
        ("commonLabels.helm\\.sh/chart=mine", "helm.sh/chart"),
        ("commonLabels.team=voice and more", "commonLabels"),
        ("gateway.podLabels.voicebus/tool-worker=a", "voicebus/tool-worker"),
        ("gateway.sidecars[0].name=proxy", "sidecars"),
        ("gateway.service.ipFamilyPolicy=DualStack", "ipFamilyPolicy"),
        ("pods.hostAlias[0].ip=10.0.0.1", "hostAlias"),
        ("pods.hostAliases[0].ip=10.0.0.1", "hostnames"),
        ("pods.dnsPolicy=Cluster", "dnsPolicy"),
        ("pods.securityContext.runAsUser=0", "runAsUser"),
        ("pods.securityContext.runAsNonRoot=false", "runAsNonRoot"),
        ("revisionHistoryLimit=-1", "revisionHistoryLimit"),
        ("migration.sidecars[0].name=proxy", "sidecars"),
    ],
)
def test_a_wrong_value_is_refused_by_name(helms: Helm, setting: str, named: str) -> None:
    result = helms.template(*MINIMAL, f"--set={setting}")
    assert result.returncode != 0
    assert "schema" in result.stderr
    assert named in result.stderr


NO_REDIS = "--set=database.url=postgresql+psycopg://u@db/calls"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((NO_REDIS,), "redis.url is empty: give the address of your Redis without its password"),
        (("--set=redis.url=redis://redis",), "database.url is empty: give the address of your PostgreSQL"),
        ((*MINIMAL, "--set=trial.redis.enabled=true"), "one Redis is allowed"),
        ((*MINIMAL, "--set=trial.postgresql.enabled=true"), "one database is allowed"),
        ((NO_REDIS, "--set=trial.redis.enabled=true"), "the trial's Redis has no password"),
        (
            (*MINIMAL, "--set=redis.url=redis://r:1,redis.tls.existingSecret=ca"),
            "redis.url (redis://r:1) is without TLS; begin it with rediss",
        ),
        (
            (*MINIMAL, "--set=redis.existingSecret=,redis.users.gateway.username=g"),
            'redis.users.gateway.username is "g", but redis.existingSecret is empty',
        ),
        (
            (*MINIMAL, "--set=tracing.endpoint=http://collector:4318"),
            "tracing.endpoint is http://collector:4318, but networkPolicy.otlp.to is empty",
        ),
        (
            (*MINIMAL, "--set=redis.url=redis+sentinel://a:26379"),
            "redis.url (redis+sentinel://a:26379) names sentinels and no master; put its name behind them",
        ),
        (
            (*MINIMAL, "--set=access.jwt.issuer=https://issuer.example,access.jwt.audience=calls"),
            'access.jwt has issuer "https://issuer.example", audience "calls" and jwks "": tokens',
        ),
        (
            (*MINIMAL, "--set=monitoring.podMonitor.interval=5s"),
            "monitoring.podMonitor.scrapeTimeout is 10s and interval 5s: the Prometheus operator",
        ),
        ((*MINIMAL, "--set=ingress.enabled=true"), "ingress.host is empty; name the host that callers dial"),
        ((*MINIMAL, "--set=httpRoute.enabled=true"), "httpRoute.parentRefs is empty; name the Gateway"),
        (
            (*MINIMAL, "--set=gateway.scaling.minReplicas=30"),
            "gateway: scaling.minReplicas is 30 and maxReplicas 20: at least as many are allowed at most",
        ),
        (
            (*MINIMAL, "--set=toolWorkers.default.toolTimeout=90s"),
            "toolWorkers.default: drainSeconds is 60, but a tool may take 90 s (toolTimeout 90s)",
        ),
        (
            (*MINIMAL, "--set=toolWorkers.default.toolTimeout=1500ms,toolWorkers.default.drainSeconds=1"),
            "drainSeconds is 1, but a tool may take 2 s",
        ),
        ((f"--values={SMALL}", "--set=autoscaling.engine=keda"), "KEDA cannot reach the Redis of a trial"),
    ],
)
def test_values_that_do_not_fit_each_other_are_refused_in_a_sentence(
    helm: Helm, arguments: tuple[str, ...], sentence: str
) -> None:
    result = helm.template(*arguments)
    assert result.returncode != 0
    assert f"voicebus: {sentence}" in result.stderr or sentence in result.stderr
    assert "voicebus: " in result.stderr


@pytest.mark.parametrize("release", ["calls.v2", "7calls"])
def test_a_release_whose_services_could_not_be_named_after_it_is_refused_in_a_sentence(
    helm: Helm, release: str
) -> None:
    result = helm.template(*MINIMAL, release=release)
    assert result.returncode != 0
    assert f'voicebus: every object\'s name would begin with "{release}-voicebus"' in result.stderr
    assert "set fullnameOverride" in result.stderr
    assert helm.template(*MINIMAL, "--set=fullnameOverride=calls", release=release).returncode == 0


def test_what_fits_is_not_refused(helm: Helm) -> None:
    for setting in ("toolTimeout=1m", "toolTimeout=60s", "toolTimeout=0.01h"):
        result = helm.template(f"--values={PRODUCTION}", f"--set=toolWorkers.billing.{setting}")
        assert result.returncode == 0, result.stderr


def test_the_schema_leaves_no_object_open() -> None:
    schema = yaml.safe_load((CHART / "values.schema.json").read_text(encoding="utf-8"))
    # Helm's own, and what Kubernetes checks: terms of affinities and selectors, volumes, ports of rules.
    open_on_purpose = {
        *("properties/global", "nodeAffinity", "podAffinity", "podAntiAffinity", "podSelector", "namespaceSelector"),
        *("valueFrom", "volumes/items", "volumeMounts/items", "egress/items/properties/ports/items"),
        # Containers of others, and what the Prometheus operator checks.
        *("containers/items", "objects/items", "options/items", "seLinuxOptions"),
    }

    def open_objects(node: Any, path: str) -> Iterator[str]:
        if isinstance(node, dict):
            if node.get("type") == "object" and node.get("additionalProperties", True) is True:
                yield path
            for key, child in node.items():
                yield from open_objects(child, f"{path}/{key}")

    left_open = list(open_objects(schema, ""))
    for path in left_open:
        assert any(path.endswith(f"/{name}") for name in open_on_purpose), path


def test_every_value_has_a_place_in_the_schema_and_the_other_way_round() -> None:
    schema = yaml.safe_load((CHART / "values.schema.json").read_text(encoding="utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))

    def compare(value: Any, node: Any, path: str) -> Iterator[str]:
        if "$ref" in node:
            node = schema["definitions"][node["$ref"].rpartition("/")[2]]
        if "allOf" in node:
            yield from compare(value, node["allOf"][0], path)
            return
        if not isinstance(value, dict) or "properties" not in node:
            return
        if path.count("/") > 4 or path.endswith(
            ("/affinity", "/resources", "/image", "/serviceAccount", "/pods/dnsConfig", "/pods/securityContext")
        ):
            return
        for name in node["properties"].keys() - value.keys():
            yield f"{path}/{name} is not in values.yaml"
        for name in value.keys() - node["properties"].keys():
            yield f"{path}/{name} is not in the schema"
        for name in value.keys() & node["properties"].keys():
            yield from compare(value[name], node["properties"][name], f"{path}/{name}")

    # Helm puts it there where the chart is a dependency; the guardrails have no queues.
    assert set(compare(values, schema, "")) == {
        "/global is not in values.yaml",
        "/guardrailWorker/scaling/queues is not in values.yaml",
    }


@pytest.mark.parametrize("edge", ["least", "most"])
def test_what_the_schema_lets_through_at_its_edges_the_services_take_as_well(
    helm: Helm, edge: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value that only the service refuses stops its pods, after the upgrade has begun."""
    schema = yaml.safe_load((CHART / "values.schema.json").read_text(encoding="utf-8"))

    def at_the_edge(value: Any, node: Any) -> Any:
        while "$ref" in node or "allOf" in node:
            node = schema["definitions"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node["allOf"][0]
        if isinstance(value, dict) and "properties" in node:
            return {name: at_the_edge(each, node["properties"][name]) for name, each in value.items()}
        if node == schema["definitions"]["duration"]:
            return {"least": "0s", "most": "365d"}[edge]
        if node == schema["definitions"]["timeAboveZero"]:
            return {"least": "0.001ms", "most": "365d"}[edge]
        if node.get("type") in ("integer", "number") and not isinstance(value, str):
            return node.get({"least": "minimum", "most": "maximum"}[edge], value)
        return value

    parts = ("gateway", "guardrailWorker", "toolWorkerDefaults", "transcriptArchiver", "access", "startupSeconds")
    given: dict[str, Any] = {
        name: at_the_edge(each, schema["properties"][name]) for name, each in chart_values().items() if name in parts
    }
    given["redis"] = {"url": "redis://r", "eventShards": schema["properties"]["redis"]["properties"]["eventShards"][
        {"least": "minimum", "most": "maximum"}[edge]
    ]}  # fmt: skip
    given["database"] = {"url": "postgresql+psycopg://u@db/c"}
    # A drain has to last as long as a tool may: a rule of its own.
    given["toolWorkerDefaults"] |= {"toolTimeout": {"least": "0.001ms", "most": "1s"}[edge], "drainSeconds": 2}
    for part in ("gateway", "guardrailWorker", "toolWorkerDefaults"):
        given[part]["scaling"] = chart_values()[part]["scaling"]
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump(given))
    for command, _, container in pods(helm.render(values=[values])):
        parse(environment(container), command, monkeypatch)
