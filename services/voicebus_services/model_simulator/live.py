"""Drives one simulated session: carries frames between its connections and the pure state, and does its work.

All tasks of a session belong to the task group of the connection (or call) that opened it. What happens in one session
never reaches another: they share only the imitation, which keeps no session state.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from voicebus.telemetry.logging import get_logger
from voicebus_services.model_simulator import directives
from voicebus_services.model_simulator.brains import BrainContext, BrainReply, Fault, Say
from voicebus_services.model_simulator.imitation import Imitation, Utterances
from voicebus_services.model_simulator.pacing import FrameDelay, Pace
from voicebus_services.model_simulator.protocol.audio import to_pcm16_24k
from voicebus_services.model_simulator.protocol.items import Item
from voicebus_services.model_simulator.protocol.orders import OtherOrders
from voicebus_services.model_simulator.protocol.responder import Think
from voicebus_services.model_simulator.protocol.responses import ResponseRun
from voicebus_services.model_simulator.protocol.session import Listen, SimulatedSession
from voicebus_services.model_simulator.tool_choice import obeying

log = get_logger(__name__)

# How long the model may think before `response.created` goes out without its answer.
_ANNOUNCE_AFTER = 0.05
# Frames that may wait for a slow reader before generation pauses, and before the connection is dropped (which only a
# client that sends without ever reading, or an unread sideband, can reach).
_HIGH_WATER = 128
_QUEUE_LIMIT = 8192
_PIECES_BEFORE_FAULT = 3
_MALFORMED = '{"type":"response.output_audio.delta","event_id":"event_'

_encode = msgspec.json.Encoder().encode


class Connection:
    """The way to one client: a bounded queue of frames, written by `write()`."""

    def __init__(self, send: Callable[[dict[str, Any]], Awaitable[None]], delay: FrameDelay) -> None:
        self._send = send
        self._delay = delay
        self._frames: asyncio.Queue[str | tuple[int, str] | None] = asyncio.Queue(_QUEUE_LIMIT)
        self._room = asyncio.Event()
        self._room.set()
        self._over = False

    def put(self, frame: str) -> None:
        """Queue a text frame; a client so far behind that none fits is dropped."""
        if self._over:
            return
        if self._frames.full():
            self.drop()
            return
        self._frames.put_nowait(frame)
        if self._frames.qsize() >= _HIGH_WATER:
            self._room.clear()

    def close(self, code: int, reason: str = "") -> None:
        """Close the socket behind what is queued."""
        if not self._over:
            self._over = True
            self._make_place()
            self._frames.put_nowait((code, reason))

    def drop(self) -> None:
        """Cut the socket without a close frame, behind what is queued."""
        if not self._over:
            self._over = True
            self._make_place()
            self._frames.put_nowait(None)

    def _make_place(self) -> None:
        self._room.set()
        if self._frames.full():
            self._frames.get_nowait()

    async def room(self) -> None:
        """Wait while the client is behind."""
        await self._room.wait()

    async def write(self) -> None:
        """Send what is queued until the connection is closed or dropped, or the client is gone."""
        with contextlib.suppress(OSError):  # what ASGI raises for a client that has gone; the reader learns it too
            while (frame := await self._frames.get()) is not None:
                await self._delay.pass_by()
                if isinstance(frame, tuple):
                    code, reason = frame
                    await self._send({"type": "websocket.close", "code": code, "reason": reason})
                    return
                await self._send({"type": "websocket.send", "text": frame})
                if self._frames.qsize() < _HIGH_WATER // 2:
                    self._room.set()


class LiveSession:
    """One session with its connections."""

    def __init__(
        self,
        session: SimulatedSession,
        imitation: Imitation,
        utterances: Utterances,
        pace: Callable[[], Pace],
        group: asyncio.TaskGroup,
        *,
        frame_delay: FrameDelay,
        reordered: bool = False,
        media_elsewhere: bool = False,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self.session = session
        self.frame_delay = frame_delay
        self._orders = OtherOrders() if reordered else None
        self._media_elsewhere = media_elsewhere
        self._on_close = on_close
        self._imitation = imitation
        self._utterances = utterances
        self._pace = pace
        self._group = group
        self._connections: list[Connection] = []
        self._answers: dict[str, asyncio.Task[None]] = {}
        self._listens: dict[str, asyncio.Task[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_for: float | None = None

    # -- connections ---------------------------------------------------------------------------------------------

    def attach(self, connection: Connection) -> None:
        """Add a connection; it alone gets `session.created`, and from then on what all get."""
        self.flush()
        self._connections.append(connection)
        self.session.greet()
        greeting, self.session.events = self.session.events, []
        for event in greeting:
            connection.put(_encode(event).decode())
        self.flush()

    def detach(self, connection: Connection) -> None:
        self._connections.remove(connection)

    def handle(self, frame: str) -> None:
        self.session.handle(frame)
        self.flush()

    def handle_binary(self) -> None:
        self.session.handle_binary()
        self.flush()

    def cut(self) -> None:
        """Cut every connection without a close frame, now."""
        for connection in self._connections:
            connection.drop()

    def stop(self, code: int = 1000) -> None:
        """End the session: its tasks are cancelled, connections still open are closed."""
        if self._timer is not None:
            self._timer.cancel()
        for task in (*self._answers.values(), *self._listens.values()):
            task.cancel()
        for connection in self._connections:
            connection.close(code)

    # -- carrying ------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Send what the session has to say, start what it asked for, set its timer."""
        session = self.session
        if session.events:
            events, session.events = session.events, []
            if self._orders is not None:
                events = self._orders.of(events, answering=session.responder.active is not None)
            for event in events:
                if self._media_elsewhere and event["type"] == "response.output_audio.delta":
                    continue
                frame = _encode(event).decode()
                for connection in self._connections:
                    connection.put(frame)
        if session.work:
            work = session.work.copy()
            session.work.clear()
            for task in work:
                self._start(task)
        for response_id in [key for key in self._answers if not session.responder.is_active(key)]:
            self._answers.pop(response_id).cancel()
        if session.closing is not None:
            for connection in self._connections:
                connection.close(session.closing)
            if self._on_close is not None:
                self._on_close()
        elif session.deadline != self._timer_for:
            self._set_timer(session.deadline)

    def _set_timer(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_for = deadline
        self._timer = asyncio.get_running_loop().call_later(max(0.0, deadline - time.time()), self._tick)

    def _tick(self) -> None:
        self._timer_for = None
        self.session.tick()
        self.flush()

    def _start(self, work: Think | Listen) -> None:
        if isinstance(work, Listen):
            task = self._group.create_task(self._listen(work), name=f"listen {work.item.id}")
            self._listens[work.item.id] = task
            task.add_done_callback(lambda _: self._listens.pop(work.item.id, None))
        else:
            run = work.run
            self._answers[run.id] = self._group.create_task(self._answer(run), name=f"answer {run.id}")

    # -- hearing -------------------------------------------------------------------------------------------------

    async def _listen(self, work: Listen) -> None:
        try:
            text = await self._imitation.ears.transcribe(to_pcm16_24k(work.audio, work.format))
        except Exception:  # the boundary of one utterance: whatever the ears did, the session goes on
            log.exception("the simulator's ears failed")
            self.session.misheard(work, "", "The audio could not be transcribed.")
        else:
            if directives.asks_for(text, "fault", "transcription_failed"):
                self.session.misheard(work, text, "The audio could not be transcribed.")
            else:
                self.session.heard(work, text)
        self.flush()

    async def _hear(self, item: Item) -> None:
        """Wait until the words of a spoken item are known; items given only to one response are heard here."""
        if item.heard is not None or item.audio is None or item.body.get("role") != "user":
            return
        listening = self._listens.get(item.id)
        if listening is not None:
            await asyncio.wait({listening})
        elif item.audio.data is not None:
            audio_format = self.session.config["audio"]["input"]["format"]["type"]
            item.heard = await self._imitation.ears.transcribe(to_pcm16_24k(item.audio.data, audio_format))

    # -- answering -----------------------------------------------------------------------------------------------

    async def _answer(self, run: ResponseRun) -> None:
        responder = self.session.responder
        announcing = asyncio.get_running_loop().call_later(_ANNOUNCE_AFTER, self._announce, run)
        try:
            reply = await self._think(run)
            if reply.fault is not None and reply.fault.kind == "silence":
                announcing.cancel()
                self._answers.pop(run.id, None)
                responder.discard(run)
                return
            if reply.delay_ms:
                await asyncio.sleep(reply.delay_ms / 1000)
            self._announce(run)
            await self._stream(run, reply)
        except Exception:  # the boundary of one response: whatever a brain did, the session goes on
            log.exception("a simulated response failed")
            self._answers.pop(run.id, None)
            responder.fail(run, "server_error")
            self.flush()
        finally:
            announcing.cancel()

    def _announce(self, run: ResponseRun) -> None:
        self.session.responder.announce(run)
        self.flush()

    async def _think(self, run: ResponseRun) -> BrainReply:
        for item in run.context:
            await self._hear(item)
        settings = run.settings
        context = BrainContext(
            settings.instructions,
            tuple(tool for tool in settings.tools if tool["type"] == "function"),
            settings.tool_choice,
            tuple(item.as_context() for item in run.context),
        )
        return obeying(await self._imitation.brain.respond(context), context)

    async def _stream(self, run: ResponseRun, reply: BrainReply) -> None:
        pace, fault = self._pace(), reply.fault
        if fault is not None and fault.kind == "malformed":
            for connection in self._connections:
                connection.put(_MALFORMED)
        breaking = fault is not None and fault.kind in ("drop", "failed", "stall")
        outputs = reply.outputs
        if fault is not None and fault.kind == "drop" and not outputs:
            outputs = (Say("I was about to say something, but the line went dead."),)
        pieces = 0
        for output in outputs:
            utterance = None
            if isinstance(output, Say) and run.settings.modality == "audio":
                utterance = await self._utterances.utterance(output.text, run.settings.format["type"])
            run.begin(output, utterance)
            while run.active:
                await pace.before_piece()
                audio_ms = run.step()
                if audio_ms is None:
                    break
                self.flush()
                for connection in self._connections:
                    await connection.room()
                pieces += 1
                if breaking and pieces >= _PIECES_BEFORE_FAULT:
                    break
                await pace.after_piece(audio_ms)
            if run.cut or (breaking and pieces >= _PIECES_BEFORE_FAULT):
                break
        await self._finish(run, fault)

    async def _finish(self, run: ResponseRun, fault: Fault | None) -> None:
        if fault is not None and fault.kind == "drop":
            for connection in self._connections:
                connection.drop()
        if fault is not None and fault.kind in ("drop", "stall"):
            await asyncio.Event().wait()  # until the run is cancelled, by the client or with the session
        self._answers.pop(run.id, None)
        if fault is not None and fault.kind == "failed":
            self.session.responder.fail(run, fault.code)
        else:
            self.session.responder.complete(run)
        self.flush()
