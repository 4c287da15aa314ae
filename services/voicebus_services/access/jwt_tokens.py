"""JSON Web Tokens of an identity provider: checked against its keys, and made a `Principal`."""

import hashlib
from dataclasses import dataclass
from typing import Any, Final

import jwt

from voicebus.contracts.journal import MAX_TENANT_CHARS
from voicebus_services.access.jwks import KeySet
from voicebus_services.access.principal import Kind, Principal

ALGORITHMS: Final = ("RS256", "ES256", "EdDSA")
"""Of which a setting may take some: asymmetric ones alone, so that no public key is ever taken for a shared secret."""

MAX_TOKEN_CHARS: Final = 8192
_MAX_AGENTS: Final = 1000


class TokenError(Exception):
    """The token opens nothing; the sentence says why and holds nothing of it."""


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What a token has to be. `tenant_claim` and `agents_claim` may be paths with dots."""

    issuer: str
    audience: str
    algorithms: tuple[str, ...] = ALGORITHMS
    leeway_s: float = 30.0
    tenant_claim: str = "tenant"
    agents_claim: str = "agents"


class Tokens:
    """Checks tokens by `rules` with the keys of `keys`."""

    def __init__(self, rules: TokenRules, keys: KeySet) -> None:
        self._rules = rules
        self._keys = keys

    @staticmethod
    def looks_like_one(credential: str) -> bool:
        return credential.count(".") == 2 and len(credential) <= MAX_TOKEN_CHARS

    async def principal(self, token: str) -> Principal:
        """Whom the token names.

        Raises:
            TokenError: it is not valid, or names no tenant.
            KeysUnavailableError: there are no keys to check it with now.
        """
        try:
            head = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError as error:
            raise TokenError("the credential is neither an API key nor a token that can be read") from error
        if head.get("alg") not in self._rules.algorithms:
            raise TokenError(f"the token's algorithm is none of {', '.join(self._rules.algorithms)}")
        key = await self._keys.find(head.get("kid"))
        if key is None:
            raise TokenError("the token is signed with a key that its issuer does not publish")
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=list(self._rules.algorithms),
                audience=self._rules.audience,
                issuer=self._rules.issuer,
                leeway=self._rules.leeway_s,
                options={"require": ["exp", "iss", "aud"]},
            )
            ends = float(claims["exp"])
        except jwt.ExpiredSignatureError as error:
            raise TokenError("the token has expired") from error
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError) as error:
            raise TokenError(f"the token is not valid here ({type(error).__name__})") from error
        return self._read(claims, ends)

    def _read(self, claims: dict[str, Any], ends: float) -> Principal:
        tenant = _claim(claims, self._rules.tenant_claim)
        if not isinstance(tenant, str) or not 0 < len(tenant) <= MAX_TENANT_CHARS:
            raise TokenError(f"the token's claim {self._rules.tenant_claim!r} names no tenant")
        agents = _claim(claims, self._rules.agents_claim)
        if agents is not None and not (
            isinstance(agents, list) and len(agents) <= _MAX_AGENTS and all(isinstance(name, str) for name in agents)
        ):
            raise TokenError(f"the token's claim {self._rules.agents_claim!r} is no list of agents")
        return Principal(
            tenant=tenant,
            key_id=_subject_id(claims),
            kind=Kind.JWT,
            agents=None if agents is None else frozenset(agents),
            expires_at=ends + self._rules.leeway_s,
        )


def _claim(claims: dict[str, Any], path: str) -> Any:
    """A claim by its name, else by a path with dots into the claims."""
    if path in claims:
        return claims[path]
    value: Any = claims
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _subject_id(claims: dict[str, Any]) -> str:
    """Names the token's subject in logs and counts without telling who it is."""
    subject = f"{claims['iss']}\n{claims.get('sub', '')}"
    return f"jwt:{hashlib.sha256(subject.encode()).hexdigest()[:16]}"
