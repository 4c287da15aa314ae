"""The door as the settings say."""

from pathlib import Path

import pytest

from voicebus.errors import SettingsError
from voicebus_services.access.authenticator import Presented
from voicebus_services.access.wiring import Credentials, open_access
from voicebus_services.http import ProblemError
from voicebus_services.settings import ApiSettings


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
