"""Short-lived secrets for browsers: `ek_…`, minted by a principal, good on every gateway until they expire.

As with the provider's, a secret may open several sessions, its expiry bounds when they begin and not how long they run,
and there is no taking it back by itself: taking back the API key that minted it does.
"""

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict

from voicebus.adapters.redis.client import RedisConnection
from voicebus.contracts.streams import Keys
from voicebus.ports import Clock
from voicebus_services.access.keyfile import digest
from voicebus_services.access.principal import Kind, Limits, Principal

PREFIX: Final = "ek_"
MIN_SECONDS: Final = 10
MAX_SECONDS: Final = 7200
DEFAULT_SECONDS: Final = 600

MAX_SESSION_BYTES: Final = 64 * 1024
"""Of the settings that a secret brings into its sessions, as JSON."""


class _Stored(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True)

    tenant: str
    key_id: str
    minted_by: Kind
    agent: str
    limits: Limits
    key_sessions: int | None
    key_connections: int | None = None
    key_mark: str = ""
    expires_at: int
    """For gateways of an older image alone: Redis forgets the secret then."""
    session: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Found:
    """A valid secret. `minted_by` tells what kind of credential `principal.key_id` names."""

    principal: Principal
    minted_by: Kind


@dataclass(frozen=True, slots=True)
class Minted:
    """`value` is shown this once; only its digest is kept."""

    value: str
    expires_at: int


class ClientSecrets:
    """The secrets of one installation, in Redis, by their digests. Every method may raise `BusError`."""

    def __init__(self, bus: RedisConnection, keys: Keys, clock: Clock) -> None:
        self._bus = bus
        self._keys = keys
        self._clock = clock

    async def mint(
        self, principal: Principal, *, agent: str, limits: Limits, seconds: int, session: Mapping[str, Any]
    ) -> Minted:
        """A new secret of this principal for one agent. It allows no more than the principal's own limits.

        `session` is what its sessions begin with, as in `session.update`.
        """
        value = PREFIX + secrets.token_urlsafe(32)
        if principal.expires_at is not None:
            # By the clock that has just found it valid, this host's own.
            seconds = max(1, min(seconds, int(principal.expires_at - time.time())))
        expires_at = self._clock.at_ms() // 1000 + seconds
        stored = _Stored(
            tenant=principal.tenant,
            key_id=principal.key_id,
            minted_by=principal.kind,
            agent=agent,
            limits=limits.within(principal.limits),
            key_sessions=principal.limits.sessions,
            key_connections=principal.limits.connections_per_minute,
            key_mark=principal.mark,
            expires_at=expires_at,
            session=dict(session),
        )
        # Without limits that are none: gateways of an older image refuse those that they do not know.
        text = stored.model_dump_json(exclude={"limits": {name for name, limit in stored.limits if limit is None}})
        # Redis ends it, for all gateways at once: their own clocks may lie minutes apart.
        await self._bus.call("SET", self._key(value), text, "EX", seconds)
        return Minted(value, expires_at)

    async def find(self, value: str) -> Found | None:
        """Whose secret this is; None where it is none, or none any more."""
        text = await self._bus.call("GET", self._key(value))
        if text is None:
            return None
        stored = _Stored.model_validate_json(text)
        principal = Principal(
            tenant=stored.tenant,
            key_id=stored.key_id,
            kind=Kind.CLIENT_SECRET,
            agents=frozenset({stored.agent}),
            limits=stored.limits,
            session=stored.session,
            secret_id=digest(value).hex()[:16],
            key_sessions=stored.key_sessions,
            key_connections=stored.key_connections,
            mark=stored.key_mark,
        )
        return Found(principal, stored.minted_by)

    def _key(self, value: str) -> str:
        return self._keys.client_secret(digest(value).hex())
