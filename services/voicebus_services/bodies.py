"""How long a request's body may be. Whoever sends more, or is refused before it has sent all, hears of it."""

from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from voicebus.runtime.frames import MAX_VALUES, most_values
from voicebus_services.http import ProblemError

MAX_BODY: Final = 4 * 1024 * 1024
"""Bytes of a request's body: a message may bring images."""


class BoundedBodies:
    """ASGI middleware: a request whose body is longer than `limit` bytes, or may have more than `MAX_VALUES` values, is
    answered with 413, and no more of it is kept.

    What still comes of a body behind its answer, whichever that is, is read away, for as long as a request may take to
    arrive: a connection that is closed while more comes is reset, and a peer that sends all before it reads would lose
    the answer with it.
    """

    def __init__(self, app: ASGIApp, *, limit: int = MAX_BODY) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        length = headers.get("content-length", "")
        # Who waits to be told to go on sends nothing behind another answer.
        more = bool(length or "transfer-encoding" in headers) and "expect" not in headers
        taken = values = 0
        began = too_large = False
        refused = ProblemError(413, "too_large", f"the body is longer than {self._limit} bytes; send less")

        async def bounded() -> Message:
            nonlocal taken, values, too_large, refused, more
            message = await receive()
            more = message.get("more_body", False)
            body = message.get("body", b"")
            taken, values = taken + len(body), values + most_values(body)
            if values > MAX_VALUES:
                refused = ProblemError(413, "too_large", f"the body has more than {MAX_VALUES:,} values; send less")
            too_large = taken > self._limit or values > MAX_VALUES
            if too_large:
                raise refused
            return message

        async def answer(message: Message) -> None:
            nonlocal began
            # Whatever the application makes of the exception is not what was wrong.
            if began or not too_large:
                began = True
                await to_the_end(message)

        async def to_the_end(message: Message) -> None:
            nonlocal more
            is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
            if not (is_last and more):
                await send(message)
                return
            await send({**message, "more_body": True})
            while more:
                more = (await receive()).get("more_body", False)
            await send({"type": "http.response.body"})

        if length.isdigit() and int(length) > self._limit:
            await refused.response()(scope, receive, to_the_end)
            return
        try:
            await self._app(scope, bounded, answer)
        except ProblemError as problem:
            if problem is not refused:
                raise
        if too_large and not began:
            await refused.response()(scope, receive, to_the_end)
