"""`voicebus transcripts`, on a database of either kind."""

import asyncio
import json
import re
import secrets
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from pyarrow import parquet

from support.commands import environment
from support.recorded import conversation, entry, recorded, said, started
from voicebus.adapters.database.finding import Filter
from voicebus.adapters.database.store import TranscriptStore
from voicebus.contracts.envelope import Entry
from voicebus_services.cli import main

# Its tests start up to a dozen commands one after another, which takes a busy machine long.
pytestmark = pytest.mark.timeout(180)

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


def test_a_session_in_which_nothing_was_said_is_told_as_one(operator: Operator) -> None:
    operator.write(conversation("silent")[0])
    assert operator.run("show", "silent") == (0, [], "voicebus: nothing was said in this session\n")


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


# --- export ---------------------------------------------------------------------------------------


def calls(operator: Operator) -> None:
    """Three calls, an hour apart: two of `acme`, the second of them cut short, and one of `other`."""
    cut: dict[str, Any] = {"heard_text": "You are", "truncated": True}
    operator.write(*conversation("s1"), tenant="acme")
    operator.write(
        *later(1, started("s2"), said("s2", 2, "assistant", "You are welcome.", start=0, **cut)), tenant="acme"
    )
    operator.write(*later(2, *conversation("s3")), tenant="other")


def test_lines_are_exported_the_oldest_call_first(operator: Operator, tmp_path: Path) -> None:
    calls(operator)
    file = tmp_path / "lines.jsonl"
    status, lines, told = operator.run("export", str(file), "--tenant", "acme")
    assert (status, lines) == (0, [])
    assert told == f"voicebus: 5 lines of 2 sessions in {file} ({file.stat().st_size:,} bytes)\n"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(row["session"], row["tenant"], row["seq"]) for row in rows] == [
        ("s1", "acme", 2), ("s1", "acme", 3), ("s1", "acme", 5), ("s1", "acme", 7), ("s2", "acme", 2)
    ]  # fmt: skip
    assert (rows[0]["tool"], rows[0]["worker"], rows[0]["duration_ms"]) == ("get_weather", "w-1", 40)
    assert rows[1]["at"] == "2023-11-14T22:13:20.300000Z"
    assert (rows[4]["text"], rows[4]["heard_text"], rows[4]["truncated"]) == ("You are welcome.", "You are", True)
    assert file.stat().st_mode & 0o777 == 0o600
    longest = tmp_path / f"{'x' * 249}.jsonl"
    assert operator.run("export", str(longest), "--tenant", "acme")[0] == 0
    assert longest.read_text() == file.read_text()


def test_parquet_has_the_rows_of_json_with_types(operator: Operator, tmp_path: Path) -> None:
    calls(operator)
    for rows in ("lines", "sessions", "turns"):
        asked = ("--rows", rows, "--all-tenants")
        assert operator.run("export", str(tmp_path / f"{rows}.jsonl"), *asked)[0] == 0
        assert operator.run("export", str(tmp_path / f"{rows}.parquet"), *asked)[0] == 0
        table = parquet.read_table(tmp_path / f"{rows}.parquet")
        written = [json.loads(line) for line in (tmp_path / f"{rows}.jsonl").read_text().splitlines()]
        assert table.num_rows == len(written) > 0
        for found, row in zip(table.to_pylist(), written, strict=True):
            for name, value in row.items():
                if isinstance(found[name], datetime):
                    assert found[name] == datetime.fromisoformat(value)
                elif isinstance(value, list | dict):
                    assert json.loads(found[name]) == value
                else:
                    assert found[name] == value
    assert str(table.schema.field("at").type) == "timestamp[ms, tz=UTC]"


def test_sessions_and_turns_are_exported_with_what_they_cost(operator: Operator, tmp_path: Path) -> None:
    operator.write(*conversation("s1"))
    for rows, expected in (
        ("sessions", {"session": "s1", "status": "ended", "agents": ["front_desk"], "turns": 1, "input_tokens": 0}),
        ("turns", {"session": "s1", "response_id": "resp_1", "status": "completed", "cost": None}),
    ):
        status, lines, _ = operator.run("export", "-", "--rows", rows)
        assert status == 0
        assert expected.items() <= json.loads(lines[0]).items()


def test_an_export_is_narrowed_by_time_agent_and_status(operator: Operator) -> None:
    calls(operator)

    def sessions(*arguments: str) -> list[str]:
        status, lines, _ = operator.run("export", "-", "--rows", "sessions", "--all-tenants", *arguments)
        assert status == 0
        return [json.loads(line)["session"] for line in lines]

    assert sessions() == ["s1", "s2", "s3"]
    assert sessions("--from", "2023-11-14T23:00:00Z") == ["s2", "s3"]
    assert sessions("--from", "2023-11-14T23:00:00Z", "--to", "2023-11-15") == ["s2"]
    assert sessions("--status", "active") == ["s2"]
    assert sessions("--agent", "billing") == []


def test_pages_leave_nothing_out_and_bring_nothing_twice(
    operator: Operator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for number in range(7):
        operator.write(
            started(f"s{number}"), *(said(f"s{number}", seq, "user", "x", start=0) for seq in range(2, 2 + number))
        )
    rows: dict[tuple[int, int], list[Any]] = {}

    async def read(at_once: tuple[int, int]) -> None:
        async with TranscriptStore(operator.database) as store:
            pages = store.export("lines", Filter(None), sessions_at_once=at_once[0], rows_at_once=at_once[1])
            assert await store.count(Filter(None)) == 7
            assert await store.count(Filter("nobody")) == 0
            async for page, done, _ in pages:
                assert len(page) <= at_once[1]
                assert done <= 7
                rows.setdefault(at_once, []).extend((row["session"], row["seq"]) for row in page)
            assert done == 7

    for at_once in ((50, 2000), (1, 1), (3, 2), (2, 3), (7, 21)):
        asyncio.run(read(at_once))
        assert rows[at_once] == [(f"s{number}", seq) for number in range(7) for seq in range(2, 2 + number)]


def test_a_file_that_is_there_is_replaced_on_demand_alone(operator: Operator, tmp_path: Path) -> None:
    operator.write(*conversation("s1"))
    file = tmp_path / "calls.jsonl"
    file.write_text("precious")
    status, _, told = operator.run("export", str(file))
    assert (status, file.read_text()) == (2, "precious")
    assert "is there already; choose another name, or give --force to replace it" in told
    status, lines, _ = operator.run("export", str(file), "--force", "--json")
    assert (status, json.loads(lines[0])) == (
        0, {"file": str(file), "rows": 4, "sessions": 1, "bytes": file.stat().st_size}
    )  # fmt: skip
    assert len(file.read_text().splitlines()) == 4


def test_nothing_to_export_is_an_empty_file(operator: Operator, tmp_path: Path) -> None:
    for name in ("none.jsonl", "none.parquet"):
        status, _, told = operator.run("export", str(tmp_path / name))
        assert status == 0
        assert "0 lines of 0 sessions" in told
    assert (tmp_path / "none.jsonl").read_text() == ""
    assert parquet.read_table(tmp_path / "none.parquet").num_rows == 0


@pytest.mark.parametrize("name", ["calls.jsonl", "calls.parquet"])
async def test_an_export_that_fails_says_why_and_leaves_nothing(name: str, database: str, tmp_path: Path) -> None:
    async with TranscriptStore(database) as store:
        await store.write(
            recorded(started("s"), *(said("s", seq, "user", secrets.token_hex(2000), start=0) for seq in range(2, 300)))
        )
    folder = tmp_path / "full"
    folder.mkdir()
    command = [sys.executable, "-m", "voicebus_services.cli", "transcripts", "export", str(folder / name)]
    process = await asyncio.create_subprocess_exec(
        # No file may be larger than so many blocks of 512 or 1024 bytes: as on a disk that is full.
        "/bin/sh", "-c", 'ulimit -f 200; exec "$@"', "sh", *command,
        env=environment(database_url=database), stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, told = await process.communicate()
    assert process.returncode == 1
    assert told.decode() == f"voicebus: failed: {folder / name} cannot be written (File too large)\n"
    assert list(folder.iterdir()) == []


async def test_an_export_that_broke_off_goes_on_behind_the_last_whole_session(database: str, tmp_path: Path) -> None:
    async with TranscriptStore(database) as store:
        for number in range(300):
            name = f"s{number:03}"
            line = said(name, 2, "user", secrets.token_hex(2000), start=0)
            await store.write(recorded(*later(number, started(name), line)))
    file, whole = tmp_path / "calls.jsonl", tmp_path / "whole.jsonl"

    async def export(*arguments: str, blocks: str = "unlimited") -> tuple[int | None, str]:
        command = [sys.executable, "-m", "voicebus_services.cli", "transcripts", "export", *arguments]
        process = await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", f'ulimit -f {blocks}; exec "$@"', "sh", *command,
            env=environment(database_url=database), stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        _, told = await process.communicate()
        return process.returncode, told.decode()

    status, told = await export(str(file), "--resume", blocks="700")
    assert (status, told) == (1, f"voicebus: failed: {file} cannot be written (File too large)\n")
    kept = json.loads((tmp_path / "calls.jsonl.part.at").read_text())["reached"]
    assert 50 <= kept["sessions"] < 300
    assert (tmp_path / "calls.jsonl.part").stat().st_mode & 0o777 == 0o600
    status, told = await export(str(file), "--resume", "--rows", "sessions")
    assert status == 2
    assert "was begun with another rows; give the same, or remove it" in told
    status, told = await export(str(file), "--resume")
    assert status == 0, told
    assert "300 lines of 300 sessions" in told
    assert (await export(str(whole)))[0] == 0
    assert file.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("calls")) == ["calls.jsonl"]


def test_an_export_follows_no_link_and_is_its_owners_whatever_lay_there(operator: Operator, tmp_path: Path) -> None:
    calls(operator)
    file, part, elsewhere = (tmp_path / name for name in ("calls.jsonl", "calls.jsonl.part", "elsewhere"))
    part.symlink_to(elsewhere)
    status, _, told = operator.run("export", str(file), "--resume", "--tenant", "acme")
    assert (status, elsewhere.exists()) == (2, False), told
    part.unlink()
    part.touch(mode=0o666)
    assert operator.run("export", str(file), "--resume", "--tenant", "acme")[0] == 0
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["calls.parquet", "--resume"], "--resume: 'calls.parquet' was read; only files of JSON lines"),
        (["calls.txt"], "FILE: 'calls.txt' was read; a name that ends in .jsonl or .parquet is allowed, or --format"),
        (["-", "--format", "parquet"], "FILE: Parquet is not written to the standard output; name a file"),
        (
            ["no/such/folder/calls.jsonl"],
            "FILE: 'no/such/folder/calls.jsonl' cannot be written (No such file or directory)",
        ),
        (["-", "--json"], "--json: FILE is the standard output"),
        (["calls.jsonl", "--rows", "words"], "--rows"),
        (["calls.jsonl", "--to", "tomorrow"], "--to: 'tomorrow' was read"),
    ],
)
def test_an_export_asked_for_wrongly_is_one_sentence(operator: Operator, arguments: list[str], sentence: str) -> None:
    status, lines, told = operator.run("export", *arguments)
    assert (status, lines) == (2, [])
    assert sentence in told
    assert len(told.splitlines()) == 1
