"""Who comes to a public port, until there is something to serve: with TLS, until the handshake is done.

The servers of asyncio and uvloop keep a connection to themselves for so long, so that nothing could be bounded. And one
takes thousands of them in a turn of its loop, the other one alone.
"""

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from typing import Final, Protocol

from voicebus.telemetry.logging import get_logger
from voicebus_services.silent_connections import SilentConnections
from voicebus_services.tls import Certificate
from voicebus_services.turns import Turns

log: Final = get_logger(__name__)

HANDSHAKE_S: Final = 10.0
"""How long a TLS handshake may take, from the opening of its connection."""

# Taken in one turn of the loop; the others wait in the kernel's queue.
_AT_ONCE: Final = 16
# Without files or memory for another connection, how long none is taken.
_REST_S: Final = 1.0
# So soon the file of a connection that was dropped is free.
_CLOSING_S: Final = 0.01
_NO_FILES: Final = frozenset({errno.EMFILE, errno.ENFILE})


class Serving(Protocol):
    """What serves a connection that is `through`, which it calls then: False where it is to be cut at once."""

    def __call__(self, *, through: Callable[[], bool]) -> asyncio.Protocol: ...


class Entrance:
    """Takes the connections of `listener`, and has each served by a `protocol` once it is through. Handshakes take
    `turns`.

    To uvicorn it is a server like those of the loop.
    """

    def __init__(
        self,
        listener: socket.socket,
        certificate: Certificate | None,
        silent: SilentConnections,
        turns: Turns,
        protocol: Serving,
    ) -> None:
        """Needs the running loop; takes connections until `close`."""
        self._listener = listener
        self._certificate = certificate
        self._silent = silent
        self._turns = turns
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._handshakes: set[_Handshake] = set()
        self._resting: asyncio.TimerHandle | None = None
        listener.setblocking(False)
        self._open()

    def close(self) -> None:
        """Take no more, and drop those whose handshake is not done."""
        self._loop.remove_reader(self._listener)
        self._listener.close()
        if self._resting is not None:
            self._resting.cancel()
        for handshake in self._handshakes:
            handshake.drop()

    async def wait_closed(self) -> None:
        """Wait until those are gone that `close` has dropped."""
        await asyncio.gather(*(each.task for each in self._handshakes if each.task), return_exceptions=True)

    def _open(self) -> None:
        self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, peer = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._rest(error)
                return
            connection.setblocking(False)
            handshake = _Handshake(peer[0], takes_time=self._certificate is not None)
            handshake.task = self._loop.create_task(self._shake_hands(connection, handshake), name="handshake")
            self._handshakes.add(handshake)
            self._silent.fell_silent(handshake)

    def _rest(self, error: OSError) -> None:
        """Take none for a while, in which some that ask nothing may be gone."""
        rest_s = _CLOSING_S
        if error.errno not in _NO_FILES or not self._silent.drop_one():
            rest_s = _REST_S
            log.error("no connection can be taken now", error=str(error), seconds=rest_s)
        self._loop.remove_reader(self._listener)
        self._resting = self._loop.call_later(rest_s, self._open)

    async def _shake_hands(self, connection: socket.socket, handshake: "_Handshake") -> None:
        context: ssl.SSLContext | None = None
        try:
            async with asyncio.timeout(HANDSHAKE_S if self._certificate else None):
                if self._certificate is not None:
                    await self._may_begin(connection)
                    context = self._certificate.context
                await self._loop.connect_accepted_socket(
                    lambda: self._protocol(through=lambda: self._through(handshake)),
                    connection,
                    ssl=context,
                    ssl_handshake_timeout=HANDSHAKE_S if context else None,
                )
        except (ssl.SSLError, ConnectionError, TimeoutError):
            pass  # no TLS, an older one, too slow, or gone: as if it had never come
        except OSError:
            log.exception("a connection cannot be served", peer=handshake.address)
            connection.close()
        finally:
            self._handshakes.discard(handshake)
            self._silent.spoke(handshake)

    async def _may_begin(self, connection: socket.socket) -> None:
        """Wait until the peer has begun, and it is its turn: what comes first is half a millisecond's work."""
        begun = asyncio.Event()
        try:
            self._loop.add_reader(connection, begun.set)
            try:
                await begun.wait()
            finally:
                self._loop.remove_reader(connection)
            await self._turns.mine()
        except BaseException:  # also where it is cancelled: nobody else knows of the connection
            connection.close()
            raise

    def _through(self, handshake: "_Handshake") -> bool:
        self._silent.spoke(handshake)
        return not handshake.is_dropped


class _Handshake:
    """A connection whose handshake is a `task`, which closes it where that does not come about.

    Without TLS it takes no time: one that is dropped is served in the next turn of the loop, and cut then.
    """

    def __init__(self, address: str, *, takes_time: bool) -> None:
        self.address: str = address
        self.task: asyncio.Task[None] | None = None
        self.is_dropped: bool = False
        self._takes_time = takes_time

    def drop(self) -> None:
        self.is_dropped = True
        # Where it takes no time its end might be told to nobody (uvloop): it may be served in the turn of the cancel.
        if self.task is not None and self._takes_time:
            # Not at once: one that has not begun yet could not close its connection.
            self.task.get_loop().call_soon(self.task.cancel)
