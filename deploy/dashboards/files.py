"""The files that come of the dashboards. The chart has a link to their folder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

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
    made = [module.dashboard() for module in DASHBOARDS]
    return {
        GRAFANA / f"{one.uid}.json": json.dumps(one.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
        for one in made
    }


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
