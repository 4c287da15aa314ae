"""What came of scenarios: for people, as JSON, and as JUnit XML."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final
from xml.etree import ElementTree as ET

from voicebus.testing.scenario import Scenario, Step

_INDENT: Final = " " * 10
# What XML 1.0 cannot carry, not even escaped.
_NO_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class StepStatus(StrEnum):
    """What became of a step; one is skipped behind one that failed."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class StepResult:
    """One step: what became of it, how long it took (ms), and why it failed."""

    step: Step
    status: StepStatus
    ms: int = 0
    message: str = ""


@dataclass(frozen=True)
class ScenarioResult:
    """One scenario. `problem` is what kept the conversation from being held (no connection, say); "" otherwise."""

    scenario: Scenario
    steps: Sequence[StepResult] = field(default_factory=tuple)
    ms: int = 0
    problem: str = ""

    @property
    def ok(self) -> bool:
        """Whether every step went as it should."""
        return not self.problem and all(step.status is StepStatus.OK for step in self.steps)

    @property
    def why(self) -> str:
        """What failed, with what happened instead; "" where all is well."""
        if self.problem:
            return self.problem
        return next((f"{_where(each)}: {each.message}" for each in self.steps if each.status is StepStatus.FAILED), "")

    def raise_if_failed(self) -> None:
        """Fail a test.

        Raises:
            AssertionError: something is not ok; the text is the report.
        """
        if not self.ok:
            raise AssertionError(self.report())

    def report(self) -> str:
        """What became of each step, and what happened instead of the one that failed."""
        path, line = self.scenario.place
        lines = [f"{path}:{line}: {self.scenario.name}" if path else self.scenario.name]
        if self.problem:
            lines.append(f"  FAILED  {self.problem}")
        for each in self.steps:
            word = "FAILED" if each.status is StepStatus.FAILED else each.status.value
            if each.status is StepStatus.SKIPPED:
                lines.append(f"  {word:<7} {each.step}")
                continue
            lines.append(f"  {word:<7} {each.step}  {each.ms} ms")
            if each.status is StepStatus.FAILED:
                lines.extend(f"{_INDENT}{text}" for text in f"{_where(each)}: {each.message}".splitlines())
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The result as plain JSON."""
        path, line = self.scenario.place
        return {
            "scenario": self.scenario.name,
            "file": str(path) if path else None,
            "line": line,
            "ok": self.ok,
            "ms": self.ms,
            "problem": self.problem or None,
            "steps": [
                {
                    "step": str(each.step),
                    "line": each.step.place[1],
                    "status": each.status.value,
                    "ms": each.ms,
                    "message": each.message or None,
                }
                for each in self.steps
            ],
        }


def summary(results: Sequence[ScenarioResult]) -> str:
    """The last line of a report."""
    failed = sum(not result.ok for result in results)
    count = f"{len(results)} scenario{'s' if len(results) != 1 else ''}"
    return f"{count}: {failed} failed" if failed else f"{count}: ok"


def junit_xml(results: Sequence[ScenarioResult]) -> str:
    """The results as JUnit XML: a suite per file, a case per scenario."""
    root = ET.Element("testsuites", _counts("voicebus test", results))
    files = dict.fromkeys(result.scenario.place[0] for result in results)
    for file in files:
        own = [result for result in results if result.scenario.place[0] == file]
        name = str(file) if file else "scenarios"
        suite = ET.SubElement(root, "testsuite", _counts(name, own))
        for result in own:
            # Readers that check the form, as that of Jenkins, know no other attributes; the line is in the text.
            about = {"classname": name, "name": result.scenario.name, "time": _seconds(result.ms)}
            case = ET.SubElement(suite, "testcase", {key: _xml(value) for key, value in about.items()})
            if not result.ok:
                kind = "error" if result.problem else "failure"
                first = result.why.partition("\n")[0]
                ET.SubElement(case, kind, {"message": _xml(first), "type": kind}).text = _xml(result.why)
            ET.SubElement(case, "system-out").text = _xml(result.report())
    ET.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _counts(name: str, results: Sequence[ScenarioResult]) -> dict[str, str]:
    return {
        "name": _xml(name),
        "tests": str(len(results)),
        "failures": str(sum(not result.ok and not result.problem for result in results)),
        "errors": str(sum(bool(result.problem) for result in results)),
        "time": _seconds(sum(result.ms for result in results)),
    }


def _where(each: StepResult) -> str:
    path, line = each.step.place
    return f"{path}:{line}" if path else str(each.step)


def _seconds(ms: int) -> str:
    return f"{ms / 1000:.3f}"


def _xml(text: str) -> str:
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", text)
