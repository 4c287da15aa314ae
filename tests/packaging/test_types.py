"""What type checkers of programs that import `voicebus` know of it: everything."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any, Final

import pytest

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


@pytest.mark.timeout(300)
def test_a_program_of_openai_agents_is_checked_against_the_types_of_ours(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "from voicebus.openai_agents import RealtimeAgent, RealtimeRunner\n"
        "from voicebus.openai_agents import RealtimeModelConfig, RealtimeModelOtherEvent\n"
        "config: RealtimeModelConfig = {}\n"
        "RealtimeRunner(RealtimeAgent(name='a'))\n"
        "RealtimeModelOtherEvent(data=1, more=2)\n"
    )
    found = check(tmp_path, "--pythonpath", sys.executable, str(program))["generalDiagnostics"]
    assert [(one["range"]["start"]["line"], "more" in one["message"]) for one in found] == [(4, True)], found


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
