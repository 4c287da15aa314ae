"""One open connection to an MCP server, kept by a task of its own: what the `mcp` package opens, only the task that
opened it may close.
"""

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Final, Self

from voicebus.errors import MCPServerError
from voicebus.telemetry.logging import get_logger

if TYPE_CHECKING:
    from mcp import Client

_log = get_logger(__name__)

SUBSCRIBE_S: Final = 5.0
"""How long a server may take to confirm that it will tell changes of its tools, before its tools are used."""

CONNECT_S: Final = 20.0
"""How long a server may take to open a session, its start included. The `mcp` package waits 10 s for an answer to what
servers before 2026-07 do not know (`server/discover`), if they do not refuse it, and only then for the older handshake.
"""

CLOSE_S: Final = 8.0
"""What a server may take to end: the `mcp` package gives its process 2 s, then terminates it, then kills it."""


class Connection:
    """Made by `open`, ended by `close`; dead as soon as the server hangs up."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._over = asyncio.Event()
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None
        self.client: Client

    @classmethod
    async def open(
        cls,
        name: str,
        transport: AbstractAsyncContextManager[Any],
        *,
        connect_s: float | None,
        timeout_s: float | None,
        changed: Callable[[], None],
        heard: Callable[[Any], Any] | None,
    ) -> "Connection":
        """Connect through `transport`. `connect_s` bounds all of that, `timeout_s` every answer; `changed` is called
        when the server's tools change, `heard` with each of its messages.

        Raises:
            MCPServerError: the server cannot be reached, opened no session in time, or gave no proper answer.
        """
        from mcp import Client

        connection = cls(name)
        listener = _Listener(changed, heard)
        connection.client = Client(
            _Watched(transport, connection.drop),
            read_timeout_seconds=timeout_s,
            message_handler=listener,
            cache=None,
        )
        connection._task = asyncio.create_task(connection._keep(changed), name=f"mcp-{name}")
        try:
            async with asyncio.timeout(connect_s):
                await asyncio.shield(connection._opened)
        except TimeoutError as late:
            await connection.close()
            refusal = f"MCP server {name!r} cannot be reached: it opened no session within {connect_s:g} s"
            raise MCPServerError(refusal, unanswered=True) from late
        except asyncio.CancelledError:
            await connection.close()
            raise
        return connection

    @property
    def alive(self) -> bool:
        return not self._over.is_set() and self._task is not None and not self._task.done()

    def drop(self) -> None:
        """Nothing more is asked through this connection; it closes by itself."""
        self._over.set()

    async def close(self) -> None:
        """Close, and kill what does not close in `CLOSE_S`."""
        self._over.set()
        if self._task is None:
            return
        if not self._opened.done():
            self._task.cancel()
        _, late = await asyncio.wait({self._task}, timeout=CLOSE_S)
        if late:
            _log.warning("an MCP server does not close", server=self._name)
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=CLOSE_S)

    async def _keep(self, changed: Callable[[], None]) -> None:
        try:
            async with self.client:
                # Before anything is listed: a change that came in between would be missed.
                subscribed = asyncio.Event()
                listening = asyncio.create_task(self._listen(changed, subscribed), name=f"mcp-changes-{self._name}")
                try:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(SUBSCRIBE_S):
                            await subscribed.wait()
                    self._opened.set_result(None)
                    await self._over.wait()
                finally:
                    listening.cancel()
                    await asyncio.gather(listening, return_exceptions=True)
        except Exception as error:  # noqa: BLE001 - transports raise anything, in groups
            why = first_of(error)
            if self._opened.done():
                _log.info("connection to an MCP server ended", server=self._name, error=repr(why))
            else:
                refusal = f"MCP server {self._name!r} cannot be reached: {_say(why)}"
                self._opened.set_exception(MCPServerError(refusal, unanswered=True))
        finally:
            self._over.set()
            self._opened.cancel()

    async def _listen(self, changed: Callable[[], None], subscribed: asyncio.Event) -> None:
        """Newer servers tell changes to those only who listen; older ones to everybody (`_Listener`)."""
        from mcp.client.subscriptions import ListenNotSupportedError

        try:
            tools = self.client.server_capabilities.tools
            if tools is None or not tools.list_changed:
                return
            async with self.client.listen(tools_list_changed=True) as changes:
                subscribed.set()
                changed()  # for a subscription that took too long to be waited for
                async for _ in changes:
                    changed()
        except ListenNotSupportedError:
            return
        except Exception as error:  # noqa: BLE001 - what a server does with a request is its own affair
            _log.info("an MCP server tells no more changes", server=self._name, error=repr(error))
        finally:
            subscribed.set()
        # What changes from now on is not heard of: list anew, over a new connection.
        changed()
        self._over.set()


class _Listener:
    """Hears the server's messages."""

    def __init__(self, changed: Callable[[], None], heard: Callable[[Any], Any] | None) -> None:
        self._changed = changed
        self._heard = heard

    async def __call__(self, message: Any) -> None:
        from mcp.types import ToolListChangedNotification

        if isinstance(message, ToolListChangedNotification):
            self._changed()
        if self._heard is not None:
            await self._heard(message)


class _Watched:
    """A transport that tells when its server hangs up, which the package itself tells nobody before the next call."""

    def __init__(self, transport: AbstractAsyncContextManager[Any], hung_up: Callable[[], None]) -> None:
        self._transport = transport
        self._hung_up = hung_up

    async def __aenter__(self) -> Any:
        read, write = await self._transport.__aenter__()
        return _Reading(read, self._hung_up), write

    async def __aexit__(self, *error: Any) -> bool | None:  # noqa: PYI036 - handed on as it comes
        return await self._transport.__aexit__(*error)


class _Reading:
    def __init__(self, stream: Any, hung_up: Callable[[], None]) -> None:
        self._stream = stream
        self._hung_up = hung_up

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)  # `last_context`, and what else a stream may have

    async def receive(self) -> Any:
        try:
            return await self._stream.receive()
        except Exception:  # whatever ends a transport's stream: nothing more comes of it
            self._hung_up()
            raise

    def __aiter__(self) -> "_Reading":
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._stream.__anext__()
        except (Exception, StopAsyncIteration):
            self._hung_up()
            raise

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> bool | None:
        left: bool | None = await self._stream.__aexit__(*error)
        return left


def first_of(error: BaseException) -> BaseException:
    """What an exception group was raised for first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _say(error: BaseException) -> str:
    return str(error) or type(error).__name__
