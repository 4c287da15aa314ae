"""The parts of one session, put together: who knows whom. Decides nothing."""

from dataclasses import dataclass

from voicebus.engine.clientface import ClientFace
from voicebus.engine.config import SessionConfig
from voicebus.engine.guarding import Guard
from voicebus.engine.history import History
from voicebus.engine.interruption import Interruptions
from voicebus.engine.outbox import Outbox
from voicebus.engine.playback import PlaybackTracker
from voicebus.engine.settings import Settings, bytes_per_ms
from voicebus.engine.toolcalls import ToolCalls
from voicebus.engine.transcript import Transcript
from voicebus.engine.turns import Turns
from voicebus.engine.view import ClientView


@dataclass(frozen=True, slots=True)
class Parts:
    config: SessionConfig
    out: Outbox
    settings: Settings
    history: History
    playback: PlaybackTracker
    transcript: Transcript
    turns: Turns
    calls: ToolCalls
    guard: Guard
    interruptions: Interruptions
    face: ClientFace | None

    def hide_item(self, item_id: str) -> None:
        """An item of the session's own making: neither history, transcript nor client get it."""
        self.history.hide(item_id)
        if self.face is not None:
            self.face.view.hide_item(item_id)

    def history_changed(self, item_id: str, added: bool | None) -> None:
        """Tell the native face what `History.put` did: added (True), changed (False), nothing (None)."""
        if added:
            self.out.emit("history_added", item=self.history.item(item_id))
        elif added is not None:
            self.history.publish(self.out)


def assemble(config: SessionConfig, now: float, view: ClientView | None) -> Parts:
    out = Outbox(config.session, config.face, now)
    settings = Settings(out, config.model, config.agent)
    history = History()
    playback = PlaybackTracker(bytes_per_ms(settings.effective))
    transcript = Transcript(out, playback)
    turns = Turns(out, config.create_timeout_ms / 1000, lambda: settings.agent)
    face: ClientFace | None = None

    def hide(item_id: str) -> None:
        parts.hide_item(item_id)

    def is_client_tool(name: str) -> bool:
        return face is not None and face.is_client_tool(name)

    calls = ToolCalls(out, turns, history, hide=hide, is_client_tool=is_client_tool)
    turns.hold_manual = calls.is_mixed_pending
    if view is not None:
        face = ClientFace(out, view, turns, calls, settings)
    parts = Parts(
        config=config,
        out=out,
        settings=settings,
        history=history,
        playback=playback,
        transcript=transcript,
        turns=turns,
        calls=calls,
        guard=Guard(out, config.guardrail_timeout_ms / 1000),
        interruptions=Interruptions(out, turns, playback, transcript, settings),
        face=face,
    )
    return parts
