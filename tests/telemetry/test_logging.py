"""Logs in programs of others, and in services."""

import json
import subprocess
import sys

QUIET = """
from voicebus.telemetry.logging import get_logger
log = get_logger("voicebus.tried")
log.debug("not worth a line")
log.warning("worth one", tool="boom")
"""
RAISING = """
from voicebus.telemetry.logging import get_logger
log = get_logger("voicebus.tried")
try:
    {}["lost"]
except KeyError as error:
    log.exception("by name", tool="boom")
    log.warning("by argument", exc_info=True)
    log.error("by object", exc_info=error)
log.warning("none")
"""
SERVICE = """
from voicebus.telemetry.logging import configure, get_logger
log = get_logger("voicebus.tried")
configure(level="debug", style="json", service="tried")
log.debug("worth a line", tool="boom")
"""
OTHERS = """
import structlog
from voicebus.telemetry.logging import get_logger
get_logger("voicebus.tried").warning("of ours")
assert not structlog.is_configured()
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)


def test_a_program_that_sets_nothing_up_sees_warnings_on_stderr_and_nothing_on_stdout() -> None:
    ran = run(QUIET)
    assert ran.stdout == ""
    assert ran.stderr == "event=worth one tool=boom\n"


def test_a_traceback_is_written_once_below_its_line() -> None:
    lines = run(RAISING).stderr.splitlines()
    told = [line for line in lines if line.startswith(("event=", "Traceback", "KeyError"))]
    traceback = ["Traceback (most recent call last):", "KeyError: 'lost'"]
    assert told == [
        "event=by name tool=boom", *traceback, "event=by argument", *traceback, "event=by object", *traceback,
        "event=none",
    ]  # fmt: skip


def test_a_service_writes_every_line_of_its_level_with_its_name() -> None:
    line = json.loads(run(SERVICE).stderr)
    assert (line["event"], line["tool"], line["service"], line["logger"]) == (
        "worth a line", "boom", "tried", "voicebus.tried",
    )  # fmt: skip


def test_the_settings_that_a_program_has_for_structlog_are_left_alone() -> None:
    run(OTHERS)
