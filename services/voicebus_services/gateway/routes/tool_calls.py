"""`POST /v1/sessions/{session}/tool-calls/{call_id}/…`: a person's word about a call that waits for approval."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from voicebus.adapters.redis.commanding import RedisCommands
from voicebus_services.gateway.routes.commanding import Asking, CommandAccepted, Id, carry_out

MAX_MESSAGE: Final = 10_000
"""Characters of what a model is told of a rejection."""


class Decision(BaseModel):
    """A person's word about a call. `always`: about all further calls of that tool in this session, too."""

    model_config = ConfigDict(extra="forbid")

    always: bool = False


class Rejection(Decision):
    """`message` is what the model is told; absent, that the call was not approved."""

    message: Annotated[str | None, Field(max_length=MAX_MESSAGE)] = None


def routes(commands: RedisCommands, tenant: Asking) -> APIRouter:
    router = APIRouter(prefix="/sessions/{session}/tool-calls/{call_id}", tags=["tool calls"])

    @router.post("/approve", status_code=202)
    async def approve(
        session: Id, call_id: Id, asking: Annotated[str, Depends(tenant)], decision: Decision | None = None
    ) -> CommandAccepted:
        """Let a call run that waits for approval, whichever gateway holds its session."""
        given = decision or Decision()
        return await carry_out(commands, asking, session, "approve", {"call_id": call_id, "always": given.always})

    @router.post("/reject", status_code=202)
    async def reject(
        session: Id, call_id: Id, asking: Annotated[str, Depends(tenant)], rejection: Rejection | None = None
    ) -> CommandAccepted:
        """Refuse a call that waits for approval, whichever gateway holds its session."""
        given = rejection or Rejection()
        word = {"call_id": call_id, "always": given.always, "message": given.message}
        return await carry_out(commands, asking, session, "reject", word)

    return router
