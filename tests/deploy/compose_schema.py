"""The schema by which docker-compose 1.29 judges a file, out of its wheel: downloaded once by pip, never installed."""

import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Final

from deploy.helm import ROOT

CACHE: Final = ROOT / ".cache/compose/compose_spec.json"
PIN: Final = Path(__file__).with_name("compose-wheel.txt")


class SchemaUnavailableError(Exception):
    """The wheel cannot be downloaded; the text says what pip said."""


def compose_schema() -> dict[str, Any]:
    """The schema of the compose specification as that version has it.

    Raises:
        SchemaUnavailableError: it is not in the cache, and pip could not download it.
    """
    if not CACHE.exists():
        text = _download()
        CACHE.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=CACHE.parent, delete=False) as made:
            made.write(text)
        Path(made.name).rename(CACHE)
    found: dict[str, Any] = json.loads(CACHE.read_text(encoding="utf-8"))
    return found


def _download() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--require-hashes", f"--dest={folder}", f"--requirement={PIN}"]
        result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=100)
        wheels = list(Path(folder).glob("*.whl"))
        if result.returncode != 0 or not wheels:
            raise SchemaUnavailableError(f"pip could not download docker-compose 1.29.2: {result.stderr.strip()}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            return wheel.read("compose/config/compose_spec.json")
