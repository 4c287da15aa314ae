"""Builds the door from a service's settings, and keeps it up to date while the service runs."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from voicebus.errors import SettingsError
from voicebus.telemetry.logging import get_logger
from voicebus_services.access.allowance import RequestRate
from voicebus_services.access.authenticator import Authenticator
from voicebus_services.access.client_secrets import ClientSecrets
from voicebus_services.access.failures import Failures
from voicebus_services.access.jwks import JWKS_SETTING, KeySet
from voicebus_services.access.jwt_tokens import TokenRules, Tokens
from voicebus_services.access.keystore import KEYS_SETTING, KeyStore
from voicebus_services.access.origins import Origins
from voicebus_services.settings import ApiSettings

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the settings say of who may ask; `open_access` makes it work."""

    keys: KeyStore | None
    token_rules: TokenRules | None
    token_keys: KeySet | None
    origins: Origins
    failures: Failures

    @classmethod
    def of(cls, settings: ApiSettings) -> "Credentials":
        """Read them, files included.

        Raises:
            SettingsError: a credential setting is wrong, or none is there and the port is not on loopback.
        """
        keys = None if settings.api_keys_file is None else KeyStore(settings.api_keys_file)
        rules = _token_rules(settings)
        if keys is None and rules is None:
            _require_loopback(settings.http_host)
            log.info("no credentials are configured: only this machine is served", setting=KEYS_SETTING)
        token_keys = None if rules is None or settings.jwt_jwks is None else KeySet(settings.jwt_jwks)
        failures = Failures(settings.max_failed_credentials_per_minute)
        return cls(keys, rules, token_keys, Origins(settings.allowed_origins), failures)


@asynccontextmanager
async def open_access(
    credentials: Credentials, *, secrets: ClientSecrets | None = None, requests: RequestRate | None = None
) -> AsyncIterator[Authenticator]:
    """The door, kept up to date while the block runs. Client secrets open it where `secrets` are given, and HTTP
    requests are bounded by `requests`.
    """
    keys, token_keys, rules = credentials.keys, credentials.token_keys, credentials.token_rules
    keeping = [asyncio.create_task(keys.keep(), name="api-keys")] if keys else []
    keeping += [asyncio.create_task(token_keys.keep(), name="jwks-upkeep")] if token_keys else []
    tokens = Tokens(rules, token_keys) if rules and token_keys else None
    try:
        yield Authenticator(keys, tokens, secrets, credentials.origins, credentials.failures, requests)
    finally:
        for task in keeping:
            task.cancel()
        await asyncio.gather(*keeping, return_exceptions=True)
        if token_keys is not None:
            await token_keys.aclose()


def _token_rules(settings: ApiSettings) -> TokenRules | None:
    needed = {
        "VOICEBUS_JWT_ISSUER": settings.jwt_issuer,
        "VOICEBUS_JWT_AUDIENCE": settings.jwt_audience,
        JWKS_SETTING: settings.jwt_jwks,
    }
    missing = [name for name, value in needed.items() if value is None]
    if len(missing) == len(needed):
        return None
    if missing or settings.jwt_issuer is None or settings.jwt_audience is None:
        raise SettingsError(f"{missing[0]}: nothing was read, but tokens need {', '.join(needed)}; set all of them")
    return TokenRules(
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        algorithms=settings.jwt_algorithms,
        leeway_s=settings.jwt_leeway.total_seconds(),
        tenant_claim=settings.jwt_tenant_claim,
        agents_claim=settings.jwt_agents_claim,
    )


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
