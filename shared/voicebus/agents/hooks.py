"""Hooks: methods that are told what happens in a conversation, and the runner that calls them beside it.

A hook is told, not asked: nothing waits for it, and what it raises becomes an `error` and ends nothing.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic

from voicebus.agents.context import RunContextWrapper, TContext
from voicebus.agents.functions import answer_of, presentable
from voicebus.telemetry.logging import get_logger, raised

log: Final = get_logger(__name__)

QUEUE_SIZE: Final = 1_000
"""Calls of hooks that may wait. Beyond that the newest are left out, and one `error` says so: hooks that slow hold
nothing up and fill no memory."""

CLOSE_TIMEOUT_S: Final = 5.0
"""What hooks may take, all together, once the conversation is over (s)."""

Trouble = Callable[[str, str], None]
"""Told of a failure outside the conversation: a short identifier, and one sentence."""


class RealtimeRunHooks(Generic[TContext]):
    """Told about every agent of a conversation. Override what is of interest; methods are async.

    Give an object of your subclass as `hooks` in the run config. Calls come one after another, in order.
    """

    async def on_agent_start(self, context: RunContextWrapper[TContext], agent: Any) -> None:
        """`agent` begins to answer."""

    async def on_agent_end(self, context: RunContextWrapper[TContext], agent: Any, output: Any) -> None:
        """`agent` has answered; `output` is the text of what it said."""

    async def on_handoff(self, context: RunContextWrapper[TContext], from_agent: Any, to_agent: Any) -> None:
        """`to_agent` takes over from `from_agent`."""

    async def on_tool_start(self, context: RunContextWrapper[TContext], agent: Any, tool: Any) -> None:
        """`tool` is about to run for `agent`."""

    async def on_tool_end(self, context: RunContextWrapper[TContext], agent: Any, tool: Any, result: Any) -> None:
        """`tool` has answered with `result`."""


class RealtimeAgentHooks(Generic[TContext]):
    """Told about one agent: `RealtimeAgent(hooks=...)`. Override what is of interest; methods are async."""

    async def on_start(self, context: RunContextWrapper[TContext], agent: Any) -> None:
        """The agent begins to answer."""

    async def on_end(self, context: RunContextWrapper[TContext], agent: Any, output: Any) -> None:
        """The agent has answered; `output` is the text of what it said."""

    async def on_handoff(self, context: RunContextWrapper[TContext], agent: Any, source: Any) -> None:
        """The agent takes over from `source`."""

    async def on_tool_start(self, context: RunContextWrapper[TContext], agent: Any, tool: Any) -> None:
        """`tool` is about to run for the agent."""

    async def on_tool_end(self, context: RunContextWrapper[TContext], agent: Any, tool: Any, result: Any) -> None:
        """`tool` has answered with `result`."""


class HookRunner:
    """Calls the hooks of one session, in order, in a task of its own.

    Feed it with what happens, from the session's event loop; those methods return at once. `trouble` is told what
    hooks raise. Call `aclose` at the end: hooks that wait are still called, within `close_timeout_s`.
    """

    def __init__(
        self,
        run_hooks: RealtimeRunHooks[Any] | None,
        context: RunContextWrapper[Any],
        *,
        trouble: Trouble,
        queue_size: int = QUEUE_SIZE,
        close_timeout_s: float = CLOSE_TIMEOUT_S,
    ) -> None:
        self._hooks = run_hooks
        self._context = context
        self._trouble = trouble
        self._close_timeout_s = close_timeout_s
        self._waiting: asyncio.Queue[tuple[str, Callable[..., Any], tuple[Any, ...]] | None] = asyncio.Queue(queue_size)
        self._task: asyncio.Task[None] | None = None
        self._overflowed = False
        self._closed = False

    def agent_start(self, agent: Any) -> None:
        self._tell("on_agent_start", (agent,), agent, "on_start", (agent,))

    def agent_end(self, agent: Any, output: Any) -> None:
        self._tell("on_agent_end", (agent, output), agent, "on_end", (agent, output))

    def handoff(self, from_agent: Any, to_agent: Any) -> None:
        self._tell("on_handoff", (from_agent, to_agent), to_agent, "on_handoff", (to_agent, from_agent))

    def tool_start(self, agent: Any, tool: Any, *, context: RunContextWrapper[Any] | None = None) -> None:
        """`context` is what the hooks are given: a `ToolContext`, where there is one."""
        self._tell("on_tool_start", (agent, tool), agent, "on_tool_start", (agent, tool), context)

    def tool_end(self, agent: Any, tool: Any, result: Any, *, context: RunContextWrapper[Any] | None = None) -> None:
        self._tell("on_tool_end", (agent, tool, result), agent, "on_tool_end", (agent, tool, result), context)

    def runs_here(self) -> bool:
        """Whether it is a hook that is asking."""
        return self._task is not None and asyncio.current_task() is self._task

    async def aclose(self) -> None:
        """Call what waits, end. Nothing is told any more; what has not ended by the deadline is cancelled."""
        self._closed = True
        if self._task is None:
            return
        deadline = asyncio.get_running_loop().time() + self._close_timeout_s
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await self._waiting.put(None)
                    await asyncio.wait({self._task})
        finally:
            if not self._task.done():
                self._task.cancel()
                self._trouble("hooks_unfinished", f"Hooks did not end within {self._close_timeout_s:g} s.")
        # A hook that takes no notice of its cancellation is left behind, as nothing can stop it.
        await asyncio.wait({self._task}, timeout=0.1)

    def _tell(
        self,
        run_name: str,
        run_arguments: tuple[Any, ...],
        agent: Any,
        agent_name: str,
        agent_arguments: tuple[Any, ...],
        context: RunContextWrapper[Any] | None = None,
    ) -> None:
        if self._closed:
            return
        given = self._context if context is None else context
        if self._hooks is not None:
            self._put(run_name, self._hooks, (given, *run_arguments))
        own = getattr(agent, "hooks", None)
        if own is not None:
            self._put(agent_name, own, (given, *agent_arguments))

    def _put(self, name: str, hooks: Any, arguments: tuple[Any, ...]) -> None:
        try:
            self._waiting.put_nowait((f"{type(hooks).__name__}.{name}", getattr(hooks, name), arguments))
        except asyncio.QueueFull:
            if not self._overflowed:
                self._overflowed = True
                self._trouble(
                    "hooks_overflow", f"More than {self._waiting.maxsize} calls of hooks wait; some are left out."
                )
            return
        self._overflowed = False
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="hooks")

    async def _run(self) -> None:
        while (entry := await self._waiting.get()) is not None:
            name, hook, arguments = entry
            await self._call(name, hook, arguments)

    async def _call(self, name: str, hook: Callable[..., Awaitable[None] | None], arguments: tuple[Any, ...]) -> None:
        try:
            await answer_of("it", hook, *arguments)
        except Exception as error:  # noqa: BLE001 - a hook may raise anything; the conversation goes on
            self._failed(name, error)

    def _failed(self, name: str, error: Exception) -> None:
        error = presentable(error)
        log.warning("hook failed", hook=name, **raised(error))
        self._trouble("hook_failed", f"The hook {name} failed: {type(error).__name__}: {error}")
