"""Runbooks: a page for each alert, to which panels link."""

from dashboards import runbooks
from dashboards.panels import Dashboard, Page, Row


def dashboard() -> Dashboard:
    rows = []
    for group in runbooks.groups():
        alerts = [rule["alert"] for rule in group["rules"] if "alert" in rule]
        if alerts:
            pages = [Page(alert, runbooks.page(alert), runbooks.number(alert)) for alert in alerts]
            rows.append(Row(group["name"].removeprefix("voicebus-").capitalize(), pages))
    description = "What each alert means, what to look at and what to do."
    return Dashboard(runbooks.UID, "Runbooks", description, rows, metrics=False)
