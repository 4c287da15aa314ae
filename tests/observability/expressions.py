"""Every PromQL expression of dashboards and rules, with the variables of Grafana filled in."""

import json
import re
from typing import Final

from dashboards import files, runbooks

# What Grafana puts in where everything is chosen; five minutes is more than a test lasts.
VARIABLES: Final = {"__rate_interval": "5m", "__range": "5m"}
ANYTHING: Final = ".*"


def filled(expression: str) -> str:
    return re.sub(r"\$(\w+)", lambda found: VARIABLES.get(found[1], ANYTHING), expression)


def with_bool(expression: str) -> str:
    """The expression with comparisons that give 0 or 1 instead of leaving out what does not hold.

    What stands in quotes and braces is a matcher, and no comparison.
    """
    parts = re.split(r"(\{[^{}]*\})", expression)
    return "".join(
        part if number % 2 else re.sub(r"\s(>=|<=|==|!=|>|<)\s(?!bool)", r" \1 bool ", part)
        for number, part in enumerate(parts)
    )


def of_dashboards() -> dict[str, str]:
    """Expression by where it stands."""
    found = {}
    for path, text in files.contents().items():
        for panel in json.loads(text)["panels"]:
            for target in panel.get("targets", []):
                place = f"{path.stem} / {panel['title']} / {target['legendFormat']}"
                found[place] = filled(target["expr"])
    return found


def of_autoscaling() -> dict[str, str]:
    """What KEDA asks Prometheus, as the chart's template has it: of all pods, and with a number for each setting."""
    template = (runbooks.ROOT / "helm/voicebus/templates/_scaling.tpl").read_text(encoding="utf-8")
    body = re.findall(r'define "(voicebus[.]\w+[.]query)" -}}(.*?){{- end -}}', template, re.DOTALL)
    found = {}
    for name, text in body:
        without = re.sub(r"{{-? \$\w+ :?= .*?}}", "", text)
        selected = re.sub(r"\{ {{- \$pods -}} ", '{namespace=~".*"', without)
        found[name] = re.sub(r"{{.*?}}", "60", selected).strip()
    return found


def of_recording_rules() -> dict[str, str]:
    return {rule["record"]: rule["expr"] for group in runbooks.groups() for rule in group["rules"] if "record" in rule}


def of_alerts() -> dict[str, str]:
    return {name: rule["expr"] for name, rule in runbooks.alerts().items()}
