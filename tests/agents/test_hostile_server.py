"""A server that sends anything, over a real socket: the session stays open, and memory stays bounded.

The server runs in the session's process and is measured with it: what it builds is small and soon gone.
"""

import asyncio
import base64
import contextlib
import json
import random
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from support.waiting import wait_until
from voicebus import (
    GuardrailFunctionOutput,
    OutputGuardrail,
    RealtimeAgent,
    RealtimeRunner,
    RealtimeSession,
    function_tool,
    realtime_handoff,
)

pytestmark = pytest.mark.timeout(400)

MIB: Final = 1024 * 1024
INPUT: Final = 30 * MIB
"""What the server sends before its last, ordinary turn."""

BOUND: Final = 60 * MIB
"""What may be allocated at any time: the 32 MiB of the queue, and less than that for all else."""

MARKER: Final = "everything is in order"

IDS: Final = ("", "item_1", "item_2", "item_3", "resp_1", "resp_2", "call_1", "call_2", "call_3")
NAMES: Final = ("find_rate", "transfer_to_night", "nobody_knows_this", "")
KINDS: Final = (
    "session.created", "session.updated", "conversation.created", "error", "rate_limits.updated", "response.created",
    "response.done", "response.output_item.added", "response.output_item.done", "response.content_part.added",
    "response.content_part.done", "response.output_text.delta", "response.output_text.done",
    "response.output_audio.delta", "response.output_audio.done", "response.output_audio_transcript.delta",
    "response.output_audio_transcript.done", "response.function_call_arguments.delta",
    "response.function_call_arguments.done", "conversation.item.added", "conversation.item.created",
    "conversation.item.done", "conversation.item.retrieved", "conversation.item.deleted",
    "conversation.item.truncated", "conversation.item.input_audio_transcription.delta",
    "conversation.item.input_audio_transcription.completed", "conversation.item.input_audio_transcription.failed",
    "input_audio_buffer.committed", "input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped",
    "input_audio_buffer.timeout_triggered", "mcp_list_tools.completed", "response.mcp_call.completed",
)  # fmt: skip
FIELDS: Final = (
    "id", "item_id", "response_id", "call_id", "previous_item_id", "type", "role", "status", "name", "arguments",
    "content", "text", "transcript", "delta", "item", "response", "session", "error", "output", "usage", "metadata",
    "content_index", "output_index", "audio_end_ms", "audio",
)  # fmt: skip


class Hostility:
    """Frames of a server that keeps to no rule, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def frame(self) -> str | bytes:
        chance = self._random.random()
        if chance < 0.03:
            return self._random.randbytes(self._random.randrange(2_000))
        if chance < 0.06:
            return self._random.choice(("", "{", "null", "[1]", '"x"', "{}", '{"type":7}', '{"type":', "\ud7ff", "NaN"))
        if chance < 0.10:
            return json.dumps(self._anything())
        if chance < 0.13:
            return json.dumps({"type": f"something.new.{self._random.randrange(1000)}", "data": self._anything()})
        return json.dumps(self._event())

    def _pick(self, *words: Any) -> Any:
        return self._random.choice(words)

    def _text(self) -> str:
        if self._random.random() < 0.03:
            return "y" * 200_000
        return self._random.choice(("x", "word ", "ü")) * self._random.choice((1, 5, 20, 20, 100, 1_000, 4_000))

    def _anything(self, depth: int = 0) -> Any:
        kind = self._random.randrange(9 if depth < 3 else 7)
        if kind == 7:
            return [self._anything(depth + 1) for _ in range(self._random.randrange(4))]
        if kind == 8:
            return {self._pick(*FIELDS): self._anything(depth + 1) for _ in range(self._random.randrange(5))}
        return (None, True, self._random.randint(-(2**63), 2**63), -0.5, self._pick(*IDS), "x", 10**300)[kind]

    def _item(self) -> dict[str, Any]:
        part = {"type": self._pick("input_text", "output_text", "output_audio", "input_audio", "text"),
                self._pick("text", "transcript"): self._text()}  # fmt: skip
        item = {
            "id": self._pick(*IDS, f"item_{self._random.randrange(10_000)}"),
            "type": self._pick("message", "message", "function_call", "function_call_output", "mcp_call", "odd"),
            "role": self._pick("user", "assistant", "system", "odd"),
            "status": self._pick("completed", "in_progress", "incomplete", 7),
            "call_id": self._pick(*IDS, f"call_{self._random.randrange(10_000)}"),
            "name": self._pick(*NAMES),
            "arguments": self._pick("{}", '{"city":"Rome"}', "{", self._text()),
            "content": self._pick([part], [part, part], [], None, self._anything()),
        }
        return self._damaged(item)

    def _event(self) -> dict[str, Any]:
        event = {
            "type": self._pick(*KINDS),
            "event_id": "always_the_same",
            "response_id": self._pick(*IDS),
            "item_id": self._pick(*IDS),
            "call_id": self._pick(*IDS),
            "name": self._pick(*NAMES),
            "content_index": self._pick(0, 0, 1, -1, 10**9, "0"),
            "output_index": self._pick(0, 0, 1, None),
            "item": self._item(),
            "response": self._damaged(
                {"id": self._pick(*IDS), "status": self._pick("completed", "cancelled", "failed", "odd"),
                 "output": self._pick([], [self._item()], None)}
            ),
            "error": self._pick({"type": "server_error", "message": "odd"}, {"code": "odd"}, None, self._anything()),
            "transcript": self._text(),
            "session": self._anything(),
        }  # fmt: skip
        if "audio.delta" in event["type"]:
            samples = bytes(self._pick(2, 960, 4_800, 9_600, 150_000))
            event["delta"] = self._pick("?", base64.b64encode(samples).decode())
        else:
            event["delta"] = self._text()
        kept = {"item", "response", "session", "error", "transcript"}
        unneeded = {name for name in kept if name not in event["type"].replace("output_item", "item")}
        return self._damaged({name: value for name, value in event.items() if name not in unneeded})

    def _damaged(self, fields: dict[str, Any]) -> dict[str, Any]:
        """The same now and then without a field, or with something odd in it."""
        if self._random.random() < 0.2:
            fields.pop(self._pick(*[name for name in fields if name != "type"]), None)
        if self._random.random() < 0.1:
            fields[self._pick(*FIELDS[:4], *FIELDS[7:])] = self._anything()
        return fields


def ordinary_turn() -> list[dict[str, Any]]:
    ids = {"response_id": "resp_last", "item_id": "item_last", "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "text": MARKER}
    item = {"id": "item_last", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    return [
        {"type": "response.created", "response": {"id": "resp_last", "status": "in_progress", "output": []}},
        {"type": "response.output_item.added", "response_id": "resp_last", "output_index": 0,
         "item": {**item, "status": "in_progress", "content": []}},
        {"type": "response.output_text.delta", **ids, "delta": MARKER},
        {"type": "response.output_text.done", **ids, "text": MARKER},
        {"type": "response.output_item.done", "response_id": "resp_last", "output_index": 0, "item": item},
        {"type": "response.done", "response": {"id": "resp_last", "status": "completed", "output": [item]}},
    ]  # fmt: skip


class HostileServer:
    """Confirms the first settings on a socket; then `attack`s, answering nothing that it is asked.

    A socket on which answers do not begin is replaced after 6 s: on a slow machine the attack takes longer than that,
    and goes on on the next one.
    """

    def __init__(self, seed: int) -> None:
        self._hostility = Hostility(seed)
        self._connection: ServerConnection | None = None
        self.url = ""
        self.sent = 0

    async def attack(self, size: int) -> None:
        while self.sent < size:
            frame = self._hostility.frame()
            self.sent += len(frame)
            await self._say(frame)
            await asyncio.sleep(0)

    async def trickle(self) -> None:
        """A long text, then letter by letter: each event carries all of it."""
        ids = {"response_id": "resp_long", "item_id": "item_long", "output_index": 0, "content_index": 0}
        response = {"id": "resp_long", "status": "in_progress", "output": []}
        await self._say(json.dumps({"type": "response.created", "response": response}))
        for delta in ["y" * 100_000, *"z" * 1_000]:
            frame = {"type": "response.output_audio_transcript.delta", **ids, "delta": delta}
            await self._say(json.dumps(frame))
            await asyncio.sleep(0)

    async def crowd(self) -> None:
        """Small frames of very many objects."""
        frame = json.dumps({"type": "something.crowded", "data": [[] for _ in range(20_000)]}, separators=(",", ":"))
        for _ in range(80):
            await self._say(frame)
            await asyncio.sleep(0)

    async def behave(self) -> None:
        for event in ordinary_turn():
            await self._say(json.dumps(event))

    async def _say(self, frame: str | bytes) -> None:
        """Send this on the session's socket, or on the one that takes its place."""
        connection = self._connection
        assert connection is not None
        try:
            await connection.send(frame)
        except ConnectionClosed:
            await wait_until(lambda: self._connection is not connection, description="the session's next socket")
            await self._say(frame)

    async def talk(self, connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            await connection.send('{"type":"session.created","session":{"id":"sess_1"}}')
            async for message in connection:
                event = json.loads(message)
                if self._connection is not connection and event["type"] == "session.update":
                    await connection.send(json.dumps({"type": "session.updated", "session": event["session"]}))
                    self._connection = connection

    async def called(self) -> None:
        await wait_until(lambda: self._connection is not None, description="the session's first settings")


@contextlib.asynccontextmanager
async def hostile_server(seed: int) -> AsyncIterator[HostileServer]:
    server = HostileServer(seed)
    async with serve(server.talk, "127.0.0.1", 0, max_size=None, compression=None) as running:
        server.url = f"ws://127.0.0.1:{next(iter(running.sockets)).getsockname()[1]}/v1/realtime"
        yield server


@function_tool
async def find_rate(city: str) -> str:
    """Find what a room costs."""
    return f"a room in {city} is 100"


async def _judge(context: Any, agent: Any, text: str) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput(None, tripwire_triggered="ü" in text)


def desk() -> RealtimeAgent[Any]:
    night = RealtimeAgent[Any](name="night", instructions="You help at night.", tools=[find_rate])
    return RealtimeAgent[Any](
        name="desk",
        instructions="You help.",
        tools=[find_rate],
        handoffs=[realtime_handoff(night)],
        output_guardrails=[OutputGuardrail(_judge, "judge")],
    )


class Reader:
    """Reads a session's events, waiting `pause` after each; remembers only whether the last turn was told of."""

    def __init__(self, session: RealtimeSession, pause: float) -> None:
        self._session = session
        self._pause = pause
        self.read = 0
        self.dropped = 0
        self.heard_marker = False

    def hurry(self) -> None:
        self._pause = 0

    async def run(self) -> None:
        async for event in self._session:
            self.read += 1
            if event.type == "error" and getattr(event.error, "code", None) == "events_dropped":
                self.dropped += event.error.count
            if event.type == "transcript_delta" and event.item_id == "item_last" and event.text.endswith(MARKER):
                self.heard_marker = True
            if self._pause:
                await asyncio.sleep(self._pause)


@pytest.mark.parametrize("reading", ["keeps up", "slow", "nobody"])
@pytest.mark.parametrize("seed", [2, 3])
async def test_a_hostile_server_ends_no_session_and_fills_no_memory(seed: int, reading: str) -> None:
    task: asyncio.Task[None] | None = None
    async with hostile_server(seed) as server:
        tracemalloc.start(1)
        try:
            options: Any = {"url": server.url, "api_key": "k"}
            async with await RealtimeRunner(desk()).run(model_config=options) as session:
                await server.called()
                reader = Reader(session, 0.02 if reading == "slow" else 0)
                if reading != "nobody":
                    task = asyncio.create_task(reader.run(), name="reader")
                await server.attack(INPUT)
                await server.trickle()
                await server.crowd()
                await server.behave()
                if task is None:
                    await session.send_message("are you there?")
                    task = asyncio.create_task(reader.run(), name="reader")
                reader.hurry()
                await wait_until(lambda: reader.heard_marker, description="the ordinary turn", timeout=200)
                assert not task.done()
                peak = tracemalloc.get_traced_memory()[1]
                assert (reader.dropped == 0) == (reading == "keeps up")
            await task
        finally:
            tracemalloc.stop()
            if task is not None:
                task.cancel()  # a failed test's: it would read on what has come
    assert peak < BOUND, f"{peak / MIB:.0f} MiB"
