"""The page about testing (docs/testing.md): its programs run, its scenario is one, and it names every field."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import voicebus.testing
from voicebus.testing import load_scenarios
from voicebus.testing.scenario import ACTIONS, Scenario, Step, fields_at

PAGE = (Path(voicebus.testing.__path__[0]).parents[2] / "docs" / "testing.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
async def test_its_programs_run(program: str) -> None:
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(program, "docs/testing.md", "exec"), names)
    tests = [name for name in names if name.startswith("test_")]
    assert tests
    for name in tests:
        await names[name]()


def test_its_scenario_is_one(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    path = tmp_path / "page.yaml"
    path.write_text(text, encoding="utf-8")
    (scenario,) = load_scenarios(path)
    assert [step.action for step in scenario.steps] == ["say", "expect_handoff", "expect_tool", "expect_text"]


def test_it_names_every_field_of_every_step() -> None:
    rows = {row[0]: row[1] for row in re.findall(r"^\| `(\w+)` \|(.*?)\|", PAGE, re.MULTILINE)}
    assert sorted(rows) == sorted(ACTIONS)
    for action, row in rows.items():
        fields = fields_at(("steps", 0, action))
        told = re.findall(r"`(\w+)`", row)
        is_part = any(isinstance(kind, type) and issubclass(kind, BaseModel) for kind in _kinds(action))
        assert sorted(told) == (sorted(fields) if is_part else []), action
    for name in Scenario.model_fields:
        assert re.search(rf"\b{name}\b", PAGE), name


def _kinds(action: str) -> list[Any]:
    annotation = Step.model_fields[action].annotation
    parts = getattr(annotation, "__args__", (annotation,))
    return [getattr(part, "__origin__", part) for part in parts]
