"""`GET /v1/agents`: what is deployed."""

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from voicebus.agents.targets import Targets
from voicebus_services.access.authenticator import Dependency
from voicebus_services.access.principal import Principal


class AgentShown(BaseModel):
    """One agent that this gateway serves."""

    name: str
    default: bool
    tools: list[str]
    handoffs: list[str]
    guardrails: list[str]


class AgentList(BaseModel):
    data: list[AgentShown]
    next_cursor: str | None = None


def routes(targets: Targets, asking: Dependency) -> APIRouter:
    router = APIRouter(tags=["agents"])

    @router.get("/agents")
    def agents(principal: Annotated[Principal, Depends(asking)]) -> AgentList:
        """What is deployed here, for this caller."""
        return AgentList(data=[_shown(targets, name) for name in targets.agents if principal.may_use(name)])

    return router


def _shown(targets: Targets, name: str) -> AgentShown:
    agent = targets.agents[name]
    return AgentShown(
        name=name,
        default=name == targets.default_agent,
        tools=[tool.name for tool in agent.tools],
        handoffs=[handoff.agent_name for handoff in agent.all_handoffs()],
        guardrails=[guardrail.get_name() for guardrail in agent.output_guardrails],
    )
