"""What the session layer costs in one's own process, beside openai-agents under the same load in the same run.

    python -m benchmarks.session_layer [--runs 3]

A small model says thousands of audio deltas (50 ms of sound each), transcript deltas, and rounds of one tool call each.
Deltas come in two ways. In a burst the program never waits, so what it does with a delta is all that is counted. One at
a time, a frame each and PAUSE_S between them, it sleeps before each as in a real call, so its waking up is counted too:
the kernel's and the event loop's part, which no layer can save. The column `no layer` tells how much that is: a program
without any layer, which reads each frame of a `picows` connection, the leanest that there is, as JSON and answers the
calls by itself. What a layer costs is what it takes above that; the last column is ours beside theirs. Counted is the
CPU of the program's process, so a busy machine changes little.

Both layers get the same bytes from the same server, in the order in which the protocol documents the fields, are driven
by the same program, show every event of theirs, and parse and dial by their own means: that is part of a layer.
"""

import argparse
import asyncio
import base64
import json
import statistics
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import PIPE, run
from typing import Any, Final

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from support.real_clients import CannotInstallError, ensure, installed

PROGRAM: Final = Path(__file__).parent / "programs" / "session_load.py"
AUDIO: Final = base64.b64encode(bytes(2400)).decode("ascii")
PAUSE_S: Final = 0.001
KINDS: Final = {
    "audio": "audio delta, in a burst",
    "transcript": "transcript delta, in a burst",
    "audio-paced": "audio delta, one at a time",
    "transcript-paced": "transcript delta, one at a time",
    "tools": "tool call",
}
DELTAS: Final = {
    "audio": ("response.output_audio.delta", AUDIO),
    "transcript": ("response.output_audio_transcript.delta", "word "),
}


def framed(text: str) -> bytes:
    """A server's text message of at most 64 KiB as it goes over the wire (RFC 6455, section 5.2)."""
    payload = text.encode()
    length = len(payload)
    return (bytes((0x81, length)) if length < 126 else b"\x81\x7e" + length.to_bytes(2, "big")) + payload


class Feed:
    """One connection to the model: answers `… KIND COUNT` with that many deltas, or rounds of tool calls."""

    def __init__(self, socket: ServerConnection) -> None:
        self._socket = socket
        self._number = 0
        self._calls_left = 0
        self._wish = ("", 0)

    async def run(self) -> None:
        with suppress(ConnectionClosed):  # a program may leave while it is answered
            await self._converse()

    async def _converse(self) -> None:
        await self._send("session.created", session={"id": "sess_1", "type": "realtime", "object": "realtime.session"})
        async for frame in self._socket:
            event = json.loads(frame)
            if event["type"] == "session.update":
                await self._send("session.updated", session=event["session"])
            elif event["type"] == "conversation.item.create":
                await self._take(event["item"])
            elif event["type"] == "response.create":
                await self._respond((event.get("response") or {}).get("metadata"))

    async def _take(self, item: dict[str, Any]) -> None:
        if item["type"] == "message":
            _, kind, count = item["content"][0]["text"].split()
            self._wish = (kind, int(count))
            self._calls_left = int(count) if kind == "tools" else 0
        item = {"status": "completed", **item, "id": item.get("id") or self._id("item")}
        await self._send("conversation.item.added", item=item, previous_item_id=None)
        await self._send("conversation.item.done", item=item, previous_item_id=None)

    async def _respond(self, metadata: Any) -> None:
        response = {"object": "realtime.response", "id": self._id("resp"), "metadata": metadata, "output": []}
        await self._send("response.created", response={**response, "status": "in_progress"})
        kind, count = self._wish
        if self._calls_left:
            self._calls_left -= 1
            output = [await self._call(response["id"])]
        else:
            output = [await self._speak(response["id"], kind, count)]
        await self._send("response.done", response={**response, "status": "completed", "output": output})

    async def _call(self, response_id: str) -> dict[str, Any]:
        item = {
            "id": self._id("item"), "object": "realtime.item", "type": "function_call", "name": "look_up",
            "call_id": self._id("call"), "arguments": '{"thing": "tea"}', "status": "completed",
        }  # fmt: skip
        begun = {**item, "arguments": "", "status": "in_progress"}
        where = {"response_id": response_id, "output_index": 0}
        await self._send("response.output_item.added", item=begun, **where)
        await self._send("response.output_item.done", item=item, **where)
        return item

    async def _speak(self, response_id: str, kind: str, count: int) -> dict[str, Any]:
        item = {"id": self._id("item"), "object": "realtime.item", "type": "message", "role": "assistant"}
        where = {"response_id": response_id, "item_id": item["id"], "output_index": 0, "content_index": 0}
        begun = {**item, "status": "in_progress", "content": []}
        await self._send("response.output_item.added", item=begun, response_id=response_id, output_index=0)
        kind, _, pace = kind.partition("-")
        what, delta = DELTAS.get(kind, ("", ""))
        events = [framed(self._event(what, **where, delta=delta)) for _ in range(count if what else 0)]
        for part in events if pace else [b"".join(events)]:
            self._socket.transport.write(part)
            await asyncio.sleep(PAUSE_S)
        text = "word " * count if kind == "transcript" else "done"
        done = {**item, "status": "completed", "content": [{"type": "output_audio", "transcript": text}]}
        await self._send("response.output_item.done", item=done, response_id=response_id, output_index=0)
        return done

    async def _send(self, kind: str, **fields: Any) -> None:
        await self._socket.send(self._event(kind, **fields))

    def _event(self, kind: str, **fields: Any) -> str:
        return json.dumps({"type": kind, "event_id": self._id("event"), **fields})

    def _id(self, kind: str) -> str:
        self._number += 1
        return f"{kind}_{self._number}"


@contextmanager
def model() -> Iterator[str]:
    """The model, in a thread of its own; yields its address."""
    ready: list[str] = []
    began, stop = threading.Event(), threading.Event()

    async def main() -> None:
        async with serve(lambda socket: Feed(socket).run(), "127.0.0.1", 0, max_size=None, compression=None) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            ready.append(f"ws://127.0.0.1:{port}/v1/realtime?model=bench")
            began.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(main()), name="model")
    thread.start()
    began.wait()
    try:
        yield ready[0]
    finally:
        stop.set()
        thread.join()


def load(python: Path, sdk: str, url: str) -> dict[str, float]:
    """One run of the program in one environment."""
    ran = run([python, PROGRAM, sdk, url], stdout=PIPE, text=True, check=True)
    result: dict[str, float] = json.loads(ran.stdout)
    return result


def main() -> int:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--runs", type=int, default=3, help="runs of each, in turn; the median counts")
    runs: int = arguments.parse_args().runs
    try:
        peer = ensure()
    except CannotInstallError as error:
        sys.stderr.write(f"session_layer: {error}\n")
        return 2
    versions = installed()
    pythons = {"voicebus": Path(sys.executable), "agents": peer, "bare": Path(sys.executable)}
    measured: dict[str, list[dict[str, float]]] = {sdk: [] for sdk in pythons}
    with model() as url:
        for _ in range(runs):
            for sdk, python in pythons.items():
                measured[sdk].append(load(python, sdk, url))
    theirs_is = f"openai-agents {versions['openai-agents']}"
    sys.stdout.write(f"{'CPU us per':32}{'voicebus':>10}{theirs_is:>24}{'ratio':>8}{'no layer':>10}{'above it':>10}\n")
    for kind, name in KINDS.items():
        ours, theirs, bare = (statistics.median(one[kind] for one in measured[sdk]) for sdk in pythons)
        above = (ours - bare) / (theirs - bare)
        sys.stdout.write(f"{name:32}{ours:10.1f}{theirs:24.1f}{ours / theirs:8.2f}{bare:10.1f}{above:10.2f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
