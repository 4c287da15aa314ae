"""docs/kubernetes.md: its values are the chart's, its sentences what the chart says, its examples there."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.chart import MINIMAL, chart_values, of_kind, one
from deploy.helm import CHART, ROOT, Helm

# The first test of a fresh clone downloads Helm.
pytestmark = pytest.mark.timeout(300)

PAGE = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")


def test_the_values_that_the_page_names_exist() -> None:
    values = chart_values()
    known = {"toolWorkers", *values, *values["toolWorkerDefaults"], *values["gateway"], *values["gateway"]["scaling"]}
    found = set(re.findall(r"`([a-z][A-Za-z]+(?:\.[a-z][A-Za-z]+)+)`", PAGE))
    named = {name for name in found if not name.endswith((".yaml", ".crt", ".key"))}
    assert len(named) > 15
    for name in named:
        first, *rest = name.split(".")
        if first not in values:  # of a service, whichever
            assert first in known, name
            continue
        place: Any = values[first]
        for step in rest:
            place = place.get(step, {}) if isinstance(place, dict) else None
            assert place is not None, name
        if first != "toolWorkers":
            parent: Any = values
            for step in name.split(".")[:-1]:
                parent = parent[step]
            assert name.split(".")[-1] in parent, name


def test_the_values_that_the_page_shows_are_taken(helm: Helm, tmp_path: Path) -> None:
    (shown,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "values.yaml").write_text(shown, encoding="utf-8")
    objects = helm.render(*MINIMAL, values=[tmp_path / "values.yaml"])
    billing = one(objects, "Deployment", "tool-worker-billing")["spec"]["template"]["spec"]["containers"][0]
    assert billing["image"] == yaml.safe_load(shown)["toolWorkers"]["billing"]["image"]["repository"] + ":7.3.0"
    assert len(of_kind(objects, "Deployment")) == 5


def test_the_refusal_that_the_page_shows_is_what_the_chart_says(helm: Helm) -> None:
    (shown,) = re.findall(r"voicebus: (toolWorkers\.billing: .*)", PAGE)
    result = helm.template(*MINIMAL, "--set=toolWorkers.billing.toolTimeout=90s")
    assert shown in result.stderr


def test_every_example_has_its_row() -> None:
    rows = set(re.findall(r"^\| `([a-z-]+\.yaml)` \|", PAGE, re.MULTILINE))
    assert rows == {path.name for path in (CHART / "examples").glob("*.yaml")}
