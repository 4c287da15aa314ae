"""`voicebus transcripts`, on a database of either kind."""

import asyncio
import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from support.recorded import conversation, entry, recorded, said, started
from voicebus.adapters.database.store import TranscriptStore
from voicebus.contracts.envelope import Entry
from voicebus_services.cli import main

HOUR_MS = 3_600_000


class Operator:
    """Writes transcripts, and runs the command in this process."""

    def __init__(self, database: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.database = database
        self._capsys = capsys

    def write(self, *entries: Entry, tenant: str | None = None) -> None:
        async def store() -> None:
            async with TranscriptStore(self.database) as archive:
                await archive.write(recorded(*entries))

        if tenant is not None:
            entries[0].data["tenant"] = tenant
        asyncio.run(store())

    def run(self, *arguments: str) -> tuple[int, list[str], str]:
        with pytest.raises(SystemExit) as ended:
            main(["transcripts", *arguments, "--database-url", self.database])
        captured = self._capsys.readouterr()
        return int(ended.value.code or 0), captured.out.splitlines(), captured.err

    def found(self, *arguments: str) -> list[str]:
        """The sessions that a search finds."""
        status, lines, _ = self.run("search", *arguments, "--json")
        assert status == 0
        return [json.loads(line)["session"] for line in lines]


@pytest.fixture
def operator(database: str, capsys: pytest.CaptureFixture[str]) -> Operator:
    return Operator(database, capsys)


def later(hours: int, *entries: Entry) -> list[Entry]:
    """The same, so many hours later."""
    return [replace(each, at=each.at + hours * HOUR_MS) for each in entries]


def test_a_search_shows_transcripts_newest_first_with_the_lines_that_were_looked_for(operator: Operator) -> None:
    operator.write(*conversation("s1"))
    cut: dict[str, Any] = {"heard_text": "Paris", "truncated": True}
    operator.write(*later(1, started("s2"), said("s2", 2, "assistant", "Paris is far.", start=0, **cut)))
    status, lines, told = operator.run("search", "paris")
    assert (status, told) == (0, "")
    assert lines == [
        "s2  active  agent front_desk  since 2023-11-14T23:13:20Z  1 line",
        "  [00:00] agent: Paris [interrupted] [said: Paris is far.]",
        "s1  ended  agent front_desk  since 2023-11-14T22:13:20Z  4 lines",
        "  [00:00] user: What is the weather in Paris?",
        '  [00:00] tool: get_weather({"city": "Paris"}) -> sunny',
        "  [00:00] agent: It is sunny in Paris.",
    ]
    assert operator.run("search", "nowhere") == (0, [], "voicebus: no such transcript\n")


def test_many_lines_of_one_transcript_are_counted_and_not_all_shown(operator: Operator) -> None:
    operator.write(started("s"), *(said("s", seq, "user", f"again {seq}", start=seq) for seq in range(2, 10)))
    lines = operator.run("search", "again")[1]
    assert lines[1:] == [*(f"  [00:00] user: again {seq}" for seq in range(2, 7)), "  … and 3 more"]


def test_a_search_is_narrowed_by_agent_time_status_role_and_type(operator: Operator) -> None:
    tripped = {"response_id": "r", "item_id": "i", "agent": "a", "guardrails": ["no_prices"], "message": "5 euro"}
    operator.write(*conversation("s1"))
    second = (
        started("s2", agent="billing"),
        said("s2", 2, "user", "Is it sunny?", start=0),
        entry("s2", 3, "guardrail_tripped", {**tripped, "at_ms": 1}),
    )
    operator.write(*later(2, *second))
    assert operator.found() == ["s2", "s1"]
    assert operator.found("sunny") == ["s2", "s1"]
    assert operator.found("--agent", "billing") == ["s2"]
    assert operator.found("--from", "2023-11-14T23:00:00Z") == ["s2"]
    assert operator.found("--to", "2023-11-15") == ["s1"]
    assert operator.found("--from", "1h") == []
    assert operator.found("--status", "ended") == ["s1"]
    assert operator.found("sunny", "--role", "assistant") == ["s1"]
    assert operator.found("sunny", "--type", "tool_call") == ["s1"]
    assert operator.found("--type", "guardrail") == ["s2"]
    _, lines, _ = operator.run("search", "--type", "guardrail")
    assert lines[1] == "  [00:00] guardrail: no_prices stopped: 5 euro"


def test_a_search_goes_on_where_it_left_off(operator: Operator) -> None:
    for number in range(5):
        operator.write(*later(number, started(f"s{number}")))
    seen: list[str] = []
    more: Sequence[str] = ()
    for _ in range(3):
        status, lines, told = operator.run("search", "--limit", "2", "--json", *more)
        assert status == 0
        seen += [json.loads(line)["session"] for line in lines]
        more = re.findall(r"--cursor \S+", told)[0].split() if told else ()
    assert seen == ["s4", "s3", "s2", "s1", "s0"]
    assert not more


def test_every_command_shows_one_tenants_transcripts_unless_all_are_asked_for(operator: Operator) -> None:
    operator.write(*conversation("ours"), tenant="acme")
    operator.write(*conversation("theirs"), tenant="other")
    operator.write(*conversation("local"))
    assert operator.found("sunny") == ["local"]
    assert operator.found("sunny", "--tenant", "acme") == ["ours"]
    assert operator.found("sunny", "--all-tenants") == ["theirs", "ours", "local"]
    assert operator.run("show", "ours", "--tenant", "acme")[0] == 0
    assert operator.run("show", "ours", "--all-tenants")[0] == 0
    status, lines, told = operator.run("show", "ours")
    assert (status, lines) == (1, [])
    assert told == "voicebus: nothing was recorded of a session 'ours' of tenant local\n"


def test_a_transcript_is_shown_as_it_was_heard_and_on_demand_as_it_was_said(operator: Operator) -> None:
    cut: dict[str, Any] = {"heard_text": "You are", "truncated": True}
    operator.write(*conversation("s"), said("s", 9, "assistant", "You are welcome.", start=61_000, **cut))
    status, lines, told = operator.run("show", "s")
    assert (status, told) == (0, "")
    assert lines[0] == "[00:00] user: What is the weather in Paris?"
    assert lines[-1] == "[01:01] agent: You are [interrupted]"
    assert operator.run("show", "s", "--said")[1] == [
        *lines[:-1],
        "[01:01] agent: You are [interrupted] [said: You are welcome.]",
    ]


def test_a_transcript_is_shown_in_the_forms_of_the_http_interface(operator: Operator) -> None:
    operator.write(*conversation("s"))
    whole = json.loads(operator.run("show", "s", "--json")[1][0])
    assert (whole["session"], len(whole["items"])) == ("s", 4)
    assert [json.loads(line) for line in operator.run("show", "s", "--jsonl")[1]] == whole["items"]
    captions = operator.run("show", "s", "--vtt")[1]
    assert captions[0] == "WEBVTT"
    assert "<v agent>It is sunny in Paris." in captions


def test_what_is_missing_of_a_transcript_is_told_beside_it(operator: Operator) -> None:
    end = entry("s", 9, "session_ended", {"reason": "interrupted", "duration_ms": 1})
    operator.write(*(event for event in conversation("s")[:7] if event.seq not in (2, 4, 5)), end)
    status, _, told = operator.run("show", "s")
    assert status == 0
    assert told.splitlines() == [
        "voicebus: this session was interrupted: its gateway died, and nobody came back for it",
        "voicebus: event 2 is missing",
        "voicebus: events 4 to 5 are missing",
        "voicebus: event 8 is missing",
    ]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["search", "--from", "yesterday"], "--from: 'yesterday' was read; a time such as 2026-01-31"),
        (["search", "--cursor", "x"], "--cursor: 'x' was read; what an earlier search said at its end is allowed"),
        (["search", "w" * 201], "WORDS: 201 characters were read; 1 to 200 are allowed"),
        (["search", "--limit", "0"], "--limit"),
        (["search", "--status", "gone"], "--status"),
        (["show", "s", "--vtt", "--jsonl"], "only one of --said, --vtt, --jsonl and --json is allowed"),
    ],
)
def test_a_wrong_option_is_one_sentence(operator: Operator, arguments: list[str], sentence: str) -> None:
    status, lines, told = operator.run(*arguments)
    assert (status, lines) == (2, [])
    assert told.startswith("voicebus: usage: ")
    assert sentence in told
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["search"], ["show", "s"]])
def test_a_database_that_is_not_migrated_is_one_sentence(
    arguments: list[str], empty_database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, told = Operator(empty_database, capsys).run(*arguments)
    assert status == 1
    assert "is not migrated; run `voicebus migrate`" in told
