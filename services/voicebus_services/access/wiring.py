"""Builds the door from a service's settings, and keeps it up to date while the service runs."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from voicebus.errors import SettingsError
from voicebus.telemetry.logging import get_logger
from voicebus_services.access.authenticator import Authenticator
from voicebus_services.access.keystore import KEYS_SETTING, KeyStore
from voicebus_services.settings import ApiSettings

log = get_logger(__name__)


@asynccontextmanager
async def open_access(settings: ApiSettings) -> AsyncIterator[Authenticator]:
    """The configured credentials, kept up to date while the block runs.

    Raises:
        SettingsError: a credential setting is wrong, or none is there and the port is not on loopback.
    """
    if settings.api_keys_file is None:
        _require_loopback(settings.http_host)
        log.info("no credentials are configured: only this machine is served", setting=KEYS_SETTING)
        yield Authenticator()
        return
    keys = KeyStore(settings.api_keys_file)
    keeping = asyncio.create_task(keys.keep(), name="api-keys")
    try:
        yield Authenticator(keys)
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


def _require_loopback(host: str) -> None:
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback:
        raise SettingsError(
            f"VOICEBUS_HTTP_HOST: {host!r} was read, but without credentials only a loopback address is allowed;"
            f" set {KEYS_SETTING}, or use 127.0.0.1"
        )
