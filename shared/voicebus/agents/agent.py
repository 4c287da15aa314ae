"""`RealtimeAgent`: instructions, tools, handoffs and guardrails under one name."""

import asyncio
import dataclasses
import inspect
import reprlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Self, TypeAlias

from voicebus.agents.client_policy import ClientPolicy, check_client_policy
from voicebus.agents.context import RunContextWrapper, TContext
from voicebus.agents.functions import answer_of, takes
from voicebus.agents.guardrails import InputGuardrail, OutputGuardrail
from voicebus.agents.handoffs import Handoff, as_handoffs, is_offered
from voicebus.agents.hooks import RealtimeAgentHooks
from voicebus.agents.mcp import MCPConfig, MCPServer, check_mcp_config
from voicebus.agents.model_settings import Prompt, RealtimeVoice
from voicebus.agents.tools.function_tool import FunctionTool
from voicebus.agents.tools.hosted import HostedMCPTool
from voicebus.agents.tools.kinds import Tool, ToolEntry, as_tools
from voicebus.agents.wire_settings import check_voice, prompt_object
from voicebus.errors import UserError, WrongTypeError

Instructions: TypeAlias = str | Callable[[RunContextWrapper[Any], Any], str | Awaitable[str]]


# What makes of a function what belongs into a list.
_DECORATED: Final = {"output_guardrails": "output_guardrail", "input_guardrails": "input_guardrail"}


@dataclass
class RealtimeAgent(Generic[TContext]):
    """An agent of a conversation.

    `instructions` may be a callable `(run_context, agent) -> str`, sync or async, evaluated when the agent takes
    over, never per turn. `prompt` is one that is kept at the provider. `handoffs` are agents or `realtime_handoff(...)`
    results; more may be appended later, so that agents can hand off to each other. `mcp_servers` bring further tools,
    made as `mcp_config` says. `hooks` are told what the agent does. `input_guardrails` judge what the user says to it.
    `client_policy` is what clients of the OpenAI protocol may do with it (absent: the run config's, else the default).
    `voice` is the agent's own; it holds where nothing was spoken in the conversation yet, as a model cannot change its
    voice after that.

    Raises:
        WrongTypeError: a field has the wrong type.
        UserError: a field has a value that cannot be honoured.
    """

    name: str
    handoff_description: str | None = None
    tools: list[ToolEntry] = field(default_factory=list)
    mcp_servers: list[MCPServer] = field(default_factory=list)
    mcp_config: MCPConfig = field(default_factory=MCPConfig)
    instructions: Instructions | None = None
    prompt: Prompt | None = None
    handoffs: "list[RealtimeAgent[Any] | Handoff[Any]]" = field(default_factory=list)
    output_guardrails: list[OutputGuardrail[Any]] = field(default_factory=list)
    hooks: RealtimeAgentHooks[Any] | None = None
    input_guardrails: list[InputGuardrail[Any]] = field(default_factory=list, kw_only=True)
    voice: RealtimeVoice | None = field(default=None, kw_only=True)
    client_policy: ClientPolicy | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise WrongTypeError(f"RealtimeAgent name must be a non-empty string, not {self.name!r}")
        if self.handoff_description is not None and not isinstance(self.handoff_description, str):
            raise self._wrong("handoff_description", "must be text or None", self.handoff_description)
        if self.instructions is not None and not isinstance(self.instructions, str) and not callable(self.instructions):
            raise self._wrong("instructions", "must be text, a function or None", self.instructions)
        if callable(self.instructions) and not takes(self.instructions, 2):
            raise self._wrong("instructions", "must take the context and the agent", self.instructions)
        for name in ("tools", "mcp_servers", "handoffs", "output_guardrails", "input_guardrails"):
            if not isinstance(getattr(self, name), list):
                raise self._wrong(name, "must be a list", getattr(self, name))
        self._check_entries()
        self._check_values()

    async def get_system_prompt(self, run_context: RunContextWrapper[TContext]) -> str | None:
        """The instructions, evaluated.

        Raises:
            UserError: they are a function that returned no text.
        """
        if not callable(self.instructions):
            return self.instructions
        text = await answer_of(f"instructions of {self.name!r}", self.instructions, run_context, self)
        if not isinstance(text, str):
            raise UserError(f"RealtimeAgent {self.name!r}: instructions returned {type(text).__name__}, not text")
        return text

    async def get_mcp_tools(self, run_context: RunContextWrapper[TContext]) -> list[FunctionTool]:
        """The tools of the agent's MCP servers, in the servers' order.

        Raises:
            UserError: two servers offer tools of one name.
        """
        listed = await asyncio.gather(*(server.list_tools(run_context, self) for server in self.mcp_servers))
        owners: dict[str, str] = {}
        for server, tools in zip(self.mcp_servers, listed, strict=True):
            for tool in tools:
                if tool.name in owners:
                    raise UserError(
                        f"RealtimeAgent {self.name!r}: MCP servers {owners[tool.name]!r} and {server.name!r} both "
                        f"offer a tool {tool.name!r}; set mcp_config include_server_in_tool_names, or filter one"
                    )
                owners[tool.name] = server.name
        return [tool for tools in listed for tool in tools]

    async def get_all_tools(self, run_context: RunContextWrapper[TContext]) -> list[ToolEntry]:
        """What the agent can use now: the tools of its MCP servers, then its own, those that are enabled."""
        return await enabled_tools([*await self.get_mcp_tools(run_context), *as_tools(self.tools)], run_context, self)

    def all_handoffs(self) -> list[Handoff[Any]]:
        """The handoffs, agents wrapped, also those that are not enabled."""
        return as_handoffs(self.handoffs)

    def clone(self, **kwargs: Any) -> Self:
        """A copy with some fields changed; lists are shared."""
        return dataclasses.replace(self, **kwargs)

    def _check_entries(self) -> None:
        for tool in self.tools:
            try:
                as_tools([tool])
            except UserError as error:
                raise type(error)(f"RealtimeAgent {self.name!r}: tools: {error}") from None
        for name, kinds in (
            ("mcp_servers", (MCPServer,)),
            ("handoffs", (RealtimeAgent, Handoff)),
            ("output_guardrails", (OutputGuardrail,)),
            ("input_guardrails", (InputGuardrail,)),
        ):
            for entry in getattr(self, name):
                if not isinstance(entry, kinds) or inspect.isclass(entry):
                    allowed = " or ".join(kind.__name__ for kind in kinds)
                    hint = _DECORATED.get(name) if inspect.isroutine(entry) else None
                    raise WrongTypeError(
                        f"RealtimeAgent {self.name!r}: {name} holds {entry!r}, which is no {allowed}"
                        + (f"; decorate it with @{hint}" if hint else "")
                    )

    def _check_values(self) -> None:
        if self.hooks is not None and not isinstance(self.hooks, RealtimeAgentHooks):
            raise self._wrong("hooks", "must be a RealtimeAgentHooks object or None", self.hooks)
        check_mcp_config(self.mcp_config, f"RealtimeAgent {self.name!r}", self._wrong)
        check_client_policy(self.client_policy, f"RealtimeAgent {self.name!r}:")
        try:
            if self.prompt is not None:
                prompt_object(self.prompt, "prompt")
            if self.voice is not None:
                check_voice(self.voice)
        except UserError as error:
            told = str(error).removeprefix("model_settings ")
            raise type(error)(f"RealtimeAgent {self.name!r}: {told}") from None

    def _wrong(self, name: str, rule: str, value: object) -> WrongTypeError:
        return WrongTypeError(f"RealtimeAgent {self.name!r}: {name} {rule}, not {reprlib.repr(value)}")


def check_agent(agent: RealtimeAgent[Any]) -> None:
    """Refuse what cannot be about an agent now: its fields may have been changed since it was made.

    Raises:
        UserError: as making it.
    """
    RealtimeAgent.__post_init__(agent)  # not that of a subclass, which may take what is given once


async def enabled_tools(tools: list[ToolEntry], run_context: RunContextWrapper[Any], agent: Any) -> list[ToolEntry]:
    """Those of `tools` that `agent` may use now."""
    flags = await asyncio.gather(
        *(is_offered(tool.is_enabled if isinstance(tool, FunctionTool) else True, run_context, agent) for tool in tools)
    )
    return [tool for tool, flag in zip(tools, flags, strict=True) if flag]


__all__ = ["HostedMCPTool", "Instructions", "RealtimeAgent", "Tool", "check_agent", "enabled_tools"]
