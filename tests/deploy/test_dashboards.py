"""Grafana's dashboards: the committed files are what the code makes, and they ask for what there is."""

import copy
import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import pytest
from prometheus_client import REGISTRY

from dashboards import files, runbooks
from deploy.grafana_types import complaints
from deploy.helm import ROOT
from voicebus.telemetry import metrics

DASHBOARDS: Final[dict[str, dict[str, Any]]] = {path.stem: json.loads(text) for path, text in files.contents().items()}
ASKING: Final = {uid: made for uid, made in DASHBOARDS.items() if uid != runbooks.UID}
NAME: Final = re.compile(r"\b(?:(?:release|service|tool|rule|stream):)?voicebus_\w+(?::\w+)?")
SUFFIXES: Final = ("_bucket", "_sum", "_count", "_total")


def panels(made: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in made["panels"] if panel["type"] != "row"]


def expressions(made: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in panels(made) for target in panel.get("targets", [])]


def named(expression: str) -> set[str]:
    """The metrics and recording rules of an expression; what stands in quotes is none."""
    return set(NAME.findall(re.sub(r'"[^"]*"', '""', expression)))


def declared() -> set[str]:
    """Every series that a service serves, and every recording rule."""
    assert metrics.SESSIONS_ACTIVE, "it declares them all"
    families = [family for family in REGISTRY.collect() if family.name.startswith("voicebus_")]
    served = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    histograms = {family.name for family in families if family.type == "histogram"}
    parts = {f"{name}{suffix}" for name in histograms for suffix in SUFFIXES[:3]}
    rules = {rule["record"] for group in runbooks.groups() for rule in group["rules"] if "record" in rule}
    return (served - histograms) | parts | rules


def test_the_committed_files_are_what_make_dashboards_writes() -> None:
    wanted = files.contents()
    assert files.written() == wanted.keys(), "run `make dashboards`"
    for path, text in wanted.items():
        assert (ROOT / path).read_text(encoding="utf-8") == text, f"{path} is another: run `make dashboards`"


def test_writing_removes_the_file_of_a_dashboard_that_is_gone(tmp_path: Path) -> None:
    old = tmp_path / files.GRAFANA / "voicebus-old.json"
    old.parent.mkdir(parents=True)
    old.write_text("{}")
    assert files.written(tmp_path) == {files.GRAFANA / "voicebus-old.json"}
    assert files.write(tmp_path) == list(files.contents())
    assert files.written(tmp_path) == files.contents().keys()


@pytest.mark.parametrize("uid", ASKING)
def test_a_dashboard_asks_only_for_metrics_and_rules_that_there_are(uid: str) -> None:
    for expression in expressions(DASHBOARDS[uid]):
        assert named(expression) or "ALERTS" in expression, expression
        assert named(expression) <= declared(), expression


def test_every_metric_is_shown_by_a_dashboard_itself_or_through_a_rule() -> None:
    shown = {name for made in ASKING.values() for expression in expressions(made) for name in named(expression)}
    rules = {rule["record"]: rule["expr"] for group in runbooks.groups() for rule in group["rules"] if "record" in rule}
    waiting = list(shown)
    while waiting:
        for name in named(rules.get(waiting.pop(), "")) - shown:
            shown.add(name)
            waiting.append(name)
    families = {re.sub("(_bucket|_sum|_count)$", "", name) for name in shown}
    missing = {re.sub("(_bucket|_sum|_count)$", "", name) for name in declared()} - families
    assert {name for name in missing if ":" not in name} == set()


@pytest.mark.parametrize("uid", ASKING)
def test_every_panel_says_what_it_shows_with_a_unit_legends_and_limits(uid: str) -> None:
    for panel in panels(DASHBOARDS[uid]):
        assert panel["description"].endswith((".", "list.")), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"][0]["value"] is None
        assert panel["datasource"]["uid"] == "${datasource}"
        for target in panel["targets"]:
            assert target["legendFormat"], panel["title"]
            assert target["datasource"]["uid"] == "${datasource}"


@pytest.mark.parametrize("uid", ASKING)
def test_seconds_are_shown_as_seconds_and_ratios_as_percent(uid: str) -> None:
    for panel in panels(DASHBOARDS[uid]):
        unit = panel["fieldConfig"]["defaults"]["unit"]
        for target in panel["targets"]:
            if target["expr"].startswith("histogram_quantile") or re.search(r"_seconds:p\d\d_5m", target["expr"]):
                assert unit == "s", target["expr"]
            if re.search(r":ratio", target["expr"]):
                assert unit == "percentunit", target["expr"]


@pytest.mark.parametrize("uid", ASKING)
def test_a_dashboard_works_with_one_release_with_many_and_without_any(uid: str) -> None:
    variables = {variable["name"]: variable for variable in DASHBOARDS[uid]["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    for name, variable in variables.items():
        if name != "datasource":
            # `.*` also matches series without the label.
            assert (variable["allValue"], variable["includeAll"], variable["multi"]) == (".*", True, True)
            assert variable["current"]["value"] == ["$__all"]
    for expression in expressions(DASHBOARDS[uid]):
        selected = re.sub(r'"[^"]*"', '""', expression)
        assert not re.search(rf"({NAME.pattern}|ALERTS)(?![\w:{{])", selected), f"of any release: {expression}"
        assert len(re.findall(r'\{namespace=~"", release=~""', selected)) == selected.count("{"), expression
        asked = set(re.findall(r"\$(\w+)", expression)) - {"__rate_interval", "__range"}
        assert asked <= variables.keys(), expression


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_panels_lie_beside_each_other_and_have_ids_of_their_own(uid: str) -> None:
    made = DASHBOARDS[uid]
    assert made["uid"] == uid
    ids = [panel["id"] for panel in made["panels"]]
    assert len(set(ids)) == len(ids)
    places = [panel["gridPos"] for panel in made["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, f"{one} and {other}"


def test_dashboards_link_to_each_other_and_keep_time_and_variables() -> None:
    assert len({made["title"] for made in DASHBOARDS.values()}) == len(DASHBOARDS) == 10
    for made in DASHBOARDS.values():
        (link,) = made["links"]
        assert link["type"] == "dashboards"
        assert set(link["tags"]) <= set(made["tags"])
        assert link["keepTime"]
        assert link["includeVars"]


def test_every_alert_is_linked_from_a_panel_to_its_page() -> None:
    pages = {panel["title"]: panel for panel in panels(DASHBOARDS[runbooks.UID])}
    assert pages.keys() == runbooks.alerts().keys()
    linked = set()
    for made in ASKING.values():
        for panel in panels(made):
            for link in panel["links"]:
                alert = link["title"].removeprefix("Runbook: ")
                assert link["url"] == f"/d/{runbooks.UID}?viewPanel={pages[alert]['id']}"
                linked.add(alert)
    assert linked == pages.keys()


def test_a_runbooks_page_has_the_alerts_words_and_its_runbook() -> None:
    for panel in panels(DASHBOARDS[runbooks.UID]):
        content = panel["options"]["content"]
        rule = runbooks.alerts()[panel["title"]]
        assert rule["annotations"]["summary"] in content
        assert rule["expr"] in content
        runbook = (ROOT / rule["annotations"]["runbook"]).read_text(encoding="utf-8")
        assert runbook.removeprefix(f"# {panel['title']}\n").strip() in content


@pytest.mark.timeout(300)  # the first test of a fresh clone downloads them
@pytest.mark.xdist_group("grafana-types")
def test_every_dashboard_is_what_grafanas_own_schema_knows() -> None:
    assert complaints(DASHBOARDS) == []


@pytest.mark.timeout(300)
@pytest.mark.xdist_group("grafana-types")
@pytest.mark.parametrize(
    ("panel", "path", "value", "why"),
    [
        ("timeseries", ("options", "legend", "displayMode"), "tabular", "tabular"),
        ("timeseries", ("fieldConfig", "defaults", "custom", "lineWith"), 2, "lineWith"),
        ("stat", ("options", "colorMode"), 3, "number"),
        ("stat", ("gridPos", "w"), "half", "string"),
        ("bargauge", ("title",), None, "null"),
        ("timeseries", ("targets", 0, "expression"), "up", "expression"),
    ],
)
def test_what_grafana_would_not_know_would_be_noticed(
    panel: str, path: tuple[str | int, ...], value: object, why: str
) -> None:
    broken = copy.deepcopy(DASHBOARDS["voicebus-overview"])
    place: Any = next(one for one in broken["panels"] if one["type"] == panel)
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert why in " ".join(complaints({"broken": broken}))
