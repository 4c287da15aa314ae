"""Function calls of the model: who answers them, once each, and when the model goes on (parity H, I, 2.2-2.19).

A call starts with its finished item, runs elsewhere, and is answered exactly once: by its result, by its deadline, by
the session itself (unknown tool, refused handoff), or not at all when the session ends first. Handoffs are calls, too.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from voicebus.contracts.journal import EventType
from voicebus.contracts.tools import Outcome, ToolProgress, ToolResult, ToolStarted
from voicebus.engine import wire
from voicebus.engine.config import HandoffSpec, ToolSpec
from voicebus.engine.history import History
from voicebus.engine.outbox import Outbox
from voicebus.engine.outputs import CancelTool, DispatchTool, ResolveAgent
from voicebus.engine.turns import Response, Turns

CALL_TIMER: Final = "call:"

# A worker answers for itself when a tool runs out of time; the session speaks for a silent one this much later (s).
_GRACE: Final = 2.0
# Resolving an agent runs the author's `on_handoff` in the owner's process; this bounds it (s).
_HANDOFF_TIMEOUT: Final = 30.0


@dataclass(slots=True, eq=False)
class Call:
    """One function call. `spec` is None for a tool that the agent does not have.

    `spoken_to`: the model has been asked to go on with this call's output.
    """

    id: str
    item_id: str
    name: str
    arguments: str
    response: Response
    spec: ToolSpec | HandoffSpec | None
    started_ms: int
    worker: str | None = None
    answered: bool = False
    spoken_to: bool = False
    handed_over: bool = False

    @property
    def respond(self) -> str:
        return self.spec.respond if isinstance(self.spec, ToolSpec) else "when_all_done"


@dataclass(slots=True, eq=False)
class _Batch:
    """The server's calls of one response, answered together."""

    calls: list[Call]
    ended: bool


class ToolCalls:
    """Calls by id for the whole session: an id that was used is never run again."""

    def __init__(
        self,
        out: Outbox,
        turns: Turns,
        history: History,
        *,
        hide: Callable[[str], None],
        is_client_tool: Callable[[str], bool],
    ) -> None:
        self._out = out
        self._turns = turns
        self._history = history
        self._hide = hide
        self._is_client_tool = is_client_tool
        self._seen: dict[str, tuple[str, Any]] = {}
        self._pending: dict[str, Call] = {}
        self._batches: dict[str, _Batch] = {}
        self._handoff: Call | None = None

    # --- a call begins --------------------------------------------------------------------------------

    def begin(self, response: Response, item: Mapping[str, Any]) -> None:
        """The model has finished a function call."""
        call_id, name, arguments = wire.text(item, "call_id"), wire.text(item, "name"), wire.text(item, "arguments")
        if not call_id:
            self._out.error("invalid_call_id", f"The model called {name!r} without a call id.", "model")
            return
        fingerprint = (name, _parsed(arguments))
        if call_id in self._seen:
            if self._seen[call_id] == fingerprint:
                self._out.ignore(f"call {call_id} again")
            else:
                self._out.error(
                    "duplicate_call_id",
                    f"The model used call id {call_id!r} again for another call. Use a unique call ID.",
                    "model",
                )
            return
        self._seen[call_id] = fingerprint
        agent = response.agent
        spec: ToolSpec | HandoffSpec | None = next((one for one in agent.handoffs if one.name == name), None)
        spec = spec or next((one for one in agent.tools if one.name == name), None)
        if response.out_of_band or (spec is None and self._is_client_tool(name)):
            # The client's own; out of band it is alone with its tools, and an output would have no call to answer.
            response.client_calls = True
            return
        call = Call(call_id, wire.text(item, "id"), name, arguments, response, spec, self._out.ms())
        self._pending[call_id] = call
        self._batches.setdefault(response.id, _Batch([], ended=not response.active)).calls.append(call)
        if isinstance(spec, ToolSpec):
            self._dispatch(call, spec)
        elif isinstance(spec, HandoffSpec):
            self._resolve(call, spec)
        else:
            self._out.error("unknown_tool", f"Agent {agent.name!r} has no tool {name!r}.", "model")
            self._answer(call, f"Tool {name} not found")

    def _dispatch(self, call: Call, tool: ToolSpec) -> None:
        self._out.record(
            EventType.TOOL_START,
            call_id=call.id,
            item_id=call.item_id,
            tool=call.name,
            arguments=call.arguments,
            agent=call.response.agent.name,
            started_ms=call.started_ms,
        )
        self._out.add(
            DispatchTool(
                call_id=call.id,
                tool=call.name,
                arguments=call.arguments,
                agent=call.response.agent.name,
                queue=tool.queue,
                timeout_ms=tool.timeout_ms,
                idempotent=tool.idempotent,
            )
        )
        self._out.set_timer(CALL_TIMER + call.id, tool.timeout_ms / 1000 + _GRACE)

    def _resolve(self, call: Call, handoff: HandoffSpec) -> None:
        others = self._batches[call.response.id].calls
        first = self._handoff or next((other for other in others if other.handed_over), None)
        if first is not None:
            target = first.spec.agent if isinstance(first.spec, HandoffSpec) else ""
            self._answer(call, f"Only one handoff is made at a time; the conversation goes to {target}.")
            return
        self._handoff = call
        self._out.add(
            ResolveAgent(call.id, handoff.name, call.response.agent.name, handoff.agent, call.arguments),
        )
        self._out.set_timer(CALL_TIMER + call.id, _HANDOFF_TIMEOUT)

    # --- workers --------------------------------------------------------------------------------------

    def started(self, started: ToolStarted) -> None:
        call = self._pending.get(started.call_id)
        if call is None:
            self._out.ignore(f"late start of call {started.call_id}")
        else:
            call.worker = started.worker

    def progress(self, progress: ToolProgress) -> None:
        call = self._pending.get(progress.call_id)
        if call is None:
            self._out.ignore(f"late progress of call {progress.call_id}")
        else:
            self._out.emit("tool_progress", call_id=call.id, tool=call.name, text=progress.text)

    def result(self, result: ToolResult) -> None:
        call = self._pending.get(result.call_id)
        if call is None or not isinstance(call.spec, ToolSpec):
            self._out.ignore(f"late result of call {result.call_id}")
            return
        self._out.cancel_timer(CALL_TIMER + call.id)
        self._finish(call, result.output, result.outcome, result.worker)

    def overdue(self, call_id: str) -> None:
        """Nobody has answered this call in time."""
        call = self._pending.get(call_id)
        if call is None:
            return
        if isinstance(call.spec, ToolSpec):
            seconds = call.spec.timeout_ms / 1000
            self._out.add(CancelTool(call.id, call.spec.queue, call.worker, "timeout"))
            self._finish(call, f"Tool '{call.name}' timed out after {seconds:g} seconds.", Outcome.TIMEOUT, call.worker)
        elif isinstance(call.spec, HandoffSpec):
            self.handoff_failed(call.id, f"The handoff to {call.spec.agent} took too long and was not made.")

    # --- handoffs -------------------------------------------------------------------------------------

    def handoff_of(self, call_id: str) -> Call | None:
        """The handoff that waits for its agent under this id."""
        return self._handoff if self._handoff is not None and self._handoff.id == call_id else None

    def handoff_made(self, call: Call, agent: str) -> None:
        """The new agent is in charge and the model has its settings."""
        call.handed_over = True
        self._end_handoff(call, json.dumps({"assistant": agent}, ensure_ascii=False))

    def handoff_failed(self, call_id: str, message: str) -> None:
        call = self.handoff_of(call_id)
        if call is None:
            self._out.ignore(f"late answer to handoff {call_id}")
            return
        self._out.error("handoff_failed", message, "handoff")
        self._end_handoff(call, message)

    def _end_handoff(self, call: Call, output: str) -> None:
        self._handoff = None
        self._out.cancel_timer(CALL_TIMER + call.id)
        self._answer(call, output)

    # --- answers --------------------------------------------------------------------------------------

    def _finish(self, call: Call, output: str, outcome: Outcome, worker: str | None) -> None:
        self._give(call, output)
        self._record_end(call, output, outcome, worker)
        self._settle(call.response)

    def _answer(self, call: Call, output: str) -> None:
        self._give(call, output)
        self._settle(call.response)

    def _give(self, call: Call, output: str) -> None:
        """Hand the output to the model: at once, whatever runs."""
        del self._pending[call.id]
        call.answered = True
        item_id = self._out.mint()
        self._hide(item_id)
        item = {"id": item_id, "type": "function_call_output", "call_id": call.id, "output": output}
        self._out.send({"type": "conversation.item.create", "item": item})
        self._history.answer(call.item_id, output)
        self._history.publish(self._out)

    def _record_end(self, call: Call, output: str, outcome: Outcome, worker: str | None) -> None:
        self._out.record(
            EventType.TOOL_END,
            call_id=call.id,
            item_id=call.item_id,
            tool=call.name,
            arguments=call.arguments,
            agent=call.response.agent.name,
            output=output,
            outcome=outcome,
            worker=worker,
            started_ms=call.started_ms,
            ended_ms=self._out.ms(),
        )
        self._out.observe("tool_outcome", tool=call.name, outcome=outcome.value)

    # --- going on -------------------------------------------------------------------------------------

    def response_ended(self, response: Response) -> None:
        """No more calls will come of this response."""
        batch = self._batches.get(response.id)
        if batch is not None:
            batch.ended = True
            self._settle(response)

    def expects_follow_up(self, response: Response) -> bool:
        """Whether the session will ask the model to go on after this response's calls."""
        batch = self._batches.get(response.id)
        if batch is None or response.client_calls or not response.continues:
            return False
        return any(call.respond != "never" for call in batch.calls)

    def is_running_for(self, response: Response) -> bool:
        """Whether calls of this response are still unanswered; each of them has its own deadline."""
        return any(call.response is response for call in self._pending.values())

    def has_calls(self, response: Response) -> bool:
        return response.id in self._batches

    def is_mixed_pending(self) -> bool:
        """Whether outputs are missing of a response that called a client's tool as well."""
        return any(call.response.client_calls for call in self._pending.values())

    def _settle(self, response: Response) -> None:
        """Ask the model to go on: once when all have answered, and at each answer of an `always` tool.

        A `never` tool is not waited for. Nothing can be asked before the response is done anyway.
        """
        batch = self._batches[response.id]
        if not batch.ended:
            return
        counted = [call for call in batch.calls if call.respond != "never"]
        fresh = [call for call in counted if call.answered and not call.spoken_to]
        if fresh and (all(call.answered for call in counted) or any(call.respond == "always" for call in fresh)):
            for call in fresh:
                call.spoken_to = True
            if response.continues and not response.client_calls:
                self._turns.request(follows=response)
        if all(call.answered for call in batch.calls):
            del self._batches[response.id]
        self._turns.pump()

    def end(self) -> None:
        """The session ends: take back what runs, and say so in the record."""
        for call in list(self._pending.values()):
            if isinstance(call.spec, ToolSpec):
                self._out.cancel_timer(CALL_TIMER + call.id)
                self._out.add(CancelTool(call.id, call.spec.queue, call.worker, "session_ended"))
                self._record_end(call, "", Outcome.CANCELLED, call.worker)
        self._pending.clear()


def _parsed(arguments: str) -> Any:
    """Arguments as JSON, so that spelling does not make two calls of one; as text where they are none."""
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
