"""Who asks: one `Principal` from any kind of credential, and the limits that it carries. Knows no credential itself."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from voicebus.adapters.sockets import MAX_MESSAGE
from voicebus.contracts.journal import LOCAL_TENANT


def _number(value: Any) -> Any:
    """`true` is no 1, and a text none at all; 3.0 is 3."""
    if isinstance(value, bool | str):
        raise ValueError("a number is needed")  # noqa: TRY004 - what the validation makes a refusal of
    return value


NUMBER: Final = BeforeValidator(_number)
"""For numbers of what others send as JSON; behind their bounds, which the schema then shows."""

_Count = Annotated[int, Field(ge=1, le=1_000_000_000), NUMBER]
_Seconds = Annotated[float, Field(gt=0, le=10_000_000), NUMBER]


class Kind(StrEnum):
    """What was presented."""

    API_KEY = "api_key"
    JWT = "jwt"
    CLIENT_SECRET = "client_secret"  # noqa: S105 - a kind, no secret
    LOCAL = "local"
    """Nothing: a client on this machine, where no credentials are configured."""


class Limits(BaseModel):
    """What one credential allows; None is the installation's own limit. Unknown names are refused."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    sessions: _Count | None = None
    """Sessions at once, over all gateways."""
    connections_per_minute: _Count | None = None
    requests_per_minute: _Count | None = None
    """HTTP requests, over all services."""
    messages_per_second: _Count | None = None
    """Messages of one client's socket."""
    message_bytes: Annotated[int, Field(ge=65_536, le=MAX_MESSAGE), NUMBER] | None = None
    """Bytes of one message."""
    audio_speed: Annotated[float, Field(ge=1, le=1000), NUMBER] | None = None
    """Audio of one client, times real time."""
    session_length: _Seconds | None = None
    """Seconds that a session may last."""
    idle_time: _Seconds | None = None
    """Seconds without a turn, after which a session ends."""
    session_tokens: _Count | None = None
    """Tokens that the model may use in one session."""

    def within(self, outer: "Limits") -> "Limits":
        """These limits, none of them looser than `outer`'s."""
        return Limits(**{name: _tighter(getattr(self, name), getattr(outer, name)) for name in Limits.model_fields})


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller that was let in. `key_id` names the credential in logs and counts, and is no secret.

    `agents`: the agents that it may talk to, None for all. `expires_at`: Unix seconds after which the credential opens
    no more; what it opened goes on. `session`: settings that its sessions on the OpenAI face begin with.

    Another key under the same `key_id` has another `mark`, which is for no log.

    Of a client secret `key_id` is the credential that minted it, `key_sessions` how many sessions that one may hold,
    `key_connections` how many it may open in a minute, and `secret_id` its own name: `limits` are the secret's alone.
    """

    tenant: str
    key_id: str
    kind: Kind
    agents: frozenset[str] | None = None
    limits: Limits = field(default_factory=Limits)
    expires_at: float | None = None
    session: Mapping[str, Any] = field(default_factory=dict)
    secret_id: str | None = None
    key_sessions: int | None = None
    key_connections: int | None = None
    mark: str = field(default="", repr=False)

    def may_use(self, agent: str) -> bool:
        return self.agents is None or agent in self.agents

    def agent(self, agents: Iterable[str], default: str, named: str | None) -> str | None:
        """Which of `agents` it talks to: the one that is named, else the default or the first that it may.

        None where it may talk to none of them.
        """
        if named is not None:
            return named if named in agents and self.may_use(named) else None
        return next((agent for agent in (default, *agents) if self.may_use(agent)), None)

    @property
    def manages(self) -> bool:
        """Whether it may list, read and command sessions; a client secret lies in a browser and only opens one."""
        return self.kind is not Kind.CLIENT_SECRET

    def expired(self) -> bool:
        return self.expires_at is not None and time.time() >= self.expires_at


LOCAL: Final = Principal(LOCAL_TENANT, "local", Kind.LOCAL)


def _tighter(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else min(one, other)
