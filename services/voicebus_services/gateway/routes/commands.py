"""`POST /v1/sessions/{session}/…`: what a client of the native face may say, said by another process."""

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends
from pydantic import ConfigDict, Field, StrictBool, model_validator

from voicebus.adapters.redis.commanding import RedisCommands
from voicebus_services.access.authenticator import Dependency
from voicebus_services.gateway.routes.commanding import REFUSED, Asked, Body, CommandAccepted, Id, asked, carry_out
from voicebus_services.http import ProblemError
from voicebus_services.openapi import problems

MAX_TEXT: Final = 100_000
"""Characters of a text part."""

# An image comes as a data URI; the body as a whole is bounded more tightly than this.
_MAX_IMAGE: Final = 4 * 1024 * 1024


class TextPart(Body):
    type: Literal["input_text"]
    text: Annotated[str, Field(max_length=MAX_TEXT)]


class ImagePart(Body):
    """An image as a data URI (PNG or JPEG), or where it is found."""

    type: Literal["input_image"]
    image_url: Annotated[str, Field(max_length=_MAX_IMAGE, pattern=r"^(data|https):")]
    detail: Literal["auto", "low", "high"] = "auto"


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class UserMessage(Body):
    """Either `text`, or `content` of several parts. The agent answers it."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"oneOf": [{"required": ["text"]}, {"required": ["content"]}]}
    )

    text: Annotated[str, Field(min_length=1, max_length=MAX_TEXT, examples=["What does a room cost?"])] = ""
    content: Annotated[list[Part], Field(default_factory=list, min_length=1, max_length=100)]

    @model_validator(mode="after")
    def _one_of_them(self) -> "UserMessage":
        if len(self.model_fields_set) != 1:
            raise ValueError("either text or content is needed")
        return self

    def arguments(self) -> dict[str, Any]:
        return self.model_dump(exclude_unset=True)


class AgentChange(Body):
    """The agent that takes over; its name as `GET /v1/agents` lists it."""

    agent: Annotated[str, Field(min_length=1, max_length=200, examples=["front-desk"])]


class Consent(Body):
    """Whether the caller agrees to be recorded from now on; what was recorded before stays."""

    consent: StrictBool


class Ending(Body):
    """Why the session ends, as it is recorded."""

    reason: Annotated[str, Field(pattern="^[a-z_]{1,40}$", examples=["ended"])] = "ended"


def routes(commands: RedisCommands, asking: Dependency) -> APIRouter:
    router = APIRouter(prefix="/sessions/{session}", tags=["commands"], responses=problems(REFUSED))
    Ask = Annotated[Asked, Depends(asked(asking))]  # noqa: N806 - a type

    @router.post("/messages", status_code=202)
    async def send_message(session: Id, ask: Ask, message: UserMessage) -> CommandAccepted:
        """Say something as the user, and have it answered."""
        return await carry_out(commands, ask, session, "send_message", message.arguments())

    @router.post("/interrupt", status_code=202)
    async def interrupt(session: Id, ask: Ask) -> CommandAccepted:
        """Stop what the agent is saying."""
        return await carry_out(commands, ask, session, "interrupt", {})

    @router.post("/agent", status_code=202)
    async def update_agent(session: Id, ask: Ask, change: AgentChange) -> CommandAccepted:
        """Have another agent take over."""
        if not ask.principal.may_use(change.agent):
            raise ProblemError(
                404, "unknown_agent", f"body.agent: there is no agent {change.agent[:64]!r} for this key"
            )
        return await carry_out(commands, ask, session, "update_agent", {"agent": change.agent})

    @router.post("/recording", status_code=202)
    async def record(session: Id, ask: Ask, given: Consent) -> CommandAccepted:
        """Have the session recorded from now on, or not any more."""
        return await carry_out(commands, ask, session, "record", {"consent": given.consent})

    @router.post("/end", status_code=202)
    async def end(session: Id, ask: Ask, ending: Ending | None = None) -> CommandAccepted:
        """End the session."""
        return await carry_out(commands, ask, session, "end", {"reason": (ending or Ending()).reason})

    return router
