"""Settings: where they come from, and the sentence that a wrong one gives."""

from datetime import timedelta
from pathlib import Path

import pytest

from voicebus.errors import SettingsError
from voicebus_services.settings import (
    ArchiverSettings,
    GatewaySettings,
    GuardrailWorkerSettings,
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


def refusal(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, kind: type[ServiceSettings] = GatewaySettings
) -> str:
    """The sentence by which a service does not start with this value."""
    monkeypatch.setenv(f"VOICEBUS_{name}", value)
    with pytest.raises(SettingsError) as refused:
        load(kind)
    return str(refused.value)


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
    ("value", "allowed"),
    [("inbox", "a name other than events, guardrails, inbox"), ("a{b}", "a name of 1 to 64 letters, digits and _ . -")],
)
def test_a_worker_reads_no_queue_whose_name_is_anothers(
    monkeypatch: pytest.MonkeyPatch, value: str, allowed: str
) -> None:
    sentence = refusal(monkeypatch, "QUEUE", value, ToolWorkerSettings)
    assert sentence == f"VOICEBUS_QUEUE: {value!r} was read, but {allowed} is allowed"


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
        ("HTTP_PORT", "eighty", "a whole number of at least 0 and of at most 65535 is allowed"),
        ("LOG_LEVEL", "loud", "'info'"),
        ("LOG_FORMAT", "xml", "'json'"),
        ("STREAM_PREFIX", "a b", "a name of 1 to 32 letters, digits and _ . - is allowed"),
        ("EVENT_SHARDS", "0", "a number of at least 1 and of at most 1024 is allowed"),
        ("MAX_AUDIO_SPEED", "nan", "a number of at least 1 and of at most 1000 is allowed"),
        ("MODEL_CONNECT_TIMEOUT", "0", "a duration above 0s is allowed"),
        ("TOOL_TIMEOUT", "0s", "a duration above 0s is allowed"),
        ("RESUME_GRACE", "-5", "30s"),
        ("DRAIN_TIMEOUT", "999999999999999h", "30s"),
        ("MODEL_TOKEN", "token", "module:function"),
        ("JWT_ALGORITHMS", ",", "ES256, EdDSA, RS256"),
        ("JWT_ALGORITHMS", "HS256", "ES256, EdDSA, RS256"),
        ("ALLOWED_ORIGINS", "app", "https://app.example"),
    ],
)
def test_a_wrong_setting_is_one_sentence_that_names_variable_value_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, allowed: str
) -> None:
    sentence = refusal(monkeypatch, name, value)
    assert sentence.startswith(f"VOICEBUS_{name}: {value!r} was read, but ")
    assert allowed in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("SPEECH", "maybe", "'maybe' was read, but true or false is allowed"),
        ("SEED", "1.5", "'1.5' was read, but a whole number is allowed"),
        ("PACE", "-1", "'-1' was read, but step, or a number of at least 0, is allowed"),
        ("PACE", "fast", "'fast' was read, but step, or a number of at least 0, is allowed"),
        ("SIMULATOR_QUIRKS", "{", "'{' was read, but JSON is allowed, and this is none"),
        ("SIMULATOR_QUIRKS", "5", "'5' was read, but a JSON object is allowed"),
    ],
)
def test_a_wrong_setting_of_the_simulator_is_told_in_the_same_words(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    assert refusal(monkeypatch, name, value, SimulatorSettings) == f"VOICEBUS_{name}: {sentence}"


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("MODEL_FALLBACKS", '[{"url": "wss://a/"}, {"url": "http://b"}]', "for [1].url a WebSocket address (ws://"),
        ("MODEL_FALLBACKS", '[{"nme": "x"}]', "for [0].nme nothing is allowed: there is no such field"),
        ("MODEL_FALLBACKS", "[5]", "for [0] a JSON object is allowed"),
        ("MODEL_FALLBACKS", "{}", "a JSON list is allowed"),
        ("MODEL_HEADERS", '{"X-Team": 7}', "for X-Team text is allowed"),
        ("MODEL_HEADERS", "[]", "a JSON object is allowed"),
    ],
)
def test_what_is_wrong_within_a_setting_is_told_with_its_place(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, allowed: str
) -> None:
    assert refusal(monkeypatch, name, value).startswith(f"VOICEBUS_{name}: a secret was read, but {allowed}")


def test_every_setting_that_is_not_free_text_refuses_nonsense_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    for settings in (GatewaySettings, ToolWorkerSettings, GuardrailWorkerSettings, ArchiverSettings, SimulatorSettings):
        for name in settings.model_fields:
            with monkeypatch.context() as patch:
                patch.setenv(variable := f"VOICEBUS_{name.upper()}", "{no sense}")
                if name == "redis_tls_ca":
                    patch.setenv("VOICEBUS_REDIS_URL", "rediss://host")  # else it is the address that is refused
                try:
                    load(settings)
                except SettingsError as error:
                    sentence = str(error)
                    assert sentence.startswith((f"{variable}: '{{no sense}}' was", f"{variable}: a secret was")), (
                        sentence
                    )
                    assert "allowed" in sentence
                    assert not any(word in sentence for word in ("nput", "valid", "this is not allowed")), sentence


def test_an_empty_file_of_algorithms_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "algorithms").write_text("\n", encoding="utf-8")
    monkeypatch.setenv("VOICEBUS_JWT_ALGORITHMS_FILE", str(tmp_path / "algorithms"))
    with pytest.raises(SettingsError, match=r"^VOICEBUS_JWT_ALGORITHMS: '' was read, but one or more of ES256"):
        load(GatewaySettings)


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
    sentence = refusal(monkeypatch, name, value)
    assert sentence.startswith(f"VOICEBUS_{name}: a secret was read, but ")
    assert "hunter2" not in sentence


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


def test_a_password_of_redis_may_come_from_a_file_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("p@ss/word\n")
    monkeypatch.setenv("VOICEBUS_REDIS_URL", "redis+cluster://a:1,b:2")
    monkeypatch.setenv("VOICEBUS_REDIS_USERNAME", "vb-gateway")
    monkeypatch.setenv("VOICEBUS_REDIS_PASSWORD_FILE", str(tmp_path / "password"))
    assert load(GatewaySettings).redis_url == "redis+cluster://vb-gateway:p%40ss%2Fword@a:1,b:2"


def test_certificates_to_trust_need_an_address_with_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICEBUS_REDIS_TLS_CA", "/etc/ca.pem")
    with pytest.raises(SettingsError, match=r"^VOICEBUS_REDIS_URL: 'redis://127.* was read, but an address with TLS"):
        load(GatewaySettings)
