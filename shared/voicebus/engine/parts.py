"""The parts of one session, put together: who knows whom. Decides nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from voicebus.engine import wire
from voicebus.engine.background import Background
from voicebus.engine.clientface import ClientFace, error_event
from voicebus.engine.commits import Commits
from voicebus.engine.config import Face, SessionConfig, Transport
from voicebus.engine.deadair import DeadAir
from voicebus.engine.detected import Detected
from voicebus.engine.formats import audio_format, bytes_per_ms
from voicebus.engine.guarding import Guard
from voicebus.engine.history import History
from voicebus.engine.holding import Holding
from voicebus.engine.hosted import HostedTools
from voicebus.engine.inputguards import InputGuards
from voicebus.engine.interludes import Interludes
from voicebus.engine.interruption import Interruptions
from voicebus.engine.outbox import Outbox
from voicebus.engine.overruling import Overruling
from voicebus.engine.playback import PlaybackTracker
from voicebus.engine.ratelimits import RateLimits
from voicebus.engine.responses import Response
from voicebus.engine.rewriting import Rewriter
from voicebus.engine.settings import Settings
from voicebus.engine.silence import Silence
from voicebus.engine.toolcalls import ToolCalls
from voicebus.engine.transcript import Transcript
from voicebus.engine.turns import Turns
from voicebus.engine.unfinished import Unfinished
from voicebus.engine.untold import Untold
from voicebus.engine.view import ClientView

_NO_ROOM: Final = "Too much waits for the model, which is being reconnected; this was not sent."
_TOO_LARGE: Final = "The model takes no message as large as this one, which is left out; send less."


@dataclass(frozen=True, slots=True)
class Parts:
    config: SessionConfig
    out: Outbox
    settings: Settings
    history: History
    playback: PlaybackTracker
    transcript: Transcript
    turns: Turns
    limits: RateLimits
    dead_air: DeadAir
    unfinished: Unfinished
    untold: Untold
    calls: ToolCalls
    commits: Commits
    detected: Detected
    interludes: Interludes
    background: Background
    hosted: HostedTools
    guard: Guard
    holding: Holding
    inputs: InputGuards
    interruptions: Interruptions
    rewriter: Rewriter
    overruling: Overruling
    face: ClientFace | None
    asked_raw: set[str] = field(default_factory=set)
    """Kinds of events that the program has sent itself: errors about them are its to know."""

    @property
    def is_idle(self) -> bool:
        """Whether nobody speaks, no answer is asked for or given, and no change of settings is under way."""
        return self.turns.is_quiet and self.settings.is_quiet and not self.inputs.blocks

    def is_at_rest(self, now: float) -> bool:
        """Whether nothing is said, heard, asked for, run or to be said again."""
        works = self.calls.is_any_open or self.commits.is_any_open
        return self.turns.is_quiet and not works and not self.playback.is_playing(now)

    def hide_item(self, item_id: str) -> None:
        """An item of the session's own making: neither history, transcript nor client get it."""
        self.history.hide(item_id)
        if self.face is not None:
            self.face.view.hide_item(item_id)

    def settings_sent(self) -> None:
        """The settings in force may be others now."""
        self.playback.measure(bytes_per_ms(self.settings.effective))

    def history_changed(self, item_id: str, added: bool | None) -> None:
        """Tell the native face what `History.put` did: added (True), changed (False), nothing (None)."""
        if added:
            self.out.emit("history_added", item=self.history.item(item_id))
        elif added is not None:
            self.history.publish(self.out)


def assemble(config: SessionConfig, now: float, view: ClientView | None) -> Parts:
    out = Outbox(config.session, config.face, now, records=config.records)
    settings = Settings(out, config.model, config.agent, config.transport)
    history = History(keeps=config.keeps)
    playback = PlaybackTracker(bytes_per_ms(settings.effective), tracked=config.tracked_playback)
    transcript = Transcript(out, playback, elsewhere=config.face is Face.SIDEBAND)
    turns = Turns(out, config.create_timeout_ms / 1000, lambda: settings.agent, config.transport)
    face: ClientFace | None = None

    def hide(item_id: str) -> None:
        parts.hide_item(item_id)

    def is_client_tool(name: str) -> bool:
        if config.face is Face.SIDEBAND:
            return settings.is_clients_tool(name)
        return face is not None and face.is_client_tool(name)

    def gone_silent(response: Response) -> None:
        if face is not None and face.resting is response:
            face.end_chain("completed", "")

    silence = Silence(out, turns, playback)
    interludes = Interludes(out, turns, silence, lambda: wire.text(settings.effective, "instructions"))
    background = Background(out, turns, history, silence, hide=hide)
    calls = ToolCalls(
        out,
        turns,
        history,
        interludes,
        background,
        config,
        hide=hide,
        is_client_tool=is_client_tool,
        gone_silent=gone_silent,
    )
    turns.hold_manual = calls.is_mixed_pending
    commits = Commits(out, turns, transcript, calls.batches)

    def refuse(event: Mapping[str, Any], code: str, message: str) -> None:
        out.error(code, message, "client")
        if wire.text(event, "type") == "input_audio_buffer.commit":
            commits.refused(wire.text(event, "event_id"))
        if face is not None:
            out.to_client(error_event(code, message, event_id=wire.text(event, "event_id") or None))

    out.uplink.refused = lambda event: refuse(event, "not_sent", _NO_ROOM)
    out.uplink.too_large = lambda event: refuse(event, "message_too_large", _TOO_LARGE)
    if view is not None:
        face = ClientFace(out, view, turns, calls, settings)
    guard = Guard(out, config.guardrail_timeout_ms / 1000)
    holding = Holding(
        out, turns, guard, transcript, lambda: settings.agent,
        lambda: playback.bytes_per_ms, lambda: audio_format(settings.effective),
    )  # fmt: skip
    inputs = InputGuards(out, settings, config.guardrail_timeout_ms / 1000)
    turns.hold_all = lambda: inputs.blocks
    if face is not None:
        face.outgoing = inputs.outgoing
    parts = Parts(
        config=config,
        out=out,
        settings=settings,
        history=history,
        playback=playback,
        transcript=transcript,
        turns=turns,
        limits=RateLimits(),
        dead_air=DeadAir(out, turns, config.dead_air_ms / 1000 if config.transport is Transport.WIRE else 0.0),
        unfinished=Unfinished(),
        untold=Untold(history, transcript, config.transport),
        calls=calls,
        commits=commits,
        detected=Detected(turns, transcript, calls.batches),
        interludes=interludes,
        background=background,
        hosted=HostedTools(out, calls, settings, config),
        guard=guard,
        holding=holding,
        inputs=inputs,
        interruptions=Interruptions(
            out,
            turns,
            playback,
            transcript,
            settings,
            holding,
            config.transport,
            elsewhere=config.face is Face.SIDEBAND,
        ),
        rewriter=Rewriter(out, history, hide),
        overruling=Overruling(settings, turns, calls.batches.has),
        face=face,
    )
    return parts
