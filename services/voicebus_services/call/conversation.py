"""One conversation with a gateway over its native face (contract section 3), as a terminal program holds it."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from voicebus.errors import RemoteError, UsageError
from voicebus_services.call.wav import BYTES_PER_MS

CONNECT_TIMEOUT_S: Final = 10
_FRAME_MS: Final = 50
_SILENCE: Final = bytes(_FRAME_MS * BYTES_PER_MS)


class Conversation:
    """An open conversation. Binary frames appear in `events()` as `{"type": "audio.samples", "data": bytes}`."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.session = ""
        self.close_code: int | None = None
        self.close_reason = ""

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """Events until the gateway closes; `close_code` is known then."""
        try:
            async for frame in self._socket:
                if isinstance(frame, bytes):
                    yield {"type": "audio.samples", "data": frame}
                    continue
                event = json.loads(frame)
                if event["type"] in ("session_started", "session_resumed"):
                    self.session = event["session"]
                yield event
        except ConnectionClosed:
            pass  # the code below tells
        self.close_code = self._socket.close_code
        self.close_reason = self._socket.close_reason or ""

    async def command(self, command: str, **fields: Any) -> None:
        await self._socket.send(json.dumps({"type": command, **fields}))

    async def send_audio(self, samples: bytes) -> None:
        await self._socket.send(samples)

    async def speak(self, samples: bytes, *, keep_line_open: bool = True) -> None:
        """Send samples at the pace at which they were spoken, then (until cancelled) silence, as a microphone does."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        for start in range(0, len(samples), len(_SILENCE)):
            await self._socket.send(samples[start : start + len(_SILENCE)])
            due += _FRAME_MS / 1000
            await asyncio.sleep(due - loop.time())
        while keep_line_open:
            await self._socket.send(_SILENCE)
            due += _FRAME_MS / 1000
            await asyncio.sleep(due - loop.time())


class Recorder:
    """The listener who records instead of listening: sound counts as heard as soon as it is complete.

    Without its word the gateway waits for as long as the sound would play before it takes an answer for heard.
    """

    def __init__(self) -> None:
        self._ms = 0.0

    def took(self, samples: bytes) -> None:
        self._ms += len(samples) / BYTES_PER_MS

    def played(self, event: Mapping[str, Any]) -> dict[str, Any] | None:
        """What to say in a `playback` command after this event: None unless an item's sound begins or is complete."""
        if event["type"] == "audio":
            self._ms = 0.0
        elif event["type"] == "audio_end":
            return {"item_id": event["item_id"], "content_index": event["content_index"], "played_ms": self._ms}
        return None


def native_url(url: str, agent: str | None) -> str:
    """The address of the native face for a gateway's base address.

    Raises:
        UsageError: `url` is no http(s) or ws(s) address.
    """
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise UsageError(f"url: {url!r} is no gateway address; http://HOST:PORT or ws://HOST:PORT is allowed")
    path = parts.path if parts.path.strip("/") else "/v1/sessions/connect"
    query = "&".join(part for part in (parts.query, urlencode({"agent": agent}) if agent else "") if part)
    return urlunsplit((scheme, parts.netloc, path, query, ""))


def trusting(ca_file: Path | None) -> ssl.SSLContext | None:
    """What verifies a gateway by the authorities of this PEM file; None: those that this machine trusts.

    Raises:
        UsageError: the file cannot be read, or holds no certificate.
    """
    if ca_file is None:
        return None
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # of the file, and of TLS
        raise UsageError(
            f"--ca-file: {str(ca_file)!r} is no PEM file of certificates that can be read ({error.strerror or error})"
        ) from error


@asynccontextmanager
async def open_conversation(
    url: str,
    *,
    agent: str | None = None,
    headers: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Conversation]:
    """Connect to a gateway's native face. `tls` verifies it in place of the authorities that this machine trusts.

    Raises:
        UsageError: `url` is no gateway's address, or `tls` is given for one without TLS.
        RemoteError: the gateway cannot be reached or refused.
    """
    address = native_url(url, agent)
    if tls is not None and not address.startswith("wss:"):
        raise UsageError(f"--ca-file: {url!r} is an address without TLS; give https://HOST:PORT or wss://HOST:PORT")
    # Without a context of its own `connect` decides by the address.
    options: dict[str, Any] = {} if tls is None else {"ssl": tls}
    try:
        socket = await connect(
            address, additional_headers=headers, open_timeout=CONNECT_TIMEOUT_S, max_size=None, **options
        )
    except InvalidStatus as error:
        why = error.response.body.decode(errors="replace").strip()[:200] if error.response.body else ""
        raise RemoteError(f"{address} refused with HTTP {error.response.status_code} {why}".rstrip()) from error
    except (OSError, TimeoutError, InvalidHandshake) as error:
        raise RemoteError(
            f"no gateway answers at {address} ({str(error) or type(error).__name__}); is it running, is --url right?"
        ) from error
    try:
        yield Conversation(socket)
    finally:
        await socket.close()
