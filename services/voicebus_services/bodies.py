"""How long a request's body may be. Whoever sends more, or is refused before it has sent all, hears of it."""

import asyncio
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from voicebus.adapters.sockets.unfinished import Unfinished, everybody
from voicebus.runtime.frames import MAX_VALUES, most_values
from voicebus_services.http import ProblemError

MAX_BODY: Final = 4 * 1024 * 1024
"""Bytes of a request's body: a message may bring images."""


class BoundedBodies:
    """ASGI middleware: a request whose body is longer than `limit` bytes, or may have more than `MAX_VALUES` values, is
    answered with 413, and where too much has come of all that are `unfinished` the one that began first with 503.
    Nothing of such a body is kept.

    What still comes of a body behind its answer, whichever that is, is read away, for as long as a request may take to
    arrive: a connection that is closed while more comes is reset, and a peer that sends all before it reads would lose
    the answer with it.
    """

    def __init__(self, app: ASGIApp, *, limit: int = MAX_BODY, unfinished: Unfinished = everybody) -> None:
        self._app = app
        self._limit = limit
        self._unfinished = unfinished

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(Headers(scope=scope), receive, self._limit, self._unfinished)
        began = False

        async def answer(message: Message) -> None:
            nonlocal began
            # Whatever the application makes of the exception is not what was wrong.
            if began or body.refused is None:
                began = True
                await to_the_end(message)

        async def to_the_end(message: Message) -> None:
            is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
            if not (is_last and body.more):
                await send(message)
                return
            await send({**message, "more_body": True})
            await body.read_away()
            await send({"type": "http.response.body"})

        if body.refused is None:
            try:
                await self._app(scope, body.receive, answer)
            except ProblemError as problem:
                if problem is not body.refused:
                    raise
            finally:
                body.forget()
        if body.refused is not None and not began:
            # What has come stands in the frames that it was raised through.
            body.refused.__traceback__ = None
            await body.refused.response()(scope, receive, to_the_end)


class _Body:
    """One request's body as it comes. `more` may come of it; `refused` is why it is taken no further."""

    def __init__(self, headers: Headers, receive: Receive, limit: int, unfinished: Unfinished) -> None:
        length = headers.get("content-length", "")
        # Who waits to be told to go on sends nothing behind another answer.
        self.more: bool = bool(length or "transfer-encoding" in headers) and "expect" not in headers
        self.refused: ProblemError | None = None
        self._receive = receive
        self._limit = limit
        self._unfinished = unfinished
        self._waiting: asyncio.Timeout | None = None
        self._taken = self._values = 0
        if length.isdigit() and int(length) > limit:
            self._refuse_long()

    async def receive(self) -> Message:
        """The next part, for the application.

        Raises:
            ProblemError: it is refused.
        """
        message = await self._next() if self.refused is None else {}
        if self.refused is not None:
            raise self.refused
        return message

    async def read_away(self) -> None:
        self.forget()
        while self.more:
            self.more = (await self._receive()).get("more_body", False)

    def forget(self) -> None:
        """Nothing of it is kept any more."""
        self._unfinished.hold(self, 0)

    def give_up(self) -> None:
        self.refused = ProblemError(
            503, "too_much_at_once", "too much is being sent at once; try again", headers={"Retry-After": "1"}
        )
        if self._waiting is not None:
            self._waiting.reschedule(asyncio.get_running_loop().time())

    async def _next(self) -> Message:
        try:
            async with asyncio.timeout(None) as self._waiting:
                message = await self._receive()
        except TimeoutError:
            if self.refused is None:
                raise
            return {}  # it was given up
        finally:
            self._waiting = None
        self.more = message.get("more_body", False)
        part = message.get("body", b"")
        self._taken, self._values = self._taken + len(part), self._values + most_values(part)
        if self._values > MAX_VALUES:
            self.refused = ProblemError(413, "too_large", f"the body has more than {MAX_VALUES:,} values; send less")
        elif self._taken > self._limit:
            self._refuse_long()
        elif self.refused is None:  # it may have been given up as this came
            # It may be this very one that is given up for it.
            self._unfinished.hold(self, self._taken if self.more else 0)
        return message

    def _refuse_long(self) -> None:
        self.refused = ProblemError(413, "too_large", f"the body is longer than {self._limit} bytes; send less")
