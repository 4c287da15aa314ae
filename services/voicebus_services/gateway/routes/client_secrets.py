"""`POST /v1/realtime/client_secrets`: a short-lived secret for a browser, as the provider's API makes them."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field
from ulid_transform import ulid_now

from voicebus.agents.client_policy import ClientPolicy
from voicebus.agents.targets import Targets
from voicebus.engine.config import ClientRights
from voicebus_services.access.authenticator import Dependency
from voicebus_services.access.client_secrets import (
    DEFAULT_SECONDS,
    MAX_SECONDS,
    MAX_SESSION_BYTES,
    MIN_SECONDS,
    ClientSecrets,
)
from voicebus_services.access.principal import NUMBER, Limits, Principal
from voicebus_services.gateway.routes.commanding import reaching_redis
from voicebus_services.http import ProblemError
from voicebus_services.openapi import problems


class ExpiresAfter(BaseModel):
    """When the secret expires: `seconds` after it was made."""

    model_config = ConfigDict(extra="forbid")

    anchor: Literal["created_at"] = "created_at"
    seconds: Annotated[int, Field(ge=MIN_SECONDS, le=MAX_SECONDS), NUMBER] = DEFAULT_SECONDS


class SecretAsked(BaseModel):
    """`session` is what the secret's sessions begin with, as in `session.update`: its `model` may name the agent.

    `agent` and `limits` are this gateway's own. Without an agent it is the caller's first; of the limits the tighter of
    these and the caller's own count.
    """

    model_config = ConfigDict(extra="forbid")

    expires_after: ExpiresAfter | None = None
    session: dict[str, Any] | None = None
    agent: Annotated[str | None, Field(min_length=1, max_length=200)] = None
    limits: Limits | None = None


class SecretMade(BaseModel):
    """`value` is shown this once. `expires_at` (Unix seconds) bounds when its sessions begin, not how long they run."""

    value: str
    expires_at: int
    session: dict[str, Any]


_SHOWN: Final[Mapping[str, Any]] = {"instructions": "", "tools": [], "output_modalities": ["audio"]}
_NOTHING: Final[Sequence[Any]] = ("", None, [], {})


def routes(targets: Targets, secrets: ClientSecrets, asking: Dependency) -> APIRouter:
    router = APIRouter(prefix="/realtime", tags=["client secrets"])

    @router.post("/client_secrets", responses=problems({404: "there is no such agent."}))
    async def make_client_secret(
        principal: Annotated[Principal, Depends(asking)], asked: SecretAsked | None = None
    ) -> SecretMade:
        """Make a secret that opens sessions with one agent until it expires. Give it to one browser."""
        wanted = asked or SecretAsked()
        given = wanted.session or {}
        agent = _agent(targets, principal, wanted.agent, given.get("model"))
        settings = _settings(given, _rights(targets, agent))
        seconds = (wanted.expires_after or ExpiresAfter()).seconds
        with reaching_redis():
            minted = await secrets.mint(
                principal, agent=agent, limits=wanted.limits or Limits(), seconds=seconds, session=settings
            )
        head = {"id": f"sess_{ulid_now()}", "object": "realtime.session", "type": "realtime", "model": agent}
        return SecretMade(
            value=minted.value, expires_at=minted.expires_at, session={**_SHOWN, **settings, **head, "expires_at": 0}
        )

    return router


def _agent(targets: Targets, principal: Principal, named: str | None, model: object) -> str:
    """The agent that the secret is for; a model that names none has no meaning, as in a session's address."""
    if named is None and isinstance(model, str) and model in targets.agents:
        named = model
    agent = principal.agent(targets.agents, targets.default_agent, named)
    if agent is None:
        raise ProblemError(404, "unknown_agent", f"there is no agent {(named or '')[:64]!r} here")
    return agent


def _rights(targets: Targets, agent: str) -> ClientRights:
    policy = targets.agents[agent].client_policy or targets.configs[agent].get("client_policy") or ClientPolicy()
    return policy.rights


def _settings(given: Mapping[str, Any], rights: ClientRights) -> dict[str, Any]:
    """The settings that a session may begin with: those that its client could make itself."""
    if given.get("type", "realtime") != "realtime":
        raise ProblemError(422, "invalid_request", "session.type: only sessions of type realtime are served")
    settings: dict[str, Any] = {}
    for name, value in rights.heeded(given).items():
        if name in ("type", "model") or value in _NOTHING:
            continue
        if not any(f"{path}.".startswith(f"{name}.") for path in rights.may_set):
            raise ProblemError(403, "forbidden_parameter", f"session: {name[:64]!r} is the agent's, and cannot be set")
        settings[name] = value
    try:
        size = len(json.dumps(settings, ensure_ascii=False, allow_nan=False).encode())
    except ValueError as error:  # half a surrogate pair, or no number
        raise ProblemError(422, "invalid_request", "session: it holds what cannot be sent on as JSON") from error
    if size > MAX_SESSION_BYTES:
        raise ProblemError(422, "invalid_request", f"session: more than {MAX_SESSION_BYTES} bytes")
    return settings
