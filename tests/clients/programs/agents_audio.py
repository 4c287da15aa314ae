"""`openai-agents` by voice: `agents_audio.py URL QUESTION SPEECH LONG` asks, talks into an answer, takes manual turns.

QUESTION and SPEECH are files of 24 kHz samples; LONG is a text that makes the server talk for a while.
"""

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agents.realtime import OpenAIRealtimeWebSocketModel, RealtimeAgent, RealtimeRunner, RealtimeSession
from agents.realtime.model_inputs import RealtimeModelSendRawMessage, RealtimeModelSendSessionUpdate

PATIENCE_S = 60
CHUNK = 4800  # 100 ms


class Talk:
    """A session, and everything that came of it."""

    def __init__(self, session: RealtimeSession) -> None:
        self.session = session
        self.errors: list[Any] = []
        self.raw: list[Any] = []
        self.kinds: list[str] = []

    async def until(self, fits: Callable[[Any, Any], bool]) -> Any:
        """The first event, or frame of the server, for which `fits(event, frame)` holds."""
        async with asyncio.timeout(PATIENCE_S):
            async for event in self.session:
                self.kinds.append(event.type)
                frame = None
                if event.type == "error":
                    self.errors.append(str(event.error))
                elif event.type == "raw_model_event" and event.data.type == "raw_server_event":
                    frame = event.data.data
                    self.raw.append(frame)
                if fits(event, frame):
                    return frame or event
        raise AssertionError("the session ended")

    async def frame(self, kind: str) -> Any:
        return await self.until(lambda _, frame: frame is not None and frame["type"] == kind)

    async def speak(self, path: str, *, commit: bool = False) -> None:
        pcm = Path(path).read_bytes() + (b"" if commit else bytes(48 * 1000))
        for start in range(0, len(pcm), CHUNK):
            await self.session.send_audio(pcm[start : start + CHUNK], commit=commit and start + CHUNK >= len(pcm))


async def main(url: str, question: str, speech: str, long: str) -> None:
    detection: Any = {"type": "server_vad", "silence_duration_ms": 400}
    runner = RealtimeRunner(
        RealtimeAgent(name="caller"),
        model=OpenAIRealtimeWebSocketModel(),
        config={"model_settings": {"turn_detection": detection}},
    )
    async with await runner.run(model_config={"url": url, "api_key": "test-key"}) as session:
        talk = Talk(session)
        await talk.frame("session.updated")
        await talk.speak(question)
        by_voice = (await talk.frame("response.done"))["response"]

        await session.send_message(long)
        await talk.until(lambda event, _: event.type == "audio")
        await talk.speak(speech)
        await talk.until(lambda event, _: event.type == "audio_interrupted")
        cut = (await talk.frame("response.done"))["response"]

        # What was said into it is answered; then turns are ended by hand.
        await talk.frame("response.done")
        manual: Any = {"turn_detection": None}
        await session.model.send_event(RealtimeModelSendSessionUpdate(session_settings=manual))
        await talk.frame("session.updated")
        await talk.speak(question, commit=True)
        await session.model.send_event(RealtimeModelSendRawMessage(message={"type": "response.create"}))
        by_hand = (await talk.frame("response.done"))["response"]
    said = [
        [part.get("transcript") for item in done["output"] for part in item["content"]] for done in (by_voice, by_hand)
    ]
    json.dump(
        {
            "said": said,
            "cut": [cut["status"], cut["status_details"]["reason"]],
            "errors": talk.errors,
            "kinds": talk.kinds,
            "truncated": [
                frame["audio_end_ms"] for frame in talk.raw if frame["type"] == "conversation.item.truncated"
            ],
        },
        sys.stdout,
    )
    sys.stdout.write("\n")


asyncio.run(main(*sys.argv[1:]))
