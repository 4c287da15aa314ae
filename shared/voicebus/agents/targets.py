"""TARGETs: what `module:attribute` and module names on a command line stand for, and agents resolved for the engine."""

import importlib
import inspect
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from voicebus.agents.agent import RealtimeAgent
from voicebus.agents.config import DEFAULT_DEBOUNCE, RealtimeRunConfig, wire_session
from voicebus.agents.context import RunContextWrapper
from voicebus.agents.guardrails import OutputGuardrail
from voicebus.agents.handoffs import Handoff
from voicebus.agents.runner import RealtimeRunner
from voicebus.agents.tools.function_tool import FunctionTool
from voicebus.agents.tools.remote import RemoteTool
from voicebus.contracts.tools import ToolRegistration
from voicebus.engine.config import AgentSpec, GuardrailMode, GuardrailSpec, HandoffSpec, ToolSpec
from voicebus.errors import TargetError, UserError, VoicebusError
from voicebus.telemetry.logging import get_logger

log = get_logger(__name__)


@dataclass
class Targets:
    """Everything that a set of TARGETs defines, by name. `agents` is in order: the first is the default."""

    agents: dict[str, RealtimeAgent[Any]] = field(default_factory=dict)
    configs: dict[str, RealtimeRunConfig] = field(default_factory=dict)
    tools: dict[str, FunctionTool] = field(default_factory=dict)
    guardrails: dict[str, OutputGuardrail] = field(default_factory=dict)

    @property
    def default_agent(self) -> str:
        return next(iter(self.agents))

    def model_name(self, agent: str) -> str | None:
        """The model that the agent's run config names, if any."""
        return self.configs[agent].get("model_settings", {}).get("model_name")

    def handoff(self, agent: str, tool_name: str) -> Handoff:
        """The handoff that `agent` offers to the model under `tool_name`.

        Raises:
            KeyError: it offers none of that name.
        """
        for handoff in self.agents[agent].all_handoffs():
            if handoff.tool_name == tool_name:
                return handoff
        raise KeyError(tool_name)

    async def resolve(
        self,
        agent: str,
        context: RunContextWrapper[Any],
        *,
        tool_timeout_s: float,
        default_queue: str | None = None,
        registered: Mapping[str, ToolRegistration] | None = None,
        config: RealtimeRunConfig | None = None,
    ) -> AgentSpec:
        """One agent as plain data: instructions evaluated, disabled tools and handoffs left out.

        `registered` is the registry that live workers keep, for remote tools; one that is not there is left out and
        logged. `config` is the conversation's own, which stays through handoffs; the agent's where None.

        Raises:
            UserError: two tools or handoffs have one name.
        """
        author = self.agents[agent]
        chosen = self.configs[agent] if config is None else config
        tools: list[ToolSpec] = []
        for tool in author.tools:
            spec = self._tool(tool, tool_timeout_s, default_queue, registered or {})
            if spec is None:
                log.warning("remote tool left out: no worker has registered it", tool=tool.name, agent=agent)
            elif not isinstance(tool, FunctionTool) or await _enabled(tool.is_enabled, context, author):
                tools.append(spec)
        handoffs = [
            HandoffSpec(
                name=handoff.tool_name,
                description=handoff.tool_description,
                parameters=handoff.input_json_schema,
                agent=handoff.agent.name,
            )
            for handoff in author.all_handoffs()
            if await _enabled(handoff.is_enabled, context, author)
        ]
        names = [tool.name for tool in tools] + [handoff.name for handoff in handoffs]
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"agent {agent!r} has two tools or handoffs named {name!r}; rename one")
        debounce = chosen.get("guardrails_settings", {}).get("debounce_text_length", DEFAULT_DEBOUNCE)
        guardrails = {id(entry): entry for entry in (*author.output_guardrails, *chosen.get("output_guardrails", []))}
        return AgentSpec(
            name=agent,
            instructions=await author.get_system_prompt(context),
            tools=tuple(tools),
            handoffs=tuple(handoffs),
            guardrails=tuple(
                GuardrailSpec(
                    name=entry.get_name(),
                    mode=GuardrailMode(entry.mode),
                    debounce=debounce,
                    on_error=entry.on_error,
                    on_unavailable=entry.on_unavailable,
                )
                for entry in guardrails.values()
            ),
            session=wire_session(chosen.get("model_settings", {})),
        )

    @staticmethod
    def _tool(
        tool: FunctionTool | RemoteTool,
        timeout_s: float,
        default_queue: str | None,
        registered: Mapping[str, ToolRegistration],
    ) -> ToolSpec | None:
        if isinstance(tool, FunctionTool):
            return ToolSpec(
                name=tool.name,
                description=tool.description,
                parameters=tool.params_json_schema,
                queue=tool_queue(tool, default_queue),
                timeout_ms=round((tool.timeout or timeout_s) * 1000),
                idempotent=tool.idempotent,
                respond=tool.respond,
            )
        found = registered.get(tool.name)
        if found is None:
            return None
        return ToolSpec(
            name=found.name,
            description=found.description,
            parameters=found.parameters,
            queue=found.queue,
            timeout_ms=found.timeout_ms,
            idempotent=found.idempotent,
        )


def tool_queue(tool: FunctionTool, default_queue: str | None) -> str:
    """The queue of a tool's calls: its own `queue=`, else the worker's `--queue`, else its top-level package."""
    return tool.queue or default_queue or tool.own_queue


def load_targets(names: Sequence[str]) -> Targets:
    """Import TARGETs: `module:attribute` (a runner or an agent), or a module (all its agents, tools and guardrails).

    The working directory is importable, as it is for `python -m`.

    Raises:
        TargetError: a name that cannot be imported or holds nothing to serve, or two things of one name.
    """
    if not names:
        raise TargetError("no TARGET was given; name a module, or module:attribute, that defines your agents")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    targets = Targets()
    for name in names:
        _load(targets, name)
    return targets


def _load(targets: Targets, name: str) -> None:
    module_name, separator, attribute = name.partition(":")
    if not module_name.strip("."):
        raise TargetError(f"TARGET {name!r} names no module; name a module, or module:attribute")
    module = _import(module_name, name)
    if separator:
        found = module
        for part in attribute.split("."):
            if not part or not hasattr(found, part):
                raise TargetError(f"TARGET {name!r}: module {module_name!r} has no attribute {attribute!r}")
            found = getattr(found, part)
        if isinstance(found, RealtimeRunner):
            _add_agent(targets, found.starting_agent, found.config)
        elif isinstance(found, RealtimeAgent):
            _add_agent(targets, found, None)
        else:
            raise TargetError(
                f"TARGET {name!r} is a {type(found).__name__}; a RealtimeRunner or a RealtimeAgent is needed"
            )
        return
    members = list(vars(module).values())
    runners = [member for member in members if isinstance(member, RealtimeRunner)]
    agents = [member for member in members if isinstance(member, RealtimeAgent)]
    tools = [member for member in members if isinstance(member, FunctionTool)]
    guardrails = [member for member in members if isinstance(member, OutputGuardrail)]
    if not (runners or agents or tools or guardrails):
        raise TargetError(f"TARGET {name!r}: module {module_name!r} defines no agent, tool or guardrail")
    # Agents that a runner starts or leads to take its config, wherever the runner stands in the module.
    configs: dict[int, RealtimeRunConfig] = {}
    for runner in runners:
        _spread(runner.starting_agent, runner.config, configs)
    for agent in _unique((*agents, *(runner.starting_agent for runner in runners))):
        _add_agent(targets, agent, configs.get(id(agent)), follow=False)
    for agent in list(targets.agents.values()):
        _follow(targets, agent, targets.configs[agent.name])
    for tool in tools:
        _add(targets.tools, tool.name, tool, "tools")
    for guardrail in guardrails:
        _add(targets.guardrails, guardrail.get_name(), guardrail, "guardrails")


def _import(module_name: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if module_name == missing or module_name.startswith(missing + "."):
            raise TargetError(
                f"TARGET {name!r}: there is no module {missing!r} (looked in {Path.cwd()} too)"
            ) from error
        raise TargetError(f"TARGET {name!r}: importing it failed: no module named {missing!r}") from error
    except VoicebusError as error:
        raise TargetError(f"TARGET {name!r}: {error}") from error
    except (Exception, SystemExit) as error:  # the author's module may raise anything while it is imported, or exit
        raise TargetError(f"TARGET {name!r}: importing it failed: {type(error).__name__}: {error}") from error


def _add_agent(
    targets: Targets, agent: RealtimeAgent[Any], config: RealtimeRunConfig | None, *, follow: bool = True
) -> None:
    known = targets.agents.get(agent.name)
    if known is not None:
        if known is not agent:
            raise TargetError(f"two agents are named {agent.name!r}; rename one")
        return
    targets.agents[agent.name] = agent
    targets.configs[agent.name] = config if config is not None else RealtimeRunConfig()
    try:
        wire_session(targets.configs[agent.name].get("model_settings", {}))
    except UserError as error:
        raise TargetError(f"agent {agent.name!r}: {error}") from error
    if follow:
        _follow(targets, agent, config)


def _spread(agent: RealtimeAgent[Any], config: RealtimeRunConfig, configs: dict[int, RealtimeRunConfig]) -> None:
    if id(agent) not in configs:
        configs[id(agent)] = config
        for handoff in agent.all_handoffs():
            _spread(handoff.agent, config, configs)


def _follow(targets: Targets, agent: RealtimeAgent[Any], config: RealtimeRunConfig | None) -> None:
    """Take in what an agent brings along: its tools, its guardrails, and the agents that it hands off to."""
    for tool in agent.tools:
        if isinstance(tool, FunctionTool):
            _add(targets.tools, tool.name, tool, "tools")
    for guardrail in (*agent.output_guardrails, *(config or {}).get("output_guardrails", [])):
        _add(targets.guardrails, guardrail.get_name(), guardrail, "guardrails")
    for handoff in agent.all_handoffs():
        if handoff.agent.name not in targets.agents or targets.agents[handoff.agent.name] is not handoff.agent:
            _add_agent(targets, handoff.agent, config)


def _add(known: dict[str, Any], name: str, entry: Any, what: str) -> None:
    if name in known and known[name] is not entry:
        origins = " and ".join(_origin(thing) for thing in (known[name], entry))
        raise TargetError(f"two {what} are named {name!r}: {origins}; rename one")
    known[name] = entry


def _origin(thing: FunctionTool | OutputGuardrail) -> str:
    function = thing.function if isinstance(thing, FunctionTool) else thing.guardrail_function
    function = inspect.unwrap(function)
    line = getattr(getattr(function, "__code__", None), "co_firstlineno", None)
    where = f" (line {line})" if line else ""
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', '?')}{where}"


def _unique(agents: Iterable[RealtimeAgent[Any]]) -> list[RealtimeAgent[Any]]:
    return list({id(agent): agent for agent in agents}.values())


async def _enabled(flag: Any, context: RunContextWrapper[Any], agent: RealtimeAgent[Any]) -> bool:
    if not callable(flag):
        return bool(flag)
    outcome = flag(context, agent)
    return bool(await outcome if inspect.isawaitable(outcome) else outcome)
