"""How a public HTTP port reads requests: uvicorn's protocol, with bounds on a request's head, on its time, and on the
number of those who do not ask.

uvicorn reads a head of any length, with as many fields as there are, for as long as it takes; whoever sends such holds
memory, or a place, without having shown any credential.
"""

import asyncio
import json
from http import HTTPStatus
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from voicebus_services.silent_connections import Connection, SilentConnections

MAX_HEAD: Final = 64 * 1024
"""Of a request's line and fields together, in bytes."""

MAX_FIELDS: Final = 256

WHOLE_WITHIN_S: Final = 30.0
"""How long a request may take to arrive, from its first byte; the first one from the opening of its connection."""

_LINE: Final = 4  # what stands around a field


class BoundedHttpProtocol(HttpToolsProtocol):
    """What goes beyond is answered with 431 or 408, and its connection is closed.

    `silent` has the connections without a request, among them what this one was while its `handshake` lasted.
    """

    def __init__(
        self, *args: Any, silent: SilentConnections, handshake: Connection | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._silent = silent
        self._handshake = handshake
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
        if self._handshake is not None:
            self._silent.spoke(self._handshake)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        head = self._heads if self._in_head else 0
        super().data_received(data)
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
        if self.cycle.response_complete and not self.transport.is_closing():
            self._silent.fell_silent(self)

    # --- the bounds -----------------------------------------------------------------------------------

    def _watch(self) -> None:
        if self._due is None:
            self._due = self.loop.call_later(WHOLE_WITHIN_S, self._overdue)
        self._silent.fell_silent(self)

    def _arrived(self) -> None:
        self._silent.spoke(self)
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _overdue(self) -> None:
        self._due = None
        detail = f"the request did not arrive within {WHOLE_WITHIN_S:g} s; send it again"
        self._refuse(HTTPStatus.REQUEST_TIMEOUT, "request_timeout", detail)

    def _refuse_head(self) -> None:
        detail = f"the request's head is longer than {MAX_HEAD} bytes or has more than {MAX_FIELDS} fields; send less"
        self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large", detail)

    def _refuse(self, status: HTTPStatus, code: str, detail: str) -> None:
        self._is_refused = True
        self._arrived()
        if self.transport.is_closing():
            return
        # Behind an answer that is being given nothing can be said. One that has not begun is not given any more, since
        # what is written to a connection that closes goes nowhere.
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            problem = {"type": "about:blank", "title": status.phrase, "status": status, "detail": detail, "code": code}
            body = json.dumps(problem).encode()
            head = (
                f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/problem+json\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self.transport.close()
