"""Every counter with labels is there at 0 before its first event, as `rate()` sees no series begin."""

import json
import subprocess
import sys

import pytest
from prometheus_client import Counter

from voicebus.contracts.tools import Outcome
from voicebus.telemetry import metrics

# Their labels' values are named by others, or follow from what was done: they begin with their first event.
NAMED_BY_OTHERS = {
    "voicebus_model_errors": "codes of the model",
    "voicebus_model_tokens": "what the model counts",
    "voicebus_redactions": "rules of a file that changes while the archiver runs",
    "voicebus_events_lost": "groups that others register",
}

PROGRAM = """
import json
from prometheus_client import REGISTRY
from voicebus.telemetry import zeroed
for begin in {begins}:
    eval("zeroed." + begin)
print(json.dumps([
    [one.name, one.labels, one.value] for family in REGISTRY.collect() for one in family.samples
    if family.name.startswith("voicebus_") and one.labels and one.name.endswith("_total")
]))
"""


def beginning(*begins: str) -> list[tuple[str, dict[str, str], float]]:
    """The counters with labels of a process that has only begun."""
    command = [sys.executable, "-c", PROGRAM.format(begins=begins)]
    return [tuple(row) for row in json.loads(subprocess.check_output(command))]


@pytest.fixture(scope="module")
def found() -> list[tuple[str, dict[str, str], float]]:
    return beginning(
        "of_gateway()", "of_worker('tool-worker')", "of_archiver('transcript-archiver')", "tools(['a', 'a'])",
        "run_tools(['a'])", "guardrails(['r'])",
    )  # fmt: skip


def test_every_counter_with_labels_begins_at_0_or_is_listed_with_the_reason(
    found: list[tuple[str, dict[str, str], float]],
) -> None:
    labelled = {each._name for each in vars(metrics).values() if isinstance(each, Counter) and each._labelnames}
    begun = {name.removesuffix("_total") for name, _, _ in found}
    assert begun | NAMED_BY_OTHERS.keys() == labelled
    assert not begun & NAMED_BY_OTHERS.keys()
    assert {value for _, _, value in found} == {0.0}


def test_a_tool_begins_with_every_outcome_that_a_call_may_have(
    found: list[tuple[str, dict[str, str], float]],
) -> None:
    outcomes = [labels["outcome"] for name, labels, _ in found if name == "voicebus_tool_outcomes_total"]
    assert sorted(outcomes) == sorted(outcome.value for outcome in Outcome)


def test_a_service_begins_only_what_it_counts() -> None:
    archiver = {name for name, _, _ in beginning("of_archiver('transcript-archiver')")}
    assert "voicebus_admission_rejected_total" not in archiver
    assert "voicebus_tool_outcomes_total" not in archiver
