"""`WS /v1/sessions/connect`: a session's events as JSON text, audio as binary frames (contract section 3).

A session has one speaker and any few observers, and outlives the connections of both: a speaker that was lost may come
back within the grace, to a session that went on meanwhile.
"""

import asyncio
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any, Final

from voicebus.adapters.sockets import NO_STATUS, NORMAL, TRY_AGAIN_LATER
from voicebus.adapters.sockets.pieces import Pieces
from voicebus.contracts.envelope import Message
from voicebus.contracts.journal import EventType, SessionEnded, SessionStarted, for_callers
from voicebus.engine.config import Face
from voicebus.engine.inputs import End, Interrupt, ListenerBack, ListenerLeft
from voicebus.engine.keeping import Kept
from voicebus.engine.outputs import ForwardAudio
from voicebus.ports import Clock
from voicebus.runtime import frames
from voicebus.runtime.driver import HANGUP
from voicebus.telemetry.logging import get_logger
from voicebus_services.access.principal import Principal
from voicebus_services.gateway.faces.base import Host, SessionFace, event_frame
from voicebus_services.gateway.faces.missed import AUDIO_EVENTS, Missed, MissedAudio, MissedEvent, output_byte_rate
from voicebus_services.gateway.faces.native_connection import NativeConnection
from voicebus_services.gateway.faces.native_end import TAKEN_OVER, Ending, LastRecord
from voicebus_services.gateway.faces.native_input import NativeInput
from voicebus_services.gateway.faces.native_recalling import Recalling
from voicebus_services.gateway.faces.recorded import Recorded
from voicebus_services.gateway.faces.said_again import UNSAID, SaidAgain
from voicebus_services.gateway.faces.told_history import ToldHistory

log = get_logger(__name__)

MAX_OBSERVERS: Final = 16
"""Observers of one session at once; another one is turned away with `too_many_observers`."""

FOLLOWING_S: Final = 5.0
"""How long a client that was asked to go to another gateway, and hung up, may take until that one asks for it."""

# A client that closes with one of these has hung up; any other end of its connection is a loss.
_HUNG_UP: Final = frozenset({NORMAL, NO_STATUS})


class NativeFace(SessionFace):
    """The client side of one session: its speaker, its observers, and what waits for a speaker who was lost.

    `grace_s` is how long a session waits for its speaker to come (back); 0: not at all.
    """

    kind = Face.NATIVE

    def __init__(
        self,
        host: Host,
        principal: Principal,
        clock: Clock,
        *,
        agent: str,
        grace_s: float,
        traceparent: str | None = None,
        raw: bool = False,
    ) -> None:
        super().__init__(host, principal, agent=agent, traceparent=traceparent)
        self._clock = clock
        self._grace_s = grace_s
        self.raw_events = raw
        self._speaker: NativeConnection | None = None
        self._observers: list[NativeConnection] = []
        self.audio_speed = principal.limits.audio_speed or host.audio_speed
        self._input = NativeInput(self)
        self._missed = Missed()
        self._ready = False
        self._was_attended = False
        # A speaker that came before the session went on here, which is to hear that somebody listens.
        self._came: ListenerBack | None = None
        self._started: SessionStarted | None = None
        self._started_at = 0
        self._waiting: asyncio.TimerHandle | None = None
        self._recalling = Recalling(self.recorded, host.recall, self._admit, self.turn_away)
        self._history: Sequence[Mapping[str, Any]] = ()
        self._told_history = ToldHistory()
        self.ending = Ending()
        self._invited: NativeConnection | None = None
        # What was said since the last commit, its former gateway has heard, and this one has not. Each speaker is told
        # until one has said something: who was lost before has not read it.
        self._lacks_audio = False
        self._said_again = SaidAgain(self.keep_unsaid)
        # Whoever speaks after one who has said something has read here what it has.
        self._speaker_was_heard = False
        # Bytes of binary frames that came from speakers: whoever was cut off knows by it what was lost on the way.
        self._received = 0

    def inherit(
        self,
        session: str,
        token: str,
        *,
        started: SessionStarted,
        started_at: int,
        seq: int,
        muted: bool,
        done: Sequence[str],
    ) -> None:
        """This is a session that another gateway began, and recorded up to `seq`; before it goes on here."""
        self.session, self.token = session, token
        self.began.set()
        self._started, self._started_at = started, started_at
        self._was_attended = True
        self._learn(started)
        self.recorded.inherit(seq, grace_s=self._grace_s)
        self._input.inherit(muted=muted, done=done)
        self._lacks_audio = True

    def asks_again(self, turns: Sequence[str], sound_ms: int, kept: Kept, unsaid: str) -> None:
        """The speaker is to say these turns again; it has so much sound. `kept`: what the session goes on from;
        `unsaid`: what its former owner had asked for, and nobody said.
        """
        self._said_again.expect(turns, kept, unsaid)
        self._input.expect(sound_ms / 1000)

    def keep_unsaid(self) -> None:
        """For an owner after this one. Before the session is live that is for who makes it so to ask for."""
        if self.driver is not None and self.driver.live:
            self.driver.note({UNSAID: self._said_again.left})

    def inherit_end(self, history: Sequence[Mapping[str, Any]], reason: str) -> None:
        """The session that is inherited has ended: those who come are told how."""
        self._history = history
        self._lacks_audio = False
        self.close(NORMAL, reason)

    def knows(self, token: str) -> bool:
        """Whether `token` is this session's; compared in constant time."""
        return hmac.compare_digest(_digest(token), _digest(self.token))

    @property
    def observers(self) -> int:
        """How many observe."""
        return len(self._observers)

    @property
    def is_attended(self) -> bool:
        return self._speaker is not None

    def retire(self) -> None:
        self._history = self._items()
        self.agent = self.agent if self.driver is None else self.driver.agent
        super().retire()
        self._missed.take()
        self._told_history = ToldHistory()

    def _items(self) -> Sequence[Mapping[str, Any]]:
        return self._history if self.driver is None else self.driver.history

    # --- who is there -------------------------------------------------------------------------------

    def await_client(self, within_s: float | None = None) -> None:
        """Nobody is there: end the session unless somebody comes in time, by default within the grace."""
        self._left()
        limit_s = self._grace_s if within_s is None else within_s
        self._waiting = asyncio.get_running_loop().call_later(limit_s, self._hang_up)

    def join(self, connection: NativeConnection) -> None:
        """A connection has opened."""
        if not self.session:
            self._host.begin(self)
        if connection.observes or not self._speaker_was_heard:
            connection.after_seq = self.recorded.known(connection.after_seq)
        joining = sum(other.observes for other in self._recalling.connections)
        if connection.observes and len(self._observers) + joining >= MAX_OBSERVERS:
            message = f"this session has {MAX_OBSERVERS} observers already, which is as many as it may have"
            self.turn_away(connection, "too_many_observers", message)
        elif connection.after_seq >= self.recorded.forgotten:
            self._admit(connection, ())
        else:
            self._recalling.begin(connection, self.session)

    def gone(self, connection: NativeConnection, code: int) -> None:
        """A connection has ended, with this close code of its client's."""
        self._recalling.give_up(connection)
        if connection in self._observers:
            self._observers.remove(connection)
        if connection is not self._speaker:
            return
        self._speaker = None
        if self.ending.has_come:
            return
        if not self._grace_s:
            self._hang_up()
        elif code in _HUNG_UP and not self.moves:
            self._hung_up(connection)
        else:
            log.info("the client was lost", session=self.session, code=code, grace_s=self._grace_s)
            self.await_client()

    def _hung_up(self, connection: NativeConnection) -> None:
        """The speaker has closed its connection: that is the end, unless it was asked to go to another gateway."""
        if connection is self._invited:
            self.may_have_hung_up = True
            self.await_client(min(self._grace_s, FOLLOWING_S))
        else:
            self._hang_up()

    def invite(self) -> None:
        if self._speaker is not None and not self.ending.has_come:
            self._invited = self._speaker
            self.answer(self._speaker, "migrate", token=self._speaker.token or self.token)

    @property
    def awaits_move(self) -> bool:
        """Whether the speaker was asked to go to another gateway, and is still there: who comes is to go there, too."""
        return self._speaker is not None and self._speaker is self._invited

    def _tell_who_came(self) -> None:
        if self._came is not None and self.driver is not None and self.driver.live:
            self.driver.feed(self._came)
            self.driver.note({"status": "active"})
            self._came = None

    def _left(self) -> None:
        self._came = None
        if self.driver is not None and self.driver.live:
            self.driver.feed(ListenerLeft())
            self.driver.note({"status": "idle"})

    def _admit(self, connection: NativeConnection, older: Sequence[Recorded]) -> None:
        """Greet a connection, give it what it has missed, and let it take part from now on."""
        if not self.began.is_set():
            connection.withhold()
        first = not connection.observes and not self._was_attended
        speaker = None if connection.observes else self._speaker
        if speaker is not None and connection.came_at < speaker.came_at:
            # Its client has asked again since, as it had to wait for this: it has given this one up.
            connection.close(*TAKEN_OVER)
            return
        if connection.observes:
            self._observers.append(connection)
        else:
            self._was_attended = True
            self._become_speaker(connection)
        from_seq = min(connection.after_seq, self.recorded.last)
        if self._started is not None:
            from_seq = self._greet(connection, from_seq, first=first)
            for event in (*older, *self.recorded.after(from_seq)):
                connection.send(event.frame)
        if (closing := self.ending.told) is not None:
            connection.close(*closing)
            return
        if not connection.observes:
            self._came = ListenerBack(None if first else from_seq)
            self._tell_who_came()
        connection.taken_in()
        if connection is self._speaker:
            self._send_missed(connection)

    def _become_speaker(self, connection: NativeConnection) -> None:
        former, self._speaker = self._speaker, connection
        self.may_have_hung_up = False
        if former is not None:
            former.close(*TAKEN_OVER)
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _greet(self, connection: NativeConnection, from_seq: int, *, first: bool) -> int:
        """Say what the connection has met; returns up to which recorded event it has everything then."""
        if self._started is None:
            raise RuntimeError("a client is greeted once its session has started")
        if first:
            connection.send(self._with_token(connection.token))
            from_seq = max(from_seq, 1)
        else:
            agent = self.agent if self.driver is None else self.driver.agent
            greeting: dict[str, Any] = {"agent": agent, "audio": self._started.audio, "from_seq": from_seq}
            greeting |= {"observer": True} if connection.observes else {"token": connection.token}
            if not connection.observes:
                greeting["audio_received"] = self._received
            if self._lacks_audio and not connection.observes:
                greeting |= {"resend_audio": True, "resend_turns": self._said_again.turns}
            connection.send(self._event("session_resumed", from_seq, greeting))
        connection.send(self._frame("history_updated", from_seq, self._clock.at_ms(), {"history": self._items()}))
        return from_seq

    def _with_token(self, token: str) -> bytes:
        """`session_started` as its own client sees it: the token is neither recorded nor shown to anybody else."""
        if self._started is None:
            raise RuntimeError("the session has not started")
        fields = {**for_callers(self._started), "token": token}
        return event_frame(EventType.SESSION_STARTED.value, 1, self.session, self._started_at, fields)

    def _send_missed(self, connection: NativeConnection) -> None:
        seq, at_ms = self.recorded.last, self._clock.at_ms()
        for entry in self._missed.take():
            if isinstance(entry, MissedAudio):
                connection.send_audio(entry.where, entry.samples, seq, at_ms)
            else:
                connection.send(self._event(entry.kind, seq, entry.data))

    def _hang_up(self) -> None:
        self._waiting = None
        if self.driver is not None and self.driver.ended:
            return
        if self.driver is not None and self.driver.live:
            self.driver.feed(End(HANGUP))
        else:
            self._host.hung_up(self)

    # --- to the clients -----------------------------------------------------------------------------

    def ready(self) -> None:
        self._ready = True
        if self._speaker is None:
            self._left()
        self._tell_who_came()
        self._input.open()

    def record(self, seq: int, kind: EventType, at_ms: int, data: Message) -> None:
        if isinstance(data, SessionEnded):
            self.ending.recorded(LastRecord(seq, kind, at_ms, data))
            return
        super().record(seq, kind, at_ms, data)
        frame = self.recorded.newest.frame
        if isinstance(data, SessionStarted):
            self._started, self._started_at = data, at_ms
            self._learn(data)
            if self._speaker is not None:
                self._speaker.send(self._with_token(self._speaker.token or self.token))
        elif self._speaker is not None:
            self._speaker.send(frame)
        for observer in self._observers:
            observer.send(frame)

    def may_tell(self) -> None:
        super().may_tell()
        for listener in self._listeners():
            listener.release()

    def _learn(self, started: SessionStarted) -> None:
        self._input.audio.learn(started.audio)
        self._missed.byte_rate = output_byte_rate(started.audio)

    def emit(self, kind: str, seq: int, at_ms: int, data: Mapping[str, Any]) -> None:
        if self._speaker is None and kind in AUDIO_EVENTS:
            self._keep(MissedEvent(kind, data))
        listeners = self._listeners()
        if kind == "raw_model_event":
            listeners = [listener for listener in listeners if listener.raw]
        if listeners:
            frame = self._frame(kind, seq, at_ms, data)
            for listener in listeners:
                listener.send(frame, state=kind == "history_updated")

    def _frame(self, kind: str, seq: int, at_ms: int, data: Mapping[str, Any]) -> bytes | Pieces:
        if kind == "history_updated":
            return self._told_history.updated(seq, self.session, at_ms, data["history"])
        if kind == "history_added":
            return self._told_history.added(seq, self.session, at_ms, data["item"])
        return event_frame(kind, seq, self.session, at_ms, data)

    def audio(self, where: ForwardAudio, delta: frames.AudioDelta, seq: int) -> None:
        at_ms = self._clock.at_ms()
        if self._speaker is not None:
            self._speaker.send_audio(where, delta.samples, seq, at_ms)
        else:
            self._keep(MissedAudio(where, delta.samples))
        for observer in self._observers:
            observer.send_audio(where, delta.samples, seq, at_ms)

    def _keep(self, entry: MissedAudio | MissedEvent) -> None:
        if not self._missed.add(entry):
            log.info("nobody listens, what is said is interrupted", session=self.session)
            self.live().feed(Interrupt())

    def close(self, code: int, reason: str) -> None:
        """The session is over: its clients are told once its end is written (see `native_end`)."""
        awaited = self.ending.decide(code, reason)
        if self._waiting is not None:
            self._waiting.cancel()
        if awaited and self.driver is not None:
            self.driver.once_written(self._leave)
        else:
            self._leave()

    def _leave(self) -> None:
        """Say the last words, and close every connection."""
        asked, record = self.ending.last_words()
        if record is not None:
            self._input.give_up()
            for given in asked:
                self.answer_speaker("ack", id=given)
            super().record(*record)
            for listener in self._listeners():
                listener.send(self.recorded.newest.frame)
        self.recorded.close()
        if self.ending.closing is not None:
            for connection in self._connections():
                connection.close(*self.ending.closing)

    def refuse(self, code: str, message: str, close_code: int) -> None:
        for connection in self._connections():
            self.answer(connection, "error", id=None, code=code, message=message)
        self.close(close_code, code)

    async def wait_closed(self) -> None:
        for connection in self._connections():
            await connection.wait_closed()

    def turn_away(self, connection: NativeConnection, code: str, message: str) -> None:
        """Close a connection that cannot be taken in now, saying why."""
        self.answer(connection, "error", id=None, code=code, message=message)
        connection.close(TRY_AGAIN_LATER, code)

    def answer(self, connection: NativeConnection, kind: str, **fields: Any) -> None:
        """Tell one client something."""
        connection.send(self._event(kind, self.recorded.last, fields))

    def answer_speaker(self, kind: str, **fields: Any) -> None:
        """Answer a command; to nobody where the speaker has been lost since."""
        if self._speaker is not None:
            self.answer(self._speaker, kind, **fields)

    def hold(self) -> NativeConnection | None:
        """What a command of the speaker's brings about is told behind its answer: `answer_held` must give it."""
        if self._speaker is not None:
            self._speaker.hold(self.recorded.last)
        return self._speaker

    def answer_held(self, held: NativeConnection | None, kind: str, **fields: Any) -> None:
        """Answer a command ahead of what it brings about, unless that could not wait so long."""
        if held is None or held is not self._speaker:
            self.answer_speaker(kind, **fields)
        else:
            held.answer(self._event(kind, held.told(self.recorded.last), fields))

    def _listeners(self) -> list[NativeConnection]:
        return [*self._observers, *(() if self._speaker is None else (self._speaker,))]

    def _connections(self) -> list[NativeConnection]:
        return [*self._listeners(), *self._recalling.connections]

    def _event(self, kind: str, seq: int, data: Mapping[str, Any]) -> bytes:
        return event_frame(kind, seq, self.session, self._clock.at_ms(), data)

    # --- from the speaker ---------------------------------------------------------------------------

    def hear(self, connection: NativeConnection, binary: bool, message: bytes) -> None:
        """The speaker says something; one that was taken over is not heard any more."""
        if connection is not self._speaker:
            return
        if self.ending.is_untold:
            self._input.come_too_late(binary, message)
        elif not self.ending.has_come:
            self._lacks_audio, self._speaker_was_heard = False, True
            self._received += len(message) if binary else 0
            if (first := self._said_again.told_instead(connection.held_ms, binary, message)) is not None:
                self._input.hear(connection, False, first)
            self._input.hear(connection, binary, message)


def error_frame(clock: Clock, *, code: str, message: str) -> bytes:
    """The `error` event for a client that gets no session."""
    frame = {"type": "error", "seq": 0, "session": None, "at": clock.at_ms(), "id": None, "code": code}
    return frames.dump_event(frame | {"message": message})


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
