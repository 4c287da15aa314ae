"""The runbooks as a dashboard of their own, so that links to them work wherever Grafana runs.

Each alert of deploy/prometheus/rules has a page: what it says, and deploy/runbooks/ALERT.md.
"""

from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).resolve().parents[2]
RULES: Final = ROOT / "deploy/prometheus/rules"
_PAGES: Final = ROOT / "deploy/runbooks"
UID: Final = "voicebus-runbooks"


@cache
def groups() -> tuple[dict[str, Any], ...]:
    """The groups of rules of every file, in order."""
    files = sorted(RULES.glob("*.yml"))
    return tuple(group for file in files for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"])


@cache
def alerts() -> dict[str, dict[str, Any]]:
    """Alerts by name, in the order of their files."""
    return {rule["alert"]: rule for group in groups() for rule in group["rules"] if "alert" in rule}


def number(alert: str) -> int:
    """The panel's id of an alert's page."""
    return list(alerts()).index(alert) + 1


def address(alert: str) -> str:
    """Where Grafana shows an alert's page alone."""
    return f"/d/{UID}?viewPanel={number(alert)}"


def page(alert: str) -> str:
    """An alert's page as Markdown."""
    rule = alerts()[alert]
    said = rule["annotations"]
    head = f"**{said['summary']}** ({rule['labels']['severity']}). When it fires it says: {said['description']}"
    expression = f"```promql\n{rule['expr']}\n```"
    file = _PAGES / f"{alert}.md"
    # The panel has its heading.
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    steps = [text.removeprefix(f"# {alert}\n").strip()] if text else []
    return "\n\n".join([head, expression, *steps]) + "\n"
