"""What type checkers of programs that import `voicebus` know of it: everything."""

import json
import os
import subprocess
import sysconfig
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
CHECKER: Final = Path(sysconfig.get_path("scripts")) / "pyright"


@pytest.mark.timeout(300)  # the checker reads every module, and fetches itself where it never ran
def test_every_exported_name_has_a_type_that_checkers_need_not_guess(tmp_path: Path) -> None:
    # The folder is empty and the paths are given: the package is found as an installed one, not as somebody's sources.
    paths = os.pathsep.join((str(ROOT / "shared"), sysconfig.get_path("purelib")))
    checked = subprocess.run(
        [CHECKER, "--verifytypes", "voicebus", "--ignoreexternal", "--outputjson"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.stdout, checked.stderr
    report: dict[str, Any] = json.loads(checked.stdout)["typeCompleteness"]
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
