"""One conversation with a gateway over its native face (contract section 3), as a terminal program holds it."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from voicebus.client.link import NativeLink
from voicebus.errors import RemoteError
from voicebus_services.call.wav import BYTES_PER_MS

_FRAME_MS: Final = 50
_SILENCE: Final = bytes(_FRAME_MS * BYTES_PER_MS)


class Conversation:
    """An open conversation. Binary frames appear in `events()` as `{"type": "audio.samples", "data": bytes}`."""

    def __init__(self, link: NativeLink) -> None:
        self._link = link

    @property
    def session(self) -> str:
        return self._link.session

    @property
    def close_code(self) -> int | None:
        return self._link.close_code

    @property
    def close_reason(self) -> str:
        return self._link.close_reason

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """Events until the session has ended or cannot be reached any more; `close_code` is known then."""
        async for frame in self._link:
            yield {"type": "audio.samples", "data": frame} if isinstance(frame, bytes) else frame

    async def command(self, command: str, **fields: Any) -> None:
        await self._link.send({"type": command, **fields})

    async def say(self, text: str) -> None:
        """Send a message, which a lost connection does not lose."""
        await self._link.command("send_message", self._link.new_id(), text=text)

    async def hang_up(self, *, wait: bool = True) -> None:
        """End the session, and `wait` for that while somebody reads the events; a lost connection does not lose it."""
        await self._link.hang_up(wait=wait)

    async def send_audio(self, samples: bytes) -> None:
        await self._link.send_audio(samples)

    async def speak(self, samples: bytes, *, keep_line_open: bool = True) -> None:
        """Send samples at the pace at which they were spoken, then (until cancelled) silence, as a microphone does."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        for start in range(0, len(samples), len(_SILENCE)):
            await self.send_audio(samples[start : start + len(_SILENCE)])
            due += _FRAME_MS / 1000
            await asyncio.sleep(due - loop.time())
        while keep_line_open:
            await self.send_audio(_SILENCE)
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
        UsageError: `url` is no gateway's address.
        RemoteError: the gateway cannot be reached or refused.
    """
    link = NativeLink(url, {"agent": agent} if agent else {}, headers=headers, tls=tls)
    try:
        await link.open()
    except RemoteError as error:
        hint = (
            "--ca-file names the authority to trust"
            if "CERTIFICATE" in str(error)
            else "is it running, is --url right?"
        )
        raise RemoteError(f"{error}; {hint}") from error
    try:
        yield Conversation(link)
    finally:
        await link.close()
