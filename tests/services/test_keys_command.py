"""`voicebus keys`."""

import json
from pathlib import Path

import pytest

from voicebus_services.access.keyfile import parse
from voicebus_services.access.keystore import KeyStore
from voicebus_services.access.principal import Limits
from voicebus_services.cli import main


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str], str]:
    with pytest.raises(SystemExit) as ended:
        main(["keys", *arguments])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out.splitlines(), captured.err


def test_the_key_is_printed_once_and_its_line_opens_the_door(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "keys"
    asked = (
        "--agents",
        "desk, bank",
        "--expires",
        "1d",
        "--max-sessions",
        "3",
        "--id",
        "web",
        "--idle-time",
        "90",
        "--message-bytes",
        "65536",
        "--audio-speed",
        "1.5",
    )
    code, (key, line), told = run(capsys, "create", "--tenant", "acme", *asked)
    assert (code, "shown once" in told, key in line) == (0, True, False)
    file.write_text(f"{line}\n", encoding="utf-8")
    principal = KeyStore(file).find(key)
    assert principal is not None
    assert (principal.tenant, principal.key_id, principal.agents) == ("acme", "web", frozenset({"desk", "bank"}))
    assert principal.limits == Limits(sessions=3, idle_time=90, message_bytes=65_536, audio_speed=1.5)
    assert not principal.expired()


def test_a_file_is_made_and_added_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "keys"
    keys = [run(capsys, "create", "--tenant", tenant, "--file", str(file))[1][0] for tenant in ("acme", "other")]
    assert file.stat().st_mode & 0o777 == 0o600
    store = KeyStore(file)
    assert [found.tenant for key in keys if (found := store.find(key))] == ["acme", "other"]
    assert list(tmp_path.iterdir()) == [file]


def test_a_list_shows_everything_but_the_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "keys"
    file.write_text("acme:plain-secret\n", encoding="utf-8")
    key, _ = run(capsys, "create", "--tenant", "acme", "--id", "web", "--expires", "2999-01-01", "--file", str(file))[1]
    file.write_text(file.read_text(encoding="utf-8").replace("2999-", "2020-"), encoding="utf-8")
    _, lines, _ = run(capsys, "list", "--file", str(file), "--json")
    assert [json.loads(line) for line in lines] == [
        {"id": "acme:1", "tenant": "acme", "agents": None, "expires": None, "expired": False, "limits": {}},
        {
            "id": "web",
            "tenant": "acme",
            "agents": None,
            "expires": "2020-01-01T00:00:00Z",
            "expired": True,
            "limits": {},
        },
    ]
    _, text, _ = run(capsys, "list", "--file", str(file))
    assert "expired" in text[1]
    assert not {"plain-secret", key} & set("\n".join(text + lines).split())


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--tenant", "a b"], "--tenant: 'a b' was read"),
        (["--tenant", "acme", "--agents", "a" * 201], "--agents: 'aaaa"),
        (["--tenant", "acme", "--expires", "soon"], "--expires: 'soon' was read"),
        (["--tenant", "acme", "--expires", "2020-01-01"], "--expires: '2020-01-01' was read, but a time to come"),
        (["--tenant", "acme", "--file", "nowhere/keys"], "--file: 'nowhere/keys' cannot be written (No such file or"),
        (["--tenant", "acme", "--max-sessions", "0"], "--max-sessions: 0 was read"),
    ],
)
def test_what_cannot_be_is_one_sentence(capsys: pytest.CaptureFixture[str], arguments: list[str], why: str) -> None:
    code, out, told = run(capsys, "create", *arguments)
    assert (code, out) == (2, [])
    assert len(told.splitlines()) == 1
    assert why in told


def test_a_repeated_id_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "keys"
    run(capsys, "create", "--tenant", "acme", "--id", "web", "--file", str(file))
    before = file.read_text(encoding="utf-8")
    code, _, told = run(capsys, "create", "--tenant", "acme", "--id", "web", "--file", str(file))
    assert code == 2
    assert "repeats the id 'web'" in told
    assert file.read_text(encoding="utf-8") == before
    assert len(parse(before)) == 1


def test_a_list_without_a_file_names_the_setting(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VOICEBUS_API_KEYS_FILE", raising=False)
    code, _, told = run(capsys, "list")
    assert code == 2
    assert "VOICEBUS_API_KEYS_FILE" in told
