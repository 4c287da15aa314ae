"""`GatewayCall`: a conversation with a gateway over its native face, handled like a session in process."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlencode, urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from voicebus.errors import RemoteError, UserError

CONNECT_TIMEOUT_S: Final = 10.0
_SCHEMES: Final = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
_PATH: Final = "/v1/sessions/connect"


class GatewayCall:
    """A client's side of one conversation, for the time of an `async with`.

    `url` is the gateway's (`ws://HOST:PORT` or http), `agent` the agent's name there (None: its default one),
    `api_key` the gateway's key, if it asks for one. Iterating gives every event since the beginning, as JSON, to each
    who iterates; it ends when the gateway closes.

    Raises:
        UserError: `url` is no gateway's address.
        RemoteError: on entering, that no gateway answers there, or that it refused; later, that it has closed.
    """

    def __init__(self, url: str, *, agent: str | None = None, api_key: str | None = None) -> None:
        self._address = _address(url, agent)
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._socket: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        # The test's own record of one call, as long as the call.
        self._events: list[dict[str, Any]] = []
        self._news = asyncio.Event()
        self._over = False
        self.close_code: int | None = None
        """The close code, once the gateway has closed."""

    @property
    def session(self) -> str:
        """The session's id; "" until its first event has come."""
        return next((str(event["session"]) for event in self._events if event.get("session")), "")

    async def send_message(self, text: str) -> None:
        """Say something for the user, in text, and have it answered."""
        await self.command("send_message", text=text)

    async def send_audio(self, audio: bytes, *, commit: bool = False) -> None:
        """Send samples in the session's input format; `commit` ends a manual turn."""
        await self._send(audio)
        if commit:
            await self.command("commit")

    async def interrupt(self) -> None:
        """Stop what the agent is saying."""
        await self.command("interrupt")

    async def approve_tool_call(self, call_id: str, *, always: bool = False) -> None:
        """Let a call run that waits for approval; `always`: and every further one of its tool."""
        await self.command("approve", call_id=call_id, always=always)

    async def reject_tool_call(
        self, call_id: str, *, always: bool = False, rejection_message: str | None = None
    ) -> None:
        """Refuse a call that waits for approval; `rejection_message` is what the model is told."""
        await self.command("reject", call_id=call_id, always=always, message=rejection_message)

    async def command(self, command: str, **fields: Any) -> None:
        """Any command of the native face; the others are made of it."""
        await self._send(json.dumps({"type": command, **fields}))

    async def _send(self, frame: str | bytes) -> None:
        try:
            await self._connected().send(frame)
        except ConnectionClosed as error:
            raise RemoteError(f"the gateway has closed the conversation ({error})") from error

    async def __aiter__(self) -> AsyncIterator[Mapping[str, Any]]:
        place = 0
        while True:
            news = self._news
            while place < len(self._events):
                place += 1
                yield self._events[place - 1]
            if self._over:
                return
            await news.wait()

    async def __aenter__(self) -> Self:
        try:
            self._socket = await connect(
                self._address, additional_headers=self._headers, open_timeout=CONNECT_TIMEOUT_S, max_size=None
            )
        except InvalidStatus as error:
            said = (error.response.body or b"").decode(errors="replace").strip()[:200]
            raise RemoteError(
                f"{self._address} refused with HTTP {error.response.status_code} {said}".rstrip()
            ) from error
        except (OSError, TimeoutError, InvalidHandshake) as error:
            why = str(error) or type(error).__name__
            raise RemoteError(f"no gateway answers at {self._address} ({why})") from error
        self._reader = asyncio.create_task(self._read(self._socket), name="gateway-call")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the conversation, if the gateway has not."""
        socket, reader = self._connected(), self._reader
        try:
            if not self._over:
                await socket.send(json.dumps({"type": "end"}))
        except ConnectionClosed:
            pass  # it has ended already
        finally:
            await socket.close()
            if reader is not None:
                await reader

    def _connected(self) -> ClientConnection:
        if self._socket is None:
            raise UserError("the gateway call is not connected; use it in `async with`")
        return self._socket

    async def _read(self, socket: ClientConnection) -> None:
        try:
            async for frame in socket:
                if isinstance(frame, str):
                    self._events.append(json.loads(frame))
                    self._tell()
        except ConnectionClosed:
            pass  # the code below tells
        finally:
            self.close_code = socket.close_code
            self._over = True
            self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def _address(url: str, agent: str | None) -> str:
    parts = urlsplit(url)
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise UserError(f"{url!r} is no gateway's address; ws://HOST:PORT or http://HOST:PORT is allowed")
    asked = {"audio": "json", **({"agent": agent} if agent else {})}
    query = "&".join(part for part in (parts.query, urlencode(asked)) if part)
    return urlunsplit((scheme, parts.netloc, parts.path if parts.path.strip("/") else _PATH, query, ""))
