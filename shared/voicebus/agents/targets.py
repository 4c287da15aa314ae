"""TARGETs: what `module:attribute` and module names on a command line stand for."""

import importlib
import inspect
import os
import sys
import traceback
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from voicebus.agents.agent import RealtimeAgent
from voicebus.agents.config import RealtimeRunConfig, check_run_config
from voicebus.agents.guardrails import InputGuardrail, OutputGuardrail
from voicebus.agents.handoffs import as_handoffs
from voicebus.agents.runner import RealtimeRunner
from voicebus.agents.tools.function_tool import FunctionTool
from voicebus.agents.tools.kinds import as_tools
from voicebus.errors import TargetError, UserError, VoicebusError


@dataclass
class Targets:
    """Everything that a set of TARGETs defines, by name. `agents` is in order: the first is the default, which in a
    module is the one that its first `RealtimeRunner` starts with, else the first that it defines.

    `guardrails` are those on what agents say and on what users say; their names are told apart, as tools' are.
    """

    agents: dict[str, RealtimeAgent[Any]] = field(default_factory=dict)
    configs: dict[str, RealtimeRunConfig] = field(default_factory=dict)
    tools: dict[str, FunctionTool] = field(default_factory=dict)
    guardrails: dict[str, OutputGuardrail[Any] | InputGuardrail[Any]] = field(default_factory=dict)

    @property
    def context_models(self) -> dict[str, Any]:
        """What the context of an agent's sessions is, by agent, where its runner says so."""
        models = {name: config.get("context_model") for name, config in self.configs.items()}
        return {name: declared for name, declared in models.items() if declared is not None}

    @property
    def default_agent(self) -> str:
        return next(iter(self.agents))


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
                raise TargetError(
                    f"TARGET {name!r}: module {module_name!r} has no attribute {attribute!r}{_to_serve(module)}"
                )
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
    guardrails = [member for member in members if isinstance(member, OutputGuardrail | InputGuardrail)]
    if not (runners or agents or tools or guardrails):
        raise TargetError(f"TARGET {name!r}: module {module_name!r} defines no agent, tool or guardrail")
    # Agents that a runner starts or leads to take its config, wherever the runner stands in the module.
    configs: dict[int, RealtimeRunConfig] = {}
    for runner in runners:
        _spread(runner.starting_agent, runner.config, configs)
    # A module that says where conversations start means it: others have to be defined before who hands off to them.
    for agent in _unique((*(runner.starting_agent for runner in runners), *agents)):
        _add_agent(targets, agent, configs.get(id(agent)), follow=False)
    for agent in list(targets.agents.values()):
        _follow(targets, agent, targets.configs[agent.name])
    for tool in tools:
        _add(targets.tools, tool.name, tool, "tools")
    for guardrail in guardrails:
        _add(targets.guardrails, guardrail.get_name(), guardrail, "guardrails")


def _to_serve(module: ModuleType) -> str:
    """What of the module may be named, for an error."""
    names = [name for name, member in vars(module).items() if isinstance(member, RealtimeRunner | RealtimeAgent)]
    return f"; it has {', '.join(names[:8])}" if names else ""


def _instead_of(path: Path) -> str:
    """What to name instead of a file or folder, as a shell completes it: its module, seen from where that is found."""
    here, whole = Path.cwd(), Path(os.path.normpath(path.absolute()))
    below = whole.is_relative_to(here)
    parts = str(whole.relative_to(here) if below else whole.name).removesuffix(".py").split("/")
    if not all(part.isidentifier() for part in parts):
        return "name a module"
    return ("" if below else f"go to {whole.parent} and ") + f"name its module, {'.'.join(parts)!r}"


def _import(module_name: str, name: str) -> ModuleType:
    if "/" in module_name:
        raise TargetError(f"TARGET {name!r}: this is a path; {_instead_of(Path(module_name))}")
    if module_name.endswith(".py") and Path(module_name).is_file():
        raise TargetError(f"TARGET {name!r}: this is a file; {_instead_of(Path(module_name))}")
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
    except RuntimeError as error:
        if "asyncio.run() cannot be called" not in str(error):
            raise TargetError(f"TARGET {name!r}: importing it failed: RuntimeError: {error}") from error
        with warnings.catch_warnings():  # of the coroutine that was to be run, which goes with its frames
            warnings.simplefilter("ignore", RuntimeWarning)
            traceback.clear_frames(error.__traceback__)
        raise TargetError(
            f'TARGET {name!r}: importing it calls asyncio.run(); put that below `if __name__ == "__main__":`'
        ) from None
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
        check_run_config(targets.configs[agent.name])
    except UserError as error:
        raise TargetError(f"agent {agent.name!r}: {error}") from error
    if follow:
        _follow(targets, agent, config)


def _spread(agent: RealtimeAgent[Any], config: RealtimeRunConfig, configs: dict[int, RealtimeRunConfig]) -> None:
    if id(agent) not in configs:
        configs[id(agent)] = config
        for other in _leads_to(agent, config):
            _spread(other, config, configs)


def _follow(targets: Targets, agent: RealtimeAgent[Any], config: RealtimeRunConfig | None) -> None:
    """Take in what an agent brings along: its tools, its guardrails, and the agents that it hands off to."""
    given = config or RealtimeRunConfig()
    for tool in as_tools((*agent.tools, *_base(given, "tools"))):
        if isinstance(tool, FunctionTool):
            _add(targets.tools, tool.name, tool, "tools")
    for judge in (*agent.output_guardrails, *(given.get("output_guardrails") or ())):
        _add(targets.guardrails, judge.get_name(), judge, "guardrails")
    for hearer in (*agent.input_guardrails, *(given.get("input_guardrails") or ())):
        _add(targets.guardrails, hearer.get_name(), hearer, "guardrails")
    for other in _leads_to(agent, given):
        if targets.agents.get(other.name) is not other:
            _add_agent(targets, other, config)


def _leads_to(agent: RealtimeAgent[Any], config: RealtimeRunConfig) -> list[RealtimeAgent[Any]]:
    """The agents that `agent` may hand off to, as far as that is known beforehand."""
    offered = (*agent.all_handoffs(), *as_handoffs(_base(config, "handoffs")))
    return [handoff.agent for handoff in offered if handoff.agent is not None]


def _base(config: RealtimeRunConfig, key: str) -> Sequence[Any]:
    """What the run config's model settings have for agents that name none."""
    return (config.get("model_settings") or {}).get(key) or ()  # type: ignore[return-value]


def _add(known: dict[str, Any], name: str, entry: Any, what: str) -> None:
    # By value: a tool of another library is adopted anew by each agent that lists it.
    if name in known and known[name] != entry:
        origins = " and ".join(_origin(thing) for thing in (known[name], entry))
        raise TargetError(f"two {what} are named {name!r}: {origins}; rename one")
    known[name] = entry


def _origin(thing: FunctionTool | OutputGuardrail[Any] | InputGuardrail[Any]) -> str:
    function = thing.function if isinstance(thing, FunctionTool) else thing.guardrail_function
    function = inspect.unwrap(function)
    line = getattr(getattr(function, "__code__", None), "co_firstlineno", None)
    where = f" (line {line})" if line else ""
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', '?')}{where}"


def _unique(agents: Iterable[RealtimeAgent[Any]]) -> list[RealtimeAgent[Any]]:
    return list({id(agent): agent for agent in agents}.values())
