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
        # Helm writes a whole number from a million on as 1e+06, which is none to Kubernetes.
        ("gateway.replicas=3000000000", "replicas"),
        ("revisionHistoryLimit=10000000", "revisionHistoryLimit"),
        ("toolWorkers.default.scaling.maxReplicas=10000000", "maxReplicas"),
        ("migration.deadlineSeconds=10000000", "deadlineSeconds"),
        ("gateway.toolTimeout=99999999999d", "toolTimeout"),
        ("httpRoute.hostnames[0]=", "hostnames"),
        ("networkPolicy.redis.to[0].ipBlock.cidr=10.0.0.0/99", "cidr"),
        ("networkPolicy.redis.to[0].ipBlock.cidr=10.0.300.0/24", "cidr"),
        ("networkPolicy.redis.to[0].ipBlock.cidr=fd00::/129", "cidr"),
        ("networkPolicy.redis.to[0].podSelector.matchLabel.app=redis", "matchLabel"),
        ("networkPolicy.dns[0].ipBlock.cidr=10.0.0.0/8,networkPolicy.dns[0].podSelector.matchLabels.a=b", "dns"),
        ("gateway.egress[0].ports[0].prot=TCP", "prot"),
        ("gateway.env[0].name=A,gateway.env[0].valueFrom.secretKeyReff.name=a", "secretKeyReff"),
        ("gateway.env[0].name=A,gateway.env[0].valueFrom.secretKeyRef.name=a", "key"),
        ("commonLabels.a b=c", "a b"),
        ("ingress.host=a..example", "host"),
        ("ingress.className=My Class", "className"),
        ("pods.hostAliases[0].ip=10.0.0.300,pods.hostAliases[0].hostnames={a}", "ip"),
        ("httpRoute.parentRefs[0].name=g,httpRoute.parentRefs[0].port=0", "port"),
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
        (
            (*MINIMAL, "--set=redis.url=redis://a:6379\\,b:6379"),
            "redis.url (redis://a:6379,b:6379) names several hosts: such an address begins with redis+cluster or",
        ),
        (
            (*MINIMAL, "--set=redis.url=redis://a:6379/calls"),
            'redis.url (redis://a:6379/calls) names database "calls": a number is allowed there',
        ),
        (
            (*MINIMAL, "--set=redis.url=redis+cluster://a:6379/3"),
            'names database "3": a number is allowed there, and 0 alone in a Redis Cluster',
        ),
        (
            (*MINIMAL, "--set=redis.url=redis+sentinel://a\\,b:2/m/-1"),
            'names database "-1": a number is allowed there',
        ),
        ((*MINIMAL, "--set=redis.url=redis://a:99999"), "redis.url is redis://a:99999: an address with a host"),
        (
            (*MINIMAL, "--set=redis.url=redis+cluster://a:1\\,\\,b:2"),
            "redis.url is redis+cluster://a:1,,b:2: an address with a host, and a port",
        ),
        ((*MINIMAL, "--set=model.url=wss:///v1/realtime"), "model.url is wss:///v1/realtime: an address with a host"),
        ((*MINIMAL, "--set=model.url=wss://model:0/v1"), "model.url is wss://model:0/v1: an address with a host, and"),
        (
            (*MINIMAL, "--set=database.url=postgresql://u@a:5432\\,b:70000/calls"),
            "database.url is postgresql://u@a:5432,b:70000/calls: an address with a host, and a port from 1 to 65535",
        ),
        (
            (*MINIMAL, "--set=database.url=postgresql://u@db/calls?password=hunter2"),
            "database.url has a password in its options: leave it out, and name the secret that has it",
        ),
        (
            (*MINIMAL, "--set=database.tls.existingSecret=ca,database.url=postgresql://u@db/calls?sslmode=require"),
            "so that the server is verified, but database.url says sslmode=require; leave one of them out",
        ),
        (
            (*MINIMAL, "--set=autoscaling.prometheus.authModes=basic"),
            "autoscaling.prometheus.authModes is basic, but triggerAuthentication is empty",
        ),
        ((*MINIMAL, "--set=pods.dnsPolicy=None"), "pods.dnsPolicy is None, but pods.dnsConfig names no nameservers"),
        (
            (*MINIMAL, "--set=ingress.enabled=true,ingress.host=a.example,ingress.archiverHost=a.example"),
            "ingress.host and ingress.archiverHost are both a.example",
        ),
        (
            (
                *MINIMAL,
                "--set=httpRoute.enabled=true,httpRoute.parentRefs[0].name=g",
                "--set=httpRoute.hostnames={a.example},httpRoute.archiverHostnames={b.example,a.example}",
            ),
            "httpRoute.hostnames and httpRoute.archiverHostnames both have a.example",
        ),
        (
            (*MINIMAL, "--set=gateway.resources.limits.memory=400Mi"),
            "gateway: resources.requests.memory is 512Mi and the limit 400Mi: at most the limit can be requested",
        ),
        (
            (*MINIMAL, "--set=toolWorkers.a.resources.requests.cpu=1,toolWorkers.a.resources.limits.cpu=900m"),
            "tool-worker-a: resources.requests.cpu is 1 and the limit 900m",
        ),
        (
            (*MINIMAL, "--set=migration.env[0].name=A,migration.env[1].name=A"),
            "migration: env has A twice; one of a name is allowed",
        ),
        (
            (*MINIMAL, "--set=gateway.volumes[0].name=api-keys"),
            "gateway: volumes has api-keys, which there is already; give it another name",
        ),
        (
            (*MINIMAL, "--set=gateway.volumeMounts[0].name=ca,gateway.volumeMounts[0].mountPath=/ca"),
            "gateway: volumeMounts has ca, and volumes has none of that name",
        ),
        (
            (
                *MINIMAL,
                "--set=toolWorkers.a.volumes[0].name=mine",
                "--set=toolWorkers.a.volumeMounts[0].name=mine,toolWorkers.a.volumeMounts[0].mountPath=/tmp",
            ),
            "tool-worker-a: volumeMounts has mine at /tmp, where the chart has its own; a volume called tmp takes",
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


@pytest.mark.parametrize(
    "setting",
    [
        "redis.url=redis://[fd00::1]:6379/15",
        "redis.url=rediss+cluster://a:6379\\,b/0",
        "redis.url=redis+sentinel://a\\,b:26379/main/3",
        "database.url=postgresql://u@[fd00::1]:5433\\,b/calls?target_session_attrs=read-write",
        "database.tls.existingSecret=ca,database.url=postgresql://u@10.0.0.1/calls?sslmode=verify-ca",
        "networkPolicy.redis.to[0].ipBlock.cidr=fd00:1::/64,networkPolicy.redis.to[1].ipBlock.cidr=10.1.2.3/32",
        "networkPolicy.redis.to[0].namespaceSelector.matchLabels.a=b,networkPolicy.redis.to[0].podSelector.matchLabels.c=d",
        "gateway.volumeMounts[0].name=tmp,gateway.volumeMounts[0].mountPath=/cache",
        "commonLabels.example\\.org/team=voice",
        "model.url=wss://calls.openai.azure.com:443/openai/realtime?deployment=a:b",
        "gateway.resources.requests.memory=1Gi,gateway.resources.limits.memory=1048576Ki",
        "gateway.resources.requests.memory=900M,gateway.resources.limits.memory=1e9",
        "gateway.resources.requests.cpu=500m,gateway.resources.limits.cpu=0.5",
    ],
)
def test_addresses_and_resources_that_fit_are_taken(helm: Helm, setting: str) -> None:
    result = helm.template(*MINIMAL, f"--set={setting}")
    assert result.returncode == 0, result.stderr


def test_what_fits_is_not_refused(helm: Helm) -> None:
    for setting in ("toolTimeout=1m", "toolTimeout=60s", "toolTimeout=0.01h"):
        result = helm.template(f"--values={PRODUCTION}", f"--set=toolWorkers.billing.{setting}")
        assert result.returncode == 0, result.stderr


def test_the_schema_leaves_no_object_open() -> None:
    schema = yaml.safe_load((CHART / "values.schema.json").read_text(encoding="utf-8"))
    # Helm's own, and what Kubernetes checks: terms of affinities, volumes, what a variable is taken from.
    open_on_purpose = {
        *("properties/global", "nodeAffinity", "podAffinity", "podAntiAffinity", "volumes/items", "volumeMounts/items"),
        *("fieldRef", "resourceFieldRef", "fileKeyRef"),
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
