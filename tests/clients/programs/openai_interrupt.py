"""Interruptions: `openai_interrupt.py BASE_URL PCM TEXT` cancels an answer, then talks into the next one.

TEXT has to make the server talk for a while, at about real-time pace.
"""

import asyncio
import base64
import sys
from pathlib import Path

from common import conversation


async def main(base_url: str, samples: str, text: str) -> None:
    pcm = Path(samples).read_bytes()
    async with conversation(base_url) as talk:
        turn_detection = {"type": "server_vad", "create_response": False, "interrupt_response": True}
        await talk.connection.session.update(
            session={"type": "realtime", "audio": {"input": {"turn_detection": turn_detection}}}
        )
        await talk.until("session.updated")

        await talk.say(text)
        await talk.until("response.output_audio.delta")
        await talk.connection.response.create()
        refused = (await talk.until("error")).error
        await talk.connection.response.cancel()
        cancelled = (await talk.until("response.done")).response

        await talk.say(text)
        delta = await talk.until("response.output_audio.delta")
        await talk.connection.input_audio_buffer.append(audio=base64.b64encode(pcm).decode())
        await talk.until("input_audio_buffer.speech_started")
        interrupted = (await talk.until("response.done")).response
        await talk.connection.conversation.item.truncate(item_id=delta.item_id, content_index=0, audio_end_ms=50)
        truncated = await talk.until("conversation.item.truncated")

        talk.report(
            refused=refused.code,
            endings=[[response.status, response.status_details.reason] for response in (cancelled, interrupted)],
            truncated_at=truncated.audio_end_ms,
        )


asyncio.run(main(*sys.argv[1:]))
