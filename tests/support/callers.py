"""Callers for scenarios: they hold a conversation over the native face and remember what happened."""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

from support.waiting import wait_until
from voicebus_services.call.conversation import Conversation, open_conversation
from voicebus_services.model_simulator import tape

_FRAME: Final = 4800  # bytes: 100 ms
_SILENCE: Final = bytes(48 * 900)


class Caller:
    """One conversation; `events` are all that came, in order."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self.events: list[dict[str, Any]] = []
        self.audio = bytearray()
        self.closed = False

    async def listen(self) -> None:
        async for event in self.conversation.events():
            if event["type"] == "audio.samples":
                self.audio += event["data"]
            else:
                self.events.append(event)
        self.closed = True

    @property
    def session(self) -> str:
        return self.conversation.session

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == kind]

    def lines(self) -> list[tuple[str, str]]:
        """(role, text) of the items recorded so far, in order."""
        return [(event["role"], event["text"]) for event in self.of("item_recorded")]

    async def says(self, text: str) -> None:
        """Speak `text` (as sound whose words the simulator knows), faster than real time, with silence behind it."""
        sound = tape.record(text) + _SILENCE
        for start in range(0, len(sound), _FRAME):
            await self.conversation.send_audio(sound[start : start + _FRAME])

    async def types(self, text: str) -> None:
        await self.conversation.command("send_message", text=text)

    async def until(self, probe: Callable[["Caller"], Any], description: str, *, timeout: float = 30) -> Any:
        """Wait until `probe` finds something; a failure shows what came last."""

        def look() -> Any:
            found = probe(self)
            if not found and self.closed:
                raise AssertionError(f"the call ended while waiting for {description}: {self.events[-5:]}")
            return found

        try:
            return await wait_until(look, description=description, timeout=timeout)
        except AssertionError as error:
            kinds = [event["type"] for event in self.events[-30:]]
            told = f"last events: {kinds}; last items: {self.lines()[-4:]}"
            raise AssertionError(f"{error}; session {self.session}; {told}") from error

    async def hears(self, text: str, *, timeout: float = 30) -> dict[str, Any]:
        """Wait until an answer that contains `text` was heard out."""
        found: dict[str, Any] = await self.until(
            lambda caller: next(
                (
                    event
                    for event in caller.of("item_recorded")
                    if event["role"] == "assistant" and text in event["text"]
                ),
                None,
            ),
            f"an answer with {text!r}",
            timeout=timeout,
        )
        return found

    async def hangs_up(self) -> None:
        await self.conversation.hang_up()
        await self.until(lambda caller: caller.of("session_ended"), "the end of the session")


@asynccontextmanager
async def calling(url: str, *, agent: str | None = None) -> AsyncIterator[Caller]:
    """A caller on the native face of the gateway at `url`."""
    async with open_conversation(url, agent=agent) as conversation:
        caller = Caller(conversation)
        listening = asyncio.create_task(caller.listen(), name="caller")
        try:
            await caller.until(lambda each: each.of("session_started"), "the session to start")
            yield caller
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


async def fetch(url: str) -> Any:
    """The JSON behind a URL, or None for 404."""

    def read() -> Any:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise

    return await asyncio.to_thread(read)


async def transcript(archiver_url: str, session: str, *, timeout: float = 30) -> dict[str, Any]:
    """The archived transcript of a session, once it says that the session ended."""

    async def ended() -> Any:
        found = await fetch(f"{archiver_url}/v1/transcripts/{session}")
        return found if found is not None and found["status"] == "ended" else None

    found: dict[str, Any] = await wait_until(
        ended, description=f"the transcript of {session}", timeout=timeout, interval=0.1
    )
    return found


async def admitted(stack: AsyncExitStack, url: str) -> Caller | None:
    """A caller, or None where the gateway is full."""
    try:
        return await stack.enter_async_context(calling(url))
    except AssertionError as error:
        if "'code': 'full'" not in str(error):
            raise
        return None


async def ends(caller: Caller, kind: str, number: int, *, timeout: float = 30) -> None:
    await caller.until(lambda each: len(each.of(kind)) >= number, f"{number} of {kind}", timeout=timeout)


def has_lines(least: int, caller: Caller) -> bool:
    return len(caller.lines()) >= least
