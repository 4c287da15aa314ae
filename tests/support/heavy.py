"""A module that takes long to import."""

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

HEAVY = """
import os, time
from pathlib import Path

with open("begun", "a") as file:
    file.write(".")
if Path("fatal").exists():
    try:
        os.rename("fatal", "died")
    except FileNotFoundError:  # it was another's
        pass
    else:
        Path("died").write_text(str(os.getpid()))
        os._exit(7)
while not Path("open").exists():
    time.sleep(0.005)


async def lift(dies: bool = False) -> str:
    if dies:
        os._exit(7)
    return "lifted"


def judge(context: object, agent: object, text: str) -> str:
    return text
"""


def heavy_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A module that is imported once there is a file `open`, as there is now."""
    (tmp_path / "heavy.py").write_text(HEAVY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "heavy", raising=False)
    (tmp_path / "open").touch()
    return importlib.import_module("heavy")
