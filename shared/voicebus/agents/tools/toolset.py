"""An agent's tools as the engine knows them: its own functions, and what live workers offer of other services."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from voicebus.agents.tools.function_tool import FunctionTool
from voicebus.agents.tools.hold import Hold
from voicebus.agents.tools.hosted import HostedMCPTool
from voicebus.agents.tools.kinds import Tool, ToolEntry, tool_queue
from voicebus.agents.tools.remote import RemoteTool, RemoteTools
from voicebus.contracts.schemas import is_arguments
from voicebus.contracts.tools import TOOL_NAME, ToolRegistration
from voicebus.engine.config import Approval, ToolSpec
from voicebus.errors import UserError
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

Offered = Mapping[str, ToolRegistration]
"""What live workers offer now, by the tool's name. A mapping never changes: what changes is another one."""

MAX_TOOLS: Final = 128
"""Function tools of one agent, those of `RemoteTools` among them; more are left out, and logged."""

MAX_DESCRIPTION_CHARS: Final = 16_384
"""Of another service's tool. Nobody needs more, and a model may refuse all tools for one that is longer."""


@dataclass(frozen=True, kw_only=True)
class ToolRules:
    """What holds for all agents of a session. `timeout_s` is the limit of tools that name none, `hold` is what is said
    while one takes its time that says nothing of it. `custom_model`: the model sequences by itself.
    """

    timeout_s: float
    in_process: bool
    custom_model: bool = False
    hold: Hold = field(default_factory=Hold)
    default_queue: str | None = None


@dataclass(frozen=True, slots=True)
class Toolset:
    """`specs` for the engine; `tools` are what they name."""

    specs: tuple[ToolSpec, ...]
    tools: Mapping[str, Tool]


def toolset(
    agent: str,
    entries: Sequence[ToolEntry],
    offered: Offered,
    rules: ToolRules,
    *,
    served_here: Collection[int] = (),
    taken: Iterable[str] = (),
) -> Toolset:
    """What `entries` of `agent` come to with what is `offered`.

    `served_here` are the ids of tools that run in the owner's process, `taken` names that are no tool's.

    Raises:
        UserError: it needs tool workers, and there are none in process; or the model cannot say what it is to.
    """
    found: list[tuple[ToolSpec, Tool]] = []
    for entry in entries:
        if isinstance(entry, FunctionTool):
            found.append((_own(entry, rules, local=rules.in_process or id(entry) in served_here), entry))
        elif isinstance(entry, RemoteTool | RemoteTools):
            if rules.in_process:
                raise UserError(f"{_named(entry)} needs a cluster: a session in process reaches no tool workers")
            if isinstance(entry, RemoteTool) and _is_usable(offered.get(entry.name)):
                found.append((_remote(offered[entry.name], rules), entry))
    names = {*taken, *declared(entries)}
    for entry in entries:
        if isinstance(entry, RemoteTools):
            for name in sorted(offered):
                if offered[name].queue == entry.queue and name not in names and _is_usable(offered[name]):
                    names.add(name)
                    found.append((_remote(offered[name], rules), RemoteTool(name)))
    if len(found) > MAX_TOOLS:
        left_out = [tool.name for _, tool in found[MAX_TOOLS:]]
        log.warning("too many tools, the last ones are left out", agent=agent, limit=MAX_TOOLS, tools=left_out)
        del found[MAX_TOOLS:]
    return Toolset(
        specs=tuple(spec for spec, _ in found),
        tools={tool.name: tool for _, tool in found},
    )


def declared(entries: Iterable[ToolEntry]) -> list[str]:
    """The names of function tools among `entries`, also of those that nobody offers now."""
    return [entry.name for entry in entries if isinstance(entry, FunctionTool | RemoteTool)]


def hosted(entries: Iterable[ToolEntry]) -> list[HostedMCPTool]:
    return [entry for entry in entries if isinstance(entry, HostedMCPTool)]


def _named(entry: RemoteTool | RemoteTools) -> str:
    return f"RemoteTool {entry.name!r}" if isinstance(entry, RemoteTool) else f"RemoteTools of queue {entry.queue!r}"


def _is_usable(found: ToolRegistration | None) -> bool:
    """Whether a model would take it: another team's mistake must not cost the agent its other tools."""
    if found is None:
        return False
    short = len(found.description) <= MAX_DESCRIPTION_CHARS
    if short and re.fullmatch(TOOL_NAME, found.name) and is_arguments(found.parameters):
        return True
    log.warning(
        "a registered tool is left out: its name, its description or its schema is none that models take",
        tool=found.name,
    )
    return False


def _own(tool: FunctionTool, rules: ToolRules, *, local: bool) -> ToolSpec:
    hold = None if tool.background else tool.hold.spec(rules.hold)
    if rules.custom_model and (tool.speak_progress or hold is not None):
        raise UserError(
            f"tool {tool.name!r}: hold phrases and speak_progress need a model whose responses the session asks for; "
            "a custom RealtimeModel asks by itself"
        )
    return ToolSpec(
        name=tool.name,
        description=tool.description,
        parameters=tool.params_json_schema,
        queue=tool_queue(tool, rules.default_queue),
        timeout_ms=round((tool.timeout_seconds or rules.timeout_s) * 1000),
        idempotent=tool.idempotent,
        respond=tool.respond,
        approval=_approval(tool.needs_approval),
        vetted=bool(tool.tool_input_guardrails) or callable(tool.is_enabled),
        local=local,
        approval_timeout_ms=None if tool.approval_timeout is None else round(tool.approval_timeout * 1000),
        version=tool.version,
        cancel_on_interrupt=tool.cancel_on_interrupt,
        background=tool.background,
        speak_progress=tool.speak_progress,
        hold=hold,
        source=f"tool {tool.serial}",
    )


def _remote(found: ToolRegistration, rules: ToolRules) -> ToolSpec:
    said = Hold(
        None if found.hold_phrases is None else tuple(found.hold_phrases), found.hold_after_ms, found.hold_every_ms
    )
    return ToolSpec(
        name=found.name,
        description=found.description,
        parameters=found.parameters,
        queue=found.queue,
        timeout_ms=found.timeout_ms,
        idempotent=found.idempotent,
        respond=found.respond,
        approval=_approval(found.needs_approval),
        approval_timeout_ms=found.approval_timeout_ms,
        version=found.version,
        cancel_on_interrupt=found.cancel_on_interrupt,
        background=found.background,
        speak_progress=found.speak_progress,
        hold=None if found.background else said.spec(rules.hold),
        source=f"queue {found.queue}",
    )


def _approval(needs_approval: Any) -> Approval:
    if callable(needs_approval):
        return Approval.ASK
    return Approval.ALWAYS if needs_approval else Approval.NEVER
