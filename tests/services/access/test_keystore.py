"""The keys now valid."""

from pathlib import Path

import pytest

from support.tasks import running
from support.waiting import wait_until
from voicebus.errors import SettingsError
from voicebus_services import watched
from voicebus_services.access.keystore import KeyStore


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text("acme:acme-key\nother:other-key\n", encoding="utf-8")
    return path


def tenant_of(keys: KeyStore, key: str) -> str | None:
    principal = keys.find(key)
    return principal.tenant if principal else None


def test_a_key_of_the_file_names_its_tenant(file: Path) -> None:
    keys = KeyStore(file)
    assert [tenant_of(keys, key) for key in ("acme-key", "other-key", "acme:acme-key", "")] == [
        "acme", "other", None, None,
    ]  # fmt: skip


async def test_a_changed_file_counts_without_a_restart(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "POLL_S", 0.01)
    keys = KeyStore(file)
    async with running(keys.keep()):
        file.write_text("acme:another-key\n", encoding="utf-8")
        await wait_until(lambda: tenant_of(keys, "another-key"), description="the new key")
        assert tenant_of(keys, "acme-key") is None


async def test_a_mounted_secret_that_is_swapped_by_its_link_counts_too(tmp_path: Path) -> None:
    old, new, link = tmp_path / "old", tmp_path / "new", tmp_path / "keys"
    old.write_text("acme:old-key\n", encoding="utf-8")
    new.write_text("acme:new-key\n", encoding="utf-8")
    link.symlink_to(old)
    keys = KeyStore(link)
    link.unlink()
    link.symlink_to(new)
    await keys.refresh()
    assert (tenant_of(keys, "old-key"), tenant_of(keys, "new-key")) == (None, "acme")


@pytest.mark.parametrize("broken", [b"no key\n", b"\xff\n", None])
async def test_a_file_that_breaks_later_leaves_the_last_good_keys(
    file: Path, broken: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    keys = KeyStore(file)
    if broken is None:
        file.unlink()
    else:
        file.write_bytes(broken)
    await keys.refresh()
    await keys.refresh()
    assert caplog.text.count("what the file said before counts on") == 1
    assert tenant_of(keys, "acme-key") == "acme"
    file.write_text("acme:mended\n", encoding="utf-8")
    await keys.refresh()
    assert (tenant_of(keys, "acme-key"), tenant_of(keys, "mended")) == (None, "acme")


@pytest.mark.parametrize("text", ["", "no-colon\n", "\x00\xff"])
def test_a_keys_file_that_is_none_stops_the_start(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(SettingsError, match="VOICEBUS_API_KEYS_FILE"):
        KeyStore(path)


def test_a_keys_file_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        KeyStore(tmp_path / "none")
