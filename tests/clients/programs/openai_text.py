"""A text conversation: `openai_text.py BASE_URL TEXT…` asks each text and prints the events and the answers."""

import asyncio
import sys

from common import conversation


async def main(base_url: str, *texts: str) -> None:
    async with conversation(base_url) as talk:
        await talk.connection.session.update(session={"type": "realtime", "output_modalities": ["text"]})
        await talk.until("session.updated")
        answers = []
        for text in texts:
            await talk.say(text)
            response = (await talk.until("response.done")).response
            answers.append("".join(part.text or "" for item in response.output for part in item.content))
        talk.report(answers=answers)


asyncio.run(main(*sys.argv[1:]))
