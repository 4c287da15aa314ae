"""The door as the settings say."""

from pathlib import Path

import pytest

from voicebus.errors import SettingsError
from voicebus_services.access.authenticator import Presented
from voicebus_services.access.wiring import Credentials, open_access
from voicebus_services.http import ProblemError
from voicebus_services.settings import ApiSettings, load


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "gateway.example"])
def test_a_public_port_without_credentials_stops_the_start(host: str) -> None:
    with pytest.raises(
        SettingsError, match=r"VOICEBUS_HTTP_HOST: .* was read, but without credentials .*API_KEYS_FILE"
    ):
        Credentials.of(ApiSettings(http_host=host))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
async def test_without_credentials_loopback_is_served_and_the_log_says_so(
    host: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with open_access(Credentials.of(ApiSettings(http_host=host))) as access:
        await access.authenticate(Presented({"host": "localhost"}, "127.0.0.1"))
    assert "only this machine is served" in caplog.text


async def test_with_keys_any_address_may_be_bound_and_every_client_needs_one(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("acme:acme-key\n", encoding="utf-8")
    settings = ApiSettings(http_host="0.0.0.0", api_keys_file=file)
    async with open_access(Credentials.of(settings)) as access:
        with pytest.raises(ProblemError):
            await access.authenticate(Presented({"host": "localhost"}, "127.0.0.1"))
        principal = await access.authenticate(Presented({"authorization": "Bearer acme-key"}, "10.0.0.7"))
    assert principal.tenant == "acme"


@pytest.mark.parametrize("missing", ["jwt_issuer", "jwt_audience", "jwt_jwks"])
def test_half_of_a_tokens_settings_stops_the_start(missing: str) -> None:
    settings = {"jwt_issuer": "https://i.example", "jwt_audience": "voicebus", "jwt_jwks": "https://i.example/jwks"}
    del settings[missing]
    with pytest.raises(SettingsError, match=rf"VOICEBUS_{missing.upper()}: nothing was read, but tokens need"):
        Credentials.of(ApiSettings.model_validate(settings))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALLOWED_ORIGINS", "https://app.example/page"),
        ("ALLOWED_ORIGINS", "app.example"),
        ("ALLOWED_ORIGINS", "*"),
        ("JWT_ALGORITHMS", "HS256"),
        ("JWT_ALGORITHMS", "RS256,none"),
    ],
)
def test_a_wrong_setting_is_one_sentence(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"VOICEBUS_{name}", value)
    with pytest.raises(SettingsError, match=rf"^VOICEBUS_{name}: "):
        load(ApiSettings)


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICEBUS_ALLOWED_ORIGINS", "https://app.example, http://localhost:3000")
    monkeypatch.setenv("VOICEBUS_JWT_ALGORITHMS", "ES256,EdDSA")
    settings = load(ApiSettings)
    assert settings.allowed_origins == frozenset({"https://app.example", "http://localhost:3000"})
    assert settings.jwt_algorithms == ("ES256", "EdDSA")
