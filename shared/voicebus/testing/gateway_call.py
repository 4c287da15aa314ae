"""`GatewayCall`: a conversation with a gateway over its native face, handled like a session in process."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self

from voicebus.client.link import NativeLink
from voicebus.errors import RemoteError, UserError


class GatewayCall:
    """A client's side of one conversation, for the time of an `async with`.

    `url` is the gateway's (`ws://HOST:PORT` or http), `agent` the agent's name there (None: its default one),
    `api_key` the gateway's key, if it asks for one. `tls` verifies the gateway in place of what this machine trusts.
    Iterating gives every event since the beginning, as JSON, to each who iterates; it ends when the gateway closes.

    Raises:
        UserError: `url` is no gateway's address.
        RemoteError: on entering, that no gateway answers there, or that it refused; later, that it has closed.
    """

    def __init__(
        self, url: str, *, agent: str | None = None, api_key: str | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        asked = {"audio": "json", **({"agent": agent} if agent else {})}
        self._link = NativeLink(url, asked, api_key=api_key, tls=tls)
        self._reader: asyncio.Task[None] | None = None
        # The test's own record of one call, as long as the call.
        self._events: list[dict[str, Any]] = []
        self._news = asyncio.Event()
        self._over = False

    @property
    def close_code(self) -> int | None:
        """The close code, once the gateway has closed."""
        return self._link.close_code

    @property
    def session(self) -> str:
        """The session's id; "" until its first event has come."""
        return next((str(event["session"]) for event in self._events if event.get("session")), "")

    async def send_message(self, text: str) -> None:
        """Say something for the user, in text, and have it answered."""
        await self.command("send_message", text=text)

    async def send_audio(self, audio: bytes, *, commit: bool = False) -> None:
        """Send samples in the session's input format; `commit` ends a manual turn."""
        await self._connected().send_audio(audio)
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
        await self._connected().send({"type": command, **fields})

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
        await self._link.open()
        self._reader = asyncio.create_task(self._read(), name="gateway-call")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the conversation, if the gateway has not."""
        try:
            if not self._over:
                await self._link.hang_up()
        except RemoteError:
            pass  # it has ended already
        finally:
            await self._link.close()
            if self._reader is not None:
                await self._reader

    def _connected(self) -> NativeLink:
        if self._reader is None:
            raise UserError("the gateway call is not connected; use it in `async with`")
        return self._link

    async def _read(self) -> None:
        try:
            async for frame in self._link:
                if not isinstance(frame, bytes):
                    self._events.append(frame)
                    self._tell()
        finally:
            self._over = True
            self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
