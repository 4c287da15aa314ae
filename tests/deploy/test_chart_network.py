"""Ways in and out: what network policies let through, and what ingress and routes say of silent calls."""

from pathlib import Path
from typing import Any

import pytest

from deploy.chart import FULL, PRODUCTION, SMALL, labels, of_kind, one, pod_specs, rendered, selects
from deploy.helm import CHART, Helm

# The first test of a fresh clone downloads Helm.
pytestmark = pytest.mark.timeout(300)

Values = tuple[Path, ...]
Rule = dict[str, Any]
MULTI_ZONE = CHART / "examples" / "multi-zone.yaml"
DNS = {53}
PRIVATE = {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "127.0.0.0/8"}


def policies(objects: list[Rule], workload: str) -> list[Rule]:
    """Those that select the pods of the workload whose name ends so."""
    (pod,) = [labels(item) for item, _ in pod_specs(objects) if item["metadata"]["name"].endswith(f"-{workload}")]
    return [item["spec"] for item in of_kind(objects, "NetworkPolicy") if selects(item["spec"]["podSelector"], pod)]


def rules(objects: list[Rule], workload: str, direction: str) -> list[Rule]:
    return [rule for policy in policies(objects, workload) for rule in policy.get(direction) or []]


def ports(found: list[Rule]) -> set[int]:
    return {port["port"] for rule in found for port in rule["ports"]}


def test_every_pod_is_denied_what_no_rule_allows(helm: Helm, values: Values) -> None:
    objects = rendered(helm, values)
    for item, _ in pod_specs(objects):
        selecting = [
            policy["spec"]
            for policy in of_kind(objects, "NetworkPolicy")
            if selects(policy["spec"]["podSelector"], labels(item))
        ]
        assert selecting, item["metadata"]["name"]
        assert all(policy["policyTypes"] == ["Ingress", "Egress"] for policy in selecting)


@pytest.mark.parametrize(
    ("workload", "reached"),
    [
        ("gateway", DNS | {6379, 443, 4318, 8080}),
        ("guardrail-worker", DNS | {6379, 443, 4318}),
        ("tool-worker-default", DNS | {6379, 443, 4318}),
        # Its own rule, and no public address.
        ("tool-worker-billing", DNS | {6379, 5432, 4318}),
        ("transcript-archiver", DNS | {6379, 5432, 443, 4318}),
        ("migrate", DNS | {5432}),
    ],
)
def test_a_service_reaches_what_it_needs_and_nothing_else(helm: Helm, workload: str, reached: set[int]) -> None:
    found = rules(rendered(helm, (PRODUCTION,)), workload, "egress")
    assert ports(found) == reached
    for rule in found:
        assert rule.get("to"), f"{rule['ports']} are open to any address"
        for peer in rule["to"]:
            # Nobody reaches the metadata of the cloud, with the node's credentials.
            if peer.get("ipBlock", {}).get("cidr") == "0.0.0.0/0":
                assert set(peer["ipBlock"]["except"]) == PRIVATE


def test_without_addresses_given_redis_and_database_are_any_at_their_ports_alone(helm: Helm) -> None:
    objects = rendered(
        helm,
        (),
        "--set=redis.url=redis+cluster://a:7001\\,b:7002\\,c",
        "--set=database.url=postgres://u@db:6432\\,[fd00::5]:6433\\,other/c?sslmode=require",
    )
    open_rules = [rule for rule in rules(objects, "transcript-archiver", "egress") if not rule.get("to")]
    assert [sorted(ports([rule])) for rule in open_rules] == [[6379, 7001, 7002], [5432, 6432, 6433]]


def test_names_are_asked_for_at_the_ports_of_the_resolvers_pods(helm: Helm) -> None:
    objects = rendered(helm, (SMALL,), "--set=networkPolicy.dnsPorts={5353}")
    assert ports(rules(objects, "guardrail-worker", "egress")) >= {5353}
    assert ports(rules(objects, "guardrail-worker", "egress")).isdisjoint({53})


@pytest.mark.parametrize(
    ("endpoint", "reached"),
    [
        ("http://c:9999", {9999}),
        ("http://c/otlp", {80}),
        ("https://c", {443}),
        ("http://[fd00::5]:4318/x", {4318}),
        ("http://[fd00::5]", {80}),
        ("", set()),
    ],
)
def test_a_collector_is_reached_at_the_port_of_its_address_alone(helm: Helm, endpoint: str, reached: set[int]) -> None:
    objects = rendered(
        helm, (), f"--set=tracing.endpoint={endpoint}", "--set=networkPolicy.otlp.to[0].ipBlock.cidr=10.9.0.0/16"
    )
    without = rendered(helm, ())
    for workload in ("gateway", "tool-worker-default", "transcript-archiver"):
        to_collector = [
            rule for rule in rules(objects, workload, "egress") if rule not in rules(without, workload, "egress")
        ]
        assert ports(to_collector) == reached


def test_behind_sentinels_the_master_is_reached_as_well(helm: Helm) -> None:
    assert ports(rules(rendered(helm, (MULTI_ZONE,)), "gateway", "egress")) >= {26379, 6379}


def test_the_simulator_is_called_by_gateways_and_calls_nobody(helm: Helm) -> None:
    objects = rendered(helm, (SMALL,))
    assert rules(objects, "model-simulator", "egress") == []
    (to_model,) = [rule for rule in rules(objects, "gateway", "egress") if ports([rule]) == {8090}]
    simulator = labels(one(objects, "Deployment", "model-simulator"))
    assert [selects(peer["podSelector"], simulator) for peer in to_model["to"]] == [True]
    (called,) = [rule for rule in rules(objects, "model-simulator", "ingress") if ports([rule]) == {8090}]
    gateway = labels(one(objects, "Deployment", "gateway"))
    assert [selects(peer["podSelector"], gateway) for peer in called["from"]] == [True]


@pytest.mark.parametrize("enabled", ["true", "false"])
def test_a_trials_servers_serve_those_that_need_them_alone_whatever_the_values_say(helm: Helm, enabled: str) -> None:
    objects = rendered(helm, (SMALL,), f"--set=networkPolicy.enabled={enabled}")
    needed = {
        "redis": {"gateway", "tool-worker", "guardrail-worker", "transcript-archiver"},
        "postgresql": {"transcript-archiver"},
    }
    for server, clients in needed.items():
        (rule,) = rules(objects, server, "ingress")
        (peer,) = rule["from"]
        let_in = {
            labels(item)["app.kubernetes.io/component"]
            for item, _ in pod_specs(objects)
            if selects(peer["podSelector"], labels(item))
        }
        assert let_in == clients
        assert rules(objects, server, "egress") == []


def test_only_prometheus_reads_the_ops_port(helm: Helm) -> None:
    objects = rendered(helm, (PRODUCTION,))
    for workload, ops in (("gateway", 9460), ("tool-worker-billing", 9461), ("transcript-archiver", 9463)):
        (rule,) = [rule for rule in rules(objects, workload, "ingress") if ops in ports([rule])]
        assert rule["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
        assert ports([rule]) == {ops}


def test_gateways_that_let_in_the_ingress_alone_still_reach_each_other(helm: Helm) -> None:
    objects = rendered(helm, (PRODUCTION,))
    (rule,) = [rule for rule in rules(objects, "gateway", "ingress") if ports([rule]) == {8080}]
    own = labels(one(objects, "Deployment", "gateway"))
    assert any(selects(peer["podSelector"], own) for peer in rule["from"] if "podSelector" in peer)
    assert any("namespaceSelector" in peer for peer in rule["from"])


def test_no_policy_is_made_where_they_are_switched_off(helm: Helm) -> None:
    assert not of_kind(rendered(helm, (PRODUCTION,), "--set=networkPolicy.enabled=false"), "NetworkPolicy")


def test_an_ingress_lets_websockets_be_silent_for_an_hour_and_takes_every_message(helm: Helm) -> None:
    (ingress,) = of_kind(rendered(helm, (PRODUCTION,)), "Ingress")
    annotations = ingress["metadata"]["annotations"]
    prefix = "nginx.ingress.kubernetes.io/"
    assert annotations[f"{prefix}proxy-read-timeout"] == annotations[f"{prefix}proxy-send-timeout"] == "3600"
    assert annotations[f"{prefix}proxy-buffering"] == "off"
    assert annotations[f"{prefix}proxy-body-size"] == str(32 * 2**20)
    assert annotations["cert-manager.io/cluster-issuer"] == "letsencrypt"
    assert ingress["spec"]["ingressClassName"] == "nginx"
    assert ingress["spec"]["tls"] == [{"hosts": ["calls.example"], "secretName": "calls-tls"}]
    (rule,) = ingress["spec"]["rules"]
    assert rule["http"]["paths"][0]["backend"]["service"] == {
        "name": "calls-voicebus-gateway",
        "port": {"name": "http"},
    }


def test_a_gateway_with_its_own_certificate_is_spoken_to_by_tls(helm: Helm) -> None:
    def annotation(controller: str) -> str:
        objects = rendered(
            helm,
            (PRODUCTION,),
            f"--set=ingress.controller={controller},gateway.tls.existingSecret=pair",
        )
        (ingress,) = of_kind(objects, "Ingress")
        return next(str(v) for k, v in ingress["metadata"]["annotations"].items() if k.endswith("/backend-protocol"))

    assert annotation("nginx") == annotation("alb") == "HTTPS"


def test_an_alb_waits_as_long_for_its_connections_as_a_gateway_does(helm: Helm) -> None:
    objects = rendered(helm, (FULL,))
    annotations = one(objects, "Ingress", "gateway")["metadata"]["annotations"]
    prefix = "alb.ingress.kubernetes.io/"
    assert annotations[f"{prefix}load-balancer-attributes"] == "idle_timeout.timeout_seconds=3600"
    assert annotations[f"{prefix}target-group-attributes"] == "deregistration_delay.timeout_seconds=615"
    assert annotations[f"{prefix}scheme"] == "internet-facing"
    # The port that callers reach has no page for health checks: `/` is not found, which is an answer.
    assert (annotations[f"{prefix}healthcheck-path"], annotations[f"{prefix}success-codes"]) == ("/", "200-499")
    # Two hosts, and one balancer to pay for.
    groups = {item["metadata"]["annotations"][f"{prefix}group.name"] for item in of_kind(objects, "Ingress")}
    assert groups == {"voice-calls"}


@pytest.mark.parametrize("controller", ["nginx", "alb"])
def test_an_archiver_beside_a_gateway_with_a_certificate_is_spoken_to_as_it_listens(
    helm: Helm, controller: str
) -> None:
    objects = rendered(helm, (FULL,), f"--set=ingress.controller={controller}")
    told = {
        (rule["host"], rule["http"]["paths"][0]["backend"]["service"]["name"]): next(
            (value for key, value in item["metadata"]["annotations"].items() if key.endswith("/backend-protocol")), None
        )
        for item in of_kind(objects, "Ingress")
        for rule in item["spec"]["rules"]
    }
    assert told == {
        ("calls.example", "calls-gateway"): "HTTPS",
        ("transcripts.example", "calls-transcript-archiver"): None,
    }


def test_one_certificate_for_both_hosts_is_asked_for_once(helm: Helm) -> None:
    """By the gateway's Ingress: cert-manager refuses a secret to a second one."""
    issuer = "--set=ingress.annotations.cert-manager\\.io/issuer=ours"
    objects = rendered(helm, (FULL,), issuer)
    gateway, archiver = (one(objects, "Ingress", name) for name in ("gateway", "transcript-archiver"))
    assert gateway["metadata"]["annotations"]["cert-manager.io/issuer"] == "ours"
    assert "cert-manager.io/issuer" not in archiver["metadata"]["annotations"]
    hosts = ["calls.example", "transcripts.example"]
    assert gateway["spec"]["tls"] == [{"hosts": hosts, "secretName": "ingress-tls"}]
    assert archiver["spec"]["tls"] == [{"hosts": hosts[1:], "secretName": "ingress-tls"}]


def test_a_route_has_no_time_limit_and_leads_to_the_services_port(helm: Helm) -> None:
    objects = rendered(helm, (MULTI_ZONE,))
    routes = {item["metadata"]["name"]: item["spec"] for item in of_kind(objects, "HTTPRoute")}
    assert routes.keys() == {"calls-voicebus-gateway", "calls-voicebus-transcript-archiver"}
    for name, route in routes.items():
        (rule,) = route["rules"]
        (backend,) = rule["backendRefs"]
        assert rule["timeouts"] == {"request": "0s"}
        service = next(item for item in of_kind(objects, "Service") if item["metadata"]["name"] == name)
        assert (backend["name"], backend["port"]) == (name, service["spec"]["ports"][0]["port"])
    (port,) = one(objects, "Service", "gateway")["spec"]["ports"]
    # WebSockets, by TLS as this gateway has its own certificate.
    assert port["appProtocol"] == "kubernetes.io/wss"
