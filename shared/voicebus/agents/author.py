"""`SessionAuthor`: the program's side of a session. The one place that calls what authors write about their agents,
in the process that owns the session: a gateway, or the program itself.
"""

import asyncio
import dataclasses
import json
import reprlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, cast

from voicebus.agents.agent import RealtimeAgent, check_agent
from voicebus.agents.config import RealtimeRunConfig, ToolErrorFormatterArgs
from voicebus.agents.context import RunContextWrapper, ToolContext
from voicebus.agents.functions import answer_of, presentable
from voicebus.agents.handoffs import is_offered
from voicebus.agents.mcp.server import Joined
from voicebus.agents.model_settings import RealtimeSessionModelSettings
from voicebus.agents.models.model import RealtimeModelConfig
from voicebus.agents.resolve import Guardrail, Registered, Resolved, Resolver
from voicebus.agents.shared_context import SharedContext
from voicebus.agents.tools.function_tool import FunctionTool
from voicebus.agents.tools.guardrails import ask_input_guardrails
from voicebus.agents.tools.hosted import HostedMCPTool, MCPApprovalRequest, MCPToolApprovalRequest
from voicebus.agents.tools.kinds import Tool
from voicebus.agents.tools.toolset import Offered
from voicebus.engine.config import AgentSpec
from voicebus.engine.inputs import CallVetted, ToolsChanged
from voicebus.engine.outputs import MergeContext, ResolveAgent, VetCall, WordToolError
from voicebus.errors import CommandRefusedError, ModelBehaviorError, ToolError, UserError
from voicebus.runtime.asking import RESOLVE_TIMEOUT_S, UNCHECKED
from voicebus.telemetry.logging import get_logger, raised

log: Final = get_logger(__name__)

KEPT_SNAPSHOTS: Final = 64
"""Resolutions whose callables are kept. A call of an older one is answered as one of a tool that is gone."""

_EARLY: Final = "pre_approval_tool_input_guardrails"

Trouble = Callable[[str, str], None]


def _unheard(code: str, message: str) -> None:
    """For an owner that reports no trouble: it was logged already."""


class SessionAuthor:
    """Implements `voicebus.runtime.surroundings.Author` for the agents of one session.

    Each resolution of an agent gets a number, its snapshot: a call is checked against, and run by, the tools of the
    snapshot that it was made for, whatever changed since (parity 2.10). `context` is the session's, shared by every
    callback. `tool_timeout_s` is the limit of tools that name none, `registered` is asked for the tools of other
    services, `deployed` are the agents that a command may name, `trouble(code, message)` is told what callbacks raised.
    `custom_model`: the model sequences by itself.

    Raises:
        UserError: the run config, or the initial model settings, cannot be, or the context does not fit its model.
    """

    def __init__(
        self,
        *,
        context: RunContextWrapper[Any],
        run_config: RealtimeRunConfig,
        model_config: RealtimeModelConfig | None,
        session: str,
        tool_timeout_s: float,
        in_process: bool,
        custom_model: bool = False,
        default_queue: str | None = None,
        registered: Registered | None = None,
        deployed: Mapping[str, RealtimeAgent[Any]] | None = None,
        trouble: Trouble = _unheard,
    ) -> None:
        self._context = context
        self.shared: SharedContext = SharedContext(context, run_config.get("context_model"), travels=not in_process)
        self._deployed = deployed or {}
        self._run_config = run_config
        self._session = session
        self._trouble = trouble
        self._resolver = Resolver(
            context=context,
            run_config=run_config,
            model_config=model_config or {},
            tool_timeout_s=tool_timeout_s,
            in_process=in_process,
            custom_model=custom_model,
            default_queue=default_queue,
            registered=registered,
        )
        self._servers = Joined()
        self._taken = 0
        self._snapshots: OrderedDict[int, Resolved] = OrderedDict()
        self._agents: dict[str, RealtimeAgent[Any]] = {}
        self._latest: dict[str, int] = {}

    @property
    def context(self) -> RunContextWrapper[Any]:
        """The session's, shared by every callback."""
        return self._context

    def merge_context(self, merge: MergeContext) -> list[tuple[str, str]]:
        """Make a tool's changes to the session's context; codes and sentences of what was refused."""
        refused = self.shared.merge(merge.changes, tool=merge.tool)
        for code, message in refused:
            log.warning("context not changed", code=code, why=message, session=self._session)
        return refused

    def unsaved_context(self) -> str | None:
        """The context as JSON text, where it has changed since this was last asked."""
        return self.shared.unsaved()

    # --- agents -------------------------------------------------------------------------------------

    async def begin(self, agent: RealtimeAgent[Any]) -> AgentSpec:
        """Resolve the agent that the session begins with; the initial model settings beat it, this once.

        Raises:
            UserError: the agent cannot be honoured, or its instructions took too long.
            Exception: what a callback of the author raised.
        """
        return await self._resolve(agent, first=True)

    async def update(self, agent: RealtimeAgent[Any]) -> AgentSpec:
        """Resolve an agent that takes over. Raises as `begin` does."""
        return await self._resolve(agent, first=False)

    async def take_over(self, name: str) -> AgentSpec:
        """Resolve the deployed agent of this name, which takes over. Raises as `begin` does, and:

        Raises:
            CommandRefusedError: `unknown_agent`, there is none.
        """
        agent = self._deployed.get(name)
        if agent is None:
            raise CommandRefusedError("unknown_agent", f"there is no agent {name[:64]!r}")
        return await self.update(agent)

    async def resolve(self, ask: ResolveAgent) -> AgentSpec:
        """Run the handoff's `on_handoff` and resolve its agent.

        Raises:
            ModelBehaviorError: the agent has no such handoff now, or its input does not fit.
            UserError: the handoff gave no agent, or one that cannot be honoured.
            Exception: what a callback of the author raised.
        """
        resolved = self._snapshots.get(ask.snapshot)
        handoff = None if resolved is None else resolved.handoffs.get(ask.handoff)
        if resolved is None or handoff is None:
            raise ModelBehaviorError(f"Tool {ask.handoff} not found")
        if not await is_offered(handoff.is_enabled, self._context, resolved.agent):
            raise ModelBehaviorError(f"Tool {ask.handoff} not found")
        return await self._resolve(await handoff.run(self._context, ask.arguments), first=False)

    def agent(self, name: str) -> RealtimeAgent[Any]:
        """The agent that was last resolved under `name`.

        Raises:
            KeyError: none was.
        """
        return self._agents[name]

    def latest(self, name: str) -> int:
        """The snapshot of the last resolution under `name`; 0 where there was none."""
        return self._latest.get(name, 0)

    def tool(self, snapshot: int, name: str) -> Tool | None:
        """What `name` stood for at `snapshot`: a tool's name, a hosted server's label, or `label.tool` of such."""
        resolved = self._snapshots.get(snapshot)
        if resolved is None:
            return None
        if name in resolved.tools:
            return resolved.tools[name]
        label = max((label for label in resolved.tools if name.startswith(f"{label}.")), key=len, default="")
        hosted = resolved.tools.get(label)
        return hosted if isinstance(hosted, HostedMCPTool) else None

    def guardrail(self, snapshot: int, name: str) -> Guardrail | None:
        """The guardrail that `GuardrailSpec.name` stood for at `snapshot`."""
        resolved = self._snapshots.get(snapshot)
        return None if resolved is None else resolved.guardrails.get(name)

    def settings(self, snapshot: int) -> RealtimeSessionModelSettings:
        """The settings of a model at `snapshot`, instructions, tools and handoffs among them; no defaults.

        Raises:
            KeyError: the snapshot is not kept any more.
        """
        return self._snapshots[snapshot].settings

    async def aclose(self) -> None:
        """Forget every snapshot, so that late calls are answered as those of tools that are gone; leave MCP servers."""
        self._snapshots.clear()
        self._latest.clear()
        await self._servers.aclose()

    async def _resolve(self, agent: RealtimeAgent[Any], *, first: bool) -> AgentSpec:
        if not isinstance(agent, RealtimeAgent):
            raise UserError(f"agent must be a RealtimeAgent, not {reprlib.repr(agent)}")
        check_agent(agent)
        self._taken += 1
        snapshot = self._taken
        self._servers.join(agent.mcp_servers)
        try:
            async with asyncio.timeout(RESOLVE_TIMEOUT_S) as limit:
                resolved = await self._resolver.resolve(agent, snapshot=snapshot, first=first)
        except TimeoutError as error:
            if not limit.expired():
                raise  # the author's own
            raise UserError(
                f"the instructions and tools of agent {agent.name!r} took longer than {RESOLVE_TIMEOUT_S:g} s"
            ) from error
        self._agents[agent.name] = agent
        self._keep(snapshot, resolved)
        return resolved.spec

    def _keep(self, snapshot: int, resolved: Resolved) -> None:
        self._snapshots[snapshot] = resolved
        self._latest[resolved.spec.name] = snapshot
        if len(self._snapshots) > KEPT_SNAPSHOTS:
            # Never one that may be in charge: its agent's tools may change again and again, and others' never.
            latest = set(self._latest.values())
            oldest = next((kept for kept in self._snapshots if kept not in latest), None)
            if oldest is not None:
                del self._snapshots[oldest]

    # --- tools of other services ----------------------------------------------------------------------

    @property
    def follows_offers(self) -> bool:
        """Whether what workers of other services offer makes a difference."""
        return any(self._snapshots[snapshot].follows_offers for snapshot in self._latest.values())

    def retool(self, offered: Offered) -> list[ToolsChanged]:
        """What is different for the agents resolved so far, as other tools are `offered` now."""
        changes = []
        for latest in list(self._latest.values()):
            resolved = self._snapshots[latest]
            if resolved.offered is offered or not resolved.follows_offers:
                continue
            changed = self._resolver.retool(resolved, offered, snapshot=self._taken + 1)
            if changed is None:
                self._snapshots[latest] = dataclasses.replace(resolved, offered=offered)
                continue
            self._taken += 1
            self._keep(self._taken, changed)
            changes.append(ToolsChanged(changed.spec, instead_of=latest))
        return changes

    # --- calls --------------------------------------------------------------------------------------

    async def vet(self, ask: VetCall) -> CallVetted:
        """Whether a call may run: whether its tool is enabled still, its approval policy, its input guardrails."""
        if ask.hosted:
            return await self._vet_hosted(ask)
        resolved, tool = self._snapshots.get(ask.snapshot), self.tool(ask.snapshot, ask.tool)
        if resolved is None or not isinstance(tool, FunctionTool):
            return _unknown(ask)
        try:
            if not await is_offered(tool.is_enabled, self._context, resolved.agent):
                return _unknown(ask)
        except Exception as error:  # noqa: BLE001 - an author's function may raise anything
            self._failed("is_enabled_failed", f"is_enabled of tool {tool.name!r}", error)
            return CallVetted(ask.call_id, "reject", UNCHECKED, "guardrail")
        asks = not ask.approved and await self._needs_approval(tool, ask)
        if not asks or (self._run_config.get("tool_execution") or {}).get(_EARLY, False):
            refused = await self._guard(tool, resolved, ask)
            if refused is not None:
                return CallVetted(ask.call_id, "reject", refused, "guardrail")
        return CallVetted(ask.call_id, "ask" if asks else "run")

    async def word_error(self, ask: WordToolError) -> str:
        """What the model is told of a tool's error: what `tool_error_formatter` says, else the default."""
        formatter = self._run_config.get("tool_error_formatter")
        if formatter is None:
            return ask.message
        arguments = ToolErrorFormatterArgs(
            kind=cast('Literal["approval_rejected", "tool_not_found", "tool_exception"]', ask.kind),
            tool_type="function",
            tool_name=ask.tool,
            call_id=ask.call_id,
            default_message=ask.message,
            run_context=self._context,
        )
        try:
            text = await answer_of("it", formatter, arguments)
        except Exception as error:  # noqa: BLE001 - an author's function may raise anything
            self._failed("tool_error_formatter_failed", "The tool_error_formatter", error)
            return ask.message
        return text if isinstance(text, str) else ask.message

    async def _needs_approval(self, tool: FunctionTool, ask: VetCall) -> bool:
        policy = tool.needs_approval
        if not callable(policy):
            return bool(policy)
        arguments = _object(ask.arguments)
        if arguments is None:
            return True  # a policy that cannot see what is asked for lets a person decide (parity 87)
        try:
            if await answer_of("it", policy, self._context, arguments, ask.call_id):
                return True
            # Validation may make something else of them (a text without its spaces, a default): that is what would run.
            received = tool.received(ask.arguments)
            if received is None or received == arguments:
                return False
            return bool(await answer_of("it", policy, self._context, received, ask.call_id))
        except Exception as error:  # noqa: BLE001 - an author's function may raise anything
            self._failed("approval_policy_failed", f"needs_approval of tool {tool.name!r}", error)
            return True

    async def _guard(self, tool: FunctionTool, resolved: Resolved, ask: VetCall) -> str | None:
        """What the model is told of a call that the tool's input guardrails stop, None for one that they let pass."""
        if not tool.tool_input_guardrails:
            return None
        context = ToolContext.from_agent_context(
            self._context, ask.call_id, agent=resolved.agent, tool_name=tool.name, tool_arguments=ask.arguments,
            session=self._session,
        )  # fmt: skip
        try:
            return await ask_input_guardrails(tool, context)
        except ToolError as error:
            self._failed("tool_guardrail_failed", f"An input guardrail of tool {tool.name!r}", error)
            return UNCHECKED

    async def _vet_hosted(self, ask: VetCall) -> CallVetted:
        tool = self.tool(ask.snapshot, ask.tool)
        if not isinstance(tool, HostedMCPTool):
            return _unknown(ask)
        label = tool.server_label
        if tool.on_approval_request is None or ask.approved:
            return CallVetted(ask.call_id, "run" if ask.approved else "ask")
        request = MCPApprovalRequest(ask.call_id, label, ask.tool.removeprefix(f"{label}."), ask.arguments)
        try:
            answer = await answer_of("it", tool.on_approval_request, MCPToolApprovalRequest(self._context, request))
            approved, reason = answer["approve"], answer.get("reason")
        except Exception as error:  # noqa: BLE001 - an author's function may raise anything
            self._failed("approval_policy_failed", f"on_approval_request of {label!r}", error)
            return CallVetted(ask.call_id, "reject", UNCHECKED)
        return CallVetted(ask.call_id, "run") if approved is True else CallVetted(ask.call_id, "reject", reason)

    def _failed(self, code: str, what: str, error: Exception) -> None:
        error = presentable(error)
        log.warning("a callback failed", what=what, session=self._session, **raised(error))
        self._trouble(code, f"{what} failed: {type(error).__name__}: {error}")


def _unknown(ask: VetCall) -> CallVetted:
    return CallVetted(ask.call_id, "reject", f"Tool {ask.tool} not found", "unknown_tool")


def _object(text: str) -> dict[str, Any] | None:
    """The JSON object that `text` is, None for anything else; NaN and Infinity are no JSON."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    try:
        parsed = json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None
