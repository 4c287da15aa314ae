"""The first of the two commands, as somebody meets it who has just cloned."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_make_run_shows_the_packages_that_take_minutes_as_they_come() -> None:
    asked = subprocess.run(
        ["make", "--dry-run", "--always-make", "run"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    (installing,) = [line for line in asked.stdout.splitlines() if "requirements/run.txt" in line]
    assert " install " in installing
    assert "quiet" not in installing
