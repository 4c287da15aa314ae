"""Runs one engine session: brings it what happens, performs what it decides, owns its timers and jobs.

Everything but `run` is synchronous. An input that comes while outputs are being performed waits its turn, so the
engine sees one thing at a time and outputs keep their order. An exception ends this session and no other.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

from voicebus.contracts.journal import ErrorRecorded, EventType, SessionEnded
from voicebus.engine.config import SessionConfig
from voicebus.engine.inputs import Approve, CommitAudio, End, Input, LinkLost, Reject
from voicebus.engine.outputs import (
    CancelTimer,
    Close,
    CommitSettled,
    ConcealInput,
    Emit,
    ForwardAudio,
    HoldInput,
    Ignored,
    Keep,
    Observe,
    Output,
    Record,
    ReturnInputs,
    SetTimer,
    ToClient,
)
from voicebus.engine.state import State
from voicebus.errors import CommandRefusedError, ModelLinkError
from voicebus.ports import ModelConnector, SessionRef
from voicebus.runtime import frames
from voicebus.runtime.arrivals import Arrivals
from voicebus.runtime.gate import Gate
from voicebus.runtime.hearing import Hearing
from voicebus.runtime.inline import CALL_GOES_ON, InlineCalls, call_of
from voicebus.runtime.jobs import Jobs
from voicebus.runtime.modelside import ModelSide, jitter
from voicebus.runtime.placing import Placing
from voicebus.runtime.reading import known_of
from voicebus.runtime.recordside import RecordSide
from voicebus.runtime.session_trace import trace_of
from voicebus.runtime.standby import Standby
from voicebus.runtime.surroundings import Author, Bus, CallRecorder, ClientFace, Engine, ModelTap
from voicebus.runtime.timers import Timers
from voicebus.runtime.workside import WorkSide
from voicebus.telemetry.logging import get_logger
from voicebus.telemetry.measurements import observe
from voicebus.telemetry.tracing import exemplar, trace_id

log: Final = get_logger(__name__)

HANGUP: Final = "hangup"
"""Why a session ends whose client is gone, with a closing handshake or without."""

_INTERNAL_ERROR: Final = 1011


class SessionDriver:
    """One session, from dialling the model to its last record. Implements `ModelListener`."""

    # Of an object with more than 30 attributes of its own Python finds none at once, and each frame asks for several.
    leaving: str = HANGUP
    """Why the session ends where `run` is cancelled."""

    def __init__(
        self,
        engine: Engine,
        config: SessionConfig,
        ref: SessionRef,
        bus: Bus,
        face: ClientFace,
        *,
        author: Author,
        tap: ModelTap | None = None,
        recorder: CallRecorder | None = None,
        placing: Placing | None = None,
    ) -> None:
        self._engine = engine
        self._ref = ref
        self._bus = bus
        # Asked for with every frame.
        self._now = bus.clock.monotonic
        self._gate = Gate()
        self._face = face
        self._tap = tap
        self._log = log.bind(
            session=ref.id, tenant=config.tenant, agent=config.agent.name, trace=trace_id(ref.traceparent)
        )
        self._trace = trace_of(ref)
        self._handle = engine.handle if self._trace is None else self._trace.around(engine.handle)
        self._model = ModelSide(config, engine, bus.clock, self, self.feed, self.job, placing)
        self._audio, self._recorder = self._model.audio, recorder
        self._record_side = RecordSide(recorder, self._model.placing)
        self._item: tuple[Input, frames.AudioDelta | None, int] | None = None
        # What of the model's nobody may know of yet; bounded by the engine.
        self._held: deque[tuple[Input, frames.AudioDelta | None, int]] = deque()
        self._live = False
        self._inline = InlineCalls()
        self._hearing = Hearing(self, engine, face, tap, self._model, self._inline, self._gate)
        self.model_frame: Callable[[bytes], None] = self._hearing.frame
        self._work = WorkSide(config, ref, bus, author, self._inline, self.feed, self.job, self._trace)
        self._timers = Timers(bus.clock, self.feed)
        self._jobs = Jobs(ref.id, self._log, self.crash)
        self._settled: dict[str, Callable[[], None]] = {}
        self._over = asyncio.Event()
        self._reason = "error"
        self._started_at = 0.0
        self.last_seq: int = 0
        """The last recorded event; set before `run` where another owner has recorded some."""
        # Asked for once: a process that is not traced would be asked whether it is with every measurement.
        sample = None if self._trace is None else exemplar(ref.traceparent)
        self._perform: dict[type, Callable[[Any], None]] = {
            **self._model.performs,
            **self._work.performs,
            **self._record_side.performs,
            ForwardAudio: self._forward_audio,
            HoldInput: self._hold_input,
            ReturnInputs: self._return_inputs,
            ConcealInput: lambda _: None,
            ToClient: self._to_client,
            Emit: self._emit,
            Record: self._record,
            SetTimer: self._timers.set,
            CancelTimer: self._timers.cancel,
            Keep: lambda output: self.note(output.fields),
            CommitSettled: lambda output: self._settled.pop(output.given)(),
            Observe: lambda output: observe(output.name, output.value, output.labels, sample),
            Ignored: lambda output: self._log.debug("ignored", why=output.why),
            Close: self._close,
        }

    # --- the owner's side ---------------------------------------------------------------------------

    @property
    def live(self) -> bool:
        """Whether inputs are heard: from the start of the engine to its end."""
        return self._live and not self._gate.ended

    @property
    def ended(self) -> bool:
        return self._gate.ended

    def perform(self, outputs: Sequence[Output]) -> None:
        """Carry out what the engine has decided past the queue; what that brings about waits its turn."""
        self._gate.busy = True
        try:
            for output in outputs:
                self._perform[type(output)](output)
        except Exception as error:  # noqa: BLE001 - the boundary between one session and the others
            self.crash(error)
        finally:
            self._gate.busy, self._item = False, None  # it may have been large
        if self._gate.inputs:
            self._take_turns()

    async def dial(self, *connectors: ModelConnector) -> None:
        """Open the model's link. What comes on it waits until the session is `run`.

        `connectors` are the ways to the models of the session's config, by address.

        Raises:
            UserError, ModelLinkError: as the connector; nothing has been opened then, and `run` must not follow.
        """
        await self._model.first(connectors)

    async def begin(self, *connectors: ModelConnector) -> None:
        """`dial` and `start`. A model that cannot be reached is lost as any other is: the next one may be reached."""
        lost: ModelLinkError | None = None
        try:
            await self.dial(*connectors)
        except ModelLinkError as error:
            self._log.warning("the model cannot be reached", error=str(error), code=error.code)
            lost = error
        self.start()
        if lost is not None:
            self._model.link_failed(lost)

    async def run(self, *connectors: ModelConnector) -> str:
        """Dial the model and start, unless that was done, converse until the end, clean up. Returns why it ended.

        A model that cannot be reached is a session that ended: it is recorded and the client is told. A session that
        another owner began (`last_seq` was set) goes on at once, and dials by itself.
        """
        arrivals = Arrivals(self._bus.clock, self, traced=self._trace is not None)
        self._bus.inbox.subscribe(self._ref.id, arrivals.arrived)
        try:
            if self._live:
                pass  # in process the program waits for the dialling and the start
            elif self.last_seq:
                self._model.reach(connectors)
                self.start()
            elif connectors:
                await self.begin(*connectors)
            else:
                self.start()
            await self._over.wait()
        except asyncio.CancelledError:
            # The client left, or the gateway stops, while the model is dialled: that too began and ended.
            if not self._live:
                self.start()
            self.feed(End(self.leaving))
            raise
        finally:
            await self._clean_up()
        return self._reason

    def stand_in(self, standby: Standby) -> None:
        """Go on with this socket, which knows the session; before `run`."""
        self._model.stand_in(standby)

    def start(self) -> None:
        """Let the engine begin: its first outputs are performed, and inputs are heard, when this returns."""
        self._started_at = self._bus.clock.monotonic()
        self._live = True
        self._gate.busy = True
        try:
            for output in self._engine.start():
                self._perform[type(output)](output)
            self._model.begin(self._engine.formats)
            if self._tap is not None:
                self._tap.settled()
        except Exception as error:  # noqa: BLE001 - the boundary between one session and the others
            self.crash(error)
        finally:
            self._gate.busy, self._item = False, None  # it may have been large
        self._hearing.begin()
        if self._model.early_loss is not None:
            self.feed(self._model.early_loss)
        self._open_to_client()

    def feed(self, event: Input, delta: frames.AudioDelta | None = None) -> None:
        """Bring one input, a `ModelAudio` with its samples; nothing happens before the start and after the end."""
        self.take(event, delta, 0 if delta is None else len(delta.samples))

    def decide(self, word: Approve | Reject) -> None:
        """Bring a person's word about a call.

        Raises:
            CommandRefusedError: `unknown_call`, as no such call waits for one.
        """
        if not self.live or not self._engine.awaits_decision(word.call_id):
            raise CommandRefusedError("unknown_call", f"no call {word.call_id[:64]!r} waits for approval")
        self.feed(word)

    def commit(self, given: str, then: Callable[[], None]) -> None:
        """End a turn of speech, under a name that is used once; `then` as soon as no owner's death takes it back."""
        if self.live:
            self._settled[given] = then
            self.feed(CommitAudio(given=given))

    def take_over(self, agent: str) -> asyncio.Future[None]:
        """As `WorkSide.take_over`."""
        return self._work.take_over(agent)

    def consent(self, given: bool) -> None:
        """The caller agrees to be recorded from now on, or does not.

        Raises:
            CommandRefusedError: `not_recorded`, as nothing would be recorded.
        """
        if self._record_side.consent(given):
            self.note({"consent": str(int(given))})

    def note(self, state: Mapping[str, str]) -> None:
        """Change fields of the session's state that no recorded event changes."""
        self._bus.journal.update(self._ref, state)

    def once_written(self, then: Callable[[], None]) -> None:
        """Call `then` once what was recorded and noted so far is written; never where another owner has the session."""
        self._bus.journal.after(self._ref, then)

    @property
    def at_rest(self) -> bool:
        """Whether this is a moment to move the session to another owner."""
        return self.live and self._engine.at_rest(self._bus.clock.monotonic())

    def relinquish(self, reason: str) -> None:
        """Another process owns the session now: nothing more is recorded, said or asked for here."""
        if not self.ended:
            self._stop(reason)

    async def caught_up(self) -> None:
        """Return once no call of `inline_tools` runs."""
        await self._inline.caught_up()

    @property
    def session(self) -> str:
        """Which session this is."""
        return self._ref.id

    @property
    def agent(self) -> str:
        """The name of the agent now in charge."""
        return self._engine.agent.name

    @property
    def history(self) -> list[dict[str, Any]]:
        """The conversation's items now, as the native face shows them."""
        return self._engine.history

    @property
    def spoken(self) -> int:
        """Bytes of the audio that came while the user was speaking, or where turns are ended by hand."""
        return self._audio.spoken

    def send_audio(self, frame: bytes, size: int | None = None) -> None:
        """Pass an append frame, with `size` bytes of samples, on to the model; without a link the newest 60 s wait."""
        if not self._gate.ended:
            now = self._now  # not called as it is looked up: it is no method
            heard = self._audio.append(frame, now(), size)
            if heard is not None and self._recorder is not None:
                self._recorder.hear(heard)

    def job(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        """Run something that waits beside the session; cancelled with it, its failure ends it. None once it ended."""
        if self.ended:
            work.close()
            return None
        return self._jobs.start(name, work)

    # --- ModelListener ------------------------------------------------------------------------------

    def model_lost(self, why: str, close_code: int | None) -> None:
        lost = LinkLost(why, close_code=close_code, jitter=jitter())
        if not self._live:
            self._model.early_loss = lost
            return
        # What waits for a call was said before the loss.
        self._inline.end_all()
        self._hearing.read_waiting()
        self.feed(lost)

    # --- the loop -----------------------------------------------------------------------------------

    def take(self, event: Input, delta: frames.AudioDelta | None, size: int) -> None:
        """Bring one input, which came as `size` bytes, in its turn."""
        gate = self._gate
        if not self._live or gate.ended:
            return
        gate.inputs.append((event, delta, size))
        if not gate.busy:
            self._take_turns()

    def _take_turns(self) -> None:
        """Bring the engine what waits, one at a time."""
        gate, tap, perform, handle, now = self._gate, self._tap, self._perform, self._handle, self._now
        gate.busy, inputs = True, gate.inputs
        try:
            while inputs and not gate.ended:
                self._item = event, delta, size = inputs.popleft()
                if self._inline.calls and isinstance(event, CALL_GOES_ON):
                    self._inline.end(call_of(event))
                outputs = handle(event, now())
                if tap is not None and (known := known_of(event, outputs)) is not None:
                    tap.heard(known, delta, size)
                for output in outputs:
                    perform[type(output)](output)
                if tap is not None:
                    tap.settled()
        except Exception as error:  # noqa: BLE001 - the boundary between one session and the others
            self.crash(error)
        finally:
            gate.busy, self._item = False, None  # it may have been large
        if not gate.open:
            self._open_to_client()
        if self._inline.waiting:
            self._hearing.read_waiting()

    def _open_to_client(self) -> None:
        # Audio passes the engine by, so it must not overtake the settings that say what is to become of it.
        if not self._gate.open and not self.ended and self._engine.state is State.LIVE:
            self._gate.open = True
            self._face.ready()

    def crash(self, error: Exception) -> None:
        """End this session, which met an error of our own."""
        self._log.exception("session failed", exc_info=error)
        if self.ended:
            return
        elapsed = round((self._bus.clock.monotonic() - self._started_at) * 1000)
        message = f"internal error ({type(error).__name__})"
        failed = ErrorRecorded(code="internal_error", message=message, source="gateway", at_ms=elapsed)
        try:
            self._record(Record(self.last_seq + 1, EventType.ERROR, failed))
            ended = SessionEnded(reason="error", duration_ms=elapsed)
            self._record(Record(self.last_seq + 1, EventType.SESSION_ENDED, ended))
        except Exception as second:  # noqa: BLE001 - what failed first is logged; the sockets must still be closed
            self._log.exception("the end could not be recorded", exc_info=second)
        self._close(Close("error", _INTERNAL_ERROR))

    async def _clean_up(self) -> None:
        self._end()
        self._inline.end_all()
        self._live = False
        self._bus.inbox.unsubscribe(self._ref.id)
        self._timers.clear()
        if self._trace is not None:
            self._trace.close()
        await self._jobs.end(close_journal=self._bus.journal.close(self._ref), close_model=self._model.aclose())

    # --- outputs ------------------------------------------------------------------------------------

    def _forward_audio(self, output: ForwardAudio) -> None:
        delta = None if self._item is None else self._item[1]
        if delta is None:
            raise RuntimeError("audio is forwarded only in answer to audio")
        self._face.audio(output, delta, self.last_seq)

    def _hold_input(self, _: HoldInput) -> None:
        if self._item is None:
            raise RuntimeError("only an input of the model's is held")
        self._held.append(self._item)

    def _return_inputs(self, output: ReturnInputs) -> None:
        again = [self._held.popleft() for _ in range(output.count)]
        self._gate.inputs.extendleft(reversed(again))

    def _to_client(self, output: ToClient) -> None:
        self._face.server_event(output.event)

    def _emit(self, output: Emit) -> None:
        self._face.emit(output.type, self.last_seq, self._bus.clock.at_ms(), output.data)

    def _record(self, output: Record) -> None:
        at_ms = self._bus.clock.at_ms()
        self.last_seq = output.seq
        self._bus.journal.append(self._ref, output, at_ms)
        self._face.record(output.seq, output.type, at_ms, output.data)

    # --- the rest -----------------------------------------------------------------------------------

    def _close(self, output: Close) -> None:
        self._stop(output.reason)
        self._face.close(output.client_code, output.reason)

    def _stop(self, reason: str) -> None:
        self._reason = reason
        self._end()
        self._gate.inputs.clear()
        self._held.clear()

    def _end(self) -> None:
        self._gate.ended = True
        self._over.set()
