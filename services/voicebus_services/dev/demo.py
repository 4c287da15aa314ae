"""The demo conversation of `voicebus dev`: one spoken question through the whole cluster, every step timed."""

import asyncio
import json
import ssl
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from voicebus.errors import RemoteError, VoicebusError
from voicebus_services.call import wav
from voicebus_services.call.conversation import Conversation, Recorder, open_conversation

DEMO_QUESTION: Final = "What is the weather in Paris?"
DEMO_WAV: Final = Path("examples/what-is-the-weather-in-paris.wav")
_STEP_TIMEOUT_S: Final = 60.0
_ARCHIVE_TIMEOUT_S: Final = 20.0


class StepFailedError(VoicebusError):
    """A step of the demo did not come about. `step` is its name."""

    def __init__(self, step: str, why: str) -> None:
        super().__init__(why)
        self.step = step


@dataclass
class Demo:
    """One run. `report` gets the lines; `samples` None asks by text instead of speech."""

    gateway_url: str
    archiver_url: str
    samples: bytes | None
    question: str
    answer_wav: Path
    report: Callable[[str], None]
    headers: dict[str, str] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None
    session: str = ""
    audio: bytearray = field(default_factory=bytearray)
    seen: list[dict[str, Any]] = field(default_factory=list)

    async def run(self) -> None:
        """Hold the conversation and check each step.

        Raises:
            StepFailedError: the first step that did not come about.
        """
        try:
            async with open_conversation(self.gateway_url, headers=self.headers, tls=self.tls) as conversation:
                started = time.monotonic()
                asking = asyncio.create_task(self._ask(conversation), name="demo-question")
                try:
                    await self._listen(conversation, started)
                finally:
                    asking.cancel()
                    await asyncio.gather(asking, return_exceptions=True)
        except RemoteError as error:
            raise StepFailedError("heard", str(error)) from error
        if self.audio:
            wav.write(self.answer_wav, bytes(self.audio))
        await self._read_back()

    async def _ask(self, conversation: Conversation) -> None:
        if self.samples is None:
            await conversation.command("send_message", text=self.question)
        else:
            await conversation.speak(self.samples)

    async def _listen(self, conversation: Conversation, started: float) -> None:
        spoken_ms = len(self.samples or b"") / wav.BYTES_PER_MS
        heard = Recorder()
        tool_began: dict[str, float] = {}
        asked = started + spoken_ms / 1000
        waiting_for = "heard"
        first_audio: float | None = None
        try:
            async with asyncio.timeout(_STEP_TIMEOUT_S + spoken_ms / 1000):
                async for event in conversation.events():
                    now = time.monotonic()
                    kind = event["type"]
                    if kind == "audio.samples":
                        self.audio += event["data"]
                        first_audio = first_audio or now
                        heard.took(event["data"])
                        continue
                    if (played := heard.played(event)) is not None:
                        await conversation.command("playback", **played)
                    self.seen.append(event)
                    if kind == "session_started":
                        self.session = event["session"]
                    elif kind == "item_recorded" and event["role"] == "user":
                        self._passed("heard", now - asked, event["text"])
                        waiting_for = "tool"
                    elif kind == "tool_start":
                        tool_began[event["call_id"]] = now
                        first_audio = None
                    elif kind == "tool_end":
                        took = now - tool_began.get(event["call_id"], now)
                        told = f"{event['tool']}({event['arguments']}) -> {event['output']} in {event.get('worker')}"
                        if event["outcome"] != "ok":
                            raise StepFailedError("tool", told)
                        self._passed("tool", took, told)
                        waiting_for = "answered"
                    elif kind == "item_recorded" and event["role"] == "assistant":
                        if waiting_for != "answered":
                            raise StepFailedError(waiting_for, f"the agent answered without it: {event['text']!r}")
                        if self.samples is not None and not self.audio:
                            raise StepFailedError("answered", "the answer had no sound")
                        self._passed("answered", (first_audio or now) - asked, event["text"])
                        waiting_for = "end"
                        await conversation.hang_up(wait=False)
                    elif kind == "session_ended":
                        break
        except TimeoutError:
            errors = [f"{event.get('code')}: {event.get('message')}" for event in self.seen if event["type"] == "error"]
            why = "; ".join(errors) or f"nothing came within {_STEP_TIMEOUT_S:g} s"
            raise StepFailedError(waiting_for, why) from None
        if waiting_for != "end":
            raise StepFailedError(waiting_for, f"the gateway closed with {conversation.close_code}")

    async def _read_back(self) -> None:
        began = time.monotonic()
        wanted = [
            (event["role"], event["text"])
            for event in self.seen
            if event["type"] == "item_recorded" and event["role"] in ("user", "assistant")
        ]
        read: list[tuple[str, str]] = []
        while time.monotonic() < began + _ARCHIVE_TIMEOUT_S:
            transcript = await asyncio.to_thread(self._fetch, f"/v1/transcripts/{self.session}")
            items = (transcript or {}).get("items", [])
            read = [(item["role"], item["text"]) for item in items if item["type"] == "message"]
            if transcript and transcript["status"] == "ended" and sorted(read) == sorted(wanted):
                self._passed("transcript", time.monotonic() - began, f"{len(items)} lines in the archive")
                for line in read:
                    self.report(f"   {'user' if line[0] == 'user' else 'agent'}: {line[1]}")
                return
            await asyncio.sleep(0.05)
        raise StepFailedError("transcript", f"the archive holds {read}, the conversation was {wanted}")

    def _fetch(self, path: str) -> dict[str, Any] | None:
        request = urllib.request.Request(self.archiver_url + path, headers=self.headers)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
                found: dict[str, Any] = json.load(answer)
                return found
        except OSError:
            return None

    def _passed(self, step: str, seconds: float, what: str) -> None:
        self.report(f"ok {step} {max(seconds, 0) * 1000:.0f} ms  {what}")
