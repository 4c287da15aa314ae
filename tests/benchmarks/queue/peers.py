"""The other queues, in an environment of their own."""

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[3]
ENVIRONMENT: Final = ROOT / ".cache" / "queues-venv"


def python_of_peers() -> Path:
    """The interpreter that has them."""
    return ENVIRONMENT / "bin" / "python"
