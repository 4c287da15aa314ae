"""Commands to a session over HTTP: what a command's request and answer look like, and what a refusal becomes."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import Depends, Path, Request
from pydantic import BaseModel, ConfigDict, Field

from voicebus.adapters.redis.commanding import RedisCommands
from voicebus.contracts.journal import DecidedBy
from voicebus.errors import BusError, CommandRefusedError
from voicebus.telemetry.logging import get_logger
from voicebus_services.access.authenticator import Dependency
from voicebus_services.access.principal import Principal
from voicebus_services.gateway.idempotency import command_id_of
from voicebus_services.http import ProblemError

log = get_logger(__name__)

# Ids of models are at most this long (see the engine's dialects), ours are shorter.
Id = Annotated[str, Path(min_length=1, max_length=512)]


@dataclass(frozen=True, slots=True)
class Asked:
    """Who wants a command carried out, and under which id where the request may come again."""

    principal: Principal
    command_id: str | None

    @property
    def by(self) -> DecidedBy:
        return DecidedBy(via="http", tenant=self.principal.tenant, key_id=self.principal.key_id)


def asked(dependency: Dependency) -> Callable[..., Asked]:
    """A dependency: what `Asked` says of a request that `dependency` lets in."""

    def ask(principal: Annotated[Principal, Depends(dependency)], request: Request) -> Asked:
        return Asked(principal, command_id_of(request))

    return ask


# What a refused command is over HTTP (contract section 5).
_REFUSALS: Final[Mapping[str, int]] = {
    "unknown_session": 404,
    "unknown_call": 404,
    "session_ended": 409,
    "not_ready": 409,
    "agent_failed": 409,
    "not_recorded": 409,
    "unknown_agent": 404,
    "invalid_value": 422,
    "no_answer": 504,
    "expired": 504,
}

REFUSED: Final[Mapping[int, str]] = {
    404: "there is no such session, or nothing of the name that is given.",
    409: "the session has ended, or cannot do this now.",
    504: "its gateway did not answer within 2 s; the command is carried out now, or never.",
}
"""What the refusals of a command mean, for the document."""


class Body(BaseModel):
    """What a client sends: a field that nobody knows is an error and no oversight."""

    model_config = ConfigDict(extra="forbid")


class CommandAccepted(BaseModel):
    """The session has carried the command out."""

    command_id: str = Field(examples=["01JZ3V7Q5Y8GQ0P6D4W9C2XK1M"])


@contextmanager
def reaching_redis() -> Iterator[None]:
    """What Redis does not answer is a 503, also where the client asked for something that cannot be answered then."""
    try:
        yield
    except BusError as error:
        log.warning("Redis was not reached for a request", error=str(error))
        headers = {"Retry-After": "2"}
        raise ProblemError(
            503, "bus_unavailable", "Redis cannot be reached now; try again shortly", headers=headers
        ) from error


async def carry_out(
    commands: RedisCommands, ask: Asked, session: str, name: str, arguments: Mapping[str, Any]
) -> CommandAccepted:
    """Have the owner of a session, one of the asker's tenant, carry out a command, whichever gateway it is.

    Raises:
        ProblemError: it was refused, not answered in time, or Redis cannot be reached.
    """
    with reaching_redis():
        try:
            command_id = await commands.send(
                session, name, arguments, tenant=ask.principal.tenant, by=ask.by, command_id=ask.command_id
            )
        except CommandRefusedError as refused:
            raise ProblemError(_REFUSALS.get(refused.code, 500), refused.code, str(refused)) from refused
    return CommandAccepted(command_id=command_id)
