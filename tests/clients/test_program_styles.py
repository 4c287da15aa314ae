"""Programs in the styles that users write, for openai-agents, and again with only their import lines changed.

A web application, a chat in a terminal, a bridge for phone calls and a SIP line, each as its own process over real
sockets: what their browsers, terminals and phones get, and what the model's server gets, is the same.
"""

import asyncio
import base64
import json
import os
import re
import sys
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import websockets

from support.real_clients import ENVIRONMENT, PROGRAMS
from support.servers import free_port
from support.simulator import running_simulator
from support.waiting import wait_until
from voicebus.testing import (
    ScriptedRealtimeServer,
    ServerStep,
    audio_turn,
    barge_in,
    function_call,
    open_turn,
    user_turn,
)

# The first test of a fresh clone installs the clients.
pytestmark = [pytest.mark.clients, pytest.mark.timeout(300)]

CREATE: Final = "response.create"
APPEND: Final = "input_audio_buffer.append"
IMPORT: Final = re.compile(r"^from agents[.\w]* import", re.MULTILINE)
BOTH: Final = ("agents", "voicebus")


@dataclass(frozen=True)
class Program:
    """A running program; `lines` are what it has printed."""

    process: asyncio.subprocess.Process
    port: int
    lines: list[str]

    def printed(self, line: str) -> bool:
        return line in self.lines

    async def says(self, line: str) -> None:
        await wait_until(lambda: self.printed(line), description=f"{line!r} among {self.lines}", timeout=30)


def environment(**variables: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OPENAI_", "PYTHON", "VOICEBUS_"))}
    return {**kept, "OPENAI_API_KEY": "test-key", "OPENAI_AGENTS_DISABLE_TRACING": "1", **variables}


def source(name: str, sdk: str, folder: Path) -> tuple[Path, Path]:
    """The interpreter and the program's file for one package or the other."""
    written = (PROGRAMS / "apps" / f"{name}.py").read_text()
    if sdk == "agents":
        return ENVIRONMENT / "bin" / "python", PROGRAMS / "apps" / f"{name}.py"
    changed = folder / f"{name}.py"
    package = "voicebus.openai_agents" if "assert_never" in written else "voicebus"
    changed.write_text(IMPORT.sub(f"from {package} import", written))
    return Path(sys.executable), changed


@asynccontextmanager
async def running(name: str, sdk: str, folder: Path, **variables: str) -> AsyncIterator[Program]:
    """The program as a server on a free port, until the block ends."""
    python, file = source(name, sdk, folder)
    port = free_port()
    log = folder / f"{name}-{sdk}.log"
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            python, file, str(port), env=environment(**variables), stdout=asyncio.subprocess.PIPE, stderr=errors
        )
    lines: list[str] = []

    async def read() -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            lines.append(line.decode().rstrip())

    async def is_up() -> bool:
        assert process.returncode is None, f"{name} ended: {log.read_text()[-3000:]}"
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        await writer.wait_closed()
        return True

    reading = asyncio.create_task(read(), name=f"output of {name}")
    try:
        await wait_until(is_up, description=f"{name} with {sdk}", timeout=60)
        yield Program(process, port, lines)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        await reading
    assert "Traceback" not in log.read_text(), log.read_text()[-3000:]


def kinds(server: ScriptedRealtimeServer) -> list[str]:
    """What the server got, by type, without the frames of sound."""
    return [str(event["type"]) for event in server.received() if event["type"] != APPEND]


def first_settings(server: ScriptedRealtimeServer) -> dict[str, Any]:
    session = dict(server.received("session.update")[0]["session"])
    return {key: session.get(key) for key in ("audio", "instructions", "tools", "output_modalities")}


def first_model(server: ScriptedRealtimeServer) -> str:
    """What the settings name: openai-agents its default beside any address, which no server lets an open session
    change to; we the model that the address names.
    """
    return str(server.received("session.update")[0]["session"]["model"])


def plain(value: Any) -> Any:
    """Without ids of items, which each package chooses itself, without what an item does not have, and without the
    place that only one of the two tells of.
    """
    if isinstance(value, dict):
        left_out = ("id", "item_id", "previous_item_id")
        return {key: plain(entry) for key, entry in value.items() if key not in left_out and entry is not None}
    return [plain(entry) for entry in value] if isinstance(value, list) else value


# --- a web application --------------------------------------------------------------------------------------


class Browser:
    """What a browser got from the application, in order."""

    def __init__(self, socket: websockets.ClientConnection) -> None:
        self._socket = socket
        self.events: list[dict[str, Any]] = []

    async def read(self) -> None:
        async for frame in self._socket:
            self.events.append(json.loads(frame))

    async def send(self, kind: str, **fields: Any) -> None:
        await self._socket.send(json.dumps({"type": kind, **fields}))

    async def until(self, kind: str, times: int = 1, **having: Any) -> dict[str, Any]:
        def found() -> list[dict[str, Any]]:
            return [event for event in self.events if event["type"] == kind and having.items() <= event.items()]

        await wait_until(lambda: len(found()) >= times, description=f"{kind} {having}", timeout=30)
        return found()[times - 1]

    def shown(self) -> dict[str, list[Any]]:
        """What a person has seen so far, by kind: a tool starts beside the end of the response that has called it, and
        raw events and updates come at the server's pace.
        """
        seen: dict[str, list[Any]] = {}
        for event in self.events:
            if event["type"] not in ("raw_model_event", "history_updated"):
                seen.setdefault(event["type"], []).append(event)
        return seen


async def browse(program: Program) -> dict[str, list[Any]]:
    """Talk in a browser; returns what was to be seen before the last turn, which is interrupted."""
    url = f"ws://127.0.0.1:{program.port}/ws/ada"
    async with websockets.connect(url) as socket:
        browser = Browser(socket)
        reading = asyncio.create_task(browser.read(), name="browser")
        await browser.send("text", text="How many bags may I take?")
        await browser.until("agent_end", 3)
        await browser.send("image", text="Seat 4A, please", url="data:image/png;base64,AAAA")
        asked = await browser.until("tool_approval_required")
        await browser.send("decision", approve=True, call_id=asked["call_id"])
        await browser.until("agent_end", 7)
        seen = browser.shown()
        before = len(seen["audio"])
        await browser.send("audio", data=[0] * 1200)
        await browser.until("audio", before + 1)
        asked_at = len(browser.events)
        await browser.send("interrupt")
        await wait_until(
            lambda: any(event["type"] == "audio_interrupted" for event in browser.events[asked_at:]),
            description="the interruption",
            timeout=30,
        )
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    return seen


async def test_a_web_application_shows_its_browsers_the_same(tmp_path: Path) -> None:
    script = [
        ServerStep(CREATE, function_call("transfer_to_faq_agent", {}, call_id="c1")),
        ServerStep(CREATE, function_call("look_up", {"topic": "bag"}, call_id="c2")),
        ServerStep(CREATE, audio_turn("One bag each.")),
        ServerStep(CREATE, function_call("transfer_to_triage_agent", {}, call_id="c3")),
        ServerStep(CREATE, function_call("transfer_to_seat_agent", {}, call_id="c4")),
        ServerStep(CREATE, function_call("book_seat", {"seat": "4A"}, call_id="c5")),
        ServerStep(CREATE, audio_turn("Booked.")),
        ServerStep(APPEND, [user_turn("Tell me more"), open_turn("There is so much to tell you about it")]),
    ]
    seen: dict[str, Any] = {}
    for sdk in BOTH:
        async with ScriptedRealtimeServer(script) as server:
            async with running("web_app", sdk, tmp_path, REALTIME_URL=f"{server.url}?model=m") as program:
                shown = await browse(program)

                async def is_over(program: Program = program) -> bool:
                    url = f"http://127.0.0.1:{program.port}/sessions"
                    return bool(await asyncio.to_thread(lambda: urllib.request.urlopen(url).read()) == b"[]")

                await wait_until(is_over, description="the end of the session")
            creates = [event["item"] for event in server.received("conversation.item.create")]
            seen[sdk] = plain(shown), first_settings(server), plain(creates)
            assert server.received("conversation.item.truncate"), "what was not heard is cut off"
    assert seen["voicebus"] == seen["agents"]


# --- a chat in a terminal -----------------------------------------------------------------------------------


async def test_a_chat_in_a_terminal_prints_the_same(tmp_path: Path) -> None:
    script = [
        ServerStep(CREATE, audio_turn("Hello Ada.")),
        ServerStep(CREATE, function_call("get_weather", {"city": "Rome"}, call_id="c1")),
        ServerStep(CREATE, audio_turn("Sunny.")),
        ServerStep(CREATE, function_call("open_door", {"code": 5}, call_id="c2")),
        ServerStep(CREATE, audio_turn("That did not work.")),
    ]
    printed, frames = {}, {}
    for sdk in BOTH:
        python, file = source("terminal_chat", sdk, tmp_path)
        async with ScriptedRealtimeServer(script) as server:
            process = await asyncio.create_subprocess_exec(
                python,
                file,
                env=environment(REALTIME_URL=f"{server.url}?model=m"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            output, errors = await asyncio.wait_for(process.communicate(b"Hi\nWeather?\nOpen the door\n"), 60)
            assert process.returncode == 0, errors.decode()[-3000:]
            printed[sdk] = output.decode().splitlines()
            frames[sdk] = first_settings(server), kinds(server)
            assert sdk == "agents" or first_model(server) == "m"
    assert printed["voicebus"] == printed["agents"]
    assert printed["voicebus"][-3:] == [
        "tool open_door -> Sorry: 5 is wrong", "agent That did not work. (32640 bytes)", "bye"
    ]  # fmt: skip
    assert frames["voicebus"] == frames["agents"]


# --- a bridge for phone calls -------------------------------------------------------------------------------

SAMPLES: Final = bytes(range(256)) * 10


async def phone(program: Program) -> list[Any]:
    """A call as a provider of media streams sends it; returns what the provider got."""
    got: list[Any] = []
    async with websockets.connect(f"ws://127.0.0.1:{program.port}/media-stream") as socket:

        async def read() -> None:
            async for frame in socket:
                message = json.loads(frame)
                got.append(message)

        async def send(event: str, **fields: Any) -> None:
            await socket.send(json.dumps({"event": event, "streamSid": "MZ1", **fields}))

        def heard(event: str) -> list[Any]:
            return [message for message in got if message["event"] == event]

        async def sound(size: int) -> None:
            payload = base64.b64encode(b"\x7f" * 160).decode()  # 20 ms
            for _ in range(size // 160):
                await send("media", media={"payload": payload})

        reading = asyncio.create_task(read(), name="phone")
        await send("connected")
        await send("start", start={"streamSid": "MZ1"})
        await sound(800)
        await wait_until(lambda: heard("mark"), description="the first mark", timeout=30)
        await send("mark", mark={"name": heard("mark")[0]["mark"]["name"]})
        # Until the bridge has told what was played: it answers in order, so with the mark before the sound.
        await sound(800)
        await wait_until(lambda: heard("clear"), description="the interruption", timeout=30)
        await wait_until(lambda: got[-1]["event"] == "mark", description="the next answer", timeout=30)
        await send("stop")
        await program.says("call over")
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    return got


async def test_a_bridge_for_phone_calls_passes_sound_marks_and_interruptions_on(tmp_path: Path) -> None:
    heard: dict[str, Any] = {}
    for sdk in BOTH:
        script = [
            ServerStep(APPEND, [user_turn("Hello"), open_turn("Good day, what can I do for you?", SAMPLES)]),
            ServerStep(APPEND, []),
            ServerStep(APPEND, [barge_in("What time is it?"), function_call("current_time", {}, call_id="c1")]),
            ServerStep(CREATE, audio_turn("Noon.", SAMPLES[:256])),
        ]
        async with ScriptedRealtimeServer(script, strict=False) as server:
            async with running("phone_bridge", sdk, tmp_path, REALTIME_URL=f"{server.url}?model=m") as program:
                page = await asyncio.to_thread(post, f"http://127.0.0.1:{program.port}/incoming-call", b"")
                assert b'<Stream url="wss://127.0.0.1' in page
                got = await phone(program)
                assert program.printed("tool current_time -> It is noon.")
            (cut,) = server.received("conversation.item.truncate")
            heard[sdk] = (
                [message["event"] for message in got],
                b"".join(base64.b64decode(message["media"]["payload"]) for message in got if "media" in message),
                first_settings(server)["audio"],
                cut["audio_end_ms"] - len(base64.b64decode(got[0]["media"]["payload"])) // 8,
                {event["audio"] for event in server.received(APPEND)},
            )
    assert heard["voicebus"] == heard["agents"]
    events, samples, audio, cut_ms, appended = heard["voicebus"]
    assert events == [*["media", "mark"] * 4, "clear", "media", "mark"]
    assert samples == SAMPLES + SAMPLES[:256]
    assert (audio["input"]["format"], audio["output"]["format"]) == ({"type": "audio/pcmu"}, {"type": "audio/pcmu"})
    assert cut_ms == 0, "as far as the phone had played it: mu-law has eight bytes in a millisecond"
    assert appended == {base64.b64encode(b"\x7f" * 480).decode()}


# --- a SIP line ---------------------------------------------------------------------------------------------

SECRET: Final = "whsec_" + base64.b64encode(b"a secret of the line").decode()


def post(url: str, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, body, dict(headers or {}), method="POST")) as answer:
        read: bytes = answer.read()
        return read


async def test_a_sip_line_accepts_greets_and_joins_its_calls(tmp_path: Path) -> None:
    told: dict[str, Sequence[str]] = {}
    settings: dict[str, Any] = {}
    for sdk in BOTH:
        async with running_simulator(pace=0) as simulator:
            variables = {
                "REALTIME_URL": simulator.url,
                "OPENAI_BASE_URL": f"{simulator.http_url}/v1",
                "OPENAI_WEBHOOK_SECRET": SECRET,
            }
            async with running("sip_line", sdk, tmp_path, **variables) as program:
                webhook = simulator.incoming_call(SECRET)
                address = f"http://127.0.0.1:{program.port}/webhook"
                forged = {**webhook.headers, "webhook-signature": "v1,bm8="}
                with pytest.raises(urllib.error.HTTPError, match="400"):
                    await asyncio.to_thread(post, address, webhook.body, forged)
                for _ in range(2):  # providers deliver more than once
                    await asyncio.to_thread(post, address, webhook.body, webhook.headers)
                await program.says("end Front desk")
                hangup = f"{simulator.http_url}/v1/realtime/calls/{webhook.call_id}/hangup"
                settings[sdk] = simulator.ledger()
                await asyncio.to_thread(post, hangup, b"", {"authorization": "Bearer test-key"})
                await program.says("call over")
                told[sdk] = list(program.lines)
    # Both name a model in their settings, but the call has its own already: openai-agents' settings are lost with that.
    assert told["voicebus"] == [line for line in told["agents"] if not line.startswith("error ")]
    assert told["voicebus"] == ["added assistant", "end Front desk", "call over"]
    assert [[line["text"] for line in call["lines"]] for call in settings["voicebus"]] == [
        ["Hello! How can I help you?"]
    ]
