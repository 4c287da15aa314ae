"""From what a request presents to the `Principal` that it comes from: the one way in, for every face."""

import ipaddress
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Final
from urllib.parse import urlsplit

from fastapi import Depends, Request

from voicebus.telemetry.logging import get_logger
from voicebus_services.access.keyfile import MAX_KEY_CHARS
from voicebus_services.access.keystore import KEYS_SETTING, KeyStore
from voicebus_services.access.principal import LOCAL, Principal
from voicebus_services.http import ProblemError

log: Final = get_logger(__name__)

KEY_SUBPROTOCOL: Final = "openai-insecure-api-key."
"""Browsers can set no headers on a WebSocket, so a credential may come as a subprotocol (protocol 1.3)."""


@dataclass(frozen=True, slots=True)
class Presented:
    """What a request shows of who it is from. `headers` by lower-case name; `peer` is an address."""

    headers: Mapping[str, str]
    peer: str | None

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

    def __init__(self, keys: KeyStore | None = None) -> None:
        self._keys = keys

    async def authenticate(self, presented: Presented) -> Principal:
        """Who a request is from.

        Raises:
            ProblemError: 401; the sentence says what is wrong and holds nothing of the credential.
        """
        if self._keys is None:
            if _is_loopback(presented.peer) and _named_locally(presented.headers):
                return LOCAL
            raise _unauthorized(f"no API keys are configured ({KEYS_SETTING}), so only this machine itself is served")
        credential = presented.credential
        if credential is None:
            raise _unauthorized("send a credential as `Authorization: Bearer KEY`")
        principal = self._keys.find(credential) if len(credential) <= MAX_KEY_CHARS else None
        if principal is None:
            raise _unauthorized("the credential is not valid here; send a valid one as `Authorization: Bearer KEY`")
        if principal.expired():
            raise _unauthorized("the API key has expired; ask for a new one")
        return principal


Dependency = Callable[[Request], Awaitable[Principal]]


def caller(access: Authenticator) -> Dependency:
    """A FastAPI dependency: who asks, else 401."""

    async def dependency(request: Request) -> Principal:
        headers = {name: ", ".join(request.headers.getlist(name)) for name in request.headers}
        return await access.authenticate(Presented(headers, request.client.host if request.client else None))

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


def tenant_of(dependency: Dependency) -> Callable[..., str]:
    """A FastAPI dependency: the tenant of whoever `dependency` let in."""

    def tenant(principal: Annotated[Principal, Depends(dependency)]) -> str:
        return principal.tenant

    return tenant


def _unauthorized(detail: str) -> ProblemError:
    return ProblemError(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})


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
