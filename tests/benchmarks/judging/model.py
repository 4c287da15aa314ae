"""A model whose every answer has a forbidden word in it, and that takes the time until it is told to stop.

Its transcripts run `speed` times as fast as speech, its audio comes as it is heard. The agent's instructions say what
is to be timed: `debounce N` what guardrails with that debounce do, `clean` the first audio of answers that pass.
"""

import asyncio
import base64
import itertools
import json
import random
import time
from dataclasses import dataclass, field
from typing import Any, Final

from fastapi import FastAPI

from voicebus.adapters.sockets import Socket
from voicebus.adapters.sockets.uvicorn_upgrade import Accept, upgrade_hook
from voicebus_services.http import serving

FORBIDDEN: Final = "vault"
WORDS: Final = (
    "the",
    "money",
    "that",
    "you",
    "keep",
    "with",
    "us",
    "is",
    "safe",
    "and",
    "always",
    "in",
    "good",
    "hands",
)
CHARS_PER_S: Final = 15
FRAME_S: Final = 0.05
# How long a reaction is waited for after an answer (s).
PATIENCE_S: Final = 1.5

_ids = itertools.count()


@dataclass
class Times:
    """What was measured, in ms: from the delta that completes the word, from the one with which a check fell due, and
    from the end of an answer whose last characters have it. `missed` were never stopped, or so late that the answer
    after it was: that one, stopped before it had the word, is `early`, and nothing is measured of it.
    """

    on: bool = False
    word: list[float] = field(default_factory=list)
    due: list[float] = field(default_factory=list)
    tail: list[float] = field(default_factory=list)
    missed: int = 0
    tail_missed: int = 0
    early: int = 0

    def clear(self) -> None:
        self.__init__()  # type: ignore[misc]


class Model:
    """One session of the model."""

    def __init__(self, times: Times, speed: float) -> None:
        self._times = times
        self._speed = speed
        self._socket: Socket | None = None
        self._task: asyncio.Task[None] | None = None
        self._session: dict[str, Any] = {"type": "realtime", "object": "realtime.session", "id": "sess_1"}
        self._stopped = asyncio.Event()
        self._wanted = asyncio.Event()
        self._metadata: Any = None
        self._said = 0

    def opened(self, socket: Socket) -> None:
        self._socket = socket
        self._send("session.created", session=self._session)

    def text(self, message: bytes) -> None:
        event = json.loads(message)
        kind = event["type"]
        if kind == "session.update":
            self._session |= event["session"]
            self._send("session.updated", session=self._session)
            if self._task is None:
                self._task = asyncio.create_task(self._talk())
        elif kind == "conversation.item.create":
            item = {"status": "completed", **event["item"], "id": event["item"].get("id") or f"item_{next(_ids)}"}
            self._send("conversation.item.added", item=item, previous_item_id=None)
            self._send("conversation.item.done", item=item, previous_item_id=None)
            self._stopped.set()
        elif kind == "response.create":
            self._metadata = (event.get("response") or {}).get("metadata")
            self._wanted.set()
        elif kind in ("response.cancel", "conversation.item.truncate"):
            self._stopped.set()

    def binary(self, message: bytes) -> None:
        """The protocol has none."""

    def closed(self, code: int, reason: str) -> None:
        if self._task is not None:
            self._task.cancel()

    def _send(self, kind: str, **fields: Any) -> None:
        assert self._socket is not None
        self._socket.send_text(json.dumps({"type": kind, "event_id": f"event_{next(_ids)}", **fields}).encode())

    async def _talk(self) -> None:
        await asyncio.sleep(random.random())
        while True:
            instructions = str(self._session.get("instructions"))
            if "clean" in instructions:
                await self._answer(clean=True, debounce=100)
            else:
                await self._answer(clean=False, debounce=int(instructions.split()[-1]))

    async def _answer(self, *, clean: bool, debounce: int) -> None:
        tail = random.random() < 0.2
        words = random.choices(WORDS, k=random.randint(40, 80))
        if not clean:
            words[-1 if tail else random.randrange(10, len(words) - 25)] = FORBIDDEN
        item, response = f"item_{next(_ids)}", f"resp_{next(_ids)}"
        at = {"response_id": response, "item_id": item, "output_index": 0, "content_index": 0}
        made = {"id": item, "type": "message", "role": "assistant", "status": "in_progress", "content": []}
        payload: dict[str, Any] = {
            "object": "realtime.response", "id": response, "status": "in_progress", "output": [],
            "conversation_id": "conv_1", "metadata": self._metadata, "usage": None,
        }  # fmt: skip
        self._stopped.clear()
        self._wanted.clear()
        self._send("response.created", response=payload)
        self._send("response.output_item.added", response_id=response, output_index=0, item=made)
        self._send("conversation.item.added", item=made, previous_item_id=None)
        self._send("response.content_part.added", **at, part={"type": "audio", "transcript": ""})
        text, word_at, due_at = await self._speak(words, at, debounce, clean=clean)
        if not self._stopped.is_set():
            self._send("response.output_audio_transcript.done", **at, transcript=text)
            due_at = due_at or time.perf_counter()
            if not clean:
                await self._until_stopped(0.2)
        stopped_at = time.perf_counter() if self._stopped.is_set() else None
        status = "cancelled" if self._stopped.is_set() and not clean else "completed"
        part = {"type": "output_audio", "transcript": text}
        final = made | {"status": "completed" if status == "completed" else "incomplete", "content": [part]}
        self._send("response.output_audio.done", **at)
        self._send("response.content_part.done", **at, part={"type": "audio", "transcript": text})
        self._send("conversation.item.done", item=final, previous_item_id=None)
        self._send("response.output_item.done", response_id=response, output_index=0, item=final)
        self._send("response.done", response=payload | {"status": status, "output": [final]})
        if clean:
            await asyncio.sleep(0.2)
            return
        if stopped_at is None:
            stopped_at = await self._until_stopped(PATIENCE_S)
        self._note(word_at, due_at, stopped_at, tail=tail)
        if stopped_at is not None:
            try:
                await asyncio.wait_for(self._wanted.wait(), PATIENCE_S)
            except TimeoutError:
                self._metadata = None

    async def _speak(
        self, words: list[str], at: dict[str, Any], debounce: int, *, clean: bool
    ) -> tuple[str, float, float]:
        """Say it until it is stopped; when the word was complete, and when a check fell due after that (0: not yet)."""
        text, runs, word_at, due_at = "", 0, 0.0, 0.0
        start = time.perf_counter()
        frames = 0
        for word in words:
            moment = start + len(text) / CHARS_PER_S / self._speed
            while start + frames * FRAME_S <= moment:
                if await self._until_stopped(start + frames * FRAME_S - time.perf_counter()) is not None and not clean:
                    return text, word_at, due_at
                self._send("response.output_audio.delta", **at, delta=_stamped())
                frames += 1
            if await self._until_stopped(moment - time.perf_counter()) is not None and not clean:
                return text, word_at, due_at
            said = f"{word} "
            text += said
            falls_due = len(text) >= (runs + 1) * debounce
            runs += falls_due
            self._send("response.output_audio_transcript.delta", **at, delta=said)
            if word == FORBIDDEN:
                word_at = time.perf_counter()
            if word_at and not due_at and falls_due:
                due_at = time.perf_counter()
        return text, word_at, due_at

    async def _until_stopped(self, seconds: float) -> float | None:
        """When it was stopped, None where it was not within `seconds`."""
        if seconds > 0 and not self._stopped.is_set():
            try:
                await asyncio.wait_for(self._stopped.wait(), seconds)
            except TimeoutError:
                return None
        else:
            await asyncio.sleep(0)
        return time.perf_counter() if self._stopped.is_set() else None

    def _note(self, word_at: float, due_at: float, stopped_at: float | None, *, tail: bool) -> None:
        times = self._times
        if not times.on:
            return
        if stopped_at is None:
            times.missed += not tail
            times.tail_missed += tail
        elif not due_at:
            times.early += 1
        elif tail:
            times.tail.append((stopped_at - due_at) * 1000)
        else:
            times.word.append((stopped_at - word_at) * 1000)
            times.due.append((stopped_at - due_at) * 1000)


_SILENCE: Final = base64.b64encode(bytes(2391)).decode()
_STAMP: Final = 9


def _stamped() -> str:
    """A frame of audio, as base64, that begins with the time."""
    return base64.b64encode(time.monotonic_ns().to_bytes(_STAMP, "little")).decode() + _SILENCE


def age_ms(samples: bytes) -> float:
    """How long ago this frame was sent."""
    return (time.monotonic_ns() - int.from_bytes(samples[:_STAMP], "little")) / 1e6


def model_server(times: Times, speed: float) -> Any:
    """The model's port, as a context manager that gives a server with `port`."""
    return serving(FastAPI(), host="127.0.0.1", port=0, ws=upgrade_hook(lambda _: Accept(Model(times, speed))))
