"""`GET /v1/agents`: what is deployed."""

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from voicebus.adapters.redis.offers import Offers
from voicebus.agents.targets import Targets
from voicebus.agents.tools.remote import RemoteTools
from voicebus.agents.tools.toolset import Offered
from voicebus_services.access.authenticator import Dependency
from voicebus_services.access.principal import Principal
from voicebus_services.gateway.routes.commanding import reaching_redis


class AgentShown(BaseModel):
    """One agent that this gateway serves; of tools that workers of other services offer, those that are there now."""

    name: str
    default: bool
    tools: list[str]
    handoffs: list[str]
    guardrails: list[str]


class AgentList(BaseModel):
    data: list[AgentShown]
    next_cursor: str | None = None


def routes(targets: Targets, offers: Offers, asking: Dependency) -> APIRouter:
    router = APIRouter(tags=["agents"])

    @router.get("/agents")
    async def agents(principal: Annotated[Principal, Depends(asking)]) -> AgentList:
        """What is deployed here, for this caller."""
        shown = [name for name in targets.agents if principal.may_use(name)]
        offered: Offered = {}
        if any(isinstance(tool, RemoteTools) for name in shown for tool in targets.agents[name].tools):
            with reaching_redis():
                offered = await offers.current()
        return AgentList(data=[_shown(targets, name, offered) for name in shown])

    return router


def _shown(targets: Targets, name: str, offered: Offered) -> AgentShown:
    agent = targets.agents[name]
    own = [tool.name for tool in agent.tools if not isinstance(tool, RemoteTools)]
    queues = {tool.queue for tool in agent.tools if isinstance(tool, RemoteTools)}
    return AgentShown(
        name=name,
        default=name == targets.default_agent,
        tools=[*own, *(name for name in sorted(offered) if offered[name].queue in queues and name not in own)],
        handoffs=[handoff.agent_name for handoff in agent.all_handoffs()],
        guardrails=[guardrail.get_name() for guardrail in agent.output_guardrails],
    )
