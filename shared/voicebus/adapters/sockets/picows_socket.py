"""The one home of picows: whole messages, bounded buffers, pings and the closing handshake on top of its frames."""

import asyncio
from collections.abc import Iterable
from typing import Final

from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from voicebus.adapters.sockets import (
    ABNORMAL,
    CLOSE_LIMIT_S,
    CLOSE_TIMEOUT_S,
    INTERNAL_ERROR,
    MAX_BUFFERED,
    MAX_MESSAGE,
    MESSAGE_TOO_BIG,
    NO_STATUS,
    NORMAL,
    PROTOCOL_ERROR,
    TRY_AGAIN_LATER,
    Keepalive,
    SocketListener,
)
from voicebus.adapters.sockets.acknowledged import acknowledged
from voicebus.adapters.sockets.arriving import Arriving
from voicebus.adapters.sockets.backlog import SHARE, Backlog
from voicebus.adapters.sockets.burst import Burst, burst, head
from voicebus.adapters.sockets.large import LARGE_MESSAGE
from voicebus.adapters.sockets.pieces import Pieces
from voicebus.adapters.sockets.pings import Pings
from voicebus.adapters.sockets.unfinished import Unfinished, everybody
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

# Above this size picows queues the header and the payload without copying the header, whose memory its next send
# overwrites: on uvloop's own transports two large messages in one turn of the loop then leave as garbage.
# And a client's side copies the payload into a buffer that is never made smaller.
_COPIED_BY_PICOWS: Final = 8192
_HEADER_ROOM: Final = bytes(14)
_MAX_REASON_BYTES: Final = 123
_NO_PONG: Final = "keepalive ping timeout"

# Frames in a second that are no whole message: of a message in fragments, pings and pongs.
_MINOR_PER_S: Final = 1_000

# Looked up once, since they are asked for with every frame.
_TEXT: Final = WSMsgType.TEXT
_BINARY: Final = WSMsgType.BINARY
_CONTINUATION: Final = WSMsgType.CONTINUATION
_CLOSE: Final = WSMsgType.CLOSE
_PING: Final = WSMsgType.PING
_PONG: Final = WSMsgType.PONG

# What a close frame may not say (RFC 6455, 7.4): codes that are for reporting alone, and those of nobody.
_UNSENDABLE: Final = frozenset({1004, NO_STATUS, ABNORMAL, 1015})
_CODES: Final = range(NORMAL, 5000)


class PicowsSocket(WSListener):
    """One connection, of either side. Implements the port `Socket`; picows calls the `on_ws_*` methods.

    `max_message` is in bytes. `keepalive` is for pings of our own; without it picows sends those that it is asked for.
    """

    # Each frame asks for several, which Python finds at once in a subclass of picows' only where they are slots.
    __slots__ = (
        "_abandoned", "_backlog", "_burst", "_closing", "_cut", "_gathered", "_gone", "_leaving", "_listener",
        "_max_buffered", "_max_message", "_minor", "_minor_since", "_pauses", "_peer_code", "_peer_reason",
        "_ping_unanswered", "_pings", "_transport", "_writable", "arriving", "is_congested",
    )  # fmt: skip

    def __init__(
        self,
        listener: SocketListener,
        *,
        max_buffered: int = MAX_BUFFERED,
        max_message: int = MAX_MESSAGE,
        keepalive: Keepalive | None = None,
        unfinished: Unfinished = everybody,
    ) -> None:
        self._listener = listener
        self._max_buffered = max_buffered
        self._max_message = max_message
        self._pings = Pings(keepalive)
        self._transport: WSTransport | None = None
        # What was sent while more of one read was to be delivered: heads and messages.
        self._burst: Burst = burst()
        self._gathered: list[bytes] = []
        self._closing = False
        self._abandoned = False
        # Whether the peer has not taken what was sent lately.
        self.is_congested: bool = False
        self._leaving = 0
        self._pauses = 0
        self.arriving: Arriving = Arriving(unfinished)
        # The newest ping that came while its answer would have waited behind much else.
        self._ping_unanswered: bytes | None = None
        # Frames that are no message since `_minor_since` (s).
        self._minor = 0
        self._minor_since = 0.0
        self._backlog = Backlog()
        self._peer_code: int | None = None
        self._peer_reason = ""
        self._cut: asyncio.TimerHandle | None = None
        self._gone = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    @property
    def was_opened(self) -> bool:
        """Whether the connection came about, if only for a while."""
        return self._transport is not None

    # --- Socket -------------------------------------------------------------------------------------

    def send_text(self, message: bytes) -> None:
        transport = self._transport
        # Nearly every message is small, alone, and for a peer that listens.
        if self.is_congested or self._closing or transport is None or len(message) > _COPIED_BY_PICOWS:
            self._send(_TEXT, message)
        elif self._burst.open and not transport.is_client_side:
            self._gather(message, binary=False)
        else:
            transport.send(_TEXT, message)

    def send_binary(self, message: bytes) -> None:
        self._send(_BINARY, message)

    def send_pieces(self, message: Pieces) -> None:
        if len(message) <= _COPIED_BY_PICOWS:
            self.send_text(bytes(message))
        elif not self._closing and self._transport is not None and self._has_room():
            self._send_large(self._transport, _TEXT, message, len(message))

    def close(self, code: int = NORMAL, reason: str = "") -> None:
        if self._closing or self._transport is None:
            return
        self._leave()
        self._closing = True
        self._backlog.drop()
        self._transport.send_close(_code(code), reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore"))
        self._transport.underlying_transport.resume_reading()  # the peer's answer must be heard
        self._cut_later(asyncio.get_running_loop().time() + CLOSE_LIMIT_S)

    @property
    def taken(self) -> int:
        transport = None if self._transport is None else self._transport.underlying_transport
        return 0 if transport is None else acknowledged(transport)

    async def writable(self) -> None:
        await self._writable.wait()

    def pause_reading(self) -> None:
        if self._transport is not None and not self._closing:
            self._pauses += 1
            self._transport.underlying_transport.pause_reading()

    def resume_reading(self) -> None:
        self._pauses = max(0, self._pauses - 1)
        if self._transport is not None and not self._gone.is_set() and not self._pauses:
            self._transport.underlying_transport.resume_reading()

    async def wait_closed(self) -> None:
        await self._gone.wait()
        if self._transport is not None and self._transport.is_client_side:
            try:
                # Over already; picows keeps for this call what ended a client's connection, and complains of it else.
                await self._transport.wait_disconnected()
            except Exception as error:  # noqa: BLE001 - the listener was told that the connection is gone
                log.info("the connection was ended", cause=str(error))

    def _send(self, kind: WSMsgType, message: bytes) -> None:
        if self._closing or self._transport is None:
            return
        small = len(message) <= _COPIED_BY_PICOWS
        if small and self._burst.open and not (self.is_congested or self._transport.is_client_side):
            self._gather(message, kind == _BINARY)
            return
        if not self._has_room():
            return
        if small:
            self._transport.send(kind, message)
            if self.is_congested:
                self._leaving = max(self._leaving, len(message))
        else:
            self._send_large(self._transport, kind, (message,), len(message))

    def _has_room(self) -> bool:
        """Send what was gathered; whether more may be sent. A peer that does not read is dropped."""
        self._leave()
        if self._transport is None or not self.is_congested:
            return True
        # One message may be larger than the limit, a backlog may not: so it is judged before a message is added, and
        # the largest one that is still leaving does not count.
        if self._transport.underlying_transport.get_write_buffer_size() - self._leaving <= self._max_buffered:
            return True
        log.warning("peer does not read, dropping it", buffered=self._max_buffered)
        self._closing = True
        self._backlog.drop()
        # Not here: the caller is in the middle of its outputs.
        asyncio.get_running_loop().call_soon(self._abort)
        return False

    def _send_large(self, transport: WSTransport, kind: WSMsgType, pieces: Iterable[bytes], size: int) -> None:
        """Send a message of `size` bytes that picows does not copy: in memory that is taken once, for all of it."""
        framed = bytearray().join((_HEADER_ROOM, *pieces))
        transport.send_reuse_external_bytearray(kind, framed, len(_HEADER_ROOM))
        if self.is_congested:
            self._leaving = max(self._leaving, size)

    def _gather(self, message: bytes, binary: bool) -> None:
        if not self._gathered:
            self._burst.at_end(self._leave)
        self._gathered += (head(len(message), binary=binary), message)

    def _leave(self) -> None:
        """Send what was gathered, in one write."""
        if self._gathered:
            gathered, self._gathered = self._gathered, []
            # picows may have said the last word itself, to a peer that breaks the protocol behind these messages.
            if self._transport is None or self._closing or self._transport.is_close_frame_sent:
                return
            try:
                self._transport.underlying_transport.write(b"".join(gathered))
            except (OSError, RuntimeError):  # uvloop refuses to write to what is closing; its end comes by itself
                self._abort()

    def _cut_later(self, latest: float) -> None:
        """Cut a closing connection, but for a slow peer: what the close frame stands behind is on its way to it."""
        if self._transport is None:
            return
        left = self._transport.underlying_transport.get_write_buffer_size()
        self._cut = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self._cut_stuck, left, latest)

    def _cut_stuck(self, left: int, latest: float) -> None:
        transport = self._transport
        moves = transport is not None and transport.underlying_transport.get_write_buffer_size() < left
        if moves and asyncio.get_running_loop().time() < latest:
            self._cut_later(latest)
        else:
            self._abort()

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.disconnect(graceful=False)

    # --- picows' WSListener -------------------------------------------------------------------------

    def abandon(self) -> None:
        """Nobody waits for this connection any more; should it still come about, it is cut at once."""
        self._abandoned = self._closing = True
        self._abort()

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        if self._abandoned:
            self._abort()
            return
        self._pings.begin(self, transport)
        self._listener.opened(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind, is_last, arriving = frame.msg_type, frame.last_in_buffer, self.arriving
        arriving.behind = frame.tail_size
        if not is_last:
            self._burst.open = True
        try:
            # No extension is spoken here, and these bits are for extensions: what they say of the payload is not known.
            if frame.rsv1 or frame.rsv2 or frame.rsv3:
                self.close(PROTOCOL_ERROR, "a reserved bit is set")
            elif kind != _TEXT or arriving.in_fragments or not frame.fin:
                self._other(transport, frame, kind)
            # Nearly every frame is a whole text message of an open connection.
            elif not (self._closing or transport.is_close_frame_sent):
                message, backlog = frame.get_payload_as_bytes(), self._backlog
                if backlog.taken >= SHARE or not (len(message) <= LARGE_MESSAGE or backlog.is_its_turn(len(message))):
                    backlog.wait(self, message, binary=False)
                else:
                    backlog.taken = 0 if is_last else backlog.taken + 1
                    try:
                        self._listener.text(message)
                    except Exception as error:  # noqa: BLE001 - the boundary between one connection and the others
                        self._not_handled(error)
        finally:
            if is_last and self._burst.open:
                self._burst.end()

    def _other(self, transport: WSTransport, frame: WSFrame, kind: WSMsgType) -> None:
        """Any frame but a whole text message."""
        if kind != _BINARY or not frame.fin:
            self._count_minor()
        if kind == _PONG:
            self._pings.answered()
        if kind == _CLOSE:
            self._answer_close(transport, frame.get_payload_as_bytes())
            return
        # After a frame that it cannot take picows sends its close and reads on for a while, out of step with the
        # sender: what comes then is no message of anybody's, or one that was delivered before.
        if self._closing or transport.is_close_frame_sent or kind == _PONG:
            return
        payload = frame.get_payload_as_bytes()
        if kind == _PING:
            # Of several pings the newest may be answered alone (RFC 6455, 5.5.3): a peer that reads nothing gets one
            # answer once it reads again, however many it has sent.
            if self.is_congested:
                self._ping_unanswered = payload
            else:
                transport.send_pong(payload)
            return
        # A message that comes in fragments, or a fragment out of place.
        if (kind == _CONTINUATION) != self.arriving.in_fragments:
            self.close(PROTOCOL_ERROR, "a fragment out of place")
        elif self.arriving.in_fragments or not frame.fin:
            self._reassemble(kind, payload, fin=frame.fin)
        elif self._backlog.taken >= SHARE or not self._backlog.is_its_turn(len(payload)):
            self._backlog.wait(self, payload, binary=kind == _BINARY)
        else:
            self._backlog.taken = 0 if frame.last_in_buffer else self._backlog.taken + 1
            self.deliver(payload, kind == _BINARY)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if self._closing:
            self._backlog.drop()
        self._closing = True
        self._gone.set()
        self._writable.set()
        self.arriving.forget(self)
        self._pings.end()
        if self._cut is not None:
            self._cut.cancel()
        if self._abandoned:
            return
        self._backlog.deliver_all(self)
        self._listener.closed(self._code_at_end(transport), self._peer_reason)

    def pause_writing(self) -> None:
        self.is_congested = True
        self._writable.clear()

    def resume_writing(self) -> None:
        self.is_congested = False
        self._leaving = 0
        self._writable.set()
        ping, self._ping_unanswered = self._ping_unanswered, None
        if ping is not None and self._transport is not None and not self._closing:
            self._transport.send_pong(ping)

    def _reassemble(self, kind: WSMsgType, payload: bytes, *, fin: bool) -> None:
        if self.arriving.add(payload, binary=kind == _BINARY) > self._max_message:
            self.arriving.forget(self)
            self._backlog.deliver_all(self)
            self.close(MESSAGE_TOO_BIG, f"a message may have {self._max_message} bytes")
        elif fin:
            message, binary = self.arriving.taken(), self.arriving.is_binary
            if self._backlog or not self._backlog.is_its_turn(len(message)):
                self._backlog.wait(self, message, binary=binary)
            else:
                self.deliver(message, binary)
        elif self._transport is not None and not self._transport.is_client_side:
            self.count()

    def count(self) -> None:
        """Count what has come of a message that is not whole, or do so no more."""
        if self._closing:
            self.arriving.forget(self)
        else:
            self.arriving.count(self)

    @property
    def is_closing(self) -> bool:
        """Whether nothing more is sent or delivered, but for what the closing handshake needs."""
        return self._closing

    def give_up_silent(self) -> None:
        """Drop a peer that does not answer pings."""
        self.close(INTERNAL_ERROR, _NO_PONG)
        self._abort()

    def give_up(self) -> None:
        self.arriving.forget(self)
        self.close(TRY_AGAIN_LATER, "too much at once")
        if self._transport is not None:
            self._transport.underlying_transport.pause_reading()  # the rest of it is not to come

    def _count_minor(self) -> None:
        """Pings and fragments are cheap to send: what comes faster than any honest peer's is read later."""
        self._minor += 1
        if self._minor < _MINOR_PER_S:
            return
        loop = asyncio.get_running_loop()
        ahead_s = self._minor_since + 1.0 - loop.time()
        self._minor, self._minor_since = 0, max(loop.time(), self._minor_since + 1.0)
        if ahead_s > 0 and not self._closing:
            self.pause_reading()
            loop.call_later(ahead_s, self.resume_reading)

    def deliver(self, message: bytes, binary: bool) -> None:
        """Give the listener a message."""
        try:
            if binary:
                self._listener.binary(message)
            else:
                self._listener.text(message)
        except Exception as error:  # noqa: BLE001 - the boundary between one connection and the others
            self._not_handled(error)

    def _not_handled(self, error: Exception) -> None:
        log.exception("a message could not be handled, closing its connection", exc_info=error)
        self._backlog.drop()
        self.close(INTERNAL_ERROR, "internal error")

    def _code_at_end(self, transport: WSTransport) -> int:
        handshake = transport.close_handshake
        sent = None if handshake is None or handshake.recv_then_sent else handshake.sent
        # Why it ended is known here: a peer that is still sending its large message may never answer, or anything.
        if sent is not None and sent.code == _code(MESSAGE_TOO_BIG):
            return MESSAGE_TOO_BIG
        return ABNORMAL if self._peer_code is None else self._peer_code

    def _answer_close(self, transport: WSTransport, payload: bytes) -> None:
        if not self._closing:
            self._backlog.deliver_all(self)
            self._backlog.drop()
        code = int.from_bytes(payload[:2], "big") if payload else NORMAL
        if code in _UNSENDABLE or code not in _CODES:
            code = PROTOCOL_ERROR  # and to the listener a loss: who says so has not hung up
        else:
            self._peer_code = code if payload else NO_STATUS
            self._peer_reason = payload[2:].decode(errors="replace")
        if not self._closing:
            self._leave()
            self._closing = True
            transport.send_close(_code(code))
        transport.disconnect()


def _code(code: int) -> WSCloseCode:
    # picows takes any code; its stub knows only the registered ones.
    return code  # type: ignore[return-value]
