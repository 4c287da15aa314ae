"""One session over a fast model: `session_load.py SDK URL`, SDK `voicebus` or `agents`; the program is the same.

`bare` is the same without a session: a socket of `picows`, the leanest there is, whose every frame is read as JSON,
and calls answered.

Prints, as JSON, microseconds of this process's CPU per audio delta, transcript delta (both in a burst, and one at a
time) and tool call. Every event of the session is read. The least of several rounds counts: what else the machine does
can only add to it.
"""

import asyncio
import importlib
import json
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

PATIENCE_S = 120
COUNTED: dict[str, Callable[[Any], bool]] = {
    "audio": lambda event: event.type == "audio",
    "transcript": lambda event: event.type == "raw_model_event" and event.data.type == "transcript_delta",
    "tools": lambda event: event.type == "tool_end",
}
COUNTS = {"audio": 1000, "transcript": 1000, "audio-paced": 400, "transcript-paced": 400, "tools": 60}
ROUNDS = 6


class Bare:
    """A conversation on a socket, with as much of a session as the program asks for."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._called = False

    async def send_message(self, text: str) -> None:
        content = [{"type": "input_text", "text": text}]
        await self._send("conversation.item.create", item={"type": "message", "role": "user", "content": content})
        await self._send("response.create")

    def __aiter__(self) -> "Bare":
        return self

    async def __anext__(self) -> SimpleNamespace:
        event = json.loads(await self._socket.recv())
        kind, item = event["type"], event.get("item") or {}
        if kind == "response.output_audio.delta":
            return SimpleNamespace(type="audio")
        if kind == "response.output_audio_transcript.delta":
            return SimpleNamespace(type="raw_model_event", data=SimpleNamespace(type="transcript_delta"))
        if kind == "response.output_item.done" and item["type"] == "function_call":
            output = {"type": "function_call_output", "call_id": item["call_id"]}
            output["output"] = json.loads(item["arguments"])["thing"]
            await self._send("conversation.item.create", item=output)
            self._called = True
            return SimpleNamespace(type="tool_end")
        if kind == "response.done":
            if self._called:
                self._called = False
                await self._send("response.create")
            return SimpleNamespace(type="agent_end")
        return SimpleNamespace(type=kind)

    async def _send(self, kind: str, **fields: Any) -> None:
        await self._socket.send(json.dumps({"type": kind, **fields}))


def imported(name: str) -> Any:
    """Everything that the program uses, from one package or the other."""
    if name == "voicebus":
        return importlib.import_module("voicebus")

    class Both:
        def __init__(self) -> None:
            self.modules = [importlib.import_module("agents.realtime"), importlib.import_module("agents")]

        def __getattr__(self, attribute: str) -> Any:
            return next(getattr(module, attribute) for module in self.modules if hasattr(module, attribute))

    return Both()


async def main(name: str, url: str) -> None:
    if name == "bare":
        client = importlib.import_module("picows.websockets")
        async with client.connect(url, compression=None, max_size=None) as socket:
            await rounds(Bare(socket))
        return
    sdk = imported(name)

    @sdk.function_tool  # type: ignore[untyped-decorator]
    async def look_up(thing: str) -> str:
        """Look something up."""
        return thing

    agent = sdk.RealtimeAgent(name="bench", instructions="Talk.", tools=[look_up])
    runner = sdk.RealtimeRunner(agent, model=sdk.OpenAIRealtimeWebSocketModel())
    async with await runner.run(model_config={"url": url, "api_key": "test-key"}) as session:
        await rounds(session)


async def rounds(session: Any) -> None:
    """Measure each kind in turn, and print what came of it."""
    await measured(session, "warm audio 200", "audio", 200)
    await measured(session, "warm tools 20", "tools", 20)
    result = {}
    for kind, count in COUNTS.items():
        result[kind] = min([await measured(session, f"go {kind} {count}", kind, count) for _ in range(ROUNDS)])
    json.dump(result, sys.stdout)
    sys.stdout.write("\n")


async def measured(session: Any, command: str, kind: str, count: int) -> float:
    """Ask for `count` of a kind and read events to the end of them; microseconds of CPU for each."""
    seen, counts = 0, COUNTED[kind.partition("-")[0]]
    started = time.process_time()
    await session.send_message(command)
    async with asyncio.timeout(PATIENCE_S):
        async for event in session:
            seen += counts(event)
            if event.type == "agent_end" and seen >= count:
                break
    return (time.process_time() - started) / count * 1e6


asyncio.run(main(*sys.argv[1:]))
