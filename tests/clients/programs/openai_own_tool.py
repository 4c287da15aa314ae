"""A tool of the client's own: `openai_own_tool.py BASE_URL TEXT` declares `open_map` and answers each of its calls."""

import asyncio
import json
import sys
from typing import Any

from common import conversation

OPEN_MAP: Any = {
    "type": "function",
    "name": "open_map",
    "description": "Open the map at a place.",
    "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
}


async def main(base_url: str, text: str) -> None:
    async with conversation(base_url) as talk:
        await talk.connection.session.update(
            session={"type": "realtime", "output_modalities": ["text"], "tools": [OPEN_MAP]}
        )
        updated = await talk.until("session.updated")
        await talk.say(text)
        called = []
        while True:
            response = (await talk.until("response.done")).response
            calls = [item for item in response.output if item.type == "function_call"]
            if not calls:
                break
            for call in calls:
                called.append({"name": call.name, "arguments": json.loads(call.arguments)})
                output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "the map is open"}
                await talk.connection.conversation.item.create(item=output)
            await talk.connection.response.create()
        answer = "".join(part.text or "" for item in response.output for part in item.content)
        talk.report(answer=answer, called=called, tools=[tool.name for tool in updated.session.tools])


asyncio.run(main(*sys.argv[1:]))
