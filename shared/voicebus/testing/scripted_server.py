"""`ScriptedRealtimeServer`: the protocol's server over a real socket, which says what a script says.

For sessions in process and for gateways alike: give its `url` to `RealtimeModelConfig` or `VOICEBUS_MODEL_URL`.
"""

import asyncio
import base64
import json
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from types import TracebackType
from typing import Final, Self

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from voicebus.testing.scripts import (
    RealtimeScriptError,
    UnconsumedRealtimeSteps,
    UnexpectedRealtimeSend,
    shortened,
)
from voicebus.testing.server_conversation import ServerConversation, ServerEvent
from voicebus.testing.server_steps import ABNORMAL, ClientEvent, Drop, Emission, ServerStep

ROUTINE: Final[frozenset[str]] = frozenset(
    {
        "session.update",
        "input_audio_buffer.append",
        "input_audio_buffer.commit",
        "input_audio_buffer.clear",
        "conversation.item.create",
        "conversation.item.retrieve",
        "conversation.item.truncate",
        "conversation.item.delete",
        "response.cancel",
    }
)
"""Client events that a script need not mention: all but `response.create`."""

DEFAULT_WITHIN_S: Final = 5.0


class ScriptedConnection:
    """One client of a scripted server. `path` is what it asked for, `headers` the names of its headers."""

    def __init__(self, socket: ServerConnection, number: int, steps: Iterable[ServerStep]) -> None:
        self._socket = socket
        self._steps = deque(steps)
        self._received: list[ClientEvent] = []
        self.conversation: ServerConversation = ServerConversation(number)
        request = socket.request
        self.path: str = request.path if request is not None else ""
        self.headers: frozenset[str] = frozenset(request.headers.keys()) if request is not None else frozenset()
        self.unexpected: list[UnexpectedRealtimeSend] = []

    @property
    def remaining_steps(self) -> int:
        """How many steps of its script were not reached yet."""
        return len(self._steps)

    @property
    def audio(self) -> bytes:
        """All samples that the client has appended."""
        return b"".join(base64.b64decode(event["audio"]) for event in self.received("input_audio_buffer.append"))

    def received(self, kind: str | None = None) -> list[ClientEvent]:
        """The client's events, those of one type or all."""
        return [event for event in self._received if kind is None or event.get("type") == kind]

    def assert_complete(self) -> None:
        """Check that this connection went as its script says, to its end.

        Raises:
            UnexpectedRealtimeSend: the first client event that did not fit.
            UnconsumedRealtimeSteps: steps remain.
        """
        if self.unexpected:
            raise self.unexpected[0]
        if self._steps:
            raise UnconsumedRealtimeSteps(tuple(self._steps))

    async def emit(self, *emissions: Emission) -> None:
        """Say something now, beside the script. A client that has gone hears nothing.

        Raises:
            RealtimeScriptError: an emission that does not fit what was said before.
        """
        for emission in emissions:
            if isinstance(emission, Drop):
                await self._drop(emission)
                return
            if isinstance(emission, Mapping):
                events: Iterable[ServerEvent] = [{**self.conversation.event(emission["type"]), **emission}]
            else:
                events = emission(self.conversation)
            for event in events:
                await self._send(event)

    async def _send(self, event: ServerEvent) -> None:
        try:
            await self._socket.send(json.dumps(event))
        except ConnectionClosed:
            return  # what it was told before is what it knows

    async def _drop(self, how: Drop) -> None:
        if how.code == ABNORMAL:
            self._socket.transport.abort()
        else:
            await self._socket.close(how.code, how.reason)

    async def _begin(self) -> None:
        await self.emit({"type": "session.created", "session": self.conversation.session})
        await self._unasked()

    async def _unasked(self) -> None:
        while self._steps and self._steps[0].expect is None:
            await self.emit(*self._steps.popleft().emissions())

    async def _hear(self, event: ClientEvent, *, strict: bool, ignored: Collection[str]) -> None:
        self._received.append(event)
        for answer in self.conversation.acknowledge(event):
            await self._send(answer)
        step = self._steps[0] if self._steps else None
        if step is not None and step.fits(event):
            self._steps.popleft()
            await self.emit(*step.emissions())
            await self._unasked()
        elif strict and event.get("type") not in ignored:
            unexpected = UnexpectedRealtimeSend(event, None if step is None else step.expect)
            self.unexpected.append(unexpected)
            await self._send(self.conversation.error("unexpected_event", str(unexpected), cause=event))


class ScriptedRealtimeServer:
    """A server of the protocol on a free port of 127.0.0.1, for the time of an `async with`.

    Each of `scripts` is a sequence of steps: the n-th connection plays the n-th script, further ones the last, each
    from its beginning. Everything that a client sends is kept and acknowledged as a server would
    (`session.updated`, items added, and so on); answers come from the steps alone.

    With `strict` a client event that fits not the next step, and is none of `ignored` (default `ROUTINE`), is refused
    with an `error` event and raised by `assert_complete`.
    """

    def __init__(self, *scripts: Iterable[ServerStep], strict: bool = True, ignored: Collection[str] = ROUTINE) -> None:
        self._scripts = tuple(tuple(script) for script in scripts) or ((),)
        self._strict = strict
        self._ignored = frozenset(ignored)
        self._connections: list[ScriptedConnection] = []
        self._news = asyncio.Condition()
        self._broken: Exception | None = None
        self._server: Server | None = None

    @property
    def url(self) -> str:
        """Its address (`ws://127.0.0.1:PORT/v1/realtime`).

        Raises:
            RealtimeScriptError: it does not run.
        """
        if self._server is None:
            raise RealtimeScriptError("the scripted server does not run; use it in `async with`")
        return f"ws://127.0.0.1:{next(iter(self._server.sockets)).getsockname()[1]}/v1/realtime"

    @property
    def connections(self) -> tuple[ScriptedConnection, ...]:
        """All clients so far, oldest first, those that have gone too."""
        return tuple(self._connections)

    def received(self, kind: str | None = None) -> list[ClientEvent]:
        """What all clients have sent, connection by connection."""
        return [event for connection in self._connections for event in connection.received(kind)]

    async def wait_for(self, kind: str, count: int = 1, *, within: float = DEFAULT_WITHIN_S) -> ClientEvent:
        """Wait until `count` events of a type have come, and return that one.

        Raises:
            RealtimeScriptError: they have not within `within` s; says what came instead.
        """
        try:
            async with asyncio.timeout(within), self._news:
                await self._news.wait_for(lambda: len(self.received(kind)) >= count)
        except TimeoutError:
            kinds = [event.get("type") for event in self.received()]
            raise RealtimeScriptError(
                f"no {kind} number {count} came within {within:g} s; clients sent {shortened(kinds)}"
            ) from None
        return self.received(kind)[count - 1]

    async def wait_for_connection(self, count: int = 1, *, within: float = DEFAULT_WITHIN_S) -> ScriptedConnection:
        """Wait until `count` clients have connected, and return that one.

        Raises:
            RealtimeScriptError: they have not within `within` s.
        """
        try:
            async with asyncio.timeout(within), self._news:
                await self._news.wait_for(lambda: len(self._connections) >= count)
        except TimeoutError:
            raise RealtimeScriptError(
                f"{count} connection(s) were awaited for {within:g} s; {len(self._connections)} came"
            ) from None
        return self._connections[count - 1]

    def assert_complete(self) -> None:
        """Check that every connection went as its script says, and that every script was played to its end.

        Raises:
            UnexpectedRealtimeSend: the first client event that did not fit.
            UnconsumedRealtimeSteps: steps of a connection, or of a connection that never came, remain.
            RealtimeScriptError: a script said what cannot follow upon what it had said.
        """
        if self._broken is not None:
            raise self._broken
        for connection in self._connections:
            connection.assert_complete()
        for script in self._scripts[len(self._connections) :]:
            if script:
                raise UnconsumedRealtimeSteps(script)

    async def __aenter__(self) -> Self:
        self._server = await serve(self._serve, "127.0.0.1", 0, max_size=None)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, socket: ServerConnection) -> None:
        script = self._scripts[min(len(self._connections), len(self._scripts) - 1)]
        connection = ScriptedConnection(socket, len(self._connections) + 1, script)
        self._connections.append(connection)
        try:
            await connection._begin()  # noqa: SLF001 - the two classes are one server
            await self._announce()
            async for frame in socket:
                event = _event(frame)
                if event is None:
                    problem = connection.conversation.error("invalid_event", "no JSON object with a type")
                    await connection._send(problem)  # noqa: SLF001
                    continue
                await connection._hear(event, strict=self._strict, ignored=self._ignored)  # noqa: SLF001
                await self._announce()
        except ConnectionClosed:
            pass  # the client went without a close frame; what it sent is kept
        except Exception as error:  # noqa: BLE001 - a step's function may raise anything; assert_complete raises it
            self._broken = self._broken or error
            await socket.close(1011, "the script failed")

    async def _announce(self) -> None:
        async with self._news:
            self._news.notify_all()


def _event(frame: str | bytes) -> ClientEvent | None:
    if isinstance(frame, bytes):
        return None
    try:
        event = json.loads(frame)
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("type"), str) else None
