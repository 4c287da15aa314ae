"""The other end of both sides, in one process: a model that talks without pause, and clients that do the same.

Every 50 ms each session carries one frame of audio each way; every five seconds the model ends a response, hears the
user and begins the next one, so that turns, transcripts and records happen too. The first eight bytes of each frame's
samples are the time at which it was sent, which all processes of one machine read on the same clock.
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

FRAME_S: Final = 0.05
FRAME_BYTES: Final = 2400
FRAMES_PER_TURN: Final = 100
TRANSCRIPT_EVERY: Final = 5

_STAMP: Final = 9  # a multiple of three bytes, so that the stamp is base64 of its own
_ids = itertools.count()


def speech() -> bytes:
    """One frame's samples after the stamp: noise under a moving envelope, as incompressible as speech."""
    source = random.Random(7)
    samples = bytearray()
    for number in range((FRAME_BYTES - _STAMP) // 2):
        level = int(9000 * abs((number % 400) / 200 - 1))
        samples += int(source.uniform(-level, level)).to_bytes(2, "little", signed=True)
    return bytes(samples).ljust(FRAME_BYTES - _STAMP, b"\0")


_REST: Final = base64.b64encode(speech()).decode()
_MARK: Final = _REST[:24].encode()


def stamped() -> str:
    """One frame of audio as base64, sent now."""
    return base64.b64encode(time.monotonic_ns().to_bytes(_STAMP, "little")).decode() + _REST


def age_ms(frame: bytes) -> float:
    """How long ago the audio in this frame was sent."""
    end = frame.find(_MARK)
    return (time.monotonic_ns() - int.from_bytes(base64.b64decode(frame[end - 12 : end]), "little")) / 1e6


def _set() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@dataclass
class Measured:
    """Ages of frames on arrival, in ms, while `on`. Both sides are silent while `goes_on` is not set."""

    on: bool = False
    goes_on: asyncio.Event = field(default_factory=_set)
    to_model: list[float] = field(default_factory=list)
    to_client: list[float] = field(default_factory=list)


class Model:
    """One session of the model: configured by the first `session.update`, then it talks for ever."""

    def __init__(self, measured: Measured) -> None:
        self._measured = measured
        self._socket: Socket | None = None
        self._task: asyncio.Task[None] | None = None
        self._session: dict[str, Any] = {"type": "realtime", "object": "realtime.session", "id": "sess_1"}

    def opened(self, socket: Socket) -> None:
        self._socket = socket
        self._send("session.created", session=self._session)

    def text(self, message: bytes) -> None:
        if b"input_audio_buffer.append" in message:
            if self._measured.on:
                self._measured.to_model.append(age_ms(message))
            return
        event = json.loads(message)
        if event["type"] == "session.update":
            self._session |= event["session"]
            self._send("session.updated", session=self._session)
            if self._task is None:
                self._task = asyncio.create_task(self._talk())

    def binary(self, message: bytes) -> None:
        """The protocol has none."""

    def closed(self, code: int, reason: str) -> None:
        if self._task is not None:
            self._task.cancel()

    def _send(self, kind: str, **fields: Any) -> None:
        assert self._socket is not None
        self._socket.send_text(json.dumps({"type": kind, "event_id": f"event_{next(_ids)}", **fields}).encode())

    async def _talk(self) -> None:
        await asyncio.sleep(random.random() * FRAME_S)
        due = asyncio.get_running_loop().time()
        # The first turn is cut short by chance, so that not all conversations end their turns together.
        frames = random.randrange(1, FRAMES_PER_TURN)
        while True:
            item, response = f"item_{next(_ids)}", f"resp_{next(_ids)}"
            self._hear(f"item_{next(_ids)}")
            at = {"response_id": response, "item_id": item, "output_index": 0, "content_index": 0}
            made = {"id": item, "type": "message", "role": "assistant", "status": "in_progress", "content": []}
            answer: dict[str, Any] = {
                "object": "realtime.response", "id": response, "status": "in_progress", "output": [],
                "conversation_id": "conv_1", "metadata": None, "usage": None,
            }  # fmt: skip
            self._send("response.created", response=answer)
            self._send("response.output_item.added", response_id=response, output_index=0, item=made)
            self._send("conversation.item.added", item=made, previous_item_id=None)
            self._send("response.content_part.added", **at, part={"type": "audio", "transcript": ""})
            for number in range(frames):
                if not self._measured.goes_on.is_set():
                    due = await _go_on(self._measured)
                self._send("response.output_audio.delta", **at, delta=stamped())
                if number % TRANSCRIPT_EVERY == 0:
                    self._send("response.output_audio_transcript.delta", **at, delta="spoken ")
                due += FRAME_S
                await asyncio.sleep(due - asyncio.get_running_loop().time())
            text = "spoken " * -(-frames // TRANSCRIPT_EVERY)
            frames = FRAMES_PER_TURN
            part = {"type": "output_audio", "transcript": text}
            final = made | {"status": "completed", "content": [part]}
            self._send("response.output_audio.done", **at)
            self._send("response.output_audio_transcript.done", **at, transcript=text)
            self._send("response.content_part.done", **at, part={"type": "audio", "transcript": text})
            self._send("conversation.item.done", item=final, previous_item_id=None)
            self._send("response.output_item.done", response_id=response, output_index=0, item=final)
            self._send("response.done", response=answer | {"status": "completed", "output": [final]})

    def _hear(self, item: str) -> None:
        heard = {
            "id": item, "type": "message", "role": "user", "status": "completed",
            "content": [{"type": "input_audio", "transcript": None}],
        }  # fmt: skip
        self._send("input_audio_buffer.committed", item_id=item, previous_item_id=None)
        self._send("conversation.item.added", item=heard, previous_item_id=None)
        self._send("conversation.item.done", item=heard, previous_item_id=None)
        self._send(
            "conversation.item.input_audio_transcription.completed", item_id=item, content_index=0, transcript="heard"
        )


class Client:
    """One client of the OpenAI protocol that speaks as long as it is connected."""

    def __init__(self, measured: Measured) -> None:
        self._measured = measured
        self._socket: Socket | None = None
        self._task: asyncio.Task[None] | None = None
        self.talks = asyncio.Event()

    def opened(self, socket: Socket) -> None:
        self._socket = socket

    def text(self, message: bytes) -> None:
        if b"response.output_audio.delta" in message:
            if self._measured.on:
                self._measured.to_client.append(age_ms(message))
        elif b'"session.created"' in message and self._socket is not None:
            session = {"type": "realtime", "audio": {"input": {"turn_detection": {"type": "server_vad"}}}}
            self._socket.send_text(json.dumps({"type": "session.update", "session": session}).encode())
            self._task = asyncio.create_task(self._talk(self._socket))

    def binary(self, message: bytes) -> None:
        """Not on this face."""

    def closed(self, code: int, reason: str) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _talk(self, socket: Socket) -> None:
        self.talks.set()
        due = asyncio.get_running_loop().time() + random.random() * FRAME_S
        while True:
            if not self._measured.goes_on.is_set():
                due = await _go_on(self._measured)
            socket.send_text(f'{{"type":"input_audio_buffer.append","audio":"{stamped()}"}}'.encode())
            due += FRAME_S
            await asyncio.sleep(due - asyncio.get_running_loop().time())


async def _go_on(measured: Measured) -> float:
    """Wait until it goes on; returns when the next frame is due, which is not at the same time for all."""
    await measured.goes_on.wait()
    await asyncio.sleep(random.random() * FRAME_S)
    return asyncio.get_running_loop().time()


def model_server(measured: Measured) -> Any:
    """The model's port, as a context manager that gives a server with `port`."""
    return serving(FastAPI(), host="127.0.0.1", port=0, ws=upgrade_hook(lambda _: Accept(Model(measured))))
