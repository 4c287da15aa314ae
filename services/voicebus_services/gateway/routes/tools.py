"""`GET /v1/tools`: the tools of the agents deployed here, and which workers run them now."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from voicebus.adapters.redis.registry import ToolRegistry
from voicebus.agents.targets import Targets
from voicebus.agents.tools.function_tool import FunctionTool
from voicebus.agents.tools.remote import RemoteTool, RemoteTools
from voicebus.contracts.tools import ToolRegistration
from voicebus_services.access.authenticator import Dependency
from voicebus_services.access.principal import Principal
from voicebus_services.gateway.routes.commanding import reaching_redis


class ToolShown(BaseModel):
    """One function tool. Without `workers` nobody runs its calls now; `queue` is null until a worker has registered it.

    `agents` are those here that have it.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    version: str
    queue: str | None
    needs_approval: bool
    idempotent: bool
    agents: list[str]
    workers: list[str]


class ToolList(BaseModel):
    data: list[ToolShown]
    next_cursor: str | None = None


def routes(targets: Targets, registry: ToolRegistry, asking: Dependency) -> APIRouter:
    router = APIRouter(tags=["agents"])

    @router.get("/tools")
    async def list_tools(principal: Annotated[Principal, Depends(asking)]) -> ToolList:
        """The tools of the agents that this caller may talk to, with their schemas and their living workers."""
        users = _users(targets, principal)
        queues = _queues(targets, principal)
        with reaching_redis():
            registered = await (registry.listed() if queues else registry.lookup(users))
        for name, known in registered.items():
            if name not in users and known.workers and known.queue in queues:
                users[name] = {agent: RemoteTool(name) for agent in queues[known.queue]}
        return ToolList(data=[_shown(name, tools, registered) for name, tools in sorted(users.items())])

    return router


_Users = dict[str, dict[str, FunctionTool | RemoteTool]]


def _queues(targets: Targets, principal: Principal) -> dict[str, list[str]]:
    """Queues of which agents have all tools, each with those agents."""
    queues: dict[str, list[str]] = {}
    for agent in targets.agents.values():
        for tool in agent.tools:
            if isinstance(tool, RemoteTools) and principal.may_use(agent.name):
                queues.setdefault(tool.queue, []).append(agent.name)
    return queues


def _users(targets: Targets, principal: Principal) -> _Users:
    """Tools by name, each as its agents have it, by theirs."""
    users: _Users = {}
    for agent in targets.agents.values():
        if principal.may_use(agent.name):
            for tool in agent.tools:
                if isinstance(tool, FunctionTool | RemoteTool):
                    users.setdefault(tool.name, {})[agent.name] = tool
    return users


def _shown(
    name: str, users: Mapping[str, FunctionTool | RemoteTool], registered: Mapping[str, ToolRegistration]
) -> ToolShown:
    known = registered.get(name)
    own = next((tool for tool in users.values() if isinstance(tool, FunctionTool)), None)
    if own is not None:
        description, parameters = own.description, own.params_json_schema
        approval, idempotent, version = own.needs_approval is not False, own.idempotent, own.version
    elif known is not None:
        description, parameters = known.description, known.parameters
        approval, idempotent, version = known.needs_approval, known.idempotent, known.version
    else:
        description, parameters, approval, idempotent, version = "", {}, False, False, ""
    return ToolShown(
        name=name,
        description=description,
        parameters=parameters,
        version=version,
        queue=None if known is None else known.queue,
        needs_approval=approval,
        idempotent=idempotent,
        agents=sorted(users),
        workers=[] if known is None else known.workers,
    )
