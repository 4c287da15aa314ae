"""An agent, resolved: the single home of what `AgentSpec` says, and of the objects that stay behind it.

Instructions are evaluated, MCP servers asked, what is disabled left out, settings put together by their precedence
(parity 43, 2.21), and what cannot be honoured is refused.
"""

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from voicebus.agents.agent import RealtimeAgent, enabled_tools
from voicebus.agents.client_policy import ClientPolicy
from voicebus.agents.config import (
    DEFAULT_DEBOUNCE,
    RealtimeGuardrailsSettings,
    RealtimeRunConfig,
    check_run_config,
    run_config_hold,
    wire_session,
)
from voicebus.agents.context import RunContextWrapper
from voicebus.agents.functions import answer_of
from voicebus.agents.guardrails import InputGuardrail, OutputGuardrail
from voicebus.agents.handoffs import Handoff, as_handoffs, is_offered
from voicebus.agents.model_settings import RealtimeSessionModelSettings
from voicebus.agents.models.model import RealtimeModelConfig
from voicebus.agents.tools.function_tool import FunctionTool
from voicebus.agents.tools.hosted import HostedMCPTool
from voicebus.agents.tools.kinds import Tool, ToolEntry, as_tools
from voicebus.agents.tools.remote import RemoteTool, RemoteTools
from voicebus.agents.tools.toolset import Offered, ToolRules, Toolset, declared, hosted, toolset
from voicebus.engine.config import (
    AgentSpec,
    GuardrailMode,
    GuardrailSpec,
    HandoffSpec,
    HostedToolSpec,
)
from voicebus.errors import UserError

# What an agent says of itself: in `initial_model_settings` it holds when the session begins, and not after that.
_OWN: Final = frozenset({"instructions", "tools", "handoffs"})

Guardrail = OutputGuardrail[Any] | InputGuardrail[Any]
Registered = Callable[[], Awaitable[Offered]]


@dataclass(frozen=True, slots=True)
class Resolved:
    """`spec` for the engine, and what it names: callables that are asked later find theirs here, whatever changed.

    `tools` are by name, those of hosted servers by label. `settings` is what the author's side would tell a model.
    `offered` is what workers of other services offered, `served_here` the ids of tools that run in this process: those
    of MCP servers, and what the agent's class adds to its list.
    """

    spec: AgentSpec
    agent: RealtimeAgent[Any]
    settings: RealtimeSessionModelSettings
    tools: Mapping[str, Tool]
    handoffs: Mapping[str, Handoff[Any]]
    guardrails: Mapping[str, Guardrail]
    offered: Offered
    served_here: frozenset[int]

    @property
    def follows_offers(self) -> bool:
        """Whether its tools change with what workers of other services offer."""
        return any(isinstance(tool, RemoteTool | RemoteTools) for tool in self.settings["tools"])


@dataclass(frozen=True, kw_only=True)
class Resolver:
    """Resolves the agents of one session.

    `tool_timeout_s` is the limit of tools that name none; `registered` is asked for the tools of other services.

    Raises:
        UserError: the run config, or the initial model settings, cannot be.
    """

    context: RunContextWrapper[Any]
    run_config: RealtimeRunConfig
    model_config: RealtimeModelConfig
    tool_timeout_s: float
    in_process: bool
    custom_model: bool
    default_queue: str | None = None
    registered: Registered | None = None

    def __post_init__(self) -> None:
        check_run_config(self.run_config)
        if not isinstance(self._initial, Mapping):
            raise UserError(f"model config: 'initial_model_settings' must be a dict of settings, not {self._initial!r}")
        wire_session(self._initial)

    async def resolve(self, agent: RealtimeAgent[Any], *, snapshot: int, first: bool) -> Resolved:
        """Resolve `agent` as it is now; `first`: the session begins, so the initial model settings beat it.

        Raises:
            UserError: two of its tools have one name, or it asks for what cannot be honoured.
            Exception: what a callback of the author raised.
        """
        own_tools = await self._own_tools(agent)
        settings = await self._settings(agent, own_tools, first=first)
        offered = await self._offered(settings["tools"])
        listed = set(declared(as_tools(agent.tools)))  # those that workers have
        served_here = frozenset(
            id(tool) for tool in own_tools if isinstance(tool, FunctionTool) and tool.name not in listed
        )
        handoffs = {handoff.tool_name: handoff for handoff in settings["handoffs"]}
        servers = hosted(settings["tools"])
        _check_names(agent, declared(settings["tools"]), [entry.tool_name for entry in settings["handoffs"]], servers)
        found = self._toolset(agent, settings["tools"], offered, served_here, handoffs)
        judging = _joined(agent.output_guardrails, self.run_config.get("output_guardrails"))
        hearing = _joined(agent.input_guardrails, self.run_config.get("input_guardrails"))
        names = _names([*judging, *hearing])
        session = wire_session(settings, call_id=self._joins_call)
        self._check_holds(agent, judging, hearing, session)
        rules = self.run_config.get("guardrails_settings") or {}
        return Resolved(
            spec=AgentSpec(
                name=agent.name,
                instructions=settings.get("instructions"),
                tools=found.specs,
                handoffs=tuple(self._handoff(agent, handoff) for handoff in handoffs.values()),
                guardrails=tuple(_guardrail(names[id(entry)], entry, rules) for entry in judging),
                session=session,
                hosted_tools=tuple(
                    HostedToolSpec(tool.server_label, tool.wire, vetted=tool.on_approval_request is not None)
                    for tool in servers
                ),
                input_guardrails=tuple(_guardrail(names[id(entry)], entry, rules) for entry in hearing),
                client=(agent.client_policy or self.run_config.get("client_policy") or ClientPolicy()).rights,
                snapshot=snapshot,
            ),
            agent=agent,
            settings=settings,
            tools={**found.tools, **{tool.server_label: tool for tool in servers}},
            handoffs=handoffs,
            guardrails={names[id(entry)]: entry for entry in (*judging, *hearing)},
            offered=offered,
            served_here=served_here,
        )

    def retool(self, resolved: Resolved, offered: Offered, *, snapshot: int) -> Resolved | None:
        """`resolved` with what is offered now; None where it has all of that, and no more."""
        entries = resolved.settings["tools"]
        found = self._toolset(resolved.agent, entries, offered, resolved.served_here, resolved.handoffs)
        if found.specs == resolved.spec.tools:
            return None
        servers = {tool.server_label: tool for tool in hosted(entries)}
        return dataclasses.replace(
            resolved,
            spec=dataclasses.replace(resolved.spec, tools=found.specs, snapshot=snapshot),
            tools={**found.tools, **servers},
            offered=offered,
        )

    def _toolset(
        self,
        agent: RealtimeAgent[Any],
        entries: Sequence[ToolEntry],
        offered: Offered,
        served_here: frozenset[int],
        handoffs: Iterable[str],
    ) -> Toolset:
        rules = ToolRules(
            timeout_s=self.tool_timeout_s,
            in_process=self.in_process,
            custom_model=self.custom_model,
            default_queue=self.default_queue,
            hold=run_config_hold(self.run_config),
        )
        return toolset(agent.name, entries, offered, rules, served_here=served_here, taken=handoffs)

    @property
    def _initial(self) -> Mapping[str, Any]:
        return self.model_config.get("initial_model_settings") or {}

    @property
    def _joins_call(self) -> bool:
        return self.model_config.get("call_id") is not None

    async def _own_tools(self, agent: RealtimeAgent[Any]) -> list[ToolEntry]:
        """What the agent can use now; its class may say that in its own way."""
        tools = await answer_of(f"get_all_tools of {agent.name!r}", agent.get_all_tools, self.context)
        if not isinstance(tools, list | tuple):
            raise UserError(f"agent {agent.name!r}: get_all_tools returned {type(tools).__name__}, not a list of tools")
        return as_tools(tools)

    async def _settings(
        self, agent: RealtimeAgent[Any], own_tools: Sequence[ToolEntry], *, first: bool
    ) -> RealtimeSessionModelSettings:
        """The settings in force with `agent`: run config, initial settings, the agent's own, later ones win.

        `tools` and `handoffs` are always among them, be they empty.
        """
        initial = {key: value for key, value in self._initial.items() if first or key not in _OWN}
        settings: dict[str, Any] = {**(self.run_config.get("model_settings") or {}), **initial}
        if self.run_config.get("tracing_disabled", False):
            settings["tracing"] = None
        if agent.prompt is not None and initial.get("prompt") is None:
            settings["prompt"] = agent.prompt
        instructions = await agent.get_system_prompt(self.context)
        if instructions is not None and initial.get("instructions") is None:
            settings["instructions"] = instructions
        if settings.get("instructions") is None and settings.get("prompt") is None:
            settings["instructions"] = ""  # absent would mean the server's own, or those of the agent before
        if agent.voice is not None and not (first and _names_voice(initial)):
            settings["voice"] = agent.voice
            audio = settings.get("audio") or {}
            if audio.get("output"):  # nested beats flat
                settings["audio"] = {**audio, "output": {**audio["output"], "voice": agent.voice}}
        if (own_tools or agent.tools) and initial.get("tools") is None:
            settings["tools"] = list(own_tools)
        else:
            settings["tools"] = await enabled_tools(as_tools(settings.get("tools") or ()), self.context, agent)
        offers = agent.handoffs if agent.handoffs and initial.get("handoffs") is None else settings.get("handoffs")
        handoffs = as_handoffs(offers or ())
        flags = await asyncio.gather(*(is_offered(handoff.is_enabled, self.context, agent) for handoff in handoffs))
        settings["handoffs"] = [handoff for handoff, flag in zip(handoffs, flags, strict=True) if flag]
        return cast("RealtimeSessionModelSettings", settings)

    async def _offered(self, tools: Iterable[ToolEntry]) -> Offered:
        if self.registered is None or not any(isinstance(tool, RemoteTool | RemoteTools) for tool in tools):
            return {}
        return await self.registered()

    def _handoff(self, agent: RealtimeAgent[Any], handoff: Handoff[Any]) -> HandoffSpec:
        if handoff.agent is None and not self.in_process:
            raise UserError(
                f"agent {agent.name!r}: a gateway cannot know the agent of handoff {handoff.tool_name!r} beforehand; "
                "make it with realtime_handoff(agent)"
            )
        return HandoffSpec(
            name=handoff.tool_name,
            description=handoff.tool_description,
            parameters=handoff.input_json_schema,
            agent=handoff.agent_name,
        )

    def _check_holds(
        self,
        agent: RealtimeAgent[Any],
        judging: Iterable[Guardrail],
        hearing: Iterable[Guardrail],
        session: Mapping[str, Any],
    ) -> None:
        heard = session["audio"]["input"]
        for entry in judging:
            if entry.mode is GuardrailMode.HOLD and self._joins_call:
                raise UserError(
                    f"agent {agent.name!r}: guardrail {entry.get_name()!r} of mode 'hold' cannot hold back the audio "
                    "of a call that is joined by call_id, as it does not pass here; use mode 'interrupt'"
                )
        for entry in hearing:
            if entry.mode is GuardrailMode.HOLD and self.custom_model:
                raise UserError(
                    f"agent {agent.name!r}: input guardrail {entry.get_name()!r} of mode 'hold' cannot hold back "
                    "a custom RealtimeModel, which answers speech by itself; use mode 'interrupt'"
                )
            if entry.mode is GuardrailMode.HOLD and heard.get("transcription") is None:
                raise UserError(
                    f"agent {agent.name!r}: input guardrail {entry.get_name()!r} of mode 'hold' judges the "
                    "transcript of what users say, but input_audio_transcription is None; set it or use another mode"
                )


def _joined(own: Sequence[Guardrail], more: Sequence[Guardrail] | None) -> list[Guardrail]:
    """The agent's guardrails and the run config's, each once (parity 103)."""
    return list({id(entry): entry for entry in (*own, *(more or ()))}.values())


def _names_voice(settings: Mapping[str, Any]) -> bool:
    nested = (settings.get("audio") or {}).get("output") or {}
    return settings.get("voice") is not None or nested.get("voice") is not None


def _check_names(
    agent: RealtimeAgent[Any], tools: Sequence[str], handoffs: Sequence[str], hosted: Sequence[HostedMCPTool]
) -> None:
    for name, count in Counter((*tools, *handoffs)).items():
        if count > 1:
            how = "rename one" + (", or give a realtime_handoff its tool_name_override" if name in handoffs else "")
            raise UserError(f"agent {agent.name!r} has two tools or handoffs named {name!r}; {how}")
    for label, count in Counter(tool.server_label for tool in hosted).items():
        if count > 1 or label in tools:
            raise UserError(
                f"agent {agent.name!r} has two tools named {label!r}: rename a HostedMCPTool's server_label"
            )


def _names(guardrails: Sequence[Guardrail]) -> dict[int, str]:
    """A name for each that tells it apart; those of one name are numbered."""
    names: dict[int, str] = {}
    taken: Counter[str] = Counter()
    for entry in guardrails:
        name = entry.get_name()
        taken[name] += 1
        names[id(entry)] = name if taken[name] == 1 else f"{name} ({taken[name]})"
    return names


def _guardrail(name: str, entry: Guardrail, rules: RealtimeGuardrailsSettings) -> GuardrailSpec:
    spec = GuardrailSpec(
        name=name,
        mode=GuardrailMode(entry.mode),
        debounce=rules.get("debounce_text_length", DEFAULT_DEBOUNCE),
        on_error=entry.on_error,
        on_unavailable=entry.on_unavailable,
        policy_hint=entry.policy_hint,
        replacement=entry.replacement,
        budget_ms=entry.budget_ms,
    )
    if isinstance(entry, InputGuardrail):
        return spec
    window = entry.hold_window_ms or rules.get("hold_window_ms")
    if window is None or spec.mode is not GuardrailMode.HOLD:
        return spec
    # What waits for text to be judged must not wait for more text to come.
    return dataclasses.replace(spec, hold_window_ms=window, debounce=1)
