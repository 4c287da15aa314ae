"""Who may stop what is being said, and what stopping means (parity 107-111, 122, 123; contract section 4).

The user may by speaking, the client by command, a guardrail by its verdict, and a model of transport EVENTS by itself.
Stopping has up to four parts: cancel the response, truncate what was not heard, drop what still arrives, and let go of
what is held back. Where the caller's audio goes past us (SIDEBAND), the model's side drops what it has not played.
A model of transport EVENTS is only told (`StopModel`): it cancels and truncates by itself.
"""

from collections.abc import Callable

from voicebus.engine.config import Transport
from voicebus.engine.guarding import Trip
from voicebus.engine.holding import Holding
from voicebus.engine.inputs import Interrupt
from voicebus.engine.outbox import Outbox
from voicebus.engine.outputs import CutSound, StopModel
from voicebus.engine.playback import Part, PlaybackTracker
from voicebus.engine.responses import Response
from voicebus.engine.settings import Settings
from voicebus.engine.transcript import Transcript
from voicebus.engine.turns import Turns


class Interruptions:
    """Carries interruptions out over the other parts of a session."""

    def __init__(
        self,
        out: Outbox,
        turns: Turns,
        playback: PlaybackTracker,
        transcript: Transcript,
        settings: Settings,
        holding: Holding,
        transport: Transport,
        *,
        elsewhere: bool,
    ) -> None:
        self._out = out
        self._turns = turns
        self._playback = playback
        self._transcript = transcript
        self._settings = settings
        self._holding = holding
        self._stops_itself = transport is Transport.EVENTS
        # The model's side plays to the caller, and has more to play than it has said to us.
        self._elsewhere = elsewhere

    def by_speech(self) -> None:
        """The user speaks: the listener's side stops at once. The model cancels by itself where it was told to."""
        if self._stops_itself:
            return
        active = self._turns.responses.active
        held = self._holding.waiting()
        if not self._playback.parts and not held:
            return
        if self._cut(round) or held:
            self._out.observe("barge_in")
        for response in held:
            self.mute(response)
        if active is not None:
            self.mute(active)
            if not self._settings.server_interrupts:
                self._turns.cancel(active)

    def by_client(self, item: Interrupt) -> None:
        """Stop what `item` names, by default whatever is said: also a text, also what has not begun (parity 0.2)."""
        if self._stops_itself:
            self._out.add(StopModel(item.response_id, item.cancel, item.truncate))
            return
        active = self._turns.responses.active
        named = None if item.response_id is None else self._turns.responses.by_id.get(item.response_id)
        if item.response_id is not None and (named is None or active is not named):
            active = None
        if item.truncate and (item.response_id is None or named is not None):
            for response in self._holding.waiting():
                if named is None or response is named:
                    self.mute(response)
            self._cut(int, response_id=None if named is None else named.id)
        if active is not None:
            if item.truncate:
                self.mute(active)
            if item.cancel:
                self._turns.cancel(active)
        elif item.cancel and item.response_id is None:
            self._turns.withdraw()
        if item.truncate:
            self._clear()

    def by_model(self, item_id: str, content_index: int) -> None:
        """A model of transport EVENTS has stopped this part: the listener's side stops, too."""
        for response in self._holding.waiting():
            self.mute(response)
        self._out.emit("audio_interrupted", item_id=item_id, content_index=content_index)
        part = self._playback.parts.get((item_id, content_index))
        if part is None:
            return
        self.audio_stopped(part)
        played_ms, received_ms = self._playback.progress(item_id, self._out.now)
        if part.response.active or not self._playback.is_heard(item_id, self._out.now):
            self._transcript.cut(item_id, played_ms, received_ms)
        self._playback.forget(item_id)

    def by_raw(self, item_id: str, end_ms: float) -> None:
        """The program itself truncates this item: it is not played on."""
        if any(part.item_id == item_id for part in self._playback.parts.values()):
            _, received_ms = self._playback.progress(item_id, self._out.now)
            self._transcript.cut(item_id, end_ms, received_ms)
            self._playback.forget(item_id)

    def by_guardrail(self, trip: Trip) -> bool:
        """Stop the response that tripped; tells whether the model is to be told why."""
        source = trip.response
        told = self._turns.responses.latest is source and not self._turns.is_create_pending
        self.stop(source)
        return told

    def stop(self, response: Response) -> None:
        """Nothing more of `response` is heard; it is cancelled if it runs."""
        running = response.active
        if running and not self._stops_itself:
            self._turns.cancel(response)
        unheard = self.mute(response)
        if not running:
            self._transcript.response_ended(response)
        if self._stops_itself:
            sounds = unheard or response.spoken or response.first_audio is not None
            cancel = running and not response.over
            if sounds or cancel:
                self._out.add(StopModel(response.model_id or None, cancel=cancel, truncate=sounds))
            return
        self._cut(round, response_id=response.id)
        self._clear()

    def mute(self, response: Response) -> bool:
        """What still comes of `response` is dropped, and so is what is held back of it: True where that has audio."""
        response.muted = True
        self._transcript.muted(response)
        unheard = self._holding.drop(response)
        for item_id, content_index in unheard if not self._stops_itself else ():
            self._truncate(item_id, content_index, 0)
        return bool(unheard)

    def audio_stopped(self, part: Part) -> None:
        """No more audio of this part comes, if that has not been said."""
        if not part.ended:
            part.ended = True
            self._out.emit("audio_stopped", item_id=part.item_id, content_index=part.content_index)

    def _cut(self, rounding: Callable[[float], int], *, response_id: str | None = None) -> bool:
        """Truncate what was not heard; True where something was left to hear."""
        cut_short = False
        for cut in self._playback.interrupt(self._out.now, rounding, response_id=response_id):
            part = cut.part
            self._out.emit("audio_interrupted", item_id=part.item_id, content_index=part.content_index)
            self.audio_stopped(part)
            if cut.unknown or (cut.finished and not part.response.active):
                continue  # heard to its end, and nothing will be added: the model's view of it is right; or not known
            cut_short = True
            self._truncate(part.item_id, part.content_index, cut.end_ms)
            self._transcript.cut(part.item_id, cut.end_ms, cut.received_ms)
            self._out.sound(CutSound(part.item_id, part.content_index, cut.end_ms))
        return cut_short

    def _clear(self) -> None:
        """Have the model's side drop what it has not played, and truncate the item by itself."""
        if self._elsewhere:
            self._out.send({"type": "output_audio_buffer.clear"})

    def _truncate(self, item_id: str, content_index: int, end_ms: int) -> None:
        self._out.send(
            {
                "type": "conversation.item.truncate",
                "item_id": item_id,
                "content_index": content_index,
                "audio_end_ms": end_ms,
            }
        )
