"""Function calls of the model: who answers them, and that each is answered once (parity H, I, 2.2-2.19).

A call starts with its finished item. It runs elsewhere, after `approvals.py` has let it, and is answered by its result,
by its deadline, by the session itself (unknown tool, refused call, refused handoff), or not at all when the session
ends first. Handoffs are calls, too (`handoffs.py`), and so are a hosted tool's requests for approval, whose answer is
the decision. When the model goes on after its calls is the business of `batches.py`.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from voicebus.contracts.tools import IN_PROCESS, REPORTED_FAILURES, Outcome, ToolResult
from voicebus.engine import wire
from voicebus.engine.approvals import CALL_TIMER, Approvals, Refusal
from voicebus.engine.background import Background
from voicebus.engine.batches import Batches
from voicebus.engine.calls import HEARD, UNLIMITED, Answer, Call, KnownCalls, Stage
from voicebus.engine.config import Face, HandoffSpec, HostedToolSpec, SessionConfig, ToolSpec, Transport
from voicebus.engine.handoffs import Handoffs
from voicebus.engine.history import History
from voicebus.engine.inputs import (
    Approve,
    CallVetted,
    Input,
    Reject,
    SendToolOutput,
    ToolErrorWorded,
    ToolProgressArrived,
    ToolResultArrived,
    ToolStartedArrived,
)
from voicebus.engine.interludes import Interludes
from voicebus.engine.outbox import Outbox
from voicebus.engine.outputs import CancelTool, DispatchTool, MergeContext, WordToolError
from voicebus.engine.responses import Response
from voicebus.engine.telling import Telling
from voicebus.engine.turns import Turns

NOT_APPROVED: Final = "Tool execution was not approved."

# A worker answers for itself when a tool runs out of time; the session speaks for a silent one this much later (s).
_GRACE: Final = 2.0
# How long the author's side may think about the wording of an error (s).
_WORDING_TIMEOUT: Final = 5.0
# Calls that may wait for their answers; further ones are refused one by one. Only a model gone wild gets there.
_MAX_OPEN: Final = 256
_UNKNOWN_TOOL: Final = "unknown_tool"
_UNWANTED: Final = "The call was not run, as the response that made it was cancelled."
_INTERRUPTED: Final = "The call was cancelled, as the user interrupted it."


class ToolCalls:
    """The calls of a session that are not answered yet, by id. `gone_silent` is for its `batches`."""

    def __init__(
        self,
        out: Outbox,
        turns: Turns,
        history: History,
        interludes: Interludes,
        background: Background,
        config: SessionConfig,
        *,
        hide: Callable[[str], None],
        is_client_tool: Callable[[str], bool],
        gone_silent: Callable[[Response], None],
    ) -> None:
        self._out = out
        self._turns = turns
        self._interludes = interludes
        self._background = background
        background.busy = self._is_any_awaited
        self._config = config
        self._is_client_tool = is_client_tool
        self._open: dict[str, Call] = {}
        self.known: KnownCalls = KnownCalls(self._open)
        self.approvals: Approvals = Approvals(out, run=self._run, refuse=self._refuse)
        self.batches: Batches = Batches(turns, config.transport, gone_silent)
        # A model of transport EVENTS tells of its items by itself, also of a call's output.
        is_wire = config.transport is Transport.WIRE
        self._telling = Telling(out, history, background, hide=hide, publishes_history=is_wire)
        self.handoffs: Handoffs = Handoffs(out, self._conclude)

    # --- a call begins --------------------------------------------------------------------------------

    def begin(self, response: Response, item: Mapping[str, Any]) -> None:
        """The model has finished a function call."""
        call_id, name, arguments = wire.text(item, "call_id"), wire.text(item, "name"), wire.text(item, "arguments")
        spec = response.agent.function(name)
        role = "handoff" if isinstance(spec, HandoffSpec) else "function"
        if not self._is_new(call_id, role, name, arguments):
            return
        if response.out_of_band or (spec is None and self._is_client_tool(name) and not response.unseen):
            # The client's own; out of band it is alone with its tools, and an output would have no call to answer.
            response.client_calls = True
            return
        call = Call(call_id, wire.text(item, "id"), name, arguments, response, spec)
        if self._config.calls_elsewhere and not response.unwanted:
            self._leave(call)
        elif self._accepts(call):
            if isinstance(spec, HandoffSpec):
                self.handoffs.begin(call, spec)
            elif spec is None:
                self._unknown(call, None)
            else:
                self.approvals.enter(call)

    def begin_hosted(self, call: Call) -> None:
        """A tool that the model's own side runs is not to run before it is approved."""
        if self._is_new(call.id, "hosted", call.name, call.arguments) and self._accepts(call):
            self.approvals.enter(call)

    def _is_new(self, call_id: str, role: str, name: str, arguments: str) -> bool:
        if not call_id:
            self._out.error("invalid_call_id", f"The model called {name!r} without a call id.", "model")
            return False
        same = self.known.meet(call_id, role, name, arguments)
        if same is None:
            return True
        if same:
            self._out.ignore(f"call {call_id} again")
        else:
            self._out.error(
                "duplicate_call_id",
                f"The model used call id {call_id!r} again for another call. Use a unique call ID.",
                "model",
            )
        return False

    def _accepts(self, call: Call) -> bool:
        """Whether it goes on; else it has been answered."""
        if call.response.unwanted:
            self._decline(call)
            return False
        own = call.spec.approval_timeout_ms if isinstance(call.spec, ToolSpec) else None
        call.approval_timeout_ms = self._config.approval_timeout_ms if own is None else own
        too_many = len(self._open) >= _MAX_OPEN
        self._open[call.id] = call
        self.batches.add(call)
        if too_many:
            message = f"Call {call.id} is refused: {_MAX_OPEN} calls wait for their answers already."
            self._out.error("too_many_calls", message, "model")
            self._conclude(call, Answer(message, Outcome.ERROR))
        return not too_many

    def _decline(self, call: Call) -> None:
        """Nobody waits for its response any more: the model is told so, and is not asked to go on."""
        self.known.declined.add(call.id)
        self._give(call, _UNWANTED)
        if isinstance(call.spec, ToolSpec):
            self._telling.record_end(call, _UNWANTED, Answer(_UNWANTED, Outcome.CANCELLED))

    def _leave(self, call: Call) -> None:
        """The program has seen the call by itself, and answers it when it likes, if it does."""
        call.stage = Stage.ELSEWHERE
        if len(self._open) >= _MAX_OPEN:
            del self._open[next(iter(self._open))]
        self._open[call.id] = call

    # --- before it runs -------------------------------------------------------------------------------

    def vetted(self, answer: CallVetted) -> None:
        if (call := self._hearing(answer, answer.call_id)) is not None:
            self.approvals.vetted(call, answer)

    def approve(self, word: Approve) -> None:
        if (call := self._hearing(word, word.call_id)) is not None:
            self.approvals.approve(call, word)

    def reject(self, word: Reject) -> None:
        if (call := self._hearing(word, word.call_id)) is not None:
            self.approvals.reject(call, word)

    def awaits_decision(self, call_id: str) -> bool:
        """Whether this call waits for a person's word."""
        call = self._open.get(call_id)
        return call is not None and call.stage is Stage.ASKING

    def _hearing(self, item: Input, call_id: str) -> Call | None:
        """The call that `item` is about, None where it comes too late, too early, or for no call at all."""
        call = self._open.get(call_id)
        if call is not None and type(item) in HEARD[call.stage]:
            return call
        self._out.ignore(f"{type(item).__name__} for call {call_id}, which does not wait for it")
        return None

    def _run(self, call: Call) -> None:
        if isinstance(call.spec, HostedToolSpec):
            call.approved = True
            self._conclude(call, Answer(""))
        elif isinstance(call.spec, ToolSpec):
            self._dispatch(call, call.spec)

    def _refuse(self, call: Call, message: str | None, why: Refusal) -> None:
        call.approved = False
        if why == _UNKNOWN_TOOL:
            self._unknown(call, message)
            return
        answer = Answer(message or NOT_APPROVED, Outcome.ERROR, recorded=isinstance(call.spec, ToolSpec))
        self._conclude(call, answer, word="approval_rejected" if not message else None)

    def _unknown(self, call: Call, message: str | None) -> None:
        self._out.error(_UNKNOWN_TOOL, f"Agent {call.response.agent.name!r} has no tool {call.name!r}.", "model")
        self._conclude(call, Answer(message or f"Tool {call.name} not found", Outcome.ERROR), word="tool_not_found")

    # --- another owner's ------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Call]:
        """The calls without an answer."""
        return iter(self._open.values())

    def resume(self, call: Call, stage: Stage, since_ms: int) -> None:
        """Go on with a call of another owner's, which has been in this stage since then (ms of the session)."""
        passed_ms = max(0, self._out.ms() - since_ms)
        if call.is_background and stage is Stage.RUNNING:
            self._open[call.id] = call  # the model has its answer
        else:
            self._accepts(call)
        match stage, call.spec:
            case Stage.RUNNING, ToolSpec(local=True, idempotent=False):
                # It ran in that owner's process.
                text = f"The outcome of the tool {call.name} is unknown: it was interrupted, and may have taken effect."
                call.started_ms = since_ms
                self._conclude(call, Answer(text, Outcome.UNKNOWN, recorded=True))
            case Stage.RUNNING, ToolSpec() as tool:
                call.stage, call.started_ms = stage, since_ms
                self._send_off(call, tool, max(0, tool.timeout_ms - passed_ms))
            case Stage.ASKING, ToolSpec():
                self.approvals.resume(call, passed_ms)
            case (Stage.WORDING, _) | (_, None):
                self._unknown(call, None)
            case _, HandoffSpec() as handoff:
                self.handoffs.begin(call, handoff)
            case _:
                self.approvals.enter(call)

    # --- it runs --------------------------------------------------------------------------------------

    def _dispatch(self, call: Call, tool: ToolSpec) -> None:
        call.stage = Stage.RUNNING
        call.started_ms = self._out.ms()
        self._telling.record_start(call)
        self._send_off(call, tool, tool.timeout_ms)
        if call.told:
            self.batches.answered(call, background=False)

    def _send_off(self, call: Call, tool: ToolSpec, timeout_ms: int) -> None:
        call.worker = IN_PROCESS if tool.local else None
        agent = call.response.agent
        self._out.add(
            DispatchTool(
                call_id=call.id,
                tool=call.name,
                arguments=call.arguments,
                agent=agent.name,
                queue=tool.queue,
                timeout_ms=timeout_ms,
                idempotent=tool.idempotent,
                local=tool.local,
                vetted=tool.vetted,
                snapshot=agent.snapshot,
                background=tool.background,
                version=tool.version,
            )
        )
        self._out.set_timer(CALL_TIMER + call.id, timeout_ms / 1000 + _GRACE)
        self._interludes.started(call)
        if tool.background:
            self._telling.goes_on(call)

    def started(self, item: ToolStartedArrived) -> None:
        if (call := self._hearing(item, item.started.call_id)) is not None:
            call.worker = item.started.worker

    def progress(self, item: ToolProgressArrived) -> None:
        if (call := self._hearing(item, item.progress.call_id)) is not None:
            agent = call.response.agent.name
            self._out.emit("tool_progress", call_id=call.id, tool=call.name, agent=agent, text=item.progress.text)
            self._interludes.progressed(call, item.progress.text)

    def result(self, item: ToolResultArrived) -> None:
        if (call := self._hearing(item, item.result.call_id)) is not None:
            self._ended(call, item.result)

    def _ended(self, call: Call, result: ToolResult) -> None:
        if result.context:
            self._out.add(MergeContext(call.name, result.context))
        answer = Answer(result.output, result.outcome, result.worker, result.background, recorded=True)
        lacks_tool = result.error is not None and result.error.kind == _UNKNOWN_TOOL
        if result.error is not None and result.error.kind in REPORTED_FAILURES:
            code = "tool_failed" if result.outcome is not Outcome.OK else result.error.kind
            self._out.error(code, f"Tool {call.name}, call {call.id}: {result.error.message}", "tool")
        failed = "tool_not_found" if lacks_tool else "tool_exception"
        self._conclude(call, answer, word=failed if result.outcome is not Outcome.OK else None)

    def interrupted(self) -> None:
        """What goes on is to stop: the running calls of tools that end with it are taken back."""
        for call in list(self._open.values()):
            if call.stage is Stage.RUNNING and isinstance(call.spec, ToolSpec) and call.spec.cancel_on_interrupt:
                self._out.add(CancelTool(call.id, call.spec.queue, call.worker, "interrupted"))
                # In the background: whoever interrupted says what comes next.
                answer = Answer(_INTERRUPTED, Outcome.CANCELLED, call.worker, background=True, recorded=True)
                self._conclude(call, answer)

    def output(self, item: SendToolOutput) -> None:
        """The program answers a call itself."""
        call = self._open.get(item.call_id)
        if call is not None and type(item) in HEARD[call.stage]:
            self._give(call, item.output)
            if item.respond:
                self._turns.request(follows=call.response)
        elif call is None and item.call_id in self.known:
            self._out.ignore(f"output of call {item.call_id}, which has been answered")
        else:
            why = "there is no such call" if call is None else "the session answers it by itself"
            self._out.error("unknown_call", f"Call {item.call_id!r} cannot be answered: {why}.", "client")

    def overdue(self, call_id: str) -> None:
        """The time of this call's present stage is over."""
        call = self._open[call_id]
        match call.stage, call.spec:
            case ((Stage.VETTING | Stage.ASKING), _):
                self.approvals.overdue(call)
            case Stage.WORDING, _:
                self._tell(call, None)
            case _, HandoffSpec(agent=agent):
                self.handoffs.failed(call_id, f"The handoff to {agent} took too long and was not made.")
            case _, ToolSpec(queue=queue, timeout_ms=limit):
                self._out.add(CancelTool(call_id, queue, call.worker, "timeout"))
                message = f"Tool '{call.name}' timed out after {limit / 1000:g} seconds."
                answer = Answer(message, Outcome.TIMEOUT, call.worker, recorded=True)
                self._conclude(call, answer, word="tool_exception")

    # --- answers --------------------------------------------------------------------------------------

    def _conclude(self, call: Call, answer: Answer, *, word: str | None = None) -> None:
        """The call is over. `word` is the kind of error that the author's side may word before the model is told."""
        self._out.cancel_timer(CALL_TIMER + call.id)
        self._interludes.ended(call)
        call.answer = answer
        if word is not None and self._config.words_errors:
            call.stage = Stage.WORDING
            self._out.add(WordToolError(call.id, call.name, word, answer.output))
            self._out.set_timer(CALL_TIMER + call.id, _WORDING_TIMEOUT)
        else:
            self._tell(call, None)

    def worded(self, item: ToolErrorWorded) -> None:
        if (call := self._hearing(item, item.call_id)) is not None:
            self._out.cancel_timer(CALL_TIMER + call.id)
            self._tell(call, item.message)

    def _tell(self, call: Call, wording: str | None) -> None:
        """Hand the answer to the model, record it, and have the model go on where it is time."""
        answer = call.answer or Answer("")
        output = answer.output if wording is None else wording
        self._give(call, output)
        if answer.recorded:
            self._telling.record_end(call, output, answer)
        if not call.told:
            self.batches.answered(call, background=answer.background)

    def _give(self, call: Call, output: str) -> None:
        self._open.pop(call.id, None)
        self._telling.give(call, output)

    # --- what others ask ------------------------------------------------------------------------------

    def is_running_for(self, response: Response) -> bool:
        """Whether calls of this response are still unanswered that have a time limit of their own."""
        return any(call.response is response and call.stage not in UNLIMITED for call in self._awaited())

    @property
    def is_any_open(self) -> bool:
        """Whether calls wait for their answers."""
        return any(self._awaited())

    def _awaited(self) -> Iterator[Call]:
        """The calls that the conversation waits for."""
        return (call for call in self._open.values() if not call.told)

    def _is_any_awaited(self) -> bool:
        """Whether the model will go on by itself once calls have answered: nobody knows when a person will."""
        resting = self._config.face is Face.OPENAI
        return any(resting or call.stage not in UNLIMITED for call in self._awaited())

    def is_mixed_pending(self) -> bool:
        """Whether outputs are missing of a response that called a client's tool as well."""
        return any(call.response.client_calls for call in self._awaited())

    def forget_hosted(self) -> None:
        """The model's socket is lost, and with it the hosted calls that waited for a word: they cannot be approved."""
        for call in [call for call in self._open.values() if isinstance(call.spec, HostedToolSpec)]:
            self._out.cancel_timer(CALL_TIMER + call.id)
            del self._open[call.id]
            self.batches.answered(call, background=True)

    def end(self) -> None:
        """The session ends: take back what runs, and say in the record what became of every call."""
        for call in list(self._open.values()):
            self._out.cancel_timer(CALL_TIMER + call.id)
            self._interludes.ended(call)
            if not isinstance(call.spec, ToolSpec) or call.stage is Stage.ELSEWHERE:
                continue
            if call.stage is Stage.RUNNING:
                self._out.add(CancelTool(call.id, call.spec.queue, call.worker, "session_ended"))
            answer = call.answer or Answer("", Outcome.CANCELLED, call.worker, recorded=True)
            if answer.recorded:
                self._telling.record_end(call, answer.output, answer)
        self._open.clear()
        self._background.clear()
