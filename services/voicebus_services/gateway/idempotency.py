"""`Idempotency-Key`: a write that is sent again is answered again, and has its effect once.

ASGI middleware, so that it holds for every write there is or will be. The key belongs to who gave it and to what was
asked; which answers are kept is in `_is_final`.
"""

import hashlib
from typing import Final

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from voicebus.adapters.redis.answers import Answer, InHand, KeptAnswers, Other, Ours
from voicebus.errors import BusError
from voicebus.telemetry.logging import get_logger
from voicebus_services.access.authenticator import KNOWN
from voicebus_services.access.known_first import is_write
from voicebus_services.access.principal import Principal
from voicebus_services.http import ProblemError

log = get_logger(__name__)

HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotency-Replayed"

_MAX_KEY: Final = 255
# Refusals that say nothing of the request itself: the same one may pass another time.
_PASSING: Final = frozenset({401, 403, 408, 409, 413, 429})


def command_id_of(request: Request) -> str | None:
    """A dependency: the id under which a request's command is sent, the same whenever the request comes again.

    A session carries a command out once, so that a request whose answer nobody knows (504) does no harm a second time.
    """
    given = getattr(request.state, "command_id", None)
    return given if isinstance(given, str) else None


class IdempotentWrites:
    """Answers writes under `/v1` that bring a key. Stands behind `KnownFirst`: requests that are not let in are left to
    the application.
    """

    def __init__(self, app: ASGIApp, *, answers: KeptAnswers) -> None:
        self._app = app
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if is_write(scope) else Headers()
        key, principal = headers.get(HEADER), scope.get("state", {}).get(KNOWN)
        if key is None or not isinstance(principal, Principal):
            await self._app(scope, receive, send)
            return
        try:
            _check(key)
            body = await Request(scope, receive).body()
            # A client secret bears the id of what minted it, and is let in to less.
            who = (principal.tenant, principal.kind, principal.key_id, principal.secret_id or "")
            whose = "\0".join((*who, scope["method"], scope["path"], key))
            secret = hashlib.sha256(whose.encode()).digest()
            await self._once(secret, _digest(scope, headers, body), body, scope, receive, send)
        except BusError as error:
            log.warning("Redis was not reached for a request", error=str(error))
            problem = ProblemError(
                503, "bus_unavailable", "Redis cannot be reached now; try again shortly", headers={"Retry-After": "2"}
            )
            await problem.response()(scope, receive, send)
        except ProblemError as problem:
            if problem.status == 413:
                raise
            await problem.response()(scope, receive, send)

    async def _once(self, secret: bytes, request: str, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        known = await self._answers.reserve(secret, request)
        match known:
            case Answer():
                await _send(send, known, replayed=True)
            case InHand():
                raise ProblemError(
                    409, "idempotency_in_progress", f"a request with this {HEADER} is being carried out; ask again",
                    headers={"Retry-After": "1"},
                )  # fmt: skip
            case Other():
                raise ProblemError(
                    422, "idempotency_key_reused", f"header.{HEADER}: it was used for a request with another body"
                )
            case Ours() as ours:
                scope.setdefault("state", {})["command_id"] = hashlib.sha256(b"command:" + secret).hexdigest()[:32]
                try:
                    async with self._answers.held(secret, ours):
                        answer = await self._answered(body, scope, receive)
                except BaseException:  # also where it is cancelled: nobody carries the request out any more
                    await self._answers.release(secret, ours)  # nor renews its lease, which would take the key again
                    raise
                is_kept = await self._settle(secret, request, answer, ours)
                await _send(send, answer)
                if not is_kept and _is_final(answer.status):
                    await self._answers.keep_later(secret, request, answer, ours)

    async def _answered(self, body: bytes, scope: Scope, receive: Receive) -> Answer:
        """The application's answer to the request, whose body has been read."""
        unread = True
        status = 500
        headers: dict[str, str] = {}
        parts: list[bytes] = []

        async def again() -> Message:
            nonlocal unread
            if unread:
                unread = False
                return {"type": "http.request", "body": body, "more_body": False}
            return await receive()

        async def collect(message: Message) -> None:
            nonlocal status, headers
            if message["type"] == "http.response.start":
                status, headers = message["status"], dict(Headers(raw=message["headers"]))
            elif message["type"] == "http.response.body":
                parts.append(message.get("body", b""))

        await self._app(scope, again, collect)
        return Answer(status, headers, b"".join(parts))

    async def _settle(self, secret: bytes, request: str, answer: Answer, ours: Ours) -> bool:
        """Whether Redis has taken it."""
        try:
            if _is_final(answer.status):
                await self._answers.keep(secret, request, answer, ours)
            else:
                await self._answers.release(secret, ours)
        except BusError as error:
            # It was carried out, so its answer is due; the key is held until its lease is over.
            log.warning("an answer was not kept yet", error=str(error))
            return False
        return True


def _check(key: str) -> None:
    if not 0 < len(key) <= _MAX_KEY or not key.isascii() or not key.isprintable():
        raise ProblemError(
            422, "invalid_request", f"header.{HEADER}: 1 to {_MAX_KEY} printable ASCII characters are allowed"
        )


def _is_final(status: int) -> bool:
    """Whether the same request will never be answered otherwise. A failure of ours may be gone the next time."""
    return status < 500 and status not in _PASSING


def _digest(scope: Scope, headers: Headers, body: bytes) -> str:
    about = b"\0".join((scope["query_string"], headers.get("content-type", "").encode("latin-1")))
    return hashlib.sha256(about + b"\0" + body).hexdigest()


async def _send(send: Send, answer: Answer, *, replayed: bool = False) -> None:
    headers = {**answer.headers, **({REPLAYED.lower(): "true"} if replayed else {})}
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": raw})
    await send({"type": "http.response.body", "body": answer.body})
