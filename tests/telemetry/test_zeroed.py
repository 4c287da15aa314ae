"""Every counter with labels is there at 0 before its first event, as `rate()` sees no series begin."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from prometheus_client import Counter

import voicebus_services
from voicebus.contracts.tools import Outcome
from voicebus.telemetry import metrics, zeroed

SERVICES: Final = Path(voicebus_services.__path__[0])

# Their labels' values are named by others, or follow from what was done: they begin with their first event.
NAMED_BY_OTHERS = {
    "voicebus_model_errors": "codes of the model",
    "voicebus_model_tokens": "what the model counts",
    "voicebus_redactions": "rules of a file that changes while the archiver runs",
    "voicebus_redaction_failures": "rules of a file that changes while the archiver runs",
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


def test_every_limit_that_the_sources_name_begins_at_0_with_whoever_counts_it(
    found: list[tuple[str, dict[str, str], float]],
) -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in SERVICES.rglob("*.py"))
    named = set(re.findall(r'LIMITS_REACHED\.labels\((?:limit=)?"(\w+)"\)', sources))
    assert "silent_connections" in named
    assert named <= {labels["limit"] for name, labels, _ in found if name == "voicebus_limits_reached_total"}
    archiver = beginning("of_archiver('transcript-archiver')")
    assert [labels["limit"] for name, labels, _ in archiver if name == "voicebus_limits_reached_total"] == [
        "silent_connections",
        "request_rate",
    ]


def test_every_reason_for_which_a_client_is_turned_away_begins_at_0(
    found: list[tuple[str, dict[str, str], float]],
) -> None:
    sources = (SERVICES / "gateway" / "upgrades.py").read_text(encoding="utf-8")
    named = set(re.findall(r'_rejected\("(\w+)"\)|_turned_away\(upgrade, "(\w+)"', sources))
    begun = {labels["reason"] for name, labels, _ in found if name == "voicebus_admission_rejected_total"}
    assert {first or second for first, second in named} <= begun
    # Those that its parts tell of.
    assert {"full", "too_many_sessions", "too_many_connections", "too_many_failures", "invalid_value"} <= begun


@pytest.mark.parametrize("reason", ["ended", "hangup", "model_expired", "session_length", "idle_time", "taken_over"])
def test_an_end_is_counted_by_its_reason(found: list[tuple[str, dict[str, str], float]], reason: str) -> None:
    assert zeroed.ended_as(reason) == reason
    assert ("voicebus_sessions_ended_total", {"reason": reason}, 0.0) in found


def test_of_ends_that_somebody_words_himself_there_is_one_counter(
    found: list[tuple[str, dict[str, str], float]],
) -> None:
    assert {zeroed.ended_as(word) for word in ("closing_time", "order_a", "order_b")} == {"other"}
    assert ("voicebus_sessions_ended_total", {"reason": "other"}, 0.0) in found


def test_a_service_begins_only_what_it_counts() -> None:
    archiver = {name for name, _, _ in beginning("of_archiver('transcript-archiver')")}
    assert "voicebus_admission_rejected_total" not in archiver
    assert "voicebus_tool_outcomes_total" not in archiver
