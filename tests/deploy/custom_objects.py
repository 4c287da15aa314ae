"""Strict checks of objects that only operators know (KEDA, Prometheus, Gateway API), against their published models.

The npm packages @kubernetes-models are generated from the operators' own sources. TypeScript refuses a field that a
model does not have, or one of another type; the models' validators then check what types do not say.
"""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from support.node import node, packages

_MODELS: Final = {
    "keda.sh/v1alpha1": "@kubernetes-models/keda/keda.sh/v1alpha1",
    "monitoring.coreos.com/v1": "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1",
    "gateway.networking.k8s.io/v1": "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1",
}
_PACKAGES: Final = (
    *("@kubernetes-models/keda>=2.0.0", "@kubernetes-models/prometheus-operator>=6.0.0"),
    *("@kubernetes-models/gateway-api>=2.0.0", "typescript>=7.0.0"),
)
_OPTIONS: Final = (
    *("--noEmit", "--strict", "--skipLibCheck", "--pretty", "false"),
    *("--module", "nodenext", "--moduleResolution", "nodenext", "--target", "es2022"),
)


def is_custom(item: dict[str, Any]) -> bool:
    """Whether an object is of an operator, not of Kubernetes itself."""
    return item["apiVersion"] in _MODELS


def complaints(objects: Sequence[dict[str, Any]]) -> list[str]:
    """What is wrong with these custom objects; of one that is right nothing is said."""
    folder = packages("kubernetes-models", *_PACKAGES)
    kinds = sorted({(item["apiVersion"], item["kind"]) for item in objects})
    lines = [f'import {{ {kind} }} from "{_MODELS[version]}";' for version, kind in kinds]
    for item in objects:
        # The model knows its own apiVersion and kind.
        text = json.dumps({key: value for key, value in item.items() if key not in ("apiVersion", "kind")})
        lines.append(f"new {item['kind']}({text}).validate();")
    program = "\n".join(lines)
    found = []
    # Several tests ask at once; below the folder, as the packages are found from there.
    with TemporaryDirectory(dir=folder) as place:
        typed, plain = Path(place) / "objects.ts", Path(place) / "objects.mjs"
        typed.write_text(program, encoding="utf-8")
        plain.write_text(program, encoding="utf-8")
        for command in (["node_modules/typescript/bin/tsc", *_OPTIONS, str(typed)], [str(plain)]):
            made = subprocess.run(
                [str(node().path), *command], cwd=folder, check=False, capture_output=True, text=True, timeout=120
            )
            if made.returncode:
                found += [line for line in (made.stdout + made.stderr).splitlines() if line]
    return found
