"""Settings: where they come from, and the sentence that a wrong one gives."""

from datetime import timedelta
from pathlib import Path

import pytest

from voicebus.errors import SettingsError
from voicebus_services.settings import (
    ArchiverSettings,
    GatewaySettings,
    ServiceSettings,
    SimulatorSettings,
    ToolWorkerSettings,
    load,
)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("VOICEBUS_"):
            monkeypatch.delenv(name)


def test_the_documented_addresses_are_the_defaults() -> None:
    assert (load(GatewaySettings).http_port, load(GatewaySettings).ops_port) == (8080, 9460)
    assert load(ToolWorkerSettings).ops_port == 9461
    assert (load(ArchiverSettings).http_port, load(ArchiverSettings).ops_port) == (8081, 9463)
    assert (load(SimulatorSettings).http_port, load(SimulatorSettings).ops_port) == (8090, 9464)
    assert load(GatewaySettings).tool_timeout == timedelta(seconds=30)
    assert load(GatewaySettings).model_url == "wss://api.openai.com/v1/realtime"
    assert load(GatewaySettings).stream_prefix == "vb"


def test_a_secret_may_come_from_a_mounted_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-1\n", encoding="utf-8")
    monkeypatch.setenv("VOICEBUS_MODEL_API_KEY_FILE", str(tmp_path / "key"))
    key = load(GatewaySettings).model_api_key
    assert key is not None
    assert key.get_secret_value() == "sk-1"
    monkeypatch.setenv("VOICEBUS_MODEL_API_KEY", "sk-2")
    key = load(GatewaySettings).model_api_key
    assert key is not None
    assert key.get_secret_value() == "sk-2"


def test_a_secret_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICEBUS_REDIS_URL_FILE", "/no/such/file")
    with pytest.raises(SettingsError, match=r"VOICEBUS_REDIS_URL_FILE: '/no/such/file' cannot be read"):
        load(GatewaySettings)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30", 30), ("30s", 30), ("500ms", 0.5), ("2m", 120), ("1h", 3600), ("0.5", 0.5)]
)
def test_durations_have_units(monkeypatch: pytest.MonkeyPatch, text: str, seconds: float) -> None:
    monkeypatch.setenv("VOICEBUS_TOOL_TIMEOUT", text)
    assert load(GatewaySettings).tool_timeout.total_seconds() == seconds


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("MODEL_URL", "https://example.org", "wss://"),
        ("MODEL_URL", "ws://", "ws://"),
        ("MODEL_URL", "ws://[::1", "ws://"),
        ("MODEL_URL", "ws://localhost:99999/v1/realtime", "port"),
        ("MODEL_URL", "nonsense", "ws://"),
        ("REDIS_URL", "http://localhost", "redis://"),
        ("TOOL_TIMEOUT", "soon", "30s"),
        ("HTTP_PORT", "99999", "65535"),
        ("HTTP_PORT", "eighty", "integer"),
        ("LOG_LEVEL", "loud", "'info'"),
        ("LOG_FORMAT", "xml", "'json'"),
        ("STREAM_PREFIX", "a b", "pattern"),
        ("EVENT_SHARDS", "0", "greater than or equal to 1"),
    ],
)
def test_a_wrong_setting_is_one_sentence_that_names_variable_value_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, allowed: str
) -> None:
    monkeypatch.setenv(f"VOICEBUS_{name}", value)
    with pytest.raises(SettingsError) as refused:
        load(GatewaySettings)
    sentence = str(refused.value)
    assert sentence.startswith(f"VOICEBUS_{name}: {value!r} was read, but ")
    assert allowed in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDIS_URL", "http://user:hunter2@host"),
        ("REDIS_URL", "redis:/user:hunter2@host"),
        ("MODEL_HEADERS", '{"Authorization": "Bearer hunter2"'),
        ("MODEL_HEADERS", '{"Authorization": ["hunter2"]}'),
        ("MODEL_FALLBACKS", '[{"url": "wss://host/", "api_key": "hunter2"'),
        ("MODEL_FALLBACKS", '{"url": "wss://host/", "api_key": "hunter2"}'),
        ("MODEL_FALLBACKS", '[{"url": "wss://host/", "apikey": "hunter2"}]'),
    ],
)
def test_a_sentence_never_holds_a_secret(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"VOICEBUS_{name}", value)
    with pytest.raises(SettingsError, match=rf"^VOICEBUS_{name}: a secret was read, but ") as refused:
        load(GatewaySettings)
    assert "hunter2" not in str(refused.value)


def test_only_services_that_check_api_keys_take_a_file_of_them() -> None:
    takers = {
        kind for kind in (GatewaySettings, ArchiverSettings, SimulatorSettings) if "api_keys_file" in kind.model_fields
    }
    assert takers == {GatewaySettings, ArchiverSettings}


def test_empty_variables_count_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICEBUS_LOG_LEVEL", "")
    assert load(ServiceSettings).log_level == "info"


def test_every_setting_says_what_it_is() -> None:
    for settings in (GatewaySettings, ToolWorkerSettings, ArchiverSettings, SimulatorSettings):
        missing = [name for name, field in settings.model_fields.items() if not field.description]
        assert missing == [], settings.__name__
