"""Panels and the frame of a dashboard: variables, links, units, thresholds and legends are the same everywhere."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeVar

from grafana_foundation_sdk.builders import bargauge, common, prometheus, stat, text, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import common as look
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from grafana_foundation_sdk.models.text import TextMode

from dashboards import runbooks

TAG: Final = "voicebus"
DATASOURCE: Final = model.DataSourceRef(type_val="prometheus", uid="${datasource}")

Unit = Literal["s", "short", "reqps", "percentunit", "ops", "bytes"]
Drawn = TypeVar("Drawn", timeseries.Panel, stat.Panel, bargauge.Panel)


@dataclass(frozen=True, slots=True)
class Query:
    """An expression and the legend of its series, such as `{{tool}}`."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class Limits:
    """From where on a value is shown as a warning and as critical; the other way round where `low` values are bad."""

    warning: float
    critical: float
    low: bool = False

    def steps(self) -> list[tuple[float | None, str]]:
        """From which value on which colour holds."""
        if self.low:
            return [(None, "red"), (self.critical, "orange"), (self.warning, "green")]
        steps: list[tuple[float | None, str]] = [(None, "green"), (self.warning, "orange")]
        return (
            [*steps, (self.critical, "red")]
            if self.critical > self.warning
            else [(None, "green"), (self.critical, "red")]
        )


@dataclass(frozen=True, slots=True)
class Panel:
    """What every panel has. `alerts` are those that watch the same: their runbooks are the panel's links."""

    title: str
    description: str
    queries: Sequence[Query]
    unit: Unit = "short"
    limits: Limits | None = None
    alerts: Sequence[str] = ()
    width: int = 8
    height: int = 8


@dataclass(frozen=True, slots=True)
class Lines(Panel):
    """Values over time."""

    stacked: bool = False

    def draw(self) -> timeseries.Panel:
        legend = common.VizLegendOptions().show_legend(True).calcs(["lastNotNull", "max"])
        drawn = (
            timeseries.Panel()
            .legend(legend.display_mode(look.LegendDisplayMode.TABLE).placement(look.LegendPlacement.BOTTOM))
            .tooltip(common.VizTooltipOptions().mode(look.TooltipDisplayMode.MULTI).sort(look.SortOrder.DESCENDING))
            .line_width(1)
            .fill_opacity(30 if self.stacked else 8)
            .min(0)
        )
        if self.stacked:
            drawn = drawn.stacking(common.StackingConfig().mode(look.StackingMode.NORMAL))
        if self.limits is not None:
            style = common.GraphThresholdsStyleConfig().mode(look.GraphThresholdsStyleMode.DASHED)
            drawn = drawn.thresholds_style(style)
        return _common(self, drawn.thresholds(_thresholds(self.limits)))


@dataclass(frozen=True, slots=True)
class Number(Panel):
    """The value of now, large; one for each series."""

    width: int = 4
    height: int = 4

    def draw(self) -> stat.Panel:
        drawn = (
            stat.Panel()
            .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
            .graph_mode(look.BigValueGraphMode.AREA)
            .color_mode(look.BigValueColorMode.VALUE)
            .no_value("none")
        )
        return _common(self, drawn.thresholds(_thresholds(self.limits)))


@dataclass(frozen=True, slots=True)
class Bars(Panel):
    """Counts over the time that the dashboard shows, one bar each; a funnel where they follow from each other."""

    def draw(self) -> bargauge.Panel:
        drawn = (
            bargauge.Panel()
            .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
            .orientation(look.VizOrientation.HORIZONTAL)
            .display_mode(look.BarGaugeDisplayMode.GRADIENT)
            .min(0)
            .decimals(0)
            .no_value("none")
        )
        return _common(self, drawn.thresholds(_thresholds(self.limits)))


@dataclass(frozen=True, slots=True)
class Page:
    """A text of its own, in Markdown; `number` is the panel's id, where something links to it."""

    title: str
    markdown: str
    number: int
    width: int = 24
    height: int = 14

    def draw(self) -> text.Panel:
        drawn = text.Panel().title(self.title).mode(TextMode.MARKDOWN).content(self.markdown)
        return drawn.id(self.number).span(self.width).height(self.height)


@dataclass(frozen=True, slots=True)
class Row:
    """A headed group of panels."""

    title: str
    panels: Sequence[Lines | Number | Bars | Page]


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice of values of a label; all of them at first."""

    name: str
    label: str
    query: str

    def build(self) -> build.QueryVariable:
        everything = model.VariableOption(selected=True, text=["All"], value=["$__all"])
        return (
            build.QueryVariable(self.name)
            .label(self.label)
            .datasource(DATASOURCE)
            .query({"query": self.query, "refId": self.name, "qryType": 1})
            .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(model.VariableSort.ALPHABETICAL_ASC)
            .multi(True)
            .include_all(True)
            # Also matches what has no such label, as a namespace and a release outside Kubernetes.
            .all_value(".*")
            .current(everything)
        )


NAMESPACE: Final = Variable("namespace", "Namespace", "label_values(voicebus_event_loop_lag_seconds, namespace)")
RELEASE: Final = Variable(
    "release", "Release", 'label_values(voicebus_event_loop_lag_seconds{namespace=~"$namespace"}, release)'
)


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A dashboard: `uid` is its address, `/d/UID`, and the name of its file."""

    uid: str
    title: str
    description: str
    rows: Sequence[Row]
    variables: Sequence[Variable] = field(default=())
    # Without: a dashboard that asks for no metrics.
    metrics: bool = True

    def build(self) -> model.Dashboard:
        made = (
            build.Dashboard(f"Voicebus / {self.title}")
            .uid(self.uid)
            .description(self.description)
            .tags([TAG])
            .timezone("browser")
            .time("now-1h", "now")
            .tooltip(model.DashboardCursorSync.CROSSHAIR)
            .link(_other_dashboards())
        )
        if self.metrics:
            source = build.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
            made = made.refresh("30s").with_variable(source)
            for variable in (NAMESPACE, RELEASE, *self.variables):
                made = made.with_variable(variable.build())
        for row in self.rows:
            made = made.with_row(build.Row(row.title))
            for panel in row.panels:
                made = made.with_panel(panel.draw())
        return _numbered(made.build())


def _thresholds(limits: Limits | None) -> build.ThresholdsConfig:
    # Without any, Grafana takes 80 of whatever it is for too much.
    steps = [(None, "green")] if limits is None else limits.steps()
    made = [model.Threshold(value=value, color=color) for value, color in steps]
    return build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(made)


def _other_dashboards() -> build.DashboardLink:
    link = build.DashboardLink("Voicebus").type(model.DashboardLinkType.DASHBOARDS).tags([TAG]).as_dropdown(True)
    return link.include_vars(True).keep_time(True)


def _common(panel: Panel, drawn: Drawn) -> Drawn:
    for number, query in enumerate(panel.queries):
        target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(chr(ord("A") + number))
        target = target.format(PromQueryFormat.TIME_SERIES).datasource(DATASOURCE)
        # What counts over the whole range is asked for once, at its end.
        drawn = drawn.with_target(target.instant() if "$__range" in query.expr else target.range())
    return (
        drawn.title(panel.title)
        .description(panel.description)
        .datasource(DATASOURCE)
        .unit(panel.unit)
        .span(panel.width)
        .height(panel.height)
        .links([build.DashboardLink(f"Runbook: {alert}").url(runbooks.address(alert)) for alert in panel.alerts])
    )


def _numbered(made: model.Dashboard) -> model.Dashboard:
    """Give each panel an id of its own; those that have one keep it."""
    panels = made.panels or []
    taken = {panel.id_val for panel in panels if panel.id_val}
    free = (number for number in range(1, 10_000) if number not in taken)
    for panel in panels:
        panel.id_val = panel.id_val or next(free)
    return made
