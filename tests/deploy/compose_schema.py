"""The schema by which docker-compose 1.29 judges a file, out of its wheel."""

import json
from pathlib import Path
from typing import Any, Final

from deploy.helm import ROOT
from deploy.wheels import out_of_wheel

_PIN: Final = Path(__file__).with_name("compose-1-wheel.txt")
_KEPT: Final = ROOT / ".cache/compose/compose_spec.json"


def compose_schema() -> dict[str, Any]:
    """The schema of the compose specification as that version has it.

    Raises:
        WheelUnavailableError: it is not in the cache, and pip could not download it.
    """
    schema = out_of_wheel(_PIN, "compose/config/compose_spec.json", _KEPT)
    found: dict[str, Any] = json.loads(schema.read_text(encoding="utf-8"))
    return found
