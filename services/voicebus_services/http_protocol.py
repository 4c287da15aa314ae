"""How a public HTTP port reads requests: uvicorn's protocol, with bounds on a request's head, on its time, and on the
number of those who do not ask, or do not take their answers.

uvicorn reads a head of any length, with as many fields as there are, for as long as it takes, and as many requests as
come at once; whoever sends such holds memory, or a place, without having shown any credential.
"""

import asyncio
import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from voicebus_services.silent_connections import SilentConnections

MAX_HEAD: Final = 64 * 1024
"""Of a request's line and fields together, in bytes."""

MAX_FIELDS: Final = 256

WHOLE_WITHIN_S: Final = 30.0
"""How long a request may take to arrive, from its first byte; the first one from the opening of its connection."""

MAX_AHEAD: Final = 16
"""Requests that a connection may send before it has the answer to an earlier one; each takes some 1 KiB."""

LINGER_S: Final = 5.0
"""How long a peer that was refused has to take its answer and to end, while what it still sends is read away."""

MAX_LINGERING: Final = 64
"""Such peers of a port; beyond it the one that was refused first is cut."""

_LINE: Final = 4  # what stands around a field


class Lingering:
    """The connections of a port that were refused, and whose peers have not ended yet; no more than `most`."""

    def __init__(self, most: int = MAX_LINGERING) -> None:
        self._most = most
        self._refused: dict[BoundedHttpProtocol, None] = {}

    def add(self, connection: "BoundedHttpProtocol") -> None:
        self._refused[connection] = None
        if len(self._refused) > self._most:
            first = next(iter(self._refused))
            self.gone(first)
            first.drop()

    def gone(self, connection: "BoundedHttpProtocol") -> None:
        self._refused.pop(connection, None)


class BoundedHttpProtocol(HttpToolsProtocol):
    """What goes beyond is answered with 431 or 408, and its connection is closed.

    `silent` has the connections without a request, `lingering` those that were refused; `through` is called as this one
    comes, and tells whether it stays.
    """

    def __init__(
        self,
        *args: Any,
        silent: SilentConnections,
        lingering: Lingering,
        through: Callable[[], bool],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._silent = silent
        self._lingering = lingering
        self._through = through
        # Whether a head is being read, and the how many-th it is.
        self._in_head, self._heads = True, 1
        # Of the head that is being read: bytes that came for it, and what of it is fields.
        self._came = self._size = self._fields = 0
        self._is_refused = False
        self._due: asyncio.TimerHandle | None = None

    @property
    def address(self) -> str:
        return self.client[0] if self.client else ""

    def drop(self) -> None:
        self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        if self._through():
            self._watch()
        else:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrived()
        self._lingering.gone(self)
        super().connection_lost(exc)
        # uvicorn lets it run on for a connection that broke, which would be kept with it for all of that time.
        self._unset_keepalive_if_required()

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return  # read away
        head = self._heads if self._in_head else 0
        super().data_received(data)
        self._rest()
        # All of it was for the one head that has not ended yet; what came with the end of a request is not counted.
        if self._in_head and head == self._heads and not self.transport.is_closing():
            self._came += len(data)
            if self._came > MAX_HEAD:
                self._refuse_head()

    # --- what the parser finds ------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._heads += self._size > 0
        self._came = self._size = self._fields = 0
        self._watch()

    def on_url(self, url: bytes) -> None:
        self._size += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._size += len(name) + len(value) + _LINE
        self._fields += 1
        if self._size <= MAX_HEAD and self._fields <= MAX_FIELDS:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._size > MAX_HEAD or self._fields > MAX_FIELDS:
            self._refuse_head()
        elif len(self.pipeline) >= MAX_AHEAD:
            self._end()
        elif not self._is_refused:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self._is_refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._is_refused:
            self._arrived()
            super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        if not self._is_refused:
            self._arrived()
            super().handle_websocket_upgrade()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # The rest of the next request may have come long ago: nothing was read while others waited for their answers.
        if self._due is not None:
            self._unwatch()
            self._watch()
        # Also one that closes now: its peer may take long for the answer, or with TLS for the end.
        if self.cycle.response_complete:
            self._fell_silent()

    # --- how the peer takes its answers ---------------------------------------------------------------

    def pause_writing(self) -> None:
        super().pause_writing()
        self._fell_silent()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._due is None and self.cycle is not None and not self.cycle.response_complete:
            self._silent.spoke(self)

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP."""
        self._refuse(HTTPStatus.BAD_REQUEST, "invalid_request", "this is no HTTP request; send HTTP/1.1")

    # --- the bounds -----------------------------------------------------------------------------------

    def _watch(self) -> None:
        if self._due is None:
            self._due = self.loop.call_later(WHOLE_WITHIN_S, self._overdue)
        # A further request may begin while the one before it is answered: that answer is not to be lost by a drop.
        if self.cycle is None or self.cycle.response_complete:
            self._fell_silent()

    def _arrived(self) -> None:
        self._silent.spoke(self)
        self._unwatch()

    def _unwatch(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _fell_silent(self) -> None:
        if self in self.connections:  # neither lost nor a WebSocket
            self._silent.fell_silent(self)

    def _rest(self) -> None:
        """Wait for another request where all that came is answered.

        uvicorn stops waiting with whatever comes, and begins with an answer alone. But what came may be the end of a
        request that was answered before, or none.
        """
        if self.cycle is None or not self.cycle.response_complete or self._due is not None:
            return
        if self.timeout_keep_alive_task is None and self in self.connections and not self.transport.is_closing():
            self._fell_silent()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _overdue(self) -> None:
        self._due = None
        if self.flow.read_paused:
            self._watch()
            return
        detail = f"the request did not arrive within {WHOLE_WITHIN_S:g} s; send it again"
        self._refuse(HTTPStatus.REQUEST_TIMEOUT, "request_timeout", detail)

    def _refuse_head(self) -> None:
        detail = f"the request's head is longer than {MAX_HEAD} bytes or has more than {MAX_FIELDS} fields; send less"
        self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large", detail)

    def _refuse(self, status: HTTPStatus, code: str, detail: str) -> None:
        # Behind an answer that is being given nothing can be said, and the last of several requests is not the one that
        # is being answered. An answer that has not begun is not given any more, since what is written to a connection
        # that closes goes nowhere.
        if self._is_refused:
            return
        cycle = self.cycle
        unanswered = cycle is None or cycle.response_complete or not cycle.response_started
        if not unanswered or self.pipeline or self.transport.is_closing():
            self._end()
            return
        problem = {"type": "about:blank", "title": status.phrase, "status": status, "detail": detail, "code": code}
        body = json.dumps(problem).encode()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/problem+json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self._linger()

    def _linger(self) -> None:
        """End once the peer has: a connection that is closed while more comes is reset, and a peer that sends all
        before it reads would lose its answer with it.
        """
        self._refuse_more()
        self._silent.spoke(self)
        self._lingering.add(self)
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.transport.can_write_eof():  # not with TLS, where the answer's own length tells
            self.transport.write_eof()
        self.flow.resume_reading()
        self._due = self.loop.call_later(LINGER_S, self.transport.close)

    def _end(self) -> None:
        """Read nothing more; the place is given back once the peer has taken what was said, and the end."""
        self._refuse_more()
        self._fell_silent()
        self.transport.close()

    def _refuse_more(self) -> None:
        self._is_refused = True
        self._unwatch()
        self._unset_keepalive_if_required()
