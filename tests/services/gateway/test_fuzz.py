"""Frames that no client should send, on both WebSocket faces: they harm no other session and leave nothing behind."""

import asyncio
import base64
import gc
import json
import os
import random
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import pytest
import websockets
from websockets.exceptions import ConnectionClosed

from services.gateway.clients import TestClient, native, realtime
from services.gateway.conftest import Gateways
from support.waiting import wait_until
from voicebus.runtime.driver import SessionDriver
from voicebus_services.gateway.wiring import Gateway

# `make soak` sends ten thousand to each face.
FRAMES = int(os.environ.get("VOICEBUS_FUZZ_FRAMES", "500"))
PER_CONNECTION: Final = 25
MOST_GROWTH: Final = 48 * 1024 * 1024

# What there is to say on each face, with fields to get wrong.
KNOWN: Final[dict[str, dict[str, list[str]]]] = {
    "/v1/sessions/connect": {
        "send_message": ["text", "content"], "audio": ["data"], "commit": [], "interrupt": [],
        "playback": ["item_id", "content_index", "played_ms"], "approve": ["call_id", "always"],
        "reject": ["call_id", "always", "message"], "update_agent": ["agent"], "mute": ["muted"],
    },
    "/v1/realtime": {
        "session.update": ["session"], "input_audio_buffer.append": ["audio"], "input_audio_buffer.commit": [],
        "input_audio_buffer.clear": [], "conversation.item.create": ["item", "previous_item_id"],
        "conversation.item.retrieve": ["item_id"],
        "conversation.item.truncate": ["item_id", "content_index", "audio_end_ms"],
        "conversation.item.delete": ["item_id"], "response.create": ["response"], "response.cancel": ["response_id"],
        "output_audio_buffer.clear": [],
    },
}  # fmt: skip

Frame = tuple[bool, bytes]
"""Whether it is text, and what it holds: text need not be UTF-8."""


class Fuzz:
    """Frames for one face, the same ones for the same seed."""

    def __init__(self, face: str, seed: int) -> None:
        self._known = KNOWN[face]
        self._random = random.Random(seed)
        self._kinds: list[Callable[[], Frame]] = [
            self._json, self._wrong_types, self._wrong_types, self._wrong_types, self._binary, self._huge,
            self._no_utf8, self._bad_audio, self._nested, self._cut, self._odd,
        ]  # fmt: skip

    def __iter__(self) -> Iterator[Frame]:
        while True:
            yield self._random.choice(self._kinds)()

    def _value(self, depth: int = 0) -> Any:
        pick = self._random.randrange(12 if depth < 4 else 9)
        if pick < 9:
            values: list[Any] = [
                None, True, self._random.randint(-(2**70), 2**70), self._random.uniform(-1e308, 1e308), "", "item_1",
                "\0\ud83d\ude00\u202e" * self._random.randint(0, 40), [], {},
            ]  # fmt: skip
            return values[pick]
        if pick == 9:
            return [self._value(depth + 1) for _ in range(self._random.randrange(5))]
        names = ["type", "id", "role", "content", "audio", "input", "output", "tools", "event_id", "x"]
        return {self._random.choice(names): self._value(depth + 1) for _ in range(self._random.randrange(6))}

    def _text(self, value: Any) -> Frame:
        return True, json.dumps(value).encode()

    def _json(self) -> Frame:
        return self._text(self._value())

    def _wrong_types(self) -> Frame:
        kind = self._random.choice(list(self._known))
        fields = {name: self._value() for name in self._known[kind] if self._random.random() < 0.9}
        return self._text({"type": kind, "event_id": self._value(3), "id": self._value(3), **fields})

    def _binary(self) -> Frame:
        return False, self._random.randbytes(self._random.choice((0, 1, 959, 960, 5000)))

    def _huge(self) -> Frame:
        if self._random.random() < 0.8:
            return self._json()
        return self._text({"type": "send_message", "text": "x" * 2_000_000, "item": ["y" * 1000] * 500})

    def _no_utf8(self) -> Frame:
        return True, b'{"type": "send_message", "text": "' + self._random.randbytes(20) + b'\xff\xfe"}'

    def _bad_audio(self) -> Frame:
        samples = base64.b64encode(self._random.randbytes(301)).decode()
        wrong = self._random.choice(
            (samples[:-3], samples + "=", "!" + samples, samples.replace("A", "\u00e9"), "====")
        )
        field = "data" if "audio" in self._known else "audio"
        return self._text({"type": "audio" if field == "data" else "input_audio_buffer.append", field: wrong})

    def _nested(self) -> Frame:
        depth = self._random.choice((50, 1_000, 100_000))
        return True, b'{"type": "session.update", "session": ' + b'{"audio":' * depth + b"1" + b"}" * (depth + 1)

    def _cut(self) -> Frame:
        _, whole = self._wrong_types()
        return True, whole[: self._random.randrange(len(whole) + 1)]

    def _odd(self) -> Frame:
        odd = (b"", b"null", b"[]", b'""', b"NaN", b'{"type": 5}', b'{"type": "' + b"t" * 5000 + b'"}', b"1e999",
               b'{"type": "end", "type": "mute"}', b"\xef\xbb\xbf{}", b'{"type": "commit"} trailing')  # fmt: skip
        return True, self._random.choice(odd)


async def send(gateway: Gateway, face: str, frames: Iterator[Frame], count: int) -> int:
    """Up to `count` frames on one connection, which the gateway may close; returns how many were sent."""
    sent = 0
    async with websockets.connect(f"ws://127.0.0.1:{gateway.port}{face}", max_size=None) as socket:
        reading = asyncio.create_task(drain(socket), name="fuzz-reader")
        try:
            for is_text, frame in islice(frames, count):
                await socket.send(frame, text=is_text)
                sent += 1
        except ConnectionClosed:
            pass
        finally:
            await socket.close()
            await reading
    return sent


async def drain(socket: websockets.ClientConnection) -> None:
    try:
        async for _ in socket:
            pass
    except ConnectionClosed:
        return


async def converses(client: TestClient) -> None:
    """A session that is none of this still answers."""
    await client.send("send_message", text="[[say: still here]]")
    await client.until("item_recorded", role="assistant", text="still here")
    client.seen.clear()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def drivers() -> int:
    gc.collect()
    return sum(isinstance(thing, SessionDriver) for thing in gc.get_objects())


@pytest.mark.timeout(max(240, FRAMES // 8))
@pytest.mark.parametrize("face", list(KNOWN))
async def test_frames_that_no_client_sends_harm_no_other_session_and_leave_nothing(
    gateways: Gateways, face: str
) -> None:
    frames = iter(Fuzz(face, seed=1))
    async with gateways(resume_grace=0) as gateway, native(gateway) as bystander:
        await bystander.until("history_updated")
        await converses(bystander)
        await send(gateway, face, frames, 1)  # what is made once is made now
        await wait_until(lambda: len(list(gateway.sessions)) == 1, description="the first session's end")
        tasks, files = len(asyncio.all_tasks()), open_files()
        sizes: list[int] = []
        for part in range(2):
            sent = connections = 0
            while sent < FRAMES // 2:
                sent += await send(gateway, face, frames, PER_CONNECTION)
                connections += 1
                if connections % 10 == 0:
                    await converses(bystander)
            await wait_until(
                lambda: len(list(gateway.sessions)) == 1, timeout=60, description=f"the sessions' ends, part {part}"
            )
            await converses(bystander)
            gc.collect()
            sizes.append(resident())
        await wait_until(lambda: len(asyncio.all_tasks()) <= tasks, description="the tasks' ends")
        await wait_until(lambda: open_files() <= files, description="the sockets' ends")
        await wait_until(lambda: drivers() == 1, description="what was made for the sessions to be let go of")
        assert sizes[1] - sizes[0] < MOST_GROWTH, sizes


async def test_the_faces_are_heard_after_the_fuzz(gateway: Gateway) -> None:
    """The fuzz itself speaks the faces' language: what is right among its frames is obeyed."""
    async with realtime(gateway) as client:
        await client.until("session.created")
        for is_text, frame in [(True, b"{"), (True, b'{"type": "x"}'), (False, b"\0")]:
            await client.socket.send(frame, text=is_text)
        for _ in range(3):
            await client.until("error")
        await client.send("response.create", response={"instructions": "[[say: hello]]"})
        await client.until("response.done", "error")
