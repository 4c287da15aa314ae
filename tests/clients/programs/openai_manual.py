"""Manual turns: `openai_manual.py BASE_URL PCM TEXT` speaks and asks for the answer, cuts one off and speaks again.

TEXT has to make the server talk for a while, at about real-time pace.
"""

import asyncio
import base64
import sys
from pathlib import Path
from typing import Any

from common import Conversation, conversation

CHUNK = 4800  # 100 ms


async def speak(talk: Conversation, pcm: bytes) -> Any:
    """One turn: append, commit, ask; what was heard and the response."""
    for start in range(0, len(pcm), CHUNK):
        await talk.connection.input_audio_buffer.append(audio=base64.b64encode(pcm[start : start + CHUNK]).decode())
    await talk.connection.input_audio_buffer.commit()
    await talk.connection.response.create()
    heard, done = None, None
    while heard is None or done is None:
        event = await talk.next()
        if event.type == "conversation.item.input_audio_transcription.completed":
            heard = event.transcript
        elif event.type == "response.done":
            done = event.response
    said = "".join(part.transcript or "" for item in done.output for part in item.content)
    return [heard, said, done.status]


async def main(base_url: str, samples: str, text: str) -> None:
    pcm = Path(samples).read_bytes()
    manual: Any = {"turn_detection": None, "transcription": {"model": "gpt-4o-mini-transcribe"}}
    async with conversation(base_url) as talk:
        await talk.connection.session.update(session={"type": "realtime", "audio": {"input": manual}})
        await talk.until("session.updated")
        first = await speak(talk, pcm)
        await talk.say(text)
        delta = await talk.until("response.output_audio.delta")
        await talk.connection.response.cancel()
        await talk.connection.conversation.item.truncate(item_id=delta.item_id, content_index=0, audio_end_ms=20)
        await talk.connection.input_audio_buffer.clear()
        cut = (await talk.until("response.done")).response
        truncated = await talk.until("conversation.item.truncated")
        await talk.until("input_audio_buffer.cleared")
        second = await speak(talk, pcm)
        talk.report(
            turns=[first, second], cut=[cut.status, cut.status_details.reason], truncated_at=truncated.audio_end_ms
        )


asyncio.run(main(*sys.argv[1:]))
