"""Writes requirements/*.txt anew from pyproject.toml: `make requirements`. The only thing here that needs uv.

The files name no index, so this machine's own configuration must not decide either: uv reads none of it.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
# dev.txt comes first and has everything; the others take its versions.
EVERYTHING: Final = "requirements/dev.txt"
BUILD: Final = "requirements/build.in"
SOURCES: Final = {
    EVERYTHING: ["pyproject.toml", BUILD, "--extra=all", "--extra=speech", "--group=dev", "--upgrade"],
    "requirements/run.txt": ["pyproject.toml", BUILD, "--extra=all", "--extra=speech"],
    # Without speech, whose GPL parts must not come into an image.
    "requirements/image.txt": [
        "pyproject.toml",
        "--extra=gateway",
        "--extra=archiver",
        "--extra=recording",
        "--extra=otel",
        "--extra=mcp",
        "--extra=guardrails",
        "--extra=privacy",
    ],
    "requirements/build.txt": [BUILD],
    # Tools that have environments of their own (`make scan`), and so versions of their own.
    "requirements/checkov.txt": ["requirements/checkov.in"],
    "requirements/hadolint.txt": ["requirements/hadolint.in"],
    "requirements/sbom.txt": ["requirements/sbom.in"],
}
APART: Final = ("requirements/checkov.txt", "requirements/hadolint.txt", "requirements/sbom.txt")
OPTIONS: Final = [
    "--quiet",
    "--no-config",
    "--generate-hashes",
    "--universal",
    "--python-version=3.11",
    "--no-emit-index-url",
    "--no-annotate",
    "--no-header",
]


def main() -> int:
    """Pin every file; the exit status is uv's."""
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        sys.stderr.write("requirements: uv is not on PATH and not in this environment; pip install uv\n")
        return 2
    for target, sources in SOURCES.items():
        constraint = [] if target == EVERYTHING or target in APART else [f"--constraint={EVERYTHING}"]
        command = [uv, "pip", "compile", *OPTIONS, *constraint, f"--output-file={target}", *sources]
        status = subprocess.run(command, check=False, cwd=ROOT).returncode  # noqa: S603 - fixed words
        if status != 0:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
