"""Who may stop what is being said, and what stopping means (parity 107-111, 122, 123; contract section 4).

Three may: the user by speaking, the client by command, a guardrail by its verdict. Stopping has up to three parts:
cancel the response, truncate what was not heard, drop what still arrives.
"""

from collections.abc import Callable
from typing import Final

from voicebus.engine.guarding import Trip
from voicebus.engine.outbox import Outbox
from voicebus.engine.playback import PlaybackTracker
from voicebus.engine.settings import Settings
from voicebus.engine.transcript import Transcript
from voicebus.engine.turns import Response, Turns

FEEDBACK: Final = "guardrail triggered: "


class Interruptions:
    """Carries interruptions out over the other parts of a session."""

    def __init__(
        self, out: Outbox, turns: Turns, playback: PlaybackTracker, transcript: Transcript, settings: Settings
    ) -> None:
        self._out = out
        self._turns = turns
        self._playback = playback
        self._transcript = transcript
        self._settings = settings

    def by_speech(self) -> None:
        """The user speaks: the listener's side stops at once. The model cancels by itself where it was told to."""
        active = self._turns.active
        if not self._playback.parts:
            return
        if self._cut(round):
            self._out.observe("barge_in")
        if active is not None:
            self._mute(active)
            if not self._settings.server_interrupts:
                self._turns.cancel(active)

    def by_client(self) -> None:
        """Stop it whatever it is, a text answer and an answer that has not begun included (parity 0.2)."""
        active = self._turns.active
        self._cut(int)
        if active is not None:
            self._mute(active)
            self._turns.cancel(active)
        else:
            self._turns.withdraw()

    def by_guardrail(self, trip: Trip) -> str | None:
        """Stop the response that tripped; returns an id for the model's feedback item, if it is to get one."""
        source = trip.response
        newer = self._turns.latest is not source
        if source.active:
            self._mute(source)
            self._turns.cancel(source)
        self._cut(round, response_id=source.id)
        if newer or source.out_of_band or self._turns.is_create_pending:
            return None
        return self._out.mint()

    def _mute(self, response: Response) -> None:
        response.muted = True
        self._transcript.muted(response)

    def _cut(self, rounding: Callable[[float], int], *, response_id: str | None = None) -> bool:
        """Truncate what was not heard; True where something was left to hear."""
        cut_short = False
        for cut in self._playback.interrupt(self._out.now, rounding, response_id=response_id):
            part = cut.part
            self._out.emit("audio_interrupted", item_id=part.item_id, content_index=part.content_index)
            if cut.finished and not part.response.active:
                continue  # heard to its end, and nothing will be added: the model's view of it is right
            cut_short = True
            self._out.send(
                {
                    "type": "conversation.item.truncate",
                    "item_id": part.item_id,
                    "content_index": part.content_index,
                    "audio_end_ms": cut.end_ms,
                }
            )
            self._transcript.cut(part.item_id, cut.end_ms, cut.received_ms)
        return cut_short
