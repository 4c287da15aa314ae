"""docs/parity.md names, for every row of the programming model, tests that exist."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs" / "parity.md"
# How many numbered rows each part of the page has, by its heading.
ROWS: Final = {
    "Where we differ on purpose": range(1, 16),
    "A. Agent, runner, session": range(1, 21),
    "B. Run config": range(21, 28),
    "C. Model settings": range(28, 45),
    "D. Model config and transport": range(45, 54),
    "E. Session events": range(54, 67),
    "F. Model events and send events": range(67, 73),
    "G. Items": range(73, 76),
    "H. Tools": range(76, 96),
    "I. Handoffs": range(96, 102),
    "J. Guardrails on output": range(102, 113),
    "K. History": range(113, 119),
    "L. Interruption, playback, sequencing, tests": range(119, 129),
    "M. Wire, errors, and what only the JavaScript SDK has": range(129, 141),
    "Behaviours that are easy to get wrong": range(1, 43),
}
_TEST: Final = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def rows(heading: str) -> dict[int, str]:
    """The numbered rows under a heading, as they stand."""
    part = PAGE.read_text().split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return {int(line.split("|")[1]): line for line in part.splitlines() if re.match(r"\| *\d+ *\|", line)}


@cache
def names_of_tests(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))


@pytest.mark.parametrize("heading", ROWS)
def test_every_row_is_on_the_page(heading: str) -> None:
    assert list(rows(heading)) == list(ROWS[heading])


@pytest.mark.parametrize("heading", ROWS)
def test_every_row_names_a_test_that_exists(heading: str) -> None:
    for number, line in rows(heading).items():
        named = _TEST.findall(line)
        assert named, f"row {number} of {heading!r} names no test"
        for path, test in named:
            assert test in names_of_tests(path), f"row {number} of {heading!r}: there is no {test} in {path}"


def hears_a_model(path: str) -> bool:
    """Whether the tests of this file are run with models that speak in several modes."""
    return path.startswith("tests/parity/") or 'usefixtures("delivery")' in (ROOT / path).read_text()


@pytest.mark.parametrize("heading", ROWS)
def test_every_row_is_shown_over_a_socket_in_the_modes_or_says_why_not(heading: str) -> None:
    for number, line in rows(heading).items():
        shown = any(hears_a_model(path) for path, _ in _TEST.findall(line))
        assert shown is not ("No socket: " in line), f"row {number} of {heading!r}"
