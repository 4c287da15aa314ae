"""A spoken conversation: `openai_audio.py BASE_URL PCM` sends 24 kHz samples, and hears the answer by server VAD."""

import asyncio
import base64
import sys
from pathlib import Path

from common import conversation

CHUNK = 4800  # 100 ms


async def main(base_url: str, samples: str) -> None:
    pcm = Path(samples).read_bytes() + bytes(48 * 1000)
    async with conversation(base_url) as talk:
        await talk.connection.session.update(
            session={
                "type": "realtime",
                "audio": {
                    "input": {
                        "format": {"type": "audio/pcm", "rate": 24000},
                        "transcription": {"model": "gpt-4o-mini-transcribe"},
                        "turn_detection": {"type": "server_vad", "silence_duration_ms": 400},
                    },
                    "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "marin"},
                },
            }
        )
        await talk.until("session.updated")
        for start in range(0, len(pcm), CHUNK):
            await talk.connection.input_audio_buffer.append(audio=base64.b64encode(pcm[start : start + CHUNK]).decode())
        heard, said, samples_out = None, "", 0
        while True:
            event = await talk.next()
            if event.type == "conversation.item.input_audio_transcription.completed":
                heard = event.transcript
            elif event.type == "response.output_audio.delta":
                samples_out += len(base64.b64decode(event.delta)) // 2
            elif event.type == "response.output_audio_transcript.done":
                said += event.transcript
            elif event.type == "response.done":
                done = event.response
                break
        if heard is None:
            heard = (await talk.until("conversation.item.input_audio_transcription.completed")).transcript
        talk.report(heard=heard, said=said, ms=samples_out / 24, status=done.status)


asyncio.run(main(*sys.argv[1:]))
