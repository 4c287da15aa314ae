"""What the model and the record are told of a function call: that it began, and what came of it."""

from collections.abc import Callable

from voicebus.contracts.journal import EventType
from voicebus.engine.background import Background
from voicebus.engine.calls import Answer, Call
from voicebus.engine.history import History
from voicebus.engine.outbox import Outbox


class Telling:
    """Tells of calls. `publishes_history`: a call's output is an item that nobody else tells the program of."""

    def __init__(
        self,
        out: Outbox,
        history: History,
        background: Background,
        *,
        hide: Callable[[str], None],
        publishes_history: bool,
    ) -> None:
        self._out = out
        self._history = history
        self._background = background
        self._hide = hide
        self._publishes_history = publishes_history

    def give(self, call: Call, output: str) -> None:
        """To the model at once, whatever runs; of what went on in the background, when there is room for it."""
        if call.told:
            tell = call.respond != "never" and not (call.answer is not None and call.answer.background)
            self._background.deliver(call, output, tell=tell)
        else:
            self._tell_model(call, output)
        if self._history.answer(call.item_id, output) and self._publishes_history:
            self._history.publish(self._out)

    def goes_on(self, call: Call) -> None:
        """Answer for a call that goes on in the background."""
        self._tell_model(call, self._background.started(call))
        call.told = True

    def _tell_model(self, call: Call, output: str) -> None:
        item_id = self._out.mint()
        self._hide(item_id)
        self._out.send({"type": "conversation.item.create", "item": {"id": item_id, **call.answering(output)}})

    def record_start(self, call: Call) -> None:
        self._out.record(
            EventType.TOOL_START,
            call_id=call.id,
            item_id=call.item_id,
            tool=call.name,
            arguments=call.arguments,
            agent=call.response.agent.name,
            started_ms=call.started_ms,
        )

    def record_end(self, call: Call, output: str, answer: Answer) -> None:
        now = self._out.ms()
        self._out.record(
            EventType.TOOL_END,
            call_id=call.id,
            item_id=call.item_id,
            tool=call.name,
            arguments=call.arguments,
            agent=call.response.agent.name,
            output=output,
            outcome=answer.outcome,
            worker=answer.worker,
            # A call that never started took no time.
            started_ms=now if call.started_ms is None else call.started_ms,
            ended_ms=now,
        )
        self._out.observe("tool_outcome", tool=call.name, outcome=answer.outcome.value)
