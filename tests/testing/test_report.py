"""Reports of scenarios: for people, as JSON and as JUnit XML."""

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from voicebus.testing import Scenario, ScenarioResult, StepResult, StepStatus, junit_xml
from voicebus.testing.report import summary


@pytest.fixture
def scenario() -> Scenario:
    made = Scenario.model_validate(
        {"name": "Weather", "steps": [{"say": "hi"}, {"expect_text": "sunny"}, {"expect_handoff": "b"}]}
    )
    made.place = (Path("desk.scenario.yaml"), 3)
    for number, step in enumerate(made.steps):
        step.place = (Path("desk.scenario.yaml"), 5 + number)
    return made


@pytest.fixture
def failed(scenario: Scenario) -> ScenarioResult:
    say, text, handoff = scenario.steps
    message = "expected sunny\nwhat happened instead:\n      12 ms  error  b\x00ad <&>"
    steps = (
        StepResult(say, StepStatus.OK, 2),
        StepResult(text, StepStatus.FAILED, 5003, message),
        StepResult(handoff, StepStatus.SKIPPED),
    )
    return ScenarioResult(scenario, steps, 5010)


def test_a_report_shows_each_step_and_what_happened_instead(failed: ScenarioResult) -> None:
    assert failed.report().splitlines() == [
        "desk.scenario.yaml:3: Weather",
        "  ok      say hi  2 ms",
        "  FAILED  expect_text sunny  5003 ms",
        "          desk.scenario.yaml:6: expected sunny",
        "          what happened instead:",
        "                12 ms  error  b\x00ad <&>",
        "  skipped expect_handoff b",
    ]
    assert not failed.ok
    with pytest.raises(AssertionError, match="FAILED  expect_text sunny"):
        failed.raise_if_failed()


def test_a_result_is_ok_if_every_step_is(scenario: Scenario) -> None:
    result = ScenarioResult(scenario, tuple(StepResult(step, StepStatus.OK, 1) for step in scenario.steps), 3)
    assert result.ok
    assert result.why == ""
    result.raise_if_failed()
    assert summary([result]) == "1 scenario: ok"


def test_a_conversation_that_could_not_be_held_says_why(scenario: Scenario, failed: ScenarioResult) -> None:
    result = ScenarioResult(scenario, (), 4, "no gateway answers")
    assert not result.ok
    assert result.report().splitlines()[1] == "  FAILED  no gateway answers"
    assert summary([result, failed]) == "2 scenarios: 2 failed"


def test_a_result_is_json(failed: ScenarioResult) -> None:
    shown = failed.to_json()
    assert (shown["scenario"], shown["file"], shown["line"], shown["ok"]) == ("Weather", "desk.scenario.yaml", 3, False)
    assert [step["status"] for step in shown["steps"]] == ["ok", "failed", "skipped"]
    assert shown["steps"][1]["message"].startswith("expected sunny")
    assert shown["steps"][1]["line"] == 6


def test_junit_xml_has_a_case_per_scenario_and_carries_any_text(scenario: Scenario, failed: ScenarioResult) -> None:
    fine = ScenarioResult(scenario, (), 10)
    broken = ScenarioResult(scenario, (), 4, "no gateway \ud800 answers")
    text = junit_xml([fine, failed, broken])
    root = ET.fromstring(text.encode())
    assert root.attrib == {"name": "voicebus test", "tests": "3", "failures": "1", "errors": "1", "time": "5.024"}
    (suite,) = root
    assert suite.attrib["name"] == "desk.scenario.yaml"
    first, second, third = suite.findall("testcase")
    assert first.find("failure") is None
    failure = second.find("failure")
    assert failure is not None
    assert failure.attrib["message"] == "desk.scenario.yaml:6: expected sunny"
    assert failure.text is not None
    assert "b\ufffdad <&>" in failure.text
    assert third.find("error") is not None


# What the schema of Jenkins's reader (junit-10.xsd) has; it refuses files with anything else.
_ALLOWED = {
    "testsuites": {"name", "time", "tests", "failures", "errors"},
    "testsuite": {"name", "time", "tests", "failures", "errors"},
    "testcase": {"name", "time", "classname"},
    "failure": {"message", "type"},
    "error": {"message", "type"},
    "system-out": set(),
}


def test_junit_xml_has_nothing_that_a_strict_reader_refuses(scenario: Scenario, failed: ScenarioResult) -> None:
    odd = Scenario(name="a \x00 <name>", steps=scenario.steps)
    text = junit_xml([failed, ScenarioResult(scenario, (), 4, "no gateway answers"), ScenarioResult(odd)])
    for element in ET.fromstring(text.encode()).iter():
        assert set(element.attrib) <= _ALLOWED[element.tag], element.tag
        if "time" in element.attrib:
            assert re.fullmatch(r"\d{1,3}\.\d{3}", element.attrib["time"])
