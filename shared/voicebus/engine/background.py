"""Tools that nobody waits for: the model is told at once that they run, and of their result when it is there.

Rules:

1. The call is answered when it starts, so that the conversation goes on. A call has one output, so its result comes as
   the output of another call of the same tool, which the session makes: as what a tool said, not as what the model is
   told to do.
2. The model has the result as soon as it is there. It is asked to tell it at the next quiet moment (`silence.py`) in
   which no other call is waited for, unless it has begun a response since.
3. What becomes of the response that made the call changes nothing: it may be interrupted, its agent may have handed
   over, the model's socket may have been replaced.
"""

from collections.abc import Callable
from typing import Final

from voicebus.engine.calls import Call
from voicebus.engine.history import History
from voicebus.engine.outbox import Outbox
from voicebus.engine.responses import Response
from voicebus.engine.silence import Silence
from voicebus.engine.turns import Turns

BACKGROUND_TIMER: Final = "background"

_ROUNDING: Final = 1e-6
_STARTED: Final = (
    "The tool {name} runs in the background. Its result will come later, as the output of another call of it; "
    "go on without it, and do not call it again for this."
)


class Background:
    """Results of background calls on their way. `busy`: calls that are waited for run."""

    def __init__(
        self, out: Outbox, turns: Turns, history: History, silence: Silence, *, hide: Callable[[str], None]
    ) -> None:
        self._out = out
        self._turns = turns
        self._history = history
        self._silence = silence
        self._hide = hide
        # Calls of ours whose output the model is to tell, with the last response that began before it had the output;
        # None while that is not sure.
        self._due: dict[str, Response | None] = {}
        self._timer: float | None = None
        self.busy: Callable[[], bool] = lambda: False

    @property
    def is_due(self) -> bool:
        """Whether the model has a result that it has not told."""
        return bool(self._due)

    @staticmethod
    def started(call: Call) -> str:
        """What the model is told when the call starts."""
        return _STARTED.format(name=call.name)

    def deliver(self, call: Call, output: str, *, tell: bool) -> None:
        """Give the model a result; `tell`: it is to speak of it."""
        call_id, made, answer = (self._out.mint() for _ in range(3))
        for item_id in (made, answer):
            self._hide(item_id)
        asked = {"type": "function_call", "call_id": call_id, "name": call.name, "arguments": call.arguments}
        self._out.send({"type": "conversation.item.create", "item": {"id": made, **asked}})
        result = {"type": "function_call_output", "call_id": call_id, "output": output}
        self._out.send({"type": "conversation.item.create", "item": {"id": answer, **result}})
        if tell:
            self._due[call_id] = None

    def fired(self) -> None:
        """The timer: what is due is asked for as after each input."""
        self._timer = None

    def settle(self) -> None:
        """After each input: have the model tell what it has not told, if it is time."""
        if not self._due:
            return
        for call_id, before in list(self._due.items()):
            self._look_at(call_id, before)
        silent_from = self._silence.since() if self._due and not self.busy() else None
        if silent_from is None or silent_from > self._out.now + _ROUNDING:
            self._set_timer(silent_from)
            return
        self._due.clear()
        self._set_timer(None)
        self._silence.broken()
        self._turns.request()

    def clear(self) -> None:
        """The session ends."""
        self._due.clear()
        self._set_timer(None)

    def _look_at(self, call_id: str, before: Response | None) -> None:
        latest = self._turns.responses.latest
        if before is None:
            if self._history.output_of(call_id) is not None:  # the model has confirmed it
                self._due[call_id] = latest
        elif latest is not before and latest is not None and latest.interlude_in is None:
            del self._due[call_id]

    def _set_timer(self, due: float | None) -> None:
        if due == self._timer:
            return
        self._timer = due
        if due is None:
            self._out.cancel_timer(BACKGROUND_TIMER)
        else:
            self._out.set_timer(BACKGROUND_TIMER, max(0.0, due - self._out.now))
