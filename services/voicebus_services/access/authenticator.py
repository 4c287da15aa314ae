"""From what a request presents to the `Principal` that it comes from: the one way in, for every face."""

import ipaddress
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Self
from urllib.parse import urlsplit

from fastapi import Request

from voicebus.errors import BusError
from voicebus.telemetry import metrics
from voicebus.telemetry.logging import get_logger
from voicebus_services.access.allowance import RequestRate
from voicebus_services.access.client_secrets import PREFIX, ClientSecrets, Found
from voicebus_services.access.failures import Failures
from voicebus_services.access.jwks import KeysUnavailableError
from voicebus_services.access.jwt_tokens import TokenError, Tokens
from voicebus_services.access.keyfile import MAX_KEY_CHARS
from voicebus_services.access.keystore import KEYS_SETTING, KeyStore
from voicebus_services.access.origins import Origins
from voicebus_services.access.principal import LOCAL, Kind, Principal
from voicebus_services.http import ProblemError

log: Final = get_logger(__name__)

KEY_SUBPROTOCOL: Final = "openai-insecure-api-key."
"""Browsers can set no headers on a WebSocket, so a credential may come as a subprotocol (protocol 1.3)."""


KNOWN: Final = "known"
REFUSED: Final = "refused"
"""In a request's state: who it is from, or why its credential was refused, where that was found out before."""


@dataclass(frozen=True, slots=True)
class Presented:
    """What a request shows of who it is from. `headers` by lower-case name; `peer` is an address."""

    headers: Mapping[str, str]
    peer: str | None

    @classmethod
    def by(cls, headers: Iterable[tuple[str, str]], peer: str | None) -> Self:
        """By an HTTP request. Of equal headers none is believed more than another: they are joined by commas."""
        joined: dict[str, str] = {}
        for name, value in headers:
            joined[name] = f"{joined[name]}, {value}" if name in joined else value
        return cls(joined, peer)

    @property
    def credential(self) -> str | None:
        """The credential, of whatever kind: bearer, `api-key` header, or subprotocol. None where there is none."""
        scheme, _, value = self.headers.get("authorization", "").partition(" ")
        if scheme:
            return (value.strip() or None) if scheme.lower() == "bearer" else None
        if key := self.headers.get("api-key", "").strip():
            return key
        for name in self.headers.get("sec-websocket-protocol", "").split(","):
            if (offered := name.strip()).startswith(KEY_SUBPROTOCOL):
                return offered.removeprefix(KEY_SUBPROTOCOL)
        return None


class Authenticator:
    """Knows the configured credentials. With none at all, only clients on this machine are served."""

    def __init__(
        self,
        keys: KeyStore | None = None,
        tokens: Tokens | None = None,
        secrets: ClientSecrets | None = None,
        origins: Origins | None = None,
        failures: Failures | None = None,
        requests: RequestRate | None = None,
    ) -> None:
        self._keys = keys
        self._tokens = tokens
        self._secrets = secrets
        self._origins = origins or Origins()
        self._failures = failures or Failures(0)
        self._requests = requests

    @property
    def secured(self) -> bool:
        """Whether credentials are configured; without any, clients on this machine are served without."""
        return self._keys is not None or self._tokens is not None

    @property
    def origins(self) -> Origins:
        return self._origins

    async def asks(self, presented: Presented) -> Principal:
        """Who an HTTP request is from, which counts.

        Raises:
            ProblemError: as `authenticate`, and 429 `too_many_requests`.
        """
        principal = await self.authenticate(presented)
        if self._requests is not None:
            await self._requests.spend(principal)
        return principal

    async def authenticate(self, presented: Presented) -> Principal:
        """Who a request is from.

        Raises:
            ProblemError: 401 `unauthorized`, 403 `origin_not_allowed`, 429 `too_many_failures` where credentials of
                this kind have failed too often from there, or 503 where that cannot be found out now; the sentence
                says what is wrong and holds nothing of the credential.
        """
        if not self._origins.allows(presented.headers):
            raise ProblemError(403, "origin_not_allowed", "pages of this origin are not served here")
        open_here = not self.secured
        if open_here and not (_is_loopback(presented.peer) and _named_locally(presented.headers)):
            raise _unauthorized(f"no API keys are configured ({KEYS_SETTING}), so only this machine itself is served")
        credential = presented.credential
        if credential is None:
            if open_here:
                return LOCAL
            raise _unauthorized("send a credential as `Authorization: Bearer KEY`")
        wait_s = self._failures.wait(presented.peer, credential)
        if wait_s:
            metrics.CREDENTIALS_REFUSED.labels(reason="too_many_failures").inc()
            self._failures.turned_away(presented.peer)
            raise _too_many(wait_s)
        try:
            return await self._of(credential)
        except ProblemError as problem:
            if problem.status == HTTPStatus.UNAUTHORIZED:
                metrics.CREDENTIALS_REFUSED.labels(reason="not_valid").inc()
                self._failures.failed(presented.peer, credential)
            raise

    async def _of(self, credential: str) -> Principal:
        # Whoever wrote the file of keys may have begun one as client secrets begin.
        principal = self._of_key(credential)
        if principal is None and credential.startswith(PREFIX) and self._secrets is not None:
            return await self._of_secret(credential, self._secrets)
        if not self.secured:
            return LOCAL
        if principal is None and self._tokens is not None and self._tokens.looks_like_one(credential):
            principal = await self._of_token(credential, self._tokens)
        if principal is None:
            raise _unauthorized("the credential is not valid here; send a valid one as `Authorization: Bearer KEY`")
        return principal

    def _of_key(self, credential: str) -> Principal | None:
        principal = self._keys.find(credential) if self._keys and len(credential) <= MAX_KEY_CHARS else None
        if principal is not None and principal.expired():
            raise _unauthorized("the API key has expired; ask for a new one")
        return principal

    async def _of_token(self, credential: str, tokens: Tokens) -> Principal:
        try:
            return await tokens.principal(credential)
        except TokenError as error:
            raise _unauthorized(str(error)) from error
        except KeysUnavailableError as error:
            raise _unavailable("the keys of the tokens' issuer cannot be read now; try again shortly") from error

    async def _of_secret(self, credential: str, secrets: ClientSecrets) -> Principal:
        try:
            found = await secrets.find(credential)
        except BusError as error:
            log.warning("a client secret cannot be looked up", error=str(error))
            raise _unavailable("client secrets cannot be looked up now; try again shortly") from error
        if found is None or not self._stands_for(found):
            raise _unauthorized("the client secret is not valid, or not any more; ask for a new one")
        return found.principal

    def _stands_for(self, secret: Found) -> bool:
        """Whether what minted a secret would still be let in: the secret goes with it."""
        match secret.minted_by:
            case Kind.API_KEY:
                return self._keys is not None and self._keys.holds(secret.principal.key_id, secret.principal.mark)
            case Kind.JWT:
                return self._tokens is not None
            case Kind.LOCAL:
                return not self.secured
            case Kind.CLIENT_SECRET:
                return False


Dependency = Callable[[Request], Awaitable[Principal]]


def caller(access: Authenticator) -> Dependency:
    """A FastAPI dependency: who asks, else 401."""

    async def dependency(request: Request) -> Principal:
        refused, known = getattr(request.state, REFUSED, None), getattr(request.state, KNOWN, None)
        if isinstance(refused, ProblemError):
            raise refused
        if isinstance(known, Principal):
            return known
        return await access.asks(Presented.by(request.headers.items(), request.client.host if request.client else None))

    return dependency


def manager(access: Authenticator) -> Dependency:
    """A FastAPI dependency: who asks, if it may see and command its tenant's sessions, else 401 or 403."""
    known = caller(access)

    async def dependency(request: Request) -> Principal:
        principal = await known(request)
        if not principal.manages:
            raise ProblemError(403, "forbidden", "a client secret opens sessions; use an API key for anything else")
        return principal

    return dependency


def _unauthorized(detail: str) -> ProblemError:
    return ProblemError(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})


def _too_many(wait_s: float) -> ProblemError:
    seconds = math.ceil(wait_s)
    return ProblemError(
        429, "too_many_failures",
        f"credentials from here have failed too often; try again in {seconds} s, with one that is valid",
        headers={"Retry-After": str(seconds)},
    )  # fmt: skip


def _unavailable(detail: str) -> ProblemError:
    return ProblemError(503, "unavailable", detail, headers={"Retry-After": "2"})


def _is_loopback(host: str | None) -> bool:
    try:
        address = ipaddress.ip_address(host or "")
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _named_locally(headers: Mapping[str, str]) -> bool:
    """A browser on this machine is loopback too: a page from elsewhere (Origin) or a rebound name (Host) is not."""
    if "," in headers.get("host", ""):  # several, of which the parser would take one
        return False
    try:
        hosts = [urlsplit(f"//{headers.get('host', '')}").hostname]
        if "origin" in headers:
            hosts.append(urlsplit(headers["origin"]).hostname)
    except ValueError:
        return False
    return all(host == "localhost" or _is_loopback(host) for host in hosts)
