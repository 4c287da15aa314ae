"""The native face from a client's side: one session over as many connections as it takes. The protocol's one home here.

A connection that is lost is opened again, with backoff and jitter, from the last `seq` that was read; what a client
sends meanwhile waits. Knows events as JSON, and nothing of agents.
"""

import asyncio
import json
import random
import secrets
import ssl
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from voicebus.client.address import native_address, session_in
from voicebus.errors import RemoteError

CONNECT_TIMEOUT_S: Final = 10.0
RESUME_S: Final = 60.0
"""How long a lost connection is tried again: the grace of a gateway that is not configured otherwise."""

FINAL_CODES: Final = frozenset({1000, 1008, 4404, 4409, 4429})
"""Close codes after which there is nothing to come back to (docs/native-face.md)."""

# Audio that is said while there is no connection: worth hearing only while it is fresh.
_UNSENT_AUDIO: Final = 5 * 48_000
_UNANSWERED: Final = 1_000
_FIRST_DELAY_S: Final = 0.1
_LONGEST_DELAY_S: Final = 5.0
_GREETINGS: Final = frozenset({"session_started", "session_resumed"})


class _Connect(connect):
    """Redirects are not followed: the credentials are for this address alone."""

    def process_redirect(self, exc: Exception) -> Exception:
        return exc


class NativeLink:
    """A client's side of one session. `open` it, iterate over it until it ends, `close` it.

    Iterating gives events as JSON objects, and bytes: the samples of the last `audio` event's part. Events of a kind of
    their own tell of the link itself: `connection_lost` and, when it is open again, `connection_resumed`.

    `asked` joins the address's query. `resume_s` (s) is how long a lost connection is tried again, 0: not at all.
    """

    def __init__(
        self,
        url: str,
        asked: Mapping[str, str] | None = None,
        *,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        resume_s: float = RESUME_S,
    ) -> None:
        self._url = url
        self._asked = dict(asked or {})
        self.address: str = native_address(url, self._asked)
        self.where: str = self.address.partition("?")[0]
        """The address without what may be secret in it."""
        self._headers = {**(headers or {}), **({"Authorization": f"Bearer {api_key}"} if api_key else {})}
        self._tls = tls
        self._resume_s = resume_s
        self._socket: ClientConnection | None = None
        self._connected = asyncio.Event()
        self._over = False
        # Of this client alone: what another one of the same session has sent is not what this one sends again.
        self._prefix = f"{secrets.token_hex(4)}-"
        self._number = 0
        self._unanswered: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._unsent_audio: deque[bytes] = deque()
        self._unsent_size = 0
        named = session_in(self.address) or ("", "")
        self.session: str = named[0]
        self.token: str = named[1]
        self.seq: int = 0
        """The last recorded event that was read."""
        self.close_code: int | None = None
        """Of the connection that ended last."""
        self.close_reason: str = ""

    @property
    def over(self) -> bool:
        """Whether the session has ended, or cannot be reached any more."""
        return self._over

    async def open(self) -> None:
        """Connect.

        Raises:
            RemoteError: no gateway answers, or it refused the connection.
        """
        self._socket = await self._dial(self.address)
        self._connected.set()

    def enters(self, session: str, token: str) -> None:
        """Enter this session instead of a new one; before `open`."""
        self._asked = {name: value for name, value in self._asked.items() if name != "agent"}
        self._asked |= {"session": session, "token": token}
        self.address = native_address(self._url, self._asked)
        self.session, self.token = session, token

    async def hang_up(self) -> None:
        """Ask the gateway to end the session; what it still says comes.

        Raises:
            RemoteError: the session is over.
        """
        await self.send({"type": "end"})

    async def close(self) -> None:
        """Close the connection: who has not hung up does so thereby."""
        self._over = True
        self._connected.set()
        if self._socket is not None:
            await self._socket.close()

    # --- to the gateway -----------------------------------------------------------------------------

    async def send(self, command: Mapping[str, Any]) -> None:
        """Send a command; waits while the connection is being opened again.

        Raises:
            RemoteError: the session is over.
        """
        await self._send(json.dumps(command))

    def new_id(self) -> str:
        """An id for a command."""
        self._number += 1
        return f"{self._prefix}{self._number}"

    async def command(self, command: str, given: str, **fields: Any) -> None:
        """Send a command under this id, which its answer (`ack` or `error`) names.

        It survives the loss of its connection: unanswered, it is sent again, and is carried out once.

        Raises:
            RemoteError: the session is over.
        """
        self._unanswered[given] = {"type": command, "id": given, **fields}
        if len(self._unanswered) > _UNANSWERED:
            self._unanswered.popitem(last=False)
        if not self._over and not self._connected.is_set():
            await self._connected.wait()  # and it has been sent, with all that had no answer
        elif not self._over:
            socket = self._now()
            try:
                await socket.send(json.dumps({"type": command, "id": given, **fields}))
            except ConnectionClosed:
                await self._reconnected(socket)
        if self._over:
            raise self._ended()

    async def send_audio(self, samples: bytes) -> None:
        """Send samples. While there is no connection the newest 5 s are kept.

        Raises:
            RemoteError: the session is over.
        """
        if self._over:
            raise self._ended()
        if self._connected.is_set():
            try:
                await self._now().send(samples)
            except ConnectionClosed:
                if self._over:
                    raise self._ended() from None
            else:
                return
        self._unsent_audio.append(samples)
        self._unsent_size += len(samples)
        while self._unsent_size > _UNSENT_AUDIO and len(self._unsent_audio) > 1:
            self._unsent_size -= len(self._unsent_audio.popleft())

    async def _send(self, frame: str) -> None:
        while not self._over:
            await self._connected.wait()
            if self._over:
                break
            socket = self._now()
            try:
                await socket.send(frame)
            except ConnectionClosed:
                await self._reconnected(socket)
            else:
                return
        raise self._ended()

    async def _reconnected(self, socket: ClientConnection) -> None:
        """Wait until the reader has noticed that this connection is gone, and has opened another or given up."""
        while self._socket is socket and not self._over:
            self._connected.clear()
            await self._connected.wait()

    def _now(self) -> ClientConnection:
        if self._socket is None:
            raise RuntimeError("the link was not opened")
        return self._socket

    def _ended(self) -> RemoteError:
        why = f"{self.close_code} {self.close_reason}".strip()
        return RemoteError(f"the gateway has closed the conversation ({why})")

    # --- from the gateway ---------------------------------------------------------------------------

    async def __aiter__(self) -> AsyncIterator[dict[str, Any] | bytes]:
        try:
            while True:
                socket = self._now()
                try:
                    async for frame in socket:
                        yield frame if isinstance(frame, bytes) else self._read(frame)
                except ConnectionClosed:
                    pass  # the code below tells
                self.close_code, self.close_reason = socket.close_code, socket.close_reason or ""
                if self._over or self.close_code in FINAL_CODES or not self.token or not self._resume_s:
                    return
                self._connected.clear()
                yield {"type": "connection_lost", "seq": self.seq, "session": self.session, "code": self.close_code}
                if not await self._resume():
                    return
                yield {"type": "connection_resumed", "seq": self.seq, "session": self.session}
        finally:
            self._over = True
            self._connected.set()

    def _read(self, frame: str) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(frame)
        self.seq = max(self.seq, event.get("seq") or 0)
        kind = event["type"]
        if kind in _GREETINGS and "token" in event:
            self.session, self.token = str(event["session"]), str(event["token"])
            # Less than was read where a gateway died before it had written that: those numbers are given again.
            self.seq = int(event.get("from_seq", self.seq))
        elif kind == "session_ended":
            self._over = True
        elif kind in ("ack", "error") and event.get("id") is not None:
            self._unanswered.pop(event["id"], None)
        return event

    async def _resume(self) -> bool:
        """Open the connection again; False where that was tried for long enough, or the session is over."""
        loop = asyncio.get_running_loop()
        until, attempt = loop.time() + self._resume_s, 0
        rest = {name: value for name, value in self._asked.items() if name not in ("agent", "seq")}
        asked = {**rest, "session": self.session, "token": self.token, "seq": str(self.seq)}
        address = native_address(self._url, asked)
        while not self._over:
            delay = min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2**attempt) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
            if loop.time() + delay > until:
                return False
            await asyncio.sleep(delay)
            attempt += 1
            try:
                self._socket = await self._dial(address)
                await self._catch_up()
            except RemoteError:
                continue
            except ConnectionClosed:
                # Refused for good, it has said why: that is to be read.
                if self._now().close_code not in FINAL_CODES:
                    continue
            self._connected.set()
            return True
        return False

    async def _catch_up(self) -> None:
        """Say what was to be said meanwhile, and what is added while that is said."""
        socket = self._now()
        said: set[str] = set()
        while True:
            if (given := next((given for given in self._unanswered if given not in said), None)) is not None:
                said.add(given)
                await socket.send(json.dumps({**self._unanswered[given], "again": True}))
            elif self._unsent_audio:
                samples = self._unsent_audio.popleft()
                self._unsent_size -= len(samples)
                try:
                    await socket.send(samples)
                except ConnectionClosed:
                    self._unsent_audio.appendleft(samples)
                    self._unsent_size += len(samples)
                    raise
            else:
                return

    async def _dial(self, address: str) -> ClientConnection:
        # Without a context of its own it decides by the address.
        options: dict[str, Any] = {} if self._tls is None else {"ssl": self._tls}
        try:
            return await _Connect(
                address, additional_headers=self._headers, open_timeout=CONNECT_TIMEOUT_S, max_size=None, **options
            )
        except InvalidStatus as error:
            said = (error.response.body or b"").decode(errors="replace").strip()[:200]
            raise RemoteError(f"{self.where} refused with HTTP {error.response.status_code} {said}".rstrip()) from error
        except (OSError, TimeoutError, InvalidHandshake) as error:
            why = str(error) or type(error).__name__
            raise RemoteError(f"no gateway answers at {self.where} ({why})") from error
