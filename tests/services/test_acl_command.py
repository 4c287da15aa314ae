"""`voicebus contract acl`: the file, the passwords, and a second run."""

import fnmatch
import hashlib
import inspect
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from voicebus.contracts.access import accesses
from voicebus.contracts.streams import Keys
from voicebus_services.cli import app


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["contract", "acl", *arguments])


def test_each_service_gets_a_user_with_a_password_of_its_own(tmp_path: Path) -> None:
    made = run(str(tmp_path / "acl"))
    assert made.exit_code == 0
    users = made.output.split()
    assert {"vb-gateway", "vb-tool-worker", "vb-guardrail-worker", "vb-transcript-archiver"} <= set(users)
    lines = {line.split()[1]: line for line in (tmp_path / "acl" / "users.acl").read_text().splitlines()}
    assert set(lines) == set(users)
    passwords = set()
    for user, line in lines.items():
        path = tmp_path / "acl" / "passwords" / user
        assert path.stat().st_mode & 0o077 == 0
        password = path.read_text()
        assert f"#{hashlib.sha256(password.encode()).hexdigest()}" in line
        assert password not in line
        passwords.add(password)
    assert len(passwords) == len(users)


def test_a_second_run_keeps_the_passwords_and_brings_the_rules_up_to_date(tmp_path: Path) -> None:
    run(str(tmp_path))
    before = (tmp_path / "passwords" / "vb-gateway").read_text()
    (tmp_path / "users.acl").write_text("old")
    assert run(str(tmp_path), "--queue", "billing").exit_code == 0
    assert (tmp_path / "passwords" / "vb-gateway").read_text() == before
    text = (tmp_path / "users.acl").read_text()
    (billing,) = [line for line in text.splitlines() if "user vb-tool-worker-billing " in line]
    assert "~vb:tools:{billing}" in billing.split()
    assert "~vb:tools:{*}" not in billing.split()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [(("--queue", "a b"), "--queue: 'a b' was read"), (("--stream-prefix", ""), "--stream-prefix: '' was read")],
)
def test_a_wrong_name_is_refused_in_a_sentence(tmp_path: Path, arguments: tuple[str, str], sentence: str) -> None:
    made = run(str(tmp_path), *arguments)
    assert made.exit_code == 2 or sentence in str(made.exception)
    assert sentence in made.output + str(made.exception)


def keys_there_are() -> dict[str, str]:
    """One of each kind, by the name that `Keys` gives it."""
    keys, found = Keys("vb"), {}
    for name, member in inspect.getmembers(Keys):
        if isinstance(member, property):
            found[name] = getattr(keys, name)
        elif inspect.isfunction(member) and not name.startswith("_"):
            taken = list(inspect.signature(member).parameters.values())[1:]
            made = getattr(keys, name)
            if inspect.signature(member).return_annotation is str:
                found[name] = made(*(1 if parameter.annotation is int else "x" for parameter in taken))
    return found


def test_every_key_of_the_contract_is_somebodys() -> None:
    found = keys_there_are()
    assert {"config", "events", "session_state", "tools", "call", "dead", "inbox", "gateway", "worker"} <= found.keys()
    services = [access for name, access in accesses("vb").items() if name not in {"operator", "autoscaler"}]
    for name, beginning in found.items():
        # What several keys begin with is no key: one of them stands for all.
        key = f"{beginning}{{x}}" if beginning.endswith(":") else beginning
        assert any(fnmatch.fnmatchcase(key, pattern) for access in services for _, pattern in access.keys), (
            f"no service may touch {name} ({key}): give it to those that do in contracts/access.py"
        )


def test_no_service_touches_another_installation_on_the_same_redis() -> None:
    for access in accesses("vb").values():
        assert all(pattern.startswith("vb:") for _, pattern in access.keys)
