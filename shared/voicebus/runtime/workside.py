"""What the engine wants of others than the model: tools, checks, and the author of its agents, who all answer later."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from voicebus.engine.config import SessionConfig
from voicebus.engine.inputs import CheckRefused, Input, Trouble
from voicebus.engine.outputs import (
    CancelTool,
    DispatchCheck,
    DispatchTool,
    MergeContext,
    ResolveAgent,
    VetCall,
    WordToolError,
)
from voicebus.errors import CommandRefusedError
from voicebus.ports import SessionRef
from voicebus.runtime import asking
from voicebus.runtime.inline import InlineCalls
from voicebus.runtime.session_trace import SessionTrace
from voicebus.runtime.surroundings import Author, Bus


class WorkSide:
    """Performs the engine's outputs about work, and feeds it what the author answers.

    Results of tools and checks come through the inbox. `inline` are the calls that the model's frames wait for. `trace`
    makes the spans of what is sent.
    """

    def __init__(
        self,
        config: SessionConfig,
        ref: SessionRef,
        bus: Bus,
        author: Author,
        inline: InlineCalls,
        feed: Callable[[Input], None],
        job: Callable[[str, Coroutine[Any, Any, None]], asyncio.Task[None] | None],
        trace: SessionTrace | None = None,
    ) -> None:
        self._trace = trace
        self._config = config
        self._ref = ref
        self._bus = bus
        self._author = author
        self._inline = inline
        self._feed = feed
        self._job = job
        self.performs: Mapping[type, Callable[[Any], None]] = {
            DispatchTool: self._dispatch_tool,
            CancelTool: self._cancel_tool,
            DispatchCheck: self._dispatch_check,
            ResolveAgent: self._resolve_agent,
            VetCall: self._vet_call,
            WordToolError: self._word_error,
            MergeContext: self._merge_context,
        }

    def take_over(self, agent: str) -> asyncio.Future[None]:
        """Have the deployed agent of this name take over; done once it is in charge.

        Raises, in the future:
            CommandRefusedError: `unknown_agent`, `agent_failed`, or `session_ended` before it was resolved.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def asked() -> None:
            try:
                update = await asking.take_over(self._author, agent)
                self._feed(update)
                self._bus.journal.update(self._ref, {"agent": update.agent.name})
                done.set_result(None)
            except CommandRefusedError as refused:
                done.set_exception(refused)

        def settle(_: object = None) -> None:
            if not done.done():
                done.set_exception(CommandRefusedError("session_ended", "the session ended meanwhile"))

        task = self._job("take-over", asked())
        # Also where it was cancelled before its first step, which no `finally` of its own would see.
        if task is None:
            settle()
        else:
            task.add_done_callback(settle)
        return done

    # --- workers --------------------------------------------------------------------------------------

    def _dispatch_tool(self, output: DispatchTool) -> None:
        if output.background:
            self._inline.end(output.call_id)  # it may have been waited for while it was vetted
        else:
            self._waits_for(output.call_id)
        self._bus.tools.dispatch(self._named(output), output)

    def _cancel_tool(self, output: CancelTool) -> None:
        self._inline.end(output.call_id)
        self._bus.tools.cancel(self._ref, output)

    def _dispatch_check(self, output: DispatchCheck) -> None:
        limit = self._config.guardrail_timeout_ms if output.timeout_ms is None else output.timeout_ms
        refused = self._bus.guardrails.check(self._named(output), output, timeout_ms=limit)
        if refused is not None:
            self._feed(CheckRefused(output.check_id, refused))

    def _named(self, output: DispatchTool | DispatchCheck) -> SessionRef:
        """The session as what is sent names it: with the span of the call or check, where it is traced."""
        return self._ref if self._trace is None else self._trace.sends(output)

    # --- the author -----------------------------------------------------------------------------------

    def _resolve_agent(self, output: ResolveAgent) -> None:
        self._waits_for(output.call_id)
        self._ask(f"resolve-agent-{output.call_id}", lambda: asking.resolve(self._author, output))

    def _vet_call(self, output: VetCall) -> None:
        self._waits_for(output.call_id)
        self._ask(f"vet-{output.call_id}", lambda: asking.vet(self._author, output))

    def _word_error(self, output: WordToolError) -> None:
        self._ask(f"word-{output.call_id}", lambda: asking.word_error(self._author, output))

    def _waits_for(self, call_id: str) -> None:
        if self._config.inline_tools:
            self._inline.begin(call_id)

    def _merge_context(self, output: MergeContext) -> None:
        for code, message in self._author.merge_context(output):
            self._feed(Trouble(code, message, "tool"))
        self._save_context()

    def _save_context(self) -> None:
        """The session's state has its context, for whoever takes the session over."""
        context = self._author.unsaved_context()
        if context is not None:
            self._bus.journal.update(self._ref, {"context": context})

    def _ask(self, name: str, question: Callable[[], Awaitable[Input]]) -> None:
        async def answered() -> None:
            answer = await question()
            self._save_context()
            self._feed(answer)

        self._job(name, answered())
