"""The native face from a client's side: one session over as many connections as it takes. The protocol's one home here.

A connection that is lost is opened again, with backoff and jitter, from the last `seq` that was read; what a client
sends meanwhile waits. Where the gateway asks for it (`migrate`), a second connection is opened while the first serves
on, and takes over when the first is closed: what came on both is given once. Knows events as JSON, and nothing of
agents.
"""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from voicebus.client.address import Destination
from voicebus.client.credentials import authorization
from voicebus.client.dialling import CONNECT_TIMEOUT_S, delay, dial
from voicebus.client.line import GREETINGS, Line, Told
from voicebus.client.moving import Moving
from voicebus.client.spoken import Spoken, is_spoken
from voicebus.client.unanswered import Unanswered
from voicebus.errors import RemoteError
from voicebus.utf8 import sendable

RESUME_S: Final = 60.0
"""How long a lost connection is tried again: the grace of a gateway that is not configured otherwise."""

HANG_UP_S: Final = 10.0
"""How long the end of a session is waited for: a dead gateway's heartbeat and a takeover, with time to spare."""

FINAL_CODES: Final = frozenset({1000, 1008, 4404, 4409})
"""Close codes after which there is nothing to come back to (docs/native-face.md)."""

FULL: Final = 4429
"""No room: the end of a join, whose session does not begin; a session that there is goes on where there is room."""

_TAKEN_OVER: Final = 4409


class NativeLink:
    """A client's side of one session. `open` it, iterate over it until it ends, `close` it.

    Iterating gives events as JSON objects, and bytes: the samples of the last `audio` event's part. Events of a kind of
    their own tell of the link itself: `connection_lost` and, when it is open again, `connection_resumed`.

    `asked` joins the address's query. `resume_s` (s) is how long a lost connection is tried again, 0: not at all.
    `seq` is the last recorded event that the client of a session has. `observes`: it commands nothing.
    """

    def __init__(
        self,
        url: str,
        asked: Mapping[str, str] | None = None,
        *,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        resume_s: float = RESUME_S,
        seq: int = 0,
        observes: bool = False,
    ) -> None:
        flags = {**({"seq": str(seq)} if seq else {}), **({"observe": "1"} if observes else {})}
        self._destination = Destination(url, {**(asked or {}), **flags})
        self.observes: bool = observes
        self.where: str = self._destination.address.partition("?")[0]
        """The address without what may be secret in it."""
        self._headers = {**(headers or {}), **authorization(api_key)}
        self._tls = tls
        self._resume_s = resume_s
        self._line: Line | None = None
        self._told = Told()
        self._moving = Moving(self._again, lambda: None if self._over else self._line, self._told, FINAL_CODES)
        self._connected = asyncio.Event()
        self._over = False
        self._unanswered = Unanswered()
        # The id of the command that asked for the end, and whether that was answered, or nobody will.
        self._ended_by: str | None = None
        self._hung_up = asyncio.Event()
        self._spoken = Spoken()
        # Bytes of sound that were sent on the connection in use, and that the session had had before.
        self._sent = 0
        self._received = 0
        self.seq: int = seq
        """The last recorded event that was read."""
        self.close_code: int | None = None
        """Of the connection that ended last."""
        self.close_reason: str = ""

    @property
    def session(self) -> str:
        return self._destination.session

    @property
    def token(self) -> str:
        return self._destination.token

    @property
    def over(self) -> bool:
        """Whether the session has ended, or cannot be reached any more."""
        return self._over

    async def open(self) -> None:
        """Connect.

        Raises:
            RemoteError: no gateway answers, or it refused the connection.
        """
        self._line = Line(await self._dial(self._destination.address))
        self._connected.set()

    def enters(self, session: str, token: str) -> None:
        """Enter this session instead of a new one; before `open`."""
        self._destination.enters(session, token)

    async def hang_up(self, *, wait: bool = True) -> None:
        """Ask the gateway to end the session, and `wait` until it has written that while somebody else iterates.

        Where it dies before, whoever takes the session on is asked again. Returns after `HANG_UP_S` in any case: the
        session then ends by its grace.

        Raises:
            RemoteError: the session is over.
        """
        if self._over:
            raise self._ended()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HANG_UP_S):
                if self._ended_by is None:
                    self._ended_by = self.new_id()
                    await self.command("end", self._ended_by)
                if wait:
                    await self._hung_up.wait()

    async def close(self) -> None:
        """Close the connection: who has not hung up does so thereby."""
        self._finish()
        await self._moving.stay()
        if self._line is not None:
            await self._line.close()

    def _finish(self) -> None:
        """Nothing more is sent or waited for."""
        self._over = True
        self._connected.set()
        self._hung_up.set()

    # --- to the gateway -----------------------------------------------------------------------------

    async def send(self, command: Mapping[str, Any]) -> None:
        """Send a command; waits while the connection is being opened again.

        Raises:
            RemoteError: the session is over.
        """
        if command["type"] == "commit":  # its answer tells until when its sound is kept
            await self.command("commit", str(command.get("id") or self.new_id()))
        else:
            await self._send(_text(command))

    def new_id(self) -> str:
        """An id for a command."""
        return self._unanswered.new_id()

    async def command(self, command: str, given: str, **fields: Any) -> None:
        """Send a command under this id, which its answer (`ack` or `error`) names.

        It survives the loss of its connection: unanswered, it is sent again, and is carried out once.

        Raises:
            RemoteError: the session is over.
        """
        frame = self._unanswered.keep(command, given, **fields)
        if command == "commit":
            self._spoken.committing(given)
        if not self._over and not self._connected.is_set():
            await self._connected.wait()  # and it has been sent, with all that had no answer
        elif not self._over:
            line = self._now()
            try:
                await line.socket.send(_text(frame))
            except ConnectionClosed:
                await self._reconnected(line)
        if self._over:
            raise self._ended()

    async def send_audio(self, samples: bytes) -> None:
        """Send samples. While there is no connection the newest 5 s are kept.

        Raises:
            RemoteError: the session is over.
        """
        if self._over:
            raise self._ended()
        piece = self._spoken.add(samples)
        if self._connected.is_set():
            try:
                await self._now().socket.send(samples)
            except ConnectionClosed:
                if self._over:
                    raise self._ended() from None
            else:
                piece.sent = True
                self._sent += len(samples)

    async def _send(self, frame: str) -> None:
        while not self._over:
            await self._connected.wait()
            if self._over:
                break
            line = self._now()
            try:
                await line.socket.send(frame)
            except ConnectionClosed:
                await self._reconnected(line)
            else:
                return
        raise self._ended()

    async def _reconnected(self, line: Line) -> None:
        """Wait until the reader has noticed that this connection is gone, and has opened another or given up."""
        while self._line is line and not self._over:
            self._connected.clear()
            await self._connected.wait()

    def _now(self) -> Line:
        if self._line is None:
            raise RuntimeError("the link was not opened")
        return self._line

    def _ended(self) -> RemoteError:
        why = f"{self.close_code} {self.close_reason}".strip()
        return RemoteError(f"the gateway has closed the conversation ({why})")

    # --- from the gateway ---------------------------------------------------------------------------

    async def __aiter__(self) -> AsyncIterator[dict[str, Any] | bytes]:
        try:
            while True:
                async for event in self._heard(self._now()):
                    yield event
                if self._over or self._is_final or not self._may_return:
                    return
                self._connected.clear()
                if await self._moved():
                    continue
                yield {"type": "connection_lost", "seq": self.seq, "session": self.session, "code": self.close_code}
                again = await self._resume()
                if again:
                    yield {"type": "connection_resumed", "seq": self.seq, "session": self.session}
                elif again is None:
                    return
        finally:
            self._finish()
            await self._moving.stay()

    async def _heard(self, line: Line) -> AsyncIterator[dict[str, Any] | bytes]:
        """What comes on a connection until it is closed."""
        try:
            async for frame in line:
                if isinstance(frame, bytes):
                    yield frame
                elif (event := self._read(json.loads(frame))) is not None:
                    yield event
        except ConnectionClosed:
            pass  # its code tells
        self.close_code, self.close_reason = line.socket.close_code, line.socket.close_reason or ""

    @property
    def _is_final(self) -> bool:
        """Whether there is nothing to come back to."""
        if self.close_code == _TAKEN_OVER and self._moving.was_asked:
            return False  # by this client's own second connection
        return self.close_code in FINAL_CODES or (self.close_code == FULL and not self.token)

    @property
    def _may_return(self) -> bool:
        return bool(self._resume_s and (self.token or (self.observes and self.session)))

    def _read(self, event: dict[str, Any]) -> dict[str, Any] | None:
        """An event, and what it tells of the link; None for one that is only the link's, or was told before."""
        kind = event["type"]
        if kind == "migrate":
            self._destination.token = str(event.get("token") or self.token)
            self._moving.begin()
            return None
        is_known = self._told.knows(event)
        self.seq = max(self.seq, event.get("seq") or 0)
        if is_known:
            return None
        if kind in GREETINGS and ("token" in event or "observer" in event):  # not that another connection came
            self._destination.session = str(event["session"])
            self._destination.token = str(event.get("token", self.token))
            # Less than was read where a gateway died before it had written that: those numbers are given again.
            self.seq = int(event.get("from_seq", self.seq))
            self._spoken.learn(event.get("audio") or {})
            self._received = int(event.get("audio_received") or 0)
        elif kind == "session_ended":
            self._over = True
            self._hung_up.set()
        elif kind in ("ack", "error") and event.get("id") is not None:
            self._unanswered.pop(event["id"], None)
            self._spoken.committed(event["id"])
            if event["id"] == self._ended_by:
                self._hung_up.set()
        elif kind == "history_added" and is_spoken(event.get("item")):
            self._spoken.heard(event["item"]["item_id"])
        elif kind == "item_recorded":
            self._spoken.known(event["item_id"])
        return event

    # --- the next connection --------------------------------------------------------------------------

    async def _moved(self) -> bool:
        """Whether the second connection is the one in use from now on."""
        line = await self._moving.second()
        if line is None:
            return False
        if await self._takes_over(line):
            return True
        self._told.forget()
        return False

    async def _resume(self) -> bool | None:
        """Open the connection again. False where the session is over, which is still to be read; None where nobody has
        let this client in for long enough.
        """
        loop = asyncio.get_running_loop()
        until, attempt = loop.time() + self._resume_s, 0
        while not self._over:
            pause = delay(attempt)
            if loop.time() + pause > until:
                return None
            await asyncio.sleep(pause)
            attempt += 1
            try:
                line = await self._again(self._spoken.turns())
            except RemoteError:
                continue
            is_greeted = False
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    is_greeted = await line.greeted()
            except TimeoutError:
                continue
            finally:
                if not is_greeted:  # also where it says nothing, which would keep it open for long
                    line.socket.transport.abort()
            if is_greeted and await self._takes_over(line):
                return True
            if line.socket.close_code in FINAL_CODES:  # refused for good, it has said why
                self._line = line
                return False
        return None

    async def _takes_over(self, line: Line) -> bool:
        """This connection is the one in use; False where it is lost before all that was said meanwhile is sent."""
        if self._over:  # closed while it was opened
            await line.close()
            return False
        self._line = line
        if line.lost_turns is not None:
            self._spoken.lost(line.lost_turns)
        else:
            self._spoken.missed(self._sent - (line.received - self._received))
        self._sent, self._received = 0, line.received
        self._spoken.unanswered(self._unanswered)
        try:
            await self._catch_up(line)
        except ConnectionClosed:
            return False
        self._connected.set()
        return True

    async def _catch_up(self, line: Line) -> None:
        """Say what was to be said meanwhile, and what is added while that is said; each commit behind its audio."""
        said: set[str] = set()
        while True:
            given = next((one for one in self._unanswered if one not in said and not self._spoken.has(one)), None)
            if given is not None:
                said.add(given)
                await line.socket.send(_text({**self._unanswered[given], "again": True}))
            elif (piece := self._spoken.unsent()) is not None:
                if piece.commit is None:
                    await line.socket.send(piece.samples)
                    self._sent += len(piece.samples)
                elif piece.commit in self._unanswered:
                    await line.socket.send(_text({**self._unanswered[piece.commit], "again": True}))
                piece.sent = True
            else:
                return

    async def _again(self, turns: Sequence[tuple[str, int]] = ()) -> Line:
        return Line(await self._dial(self._destination.again(self.seq, turns)))

    async def _dial(self, address: str) -> ClientConnection:
        return await dial(address, headers=self._headers, tls=self._tls)


def _text(command: Mapping[str, Any]) -> str:
    return json.dumps(sendable(command))
