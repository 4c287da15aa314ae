"""Where spans go: by our settings, else by OpenTelemetry's own variables, and what of these is refused."""

import pytest
from opentelemetry import trace

from support.otlp import collector
from support.waiting import wait_until
from voicebus.errors import SettingsError
from voicebus_services.service_commands import begin_tracing
from voicebus_services.settings import ServiceSettings, load
from voicebus_services.trace_settings import tracing_of

OURS = "http://ours:4318"
BASE = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://theirs:4318/otlp/"}


def endpoint(variables: dict[str, str], own: str | None = None) -> str | None:
    found = tracing_of(load(ServiceSettings, otlp_endpoint=own), variables)
    return None if found is None else found.endpoint


def test_the_standard_variables_count_where_no_setting_of_ours_does() -> None:
    assert endpoint({}) is None
    assert endpoint(BASE) == "http://theirs:4318/otlp/v1/traces"
    assert endpoint(BASE, own=OURS) == "http://ours:4318/v1/traces"
    whole = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://store.example/in/spans"}
    assert endpoint(BASE | whole) == "https://store.example/in/spans", "as it is: the standard adds nothing to it"
    assert endpoint({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}) is None


@pytest.mark.parametrize(
    "off", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_SDK_DISABLED": "TRUE"}, {"OTEL_TRACES_EXPORTER": "none"}]
)
def test_what_switches_traces_off_everywhere_does_so_here(off: dict[str, str]) -> None:
    assert endpoint(BASE | off) is None
    assert endpoint(off, own=OURS) is None


@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"])
def test_a_protocol_that_is_not_spoken_is_refused_in_a_sentence_rather_than_failing_for_ever(name: str) -> None:
    for variables, own in ((BASE, None), ({}, OURS)):
        with pytest.raises(SettingsError) as refused:
            endpoint(variables | {name: "grpc"}, own=own)
        assert str(refused.value) == (
            f"{name}: 'grpc' was read, but http/protobuf alone"
            " (port 4318 by custom, not 4317; docs/traces.md) is allowed"
        )
    assert endpoint(BASE | {name: "http/protobuf"}) is not None
    assert endpoint({name: "grpc"}) is None, "without traces nothing is spoken"


def test_the_protocol_of_traces_goes_before_the_one_of_all_signals() -> None:
    both = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"}
    assert endpoint(BASE | both) is not None


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317"}, "OTEL_EXPORTER_OTLP_ENDPOINT: 'collector:4317' was read"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "user:word@collector"}, "OTEL_EXPORTER_OTLP_ENDPOINT: a secret was read"),
        (BASE | {"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER: 'zipkin' was read, but otlp or none"),
        (BASE | {"OTEL_TRACES_SAMPLER": "jaeger_remote"}, "OTEL_TRACES_SAMPLER: 'jaeger_remote' was read"),
        (
            BASE | {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "10%"},
            "OTEL_TRACES_SAMPLER_ARG: '10%' was read, but a number from 0 to 1",
        ),
    ],
)
def test_what_is_not_done_here_is_refused_by_name(variables: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError, match=f"^{named}"):
        endpoint(variables)


def test_the_standard_sampler_says_which_share_is_traced_unless_our_setting_does() -> None:
    def ratio(sampler: str, argument: str = "", **own: float) -> float:
        variables = BASE | {"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": argument}
        found = tracing_of(load(ServiceSettings, **own), variables)
        assert found is not None
        return found.ratio

    assert ratio("") == 1
    assert ratio("parentbased_traceidratio", "0.25") == 0.25
    assert ratio("parentbased_traceidratio") == 1
    assert (ratio("parentbased_always_on"), ratio("parentbased_always_off")) == (1, 0)
    assert ratio("parentbased_traceidratio", "0.25", trace_ratio=0.5) == 0.5


@pytest.fixture
def own_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process's provider of traces is set once; this one is this test's."""
    given: list[trace.TracerProvider] = []
    monkeypatch.setattr(trace, "set_tracer_provider", given.append)
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: given[-1])
    return


@pytest.mark.usefixtures("own_provider")
async def test_spans_arrive_with_the_headers_and_attributes_of_the_standard_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with collector() as received:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", received.endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=ours")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "calls")
        flush = begin_tracing(load(ServiceSettings), "gateway")
        trace.get_tracer_provider().get_tracer("test").start_span("session").end()
        flush()
        await wait_until(lambda: bool(received.spans), description="the span arrives")
        assert [(span.service, span.name) for span in received.spans] == [("calls", "session")]
        assert received.headers[0][":path"] == "/v1/traces"
        assert received.headers[0]["x-tenant"] == "ours"
