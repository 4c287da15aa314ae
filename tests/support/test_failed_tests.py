"""A failed test fails alone."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = """
import gc, subprocess

def test_first(tmp_path):
    process = subprocess.Popen(["sleep", "0"], stdout=subprocess.PIPE)
    file = (tmp_path / "file").open("w")
    process.wait()
    raise AssertionError("of its own")

def test_second():
    gc.collect()
"""


def test_what_a_failed_test_has_left_open_does_not_fail_the_next_one(tmp_path: Path) -> None:
    (tmp_path / "test_two.py").write_text(TESTS, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "support.failed_tests"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    told = subprocess.run(
        [*command, "test_two.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    ).stdout
    assert "1 failed, 1 passed" in told
