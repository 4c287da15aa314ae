"""What type checkers of programs that import `voicebus` know of it: everything."""

import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any, Final

import pytest

import voicebus

ROOT: Final = Path(__file__).resolve().parents[2]
CHECKER: Final = Path(sysconfig.get_path("scripts")) / "pyright"


def check(folder: Path, *arguments: str) -> dict[str, Any]:
    """What the checker reports."""
    # The folder is empty and the paths are given: the package is found as an installed one, not as somebody's sources.
    paths = os.pathsep.join((str(ROOT / "shared"), sysconfig.get_path("purelib")))
    checked = subprocess.run(
        [CHECKER, *arguments, "--outputjson"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.stdout, checked.stderr
    report: dict[str, Any] = json.loads(checked.stdout)
    return report


def mypy(folder: Path, program: Path) -> str:
    """What mypy prints of a program, as its author would run it."""
    return subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", str(folder), str(program)],
        cwd=folder,
        env={**os.environ, "MYPYPATH": str(ROOT / "shared")},
        capture_output=True,
        text=True,
        check=False,
    ).stdout


MIGRATED: Final = """\
from voicebus.openai_agents import RealtimeAgent, RealtimeModelConfig, RealtimeModelOtherEvent, RealtimeRunner

config: RealtimeModelConfig = {}

async def main() -> None:
    session = await RealtimeRunner(RealtimeAgent(name="Ada")).run(model_config=config)
    async for event in session:
        if event.type == "handoff":
            print(event.to_agent.name)
        elif event.type != "agent_start":
            print(event.event_that_is_none)

RealtimeModelOtherEvent(data=1, more=2)
"""


@pytest.mark.timeout(300)
def test_a_program_of_openai_agents_is_checked_against_the_types_of_ours(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(MIGRATED)
    found = check(tmp_path, "--pythonpath", sys.executable, str(program))["generalDiagnostics"]
    assert {one["range"]["start"]["line"] + 1 for one in found} == {11, 13}, found
    assert "more" in found[-1]["message"]
    text = "\n".join(one["message"] for one in found)
    assert "RealtimeToolApprovalRequired" in text
    assert "RealtimeTranscriptDelta" not in text  # a session of a migrated program shows no event of ours alone


@pytest.mark.timeout(300)
def test_mypy_checks_it_as_well(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(MIGRATED)
    text = mypy(tmp_path, program)
    assert {int(line) for line in re.findall(r"program.py:(\d+): error", text)} == {11, 13}, text
    assert 'Unexpected keyword argument "more"' in text
    assert "RealtimeToolApprovalRequired" in text
    assert "RealtimeTranscriptDelta" not in text


@pytest.mark.timeout(300)
def test_mypy_knows_every_name_that_a_migrated_program_may_import_and_no_other(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(f"from voicebus.openai_agents import nonsense, {', '.join(voicebus.__all__)}\n")
    assert re.findall(r"error: (.*?)  \[", mypy(tmp_path, program)) == [
        'Module "voicebus.openai_agents" has no attribute "nonsense"'
    ]


@pytest.mark.timeout(300)  # the checker reads every module, and fetches itself where it never ran
def test_every_exported_name_has_a_type_that_checkers_need_not_guess(tmp_path: Path) -> None:
    report = check(tmp_path, "--verifytypes", "voicebus", "--ignoreexternal")["typeCompleteness"]
    unclear = [
        f"{symbol['name']}: {' '.join(complaint['message'].split())}"
        for symbol in report["symbols"]
        if symbol["isExported"] and (not symbol["isTypeKnown"] or symbol["isTypeAmbiguous"])
        for complaint in symbol["diagnostics"]
        if complaint["severity"] == "error"
    ]
    assert not unclear, "\n".join(unclear)
    assert report["exportedSymbolCounts"]["withKnownType"] > 1000
    assert report["completenessScore"] == 1
