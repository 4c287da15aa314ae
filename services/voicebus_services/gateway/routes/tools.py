"""`/v1/tools`: the tools of the agents deployed here, which workers run them now, and which of them rest."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from voicebus.adapters.redis.circuits import CircuitWatch
from voicebus.adapters.redis.registry import ToolRegistry
from voicebus.agents.targets import Targets
from voicebus.agents.tools.function_tool import FunctionTool
from voicebus.agents.tools.remote import RemoteTool, RemoteTools
from voicebus.contracts.tools import ToolRegistration
from voicebus_services.access.authenticator import Dependency
from voicebus_services.access.principal import Principal
from voicebus_services.gateway.routes.commanding import Id, reaching_redis
from voicebus_services.http import ProblemError
from voicebus_services.openapi import problems


class CircuitShown(BaseModel):
    """A tool that failed too often in a row: until `until` nobody calls it, then it is tried. `error` is the last."""

    state: Literal["open", "half_open"]
    since: datetime
    until: datetime
    failures: int
    error: str


class ToolShown(BaseModel):
    """One function tool. Without `workers` nobody runs its calls now; `queue` is null until a worker has registered it.

    `agents` are those here that have it; `circuit` is null while it works.
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
    circuit: CircuitShown | None


class ToolList(BaseModel):
    data: list[ToolShown]
    next_cursor: str | None = None


def routes(targets: Targets, registry: ToolRegistry, circuits: CircuitWatch, asking: Dependency) -> APIRouter:
    router = APIRouter(tags=["agents"])

    @router.get("/tools")
    async def list_tools(principal: Annotated[Principal, Depends(asking)]) -> ToolList:
        """The tools of the agents that this caller may talk to, with their schemas and their living workers."""
        users, registered = await known_to(principal)
        return ToolList(data=[_shown(name, tools, registered, circuits) for name, tools in sorted(users.items())])

    @router.post("/tools/{name}/circuit/reset", responses=problems({404: "No agent of the caller's has this tool."}))
    async def reset_circuit(name: Id, principal: Annotated[Principal, Depends(asking)]) -> ToolShown:
        """Have a tool called again that rests because it failed too often; nothing where it does not."""
        users, registered = await known_to(principal)
        if name not in users:
            raise ProblemError(404, "unknown_tool", f"no agent here has a tool named {name[:64]!r}")
        with reaching_redis():
            await circuits.close(name)
        return _shown(name, users[name], registered, circuits)

    async def known_to(principal: Principal) -> tuple[_Users, Mapping[str, ToolRegistration]]:
        """The caller's tools and what is registered of them; `circuits` is up to date then."""
        users = _users(targets, principal)
        queues = _queues(targets, principal)
        with reaching_redis():
            registered = await (registry.listed() if queues else registry.lookup(users))
            await circuits.read()
        for name, known in registered.items():
            if name not in users and known.workers and known.queue in queues:
                users[name] = {agent: RemoteTool(name) for agent in queues[known.queue]}
        return users, registered

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
    name: str,
    users: Mapping[str, FunctionTool | RemoteTool],
    registered: Mapping[str, ToolRegistration],
    circuits: CircuitWatch,
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
        circuit=_circuit(circuits, name),
    )


def _circuit(watch: CircuitWatch, name: str) -> CircuitShown | None:
    circuit = watch.circuits.get(name)
    if circuit is None:
        return None
    return CircuitShown(
        state="open" if watch.rests(name) else "half_open",
        since=datetime.fromtimestamp(circuit.since / 1000, UTC),
        until=datetime.fromtimestamp(circuit.until / 1000, UTC),
        failures=circuit.failures,
        error=circuit.error,
    )
