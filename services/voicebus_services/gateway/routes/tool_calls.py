"""`POST /v1/sessions/{session}/tool-calls/{call_id}/…`: a person's word about a call that waits for approval."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends
from pydantic import Field, StrictBool

from voicebus.adapters.redis.commanding import RedisCommands
from voicebus_services.access.authenticator import Dependency
from voicebus_services.gateway.routes.commanding import REFUSED, Asked, Body, CommandAccepted, Id, asked, carry_out
from voicebus_services.openapi import problems

MAX_MESSAGE: Final = 10_000
"""Characters of what a model is told of a rejection."""


class Decision(Body):
    """A person's word about a call. `always`: about all further calls of that tool in this session, too."""

    always: StrictBool = False


class Rejection(Decision):
    """`message` is what the model is told; absent, that the call was not approved."""

    message: Annotated[str | None, Field(max_length=MAX_MESSAGE, examples=["Not without a second signature."])] = None


def routes(commands: RedisCommands, asking: Dependency) -> APIRouter:
    router = APIRouter(
        prefix="/sessions/{session}/tool-calls/{call_id}",
        tags=["tool calls"],
        responses=problems({**REFUSED, 404: "there is no such session, or no such call waits for approval."}),
    )
    Ask = Annotated[Asked, Depends(asked(asking))]  # noqa: N806 - a type

    @router.post("/approve", status_code=202)
    async def approve(session: Id, call_id: Id, ask: Ask, decision: Decision | None = None) -> CommandAccepted:
        """Let a call run that waits for approval, whichever gateway holds its session."""
        given = decision or Decision()
        return await carry_out(commands, ask, session, "approve", {"call_id": call_id, "always": given.always})

    @router.post("/reject", status_code=202)
    async def reject(session: Id, call_id: Id, ask: Ask, rejection: Rejection | None = None) -> CommandAccepted:
        """Refuse a call that waits for approval, whichever gateway holds its session."""
        given = rejection or Rejection()
        word = {"call_id": call_id, "always": given.always, "message": given.message}
        return await carry_out(commands, ask, session, "reject", word)

    return router
