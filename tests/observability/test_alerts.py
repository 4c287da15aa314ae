"""Every alert fires on what it is for and is silent on what is near by; judged by Prometheus' own rule tester."""

import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from prometheus_client import REGISTRY

from voicebus.telemetry import metrics

ROOT: Final = Path(__file__).resolve().parents[2]
RULES: Final = ROOT / "deploy/prometheus/rules"
RUNBOOKS: Final = ROOT / "deploy/runbooks"
PROMTOOL: Final = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian package prometheus)")

Series = Mapping[str, str]


def _alerts() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load((RULES / "voicebus-alerts.yml").read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


ALERTS: Final = _alerts()
RECORDED: Final = [
    rule
    for group in yaml.safe_load((RULES / "voicebus-recording.yml").read_text())["groups"]
    for rule in group["rules"]
]


@dataclass(frozen=True)
class Case:
    """Samples once a minute from 0 on, and the minute at which `fires` must have fired and `silent` must not."""

    fires: Series
    silent: Series
    minute: int = 30


def answers(slow: str, all_of_them: str) -> Series:
    """Answers by how many began within 1.5 s, and how many there were."""
    return {
        'voicebus_response_latency_seconds_bucket{le="1.5"}': slow,
        'voicebus_response_latency_seconds_bucket{le="3"}': all_of_them,
        'voicebus_response_latency_seconds_bucket{le="+Inf"}': all_of_them,
        "voicebus_response_latency_seconds_count": all_of_them,
    }


def admitted(rejected: str, reason: str = "full") -> Series:
    return {
        f'voicebus_admission_rejected_total{{reason="{reason}"}}': rejected,
        "voicebus_sessions_started_total": "0+100x500",
    }


def room(slots: int, active: int, draining: int = 0) -> Series:
    """One gateway."""
    gauges = {"voicebus_session_slots": slots, "voicebus_sessions_active": active, "voicebus_draining": draining}
    return {f'{name}{{job="gateway",instance="a"}}': f"{value}x500" for name, value in gauges.items()}


WATCHED: Final[Series] = {"voicebus_draining": "0x500"}
"""What each process tells from its begin."""


def once(counter: str) -> Case:
    """Fires on the first event ever, which brings the series into being; silent once that has long passed."""
    return Case({counter: "_x28 1x10"}, {counter: "7x500"}, minute=31)


def stands(gauge: str, wrong: float, right: float) -> Case:
    return Case({gauge: f"{wrong}x500"}, {gauge: f"{right}x500"})


CASES: Final[Mapping[str, Case]] = {
    "VoicebusAnswersSlow": Case(answers("0+9x500", "0+10x500"), answers("0+98x500", "0+100x500")),
    "VoicebusDeadAir": Case(
        {"voicebus_dead_air_seconds_total": "0+30x500", **room(10, 5)},
        {"voicebus_dead_air_seconds_total": "0+3x500", **room(10, 5)},
    ),
    "VoicebusAdmissionFastBurn": Case(admitted("0+10x500"), admitted("0+10x500", "too_many_sessions"), 70),
    "VoicebusAdmissionSlowBurn": Case(admitted("0+1x500"), admitted("0+0.1x500"), 400),
    "VoicebusAnswersFastBurn": Case(answers("0+1x500", "0+10x500"), answers("0+4x500", "0+10x500"), 70),
    "VoicebusAnswersSlowBurn": Case(answers("0+6x500", "0+10x500"), answers("0+8x500", "0+10x500"), 400),
    "VoicebusRejectedWithFreeSlots": Case(
        {**room(10, 5), 'voicebus_admission_rejected_total{reason="full"}': "0+1x500"},
        {**room(10, 10), 'voicebus_admission_rejected_total{reason="full"}': "0+1x500"},
    ),
    "VoicebusCapacityShort": Case(
        {**room(100, 90), "voicebus_sessions_started_total": "0+20x500"},
        {**room(100, 70), "voicebus_sessions_started_total": "0+20x500"},
    ),
    "VoicebusNoSlots": Case(room(10, 5, draining=1), room(10, 9)),
    "VoicebusGatewaysAbsent": Case({"up": "0x500"}, room(10, 0)),
    "VoicebusDrainStuck": stands("voicebus_draining", 1, 0),
    "VoicebusEventLoopLag": stands("voicebus_event_loop_lag_seconds", 0.2, 0.05),
    # `lost` is no loss: another gateway was quicker.
    "VoicebusSessionsLost": Case(
        {'voicebus_session_migrations_total{cause="takeover",outcome="failed"}': "_x28 1x10"},
        {'voicebus_session_migrations_total{cause="takeover",outcome="lost"}': "_x28 1x10"},
        minute=31,
    ),
    "VoicebusTakeoverSlow": Case(
        {
            'voicebus_session_takeover_seconds_bucket{le="3"}': "0+5x500",
            'voicebus_session_takeover_seconds_bucket{le="5"}': "0+10x500",
            'voicebus_session_takeover_seconds_bucket{le="+Inf"}': "0+10x500",
        },
        {
            'voicebus_session_takeover_seconds_bucket{le="3"}': "0+10x500",
            'voicebus_session_takeover_seconds_bucket{le="+Inf"}': "0+10x500",
        },
    ),
    "VoicebusModelErrors": Case(
        {'voicebus_model_errors_total{code="server_error"}': "0+12x500"},
        {'voicebus_model_errors_total{code="server_error"}': "0+1x500"},
    ),
    "VoicebusModelReconnects": Case(
        {**room(10, 5), 'voicebus_model_reconnects_total{cause="dropped"}': "0+3x500"},
        {**room(10, 5), 'voicebus_model_reconnects_total{cause="renewal"}': "0+3x500"},
    ),
    "VoicebusModelCircuitOpen": stands('voicebus_model_circuit_open{address="m:443"}', 1, 0),
    "VoicebusStreamStuck": Case(
        {'voicebus_stream_oldest_pending_seconds{stream="vb:events:{0}",group="archiver"}': "30x500"},
        {'voicebus_stream_oldest_pending_seconds{stream="vb:tools:{a}",group="workers"}': "30x500"},
    ),
    "VoicebusToolCallsStuck": stands(
        'voicebus_stream_oldest_pending_seconds{stream="vb:tools:{a}",group="workers"}', 400, 200
    ),
    "VoicebusStreamBacklog": Case(
        {'voicebus_stream_lag{stream="vb:tools:{a}",group="workers"}': "50x500"},
        {'voicebus_stream_lag{stream="vb:events:{0}",group="archiver"}': "50x500"},
    ),
    "VoicebusArchiveBehind": stands('voicebus_stream_lag{stream="vb:events:{0}",group="archiver"}', 60_000, 40_000),
    "VoicebusStreamLagUnknown": stands('voicebus_stream_lag_unknown{stream="vb:tools:{a}",group="workers"}', 1, 0),
    "VoicebusDeadLetters": once('voicebus_messages_deadlettered_total{service="tool-worker",reason="malformed"}'),
    "VoicebusRedisDisrupted": Case(
        {'voicebus_redis_disruptions_total{service="gateway"}': "0+2x500"},
        {'voicebus_redis_disruptions_total{service="gateway"}': "0x28 1x10"},
    ),
    "VoicebusToolFailing": Case(
        {
            'voicebus_tool_outcomes_total{tool="a",outcome="ok"}': "0+8x500",
            'voicebus_tool_outcomes_total{tool="a",outcome="timeout"}': "0+2x500",
        },
        {
            'voicebus_tool_outcomes_total{tool="a",outcome="ok"}': "0+8x500",
            'voicebus_tool_outcomes_total{tool="a",outcome="cancelled"}': "0+2x500",
        },
    ),
    "VoicebusToolOutcomeUnknown": once('voicebus_tool_outcomes_total{tool="a",outcome="unknown"}'),
    "VoicebusToolCircuitOpen": stands('voicebus_tool_circuit_open{tool="a"}', 1, 0),
    "VoicebusToolCallsRefused": once('voicebus_tool_calls_refused_total{tool="a",reason="no_worker"}'),
    "VoicebusToolBlocksLoop": Case(
        {'voicebus_tool_loop_blocked_seconds_total{tool="a"}': "_x28 2x10"},
        {'voicebus_tool_loop_blocked_seconds_total{tool="a"}': "_x28 0.3x10"},
    ),
    "VoicebusUnjudgedPassed": Case(
        {'voicebus_guardrail_unjudged_total{rule="a",cause="error",policy="open"}': "_x28 1x10"},
        {'voicebus_guardrail_unjudged_total{rule="a",cause="error",policy="closed"}': "_x28 1x10"},
    ),
    "VoicebusUnjudgedStopped": Case(
        {'voicebus_guardrail_unjudged_total{rule="a",cause="error",policy="closed"}': "_x28 1x10"},
        {'voicebus_guardrail_unjudged_total{rule="a",cause="error",policy="open"}': "_x28 1x10"},
    ),
    "VoicebusGuardrailCircuitOpen": stands("voicebus_guardrail_circuit_open", 1, 0),
    "VoicebusHoldWindowBroken": Case(
        {"voicebus_hold_window_broken_total": "0x28 1x10"}, {"voicebus_hold_window_broken_total": "1x500"}
    ),
    "VoicebusTranscriptGaps": Case(
        {"voicebus_transcript_gaps_total": "0x28 1x10"}, {"voicebus_transcript_gaps_total": "1x500"}
    ),
    "VoicebusEventsLost": once('voicebus_events_lost_total{group="mine"}'),
    "VoicebusArchiveSlow": Case(
        {
            'voicebus_transcript_write_lag_seconds_bucket{le="1"}': "0+1x500",
            'voicebus_transcript_write_lag_seconds_bucket{le="5"}': "0+10x500",
            'voicebus_transcript_write_lag_seconds_bucket{le="+Inf"}': "0+10x500",
        },
        {
            'voicebus_transcript_write_lag_seconds_bucket{le="1"}': "0+10x500",
            'voicebus_transcript_write_lag_seconds_bucket{le="+Inf"}': "0+10x500",
        },
    ),
    "VoicebusRecordingFailures": once('voicebus_recording_failures_total{step="write"}'),
    "VoicebusCredentialsGuessed": Case(
        {'voicebus_credentials_refused_total{reason="too_many_failures"}': "_x28 1x10"},
        {'voicebus_credentials_refused_total{reason="not_valid"}': "_x28 1x10"},
    ),
}


def rules_for(alert: str) -> list[dict[str, Any]]:
    """The alert, after the recorded series that it asks for: judging all rules each time takes a minute."""
    return _with_what_it_asks_for(ALERTS[alert])


def rules_of(recorded: str) -> list[dict[str, Any]]:
    return _with_what_it_asks_for(next(rule for rule in RECORDED if rule["record"] == recorded))


def _with_what_it_asks_for(last: dict[str, Any]) -> list[dict[str, Any]]:
    rules = [last]
    for rule in reversed(RECORDED):
        if any(rule["record"] in asking["expr"] for asking in rules) and rule not in rules:
            rules.insert(0, rule)
    return rules


def fires(alert: str, series: Series, folder: Path) -> bool:
    """Whether the alert fires in its minute, by `promtool test rules`."""
    return fires_at(CASES[alert].minute, alert, {**WATCHED, **series}, folder)


def fires_at(minute: int, alert: str, series: Series, folder: Path) -> bool:
    firing = f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})'
    return judged(rules_for(alert), firing, series, minute, folder)


def judged(
    rules: list[dict[str, Any]], counted: str, series: Series, minute: int, folder: Path, *, every: str = "1m"
) -> bool:
    """Whether what is counted is one in this minute, and not none, by `promtool test rules`."""
    assert PROMTOOL is not None
    (folder / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "tested", "rules": rules}]}))
    asked = {"expr": f"{counted} or vector(0)", "eval_time": f"{minute}m"}
    test = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": every,
        "tests": [
            {
                "interval": every,
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": [{**asked, "exp_samples": [{"labels": "{}", "value": 1}]}],
            }
        ],
    }
    (folder / "test.yml").write_text(yaml.safe_dump(test))
    command = [PROMTOOL, "test", "rules", "test.yml"]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    # Nothing else may be wrong.
    assert ran.returncode == 0 or "got: {} 0E+00" in ran.stdout + ran.stderr, ran.stdout + ran.stderr
    return ran.returncode == 0


# Samples once a minute: nothing for 20 minutes, then the first refusal, failed call or late answer there ever was.
FIRST_EVENTS: Final[Mapping[str, Series]] = {
    "release:voicebus_admission_failed:ratio5m": {
        'voicebus_admission_rejected_total{reason="full"}': "0x20 1x9", "voicebus_sessions_started_total": "0+1x29",
    },
    "tool:voicebus_tool_failures:ratio_5m": {
        'voicebus_tool_outcomes_total{tool="a",outcome="ok"}': "0+1x29",
        'voicebus_tool_outcomes_total{tool="a",outcome="timeout"}': "0x20 1x9",
    },
}  # fmt: skip


@needs_promtool
@pytest.mark.parametrize("recorded", FIRST_EVENTS)
def test_the_first_event_of_a_counter_that_began_at_0_counts_against_its_objective(
    recorded: str, tmp_path: Path
) -> None:
    assert judged(rules_of(recorded), f"count({recorded} > 0)", FIRST_EVENTS[recorded], 22, tmp_path)
    before = {name: values for name, values in FIRST_EVENTS[recorded].items() if "0x20" not in values}
    assert not judged(rules_of(recorded), f"count({recorded} > 0)", before, 22, tmp_path)


def test_every_alert_has_a_case() -> None:
    assert sorted(CASES) == sorted(ALERTS)


@needs_promtool
@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_fires_on_what_it_is_for_and_not_on_what_is_near_by(alert: str, tmp_path: Path) -> None:
    assert fires(alert, CASES[alert].fires, tmp_path)
    assert not fires(alert, CASES[alert].silent, tmp_path)


FIRST_SEEN: Final = [
    alert for alert, rule in ALERTS.items() if "unless present_over_time" in rule["expr"] and rule["for"] == "0m"
]
"""Those that count a counter whole which was not there before, and tell of it at once."""


@needs_promtool
@pytest.mark.parametrize("alert", FIRST_SEEN)
def test_what_was_counted_before_anybody_watched_is_no_news_to_a_new_prometheus(alert: str, tmp_path: Path) -> None:
    counter = next(name for name in CASES[alert].fires if name.endswith("_total") or "_total{" in name)
    watched = {counter: "7x20", **room(10, 5)}
    old = {"voicebus_draining": "0x20", "process_start_time_seconds": "-86400x20"}
    assert not any(fires_at(minute, alert, watched | old, tmp_path) for minute in (0, 3, 6, 11))
    # Of a process that has begun shortly before it is.
    young = {"voicebus_draining": "0x20", "process_start_time_seconds": "-60x20"}
    assert any(fires_at(minute, alert, watched | young, tmp_path) for minute in (0, 3))


@needs_promtool
def test_the_gateways_of_one_namespace_are_missed_while_others_have_theirs(tmp_path: Path) -> None:
    alert = "VoicebusGatewaysAbsent"
    slots = 'voicebus_session_slots{{namespace="{}",job="gateway",instance="{}"}}'
    both = {slots.format("here", "a"): "250x60", slots.format("there", "b"): "250x60"}
    assert not fires_at(30, alert, both, tmp_path)
    assert fires_at(30, alert, both | {slots.format("there", "b"): "250x20 _x40"}, tmp_path)


def of_release(release: str, series: Series) -> Series:
    """The same series, as the chart's PodMonitor has them of a release in a namespace."""
    labels = f'namespace="voice",release="{release}",pod="{release}-0"'
    told = {name if "{" in name else f"{name}{{}}": values for name, values in series.items()}
    return {re.sub(r"\{(?=.)", f"{{{labels},", name, count=1).replace(",}", "}"): told[name] for name in told}


@needs_promtool
@pytest.mark.parametrize("alert", ALERTS)
def test_two_releases_in_one_namespace_neither_hide_nor_raise_each_others_alerts(alert: str, tmp_path: Path) -> None:
    case = CASES[alert]
    wrong = case.fires if alert != "VoicebusGatewaysAbsent" else {"voicebus_session_slots": "250x20 _x40"}
    series = {**of_release("production", {**WATCHED, **wrong}), **of_release("staging", {**WATCHED, **case.silent})}
    firing = f'(ALERTS{{alertname="{alert}",alertstate="firing",release="%s"}})'
    only = f"(count{firing % 'production'} > bool 0) unless count{firing % 'staging'}"
    assert judged(rules_for(alert), only, series, case.minute, tmp_path)


@needs_promtool
def test_half_of_what_is_too_much_in_each_of_two_releases_is_no_alert(tmp_path: Path) -> None:
    half = {'voicebus_stream_lag{stream="vb:events:{0}",group="archiver"}': "40000x500"}
    two = {**of_release("production", half), **of_release("staging", half)}
    assert not fires_at(30, "VoicebusArchiveBehind", two, tmp_path)


def workers() -> Series:
    """A process that is no gateway: it serves what gateways do at 0."""
    return {name.replace('job="gateway",instance="a"', 'job="workers",instance="w"'): "0x500" for name in room(0, 0)}


HEALTHY: Final[Series] = of_release("staging", {**room(250, 10), **workers()})


@needs_promtool
def test_gateways_are_missed_while_the_workers_of_their_release_go_on(tmp_path: Path) -> None:
    gone = {name: values.replace("x500", "x20 _x480") for name, values in room(250, 10).items()}
    series = {**of_release("production", {**gone, **workers()}), **HEALTHY}
    assert not fires_at(20, "VoicebusGatewaysAbsent", series, tmp_path)
    firing = 'count(ALERTS{alertname="VoicebusGatewaysAbsent",alertstate="firing",release%s"production"})'
    only = f"{firing % '='} unless {firing % '!='}"
    assert judged(rules_for("VoicebusGatewaysAbsent"), only, series, 30, tmp_path)
    assert not fires_at(30, "VoicebusNoSlots", series, tmp_path)


@needs_promtool
@pytest.mark.parametrize(
    ("left", "days"), [(workers(), 7), ({}, 1)], ids=["a week, while its workers go on", "a day, where nothing is left"]
)
def test_gateways_of_a_release_beside_others_are_missed_for(left: Series, days: int, tmp_path: Path) -> None:
    """Samples once an hour, as if the rules were evaluated so."""
    alert, hours = "VoicebusGatewaysAbsent", days * 24
    gone = {name: values.replace("x500", "x20 _x480") for name, values in room(250, 10).items()}
    series = {**of_release("production", {**gone, **left}), **HEALTHY}
    firing = f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})'
    for hour, missed in ((20, False), (23, True), (20 + hours - 1, True), (20 + hours + 1, False)):
        assert judged(rules_for(alert), firing, series, hour * 60, tmp_path, every="1h") is missed, f"hour {hour}"


@needs_promtool
@pytest.mark.parametrize("alert", ["VoicebusGatewaysAbsent", "VoicebusNoSlots"])
def test_workers_without_gateways_beside_a_release_that_has_some_are_no_alert(alert: str, tmp_path: Path) -> None:
    others = {
        name.replace("{", '{namespace="voice",').replace('"w"', '"own"'): values for name, values in workers().items()
    }
    alone = {**of_release("trial", workers()), **others}
    assert not any(fires_at(minute, alert, {**alone, **HEALTHY}, tmp_path) for minute in (3, 30))


@needs_promtool
def test_a_full_gateway_and_one_that_stops_have_no_slots_whatever_workers_serve(tmp_path: Path) -> None:
    for wrong in (room(250, 250), room(250, 10, draining=1)):
        series = {**of_release("production", {**wrong, **workers()}), **HEALTHY}
        assert fires_at(30, "VoicebusNoSlots", series, tmp_path)
        assert not fires_at(30, "VoicebusGatewaysAbsent", series, tmp_path)


@needs_promtool
def test_gateways_that_are_told_of_by_their_release_from_an_upgrade_on_are_not_missed(tmp_path: Path) -> None:
    slots = 'voicebus_session_slots{{namespace="voice",{}job="gateway",instance="{}"}}'
    upgraded = {slots.format("", "a"): "250x20 _x40", slots.format('release="calls",', "b"): "_x20 250x40"}
    assert not fires_at(40, "VoicebusGatewaysAbsent", upgraded, tmp_path)


@needs_promtool
def test_a_single_reconnect_while_nobody_talks_is_not_one_of_each_conversation(tmp_path: Path) -> None:
    alert = "VoicebusModelReconnects"
    rare = 'voicebus_model_reconnects_total{cause="dropped"}'
    assert not fires_at(30, alert, {**room(10, 0), rare: "0+0.2x60"}, tmp_path)
    assert fires_at(30, alert, {**room(10, 0), rare: "0+3x60"}, tmp_path)


@needs_promtool
def test_all_rules_are_well_formed() -> None:
    assert PROMTOOL is not None
    files = [str(path) for path in sorted(RULES.glob("*.yml"))]
    checked = subprocess.run([PROMTOOL, "check", "rules", *files], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_what_is_wrong_and_what_to_do(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert "for" in rule
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    page = (ROOT / rule["annotations"]["runbook"]).read_text()
    assert page.startswith(f"# {alert}\n")
    assert "## Look at" in page
    assert "## Do" in page


def test_every_runbook_is_of_an_alert() -> None:
    assert sorted(path.stem for path in RUNBOOKS.glob("*.md")) == sorted(ALERTS)


def test_links_between_runbooks_lead_somewhere() -> None:
    for page in RUNBOOKS.glob("*.md"):
        for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def _declared() -> set[str]:
    assert metrics.SESSIONS_ACTIVE
    return {sample for collector in list(REGISTRY._collector_to_names.values()) for sample in collector}


@pytest.mark.parametrize(
    "page", [*sorted(RULES.glob("*.yml")), *sorted(RUNBOOKS.glob("*.md"))], ids=lambda page: page.stem
)
def test_rules_and_runbooks_name_metrics_that_there_are(page: Path) -> None:
    known = _declared()
    for name in re.findall(r"(?<![:\w])voicebus_[a-z0-9_]+", page.read_text()):
        assert name in known, f"{page.name} names {name}"
