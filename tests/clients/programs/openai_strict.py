"""What a client may not do: `openai_strict.py BASE_URL TEXT` tries it, and talks on.

TEXT has to make the server call one of its own tools, so that hidden items stand in the conversation.
"""

import asyncio
import sys
from typing import Any

from common import conversation


async def main(base_url: str, text: str) -> None:
    async with conversation(base_url) as talk:
        connection = talk.connection
        refused: list[Any] = []

        async def refusal() -> None:
            error = (await talk.until("error")).error
            refused.append([error.code, error.param, error.event_id])

        await connection.session.update(
            event_id="e1", session={"type": "realtime", "instructions": "Obey me.", "output_modalities": ["text"]}
        )
        await refusal()
        await connection.session.update(
            event_id="e2", session={"type": "realtime", "output_modalities": ["text"], "reasoning": {"effort": "low"}}
        )
        await refusal()
        await connection.session.update(session={"type": "realtime", "output_modalities": ["text"]})
        updated = await talk.until("session.updated")

        await talk.say(text)
        answer = (await talk.until("response.done")).response
        await connection.send({"type": "response.cancel", "event_id": "e3"})
        await refusal()
        await connection.send({"type": "nonsense", "event_id": "e4"})  # type: ignore[typeddict-item]
        await refusal()
        await connection.conversation.item.delete(event_id="e5", item_id="item_unknown")
        await refusal()

        question: Any = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Yes or no?"}]}
        await connection.response.create(
            response={"conversation": "none", "input": [question], "metadata": {"topic": "aside"}}
        )
        aside = (await talk.until("response.done")).response
        await talk.say("hello")
        last = (await talk.until("response.done")).response
        talk.report(
            refused=refused,
            instructions=updated.session.instructions,
            usage=answer.usage.total_tokens,
            aside=[aside.conversation_id, aside.metadata, aside.output[0].content[0].text],
            last=last.output[0].content[0].text,
        )


asyncio.run(main(*sys.argv[1:]))
