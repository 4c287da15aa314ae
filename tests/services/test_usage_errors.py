"""Command lines that cannot be: one sentence with the value and what to do, and help where no command was named."""

import re
from pathlib import Path

import pytest

from voicebus_services.cli import main

GROUPS = ("sessions", "tools", "transcripts", "dead-letters", "keys", "contract")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["call", "--timeout", "0"], "--timeout: '0' was read, but a number of at least 1 is allowed"),
        (["call", "--text", " "], "call: --text is empty; give what is to be said"),
        (["call", "--url", "banana"], "--url: 'banana' is no gateway's address; ws://HOST:PORT or http://HOST:PORT "),
        (["call", "--out", "nowhere/a.wav"], "--out: there is no directory 'nowhere'; make it, or name another file"),
        (["sessions", "--limit", "abc"], "--limit: 'abc' was read, but a whole number is allowed"),
        (["top", "--every", "0"], "--every: '0' was read, but a number of at least 0.2 is allowed"),
        (["top", "--every", "inf"], "--every: 'inf' was read, but a number of at most 3600 is allowed"),
        (["transcripts", "search", "--role", "x"], "--role: 'x' was read, but 'user', 'assistant', 'system'"),
        (["dev", "--http-port", "-1"], "--http-port: '-1' was read, but a number of at least 0 is allowed"),
        (
            ["keys", "create", "--tenant", "a b"],
            "--tenant: 'a b' was read, but a name without spaces, colons and braces",
        ),
        (["keys", "create", "--tenant", "a", "--agents", ""], "--agents: '' was read; name agents, or leave it out"),
        (["keys", "create", "--tenant", "a", "--max-sessions", "-1"], "--max-sessions: -1 was read, but a number of"),
        (["nonsense"], "No such command 'nonsense'; `voicebus --help` lists them"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_told_with_what_is_allowed(
    capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    status, out, told = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert told.startswith(f"voicebus: usage: {sentence}")
    assert told.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["keys"], ["transcripts"], ["contract"]])
def test_no_command_shows_the_help_as_it_is_written(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    status, out, told = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert told == run(capsys, *arguments, "--help")[1]


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "--version")
    assert status == 0
    assert re.fullmatch(r"voicebus \d+\.\d+\.\d+\S* \(Python \d\.\d+\.\d+\S*\)\n", out)


@pytest.mark.parametrize("arguments", [[], *([group] for group in GROUPS)])
def test_each_command_is_listed_with_a_whole_sentence(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    out = run(capsys, *arguments, "--help")[1]
    listed = re.findall(r"^  [a-z-]+ {2,}(\S.*)$", out.partition("Commands:\n")[2], re.MULTILINE)
    assert listed
    assert [line for line in listed if not line.endswith(".") or line.endswith("...")] == []


@pytest.mark.parametrize("service", ["gateway", "tool-worker", "guardrail-worker", "transcript-archiver"])
def test_a_service_says_which_values_its_settings_take_and_how_it_ends(
    capsys: pytest.CaptureFixture[str], service: str
) -> None:
    out = " ".join(run(capsys, service, "--help")[1].split())
    assert "--log-level debug|info|warning|error" in out
    assert "--drain-timeout DURATION" in out
    assert "A DURATION is such as 30, 30s, 500ms, 2m, 1h or 30d." in out
    assert "until SIGTERM (exit status 0) or Ctrl-C (130)" in out


def test_a_file_or_a_name_that_is_none_leads_to_what_may_be_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny_desk.py").write_text("from voicebus import RealtimeAgent\ndesk = RealtimeAgent('desk')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    status, _, told = run(capsys, "tool-worker", "tiny_desk.py")
    assert (status, told) == (
        2,
        "voicebus: target: TARGET 'tiny_desk.py': this is a file; name its module, 'tiny_desk'\n",
    )
    for path, instead in (
        ("./tiny_desk.py", "name its module, 'tiny_desk'"),
        (str(tmp_path / "tiny_desk.py"), "name its module, 'tiny_desk'"),
        ("hotel/desk", "name its module, 'hotel.desk'"),
        ("../elsewhere/desk.py", f"go to {tmp_path.parent / 'elsewhere'} and name its module, 'desk'"),
        ("./my-desk.py", "name a module"),
        ("./", "name a module"),
    ):
        status, _, told = run(capsys, "tool-worker", path)
        assert (status, told) == (2, f"voicebus: target: TARGET {path!r}: this is a path; {instead}\n")
    (tmp_path / "talking_desk.py").write_text("import asyncio\nasync def main(): ...\nasyncio.run(main())\n")
    status, _, told = run(capsys, "dev", "talking_desk")
    assert status == 2
    assert told.endswith('importing it calls asyncio.run(); put that below `if __name__ == "__main__":`\n')
    assert told.count("\n") == 1
    status, _, told = run(capsys, "tool-worker", "tiny_desk:runner")
    assert status == 2
    assert told.endswith("module 'tiny_desk' has no attribute 'runner'; it has desk\n")
