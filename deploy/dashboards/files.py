"""The files that come of the dashboards. The chart has a link to their folder."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards import (
    archive,
    capacity,
    guardrails,
    model_link,
    moves,
    overview,
    runbook_pages,
    sessions,
    tools,
    turns,
)
from dashboards.runbooks import ROOT

DASHBOARDS: Final = (
    overview, sessions, turns, tools, guardrails, archive, model_link, moves, capacity, runbook_pages,
)  # fmt: skip
GRAFANA: Final = Path("deploy/grafana")


def contents() -> Mapping[Path, str]:
    """What belongs into each file, by its path below the repository."""
    return {GRAFANA / f"{made['uid']}.json": _text(made) for made in map(_plain, DASHBOARDS)}


def _plain(module: ModuleType) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(module.dashboard().build(), cls=JSONEncoder))
    for variable in made["templating"].get("list", []):
        # The builder says of every variable what is of intervals alone; no other has such fields in Grafana.
        for name in ("auto", "auto_count", "auto_min"):
            variable.pop(name, None)
    return made


def _text(made: dict[str, Any]) -> str:
    return json.dumps(made, indent=2, sort_keys=True) + "\n"


def written(root: Path = ROOT) -> set[Path]:
    """The files that are there."""
    return {path.relative_to(root) for path in (root / GRAFANA).glob("*.json")}


def write(root: Path = ROOT) -> list[Path]:
    """Write every file and remove those that nothing writes any more; returns their paths."""
    wanted = contents()
    (root / GRAFANA).mkdir(parents=True, exist_ok=True)
    for path in written(root) - wanted.keys():
        (root / path).unlink()
    for path, text in wanted.items():
        (root / path).write_text(text, encoding="utf-8")
    return list(wanted)
