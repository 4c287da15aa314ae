"""Hears the model of one session: frame by frame and in order, from the start of the engine on.

Nearly all audio and text only says more of what is being said. That passes the queue of inputs by; everything else is
taken in its turn.
"""

from collections.abc import Sequence
from typing import Protocol

from voicebus.engine.inputs import Input, ModelEvent, ModelMalformed
from voicebus.engine.outputs import Emit, Output
from voicebus.runtime import frames
from voicebus.runtime.gate import Gate
from voicebus.runtime.inline import InlineCalls
from voicebus.runtime.modelside import ModelSide
from voicebus.runtime.reading import audio_input, read_event, text_event
from voicebus.runtime.surroundings import ClientFace, Engine, ModelTap


class Takes(Protocol):
    """The session that is told what was heard."""

    last_seq: int

    def take(self, event: Input, delta: frames.AudioDelta | None, size: int) -> None: ...

    def perform(self, outputs: Sequence[Output]) -> None: ...

    def crash(self, error: Exception) -> None: ...


class Hearing:
    """`frame` takes one frame of the model's."""

    def __init__(
        self,
        session: Takes,
        engine: Engine,
        face: ClientFace,
        tap: ModelTap | None,
        model: ModelSide,
        inline: InlineCalls,
        gate: Gate,
    ) -> None:
        self._session = session
        self._engine = engine
        self._face = face
        self._tap = tap
        self._model = model
        self._inline = inline
        self._gate = gate
        # Asked for with every frame.
        self._now = model.now
        self._carry_on = engine.carry_on
        self._read_audio = frames.DeltaReader().__call__  # itself: an object is asked for it at each call
        self._begun = False
        # Frames that came before the engine was started; bounded by what a server says before it is spoken to.
        self._early: list[bytes] = []

    def begin(self) -> None:
        """The engine has been started: what came before is read now."""
        self._begun = True
        early, self._early = self._early, []
        for frame in early:
            self.frame(frame)

    def frame(self, frame: bytes) -> None:
        if not self._begun:
            self._early.append(frame)
            return
        if self._inline.calls:
            if not self._inline.keep(frame):
                self._inline.end_all()
                self.read_waiting()
            return
        if not self._model.heard_model:
            self._model.connected()
        if frame.find(frames.DELTA_MARK) >= 0:  # as in nearly all
            # Not called as they are looked up: where it is no method, that takes Python ten times as long.
            gate, read_audio, carry_on, now = self._gate, self._read_audio, self._carry_on, self._now
            passes = gate.open and not (gate.busy or gate.inputs or gate.ended)
            delta = read_audio(frame)
            if delta is not None:
                if self._model.ids.renames:
                    delta = self._model.ids.audio(delta)
                size = len(frame)
                forward = None
                if passes:
                    forward = carry_on(delta.response_id, delta.item_id, delta.content_index, len(delta.samples), now())
                if forward is None:  # there is something to decide
                    self._session.take(audio_input(delta), delta, size)
                    return
                tap, seq = self._tap, self._session.last_seq
                try:
                    if tap is None:
                        forward_audio = self._face.audio  # as above
                        forward_audio(forward, delta, seq)
                    elif not tap.sounded(forward, delta, size, seq):
                        tap.heard(audio_input(delta), delta, size)
                        self._face.audio(forward, delta, seq)
                        tap.settled()
                except Exception as error:  # noqa: BLE001 - the boundary between one session and the others
                    self._session.crash(error)
                return
            text = frames.read_text_delta(frame)
            if text is not None and passes and self._say_on(text, frame):
                return
        item, event, size = read_event(frame)
        if isinstance(item, ModelMalformed):
            self._session.take(item, None, size)
            return
        kind, known = event["type"], self._model.ids.incoming(event)
        self._model.before(kind, known)
        self._session.take(item if known is event else ModelEvent(known), None, size)
        self._model.after(kind, known)

    def read_waiting(self) -> None:
        """Read the frames that waited for a call, up to the next call."""
        while not self._gate.ended and (frame := self._inline.next()) is not None:
            self.frame(frame)

    def _say_on(self, text: frames.TextDelta, frame: bytes) -> bool:
        """Show more of what is being said; False where there is something to decide."""
        tap, session = self._tap, self._session
        if tap is not None and text.event_id is None:
            return False  # whoever reads along is shown whether it has none, or null
        try:
            outputs = self._engine.say_on(
                text.type, text.response_id, text.item_id, text.content_index, text.delta, self._now()
            )  # fmt: skip
            if outputs is None:
                return False
            if tap is not None:
                first = outputs[0] if outputs else None
                if type(first) is Emit and tap.said(text, first.data["text"], len(frame), session.last_seq):
                    if len(outputs) == 1:  # as nearly always: nothing is left to be shown
                        return True
                    outputs = outputs[1:]
                else:
                    item, size = text_event(text, frame)
                    tap.heard(item, None, size)
            if outputs:
                session.perform(outputs)
            if tap is not None:
                tap.settled()
        except Exception as error:  # noqa: BLE001 - the boundary between one session and the others
            session.crash(error)
        return True
