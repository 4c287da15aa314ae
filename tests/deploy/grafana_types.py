"""Strict checks of dashboards against Grafana's own types, of the version that the compose file runs.

The npm package @grafana/schema is generated from the schemas that Grafana itself has. TypeScript refuses a field that
they do not have, one of another type, a value that is none of an enumeration's, and what must be there and is not.
"""

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import yaml

from deploy.helm import ROOT
from support.node import node, packages

_RAW: Final = "../node_modules/@grafana/schema/dist/types/raw"
_PANELS: Final = {
    "bargauge": "composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen",
    "stat": "composable/stat/panelcfg/x/StatPanelCfg_types.gen",
    "text": "composable/text/panelcfg/x/TextPanelCfg_types.gen",
    "timeseries": "composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen",
}
_OPTIONS: Final = (
    *("--noEmit", "--strict", "--skipLibCheck", "--pretty", "false"),
    *("--module", "esnext", "--moduleResolution", "bundler", "--target", "es2022"),
)
# JSON has an enumeration's values, not its names. What a panel's plugin is told, the schema of all panels leaves open;
# the plugin's own has it. Prometheus's queries have no schema there: these are the fields that its plugin documents.
_TYPES: Final = """
type Json<T> = T extends string ? `${T}` : T extends (infer U)[] ? Json<U>[]
  : T extends object ? { [K in keyof T]: Json<T[K]> } : T;
interface Query {
  datasource: { type: "prometheus"; uid: string }; refId: string; expr: string; legendFormat: string;
  range?: boolean; instant?: boolean; exemplar?: boolean; format?: "time_series" | "table" | "heatmap";
  interval?: string;
}
type Of<Type, Options, Custom> = Omit<Panel, "type" | "options" | "fieldConfig" | "targets"> & {
  type: Type; options: Options; targets?: Query[];
  fieldConfig?: Omit<FieldConfigSource, "defaults"> & { defaults: Omit<FieldConfig, "custom"> & { custom?: Custom } };
};
type Grafana = Json<Omit<Dashboard, "panels"> & { panels: (RowPanel | Known)[] }>;
"""


def grafana_version() -> str:
    """The one that `docker compose up` runs."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    found = re.fullmatch(r"grafana/grafana:(\d+\.\d+\.\d+)", compose["services"]["grafana"]["image"])
    assert found is not None
    return found[1]


def complaints(dashboards: Mapping[str, Any]) -> list[str]:
    """What is wrong with these dashboards, by name; of one that is right nothing is said."""
    folder = packages("grafana-schema", f"@grafana/schema=={grafana_version()}", "typescript>=7.0.0")
    common = "Dashboard, FieldConfig, FieldConfigSource, Panel, RowPanel"
    lines = [f'import type {{ {common} }} from "{_RAW}/dashboard/x/dashboard_types.gen";']
    lines += [f'import type * as {kind} from "{_RAW}/{path}";' for kind, path in _PANELS.items()]
    own = {kind: f"{kind}.FieldConfig" if kind == "timeseries" else "Record<string, never>" for kind in _PANELS}
    lines.append(
        "type Known = " + " | ".join(f'Of<"{kind}", {kind}.Options, {custom}>' for kind, custom in own.items())
    )
    lines += [_TYPES, "export {};"]
    for name, made in dashboards.items():
        lines.append(f"const {re.sub(r'[^a-z]', '_', name)}: Grafana = {json.dumps(made, indent=1)};")
    # Several tests ask at once; below the folder, as the packages are found from there.
    with TemporaryDirectory(dir=folder) as place:
        program = Path(place) / "dashboards.ts"
        program.write_text("\n".join(lines), encoding="utf-8")
        command = [str(node().path), "node_modules/typescript/bin/tsc", *_OPTIONS, str(program)]
        made_of_it = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True, timeout=120)
    return [line for line in (made_of_it.stdout + made_of_it.stderr).splitlines() if line]
