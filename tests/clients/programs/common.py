"""What the programs share: a connection of the unmodified `openai` package whose frames are recorded and validated."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from openai import AsyncOpenAI
from openai.resources.realtime.realtime import AsyncRealtimeConnection
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter

SERVER_EVENT: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)
# For one event: a machine with a loaded processor is no failure.
PATIENCE_S = 60


class Conversation:
    """One connection; every frame that comes must be a valid event of the package's own types."""

    def __init__(self, connection: AsyncRealtimeConnection) -> None:
        self.connection = connection
        self.seen: list[dict[str, Any]] = []

    async def next(self) -> Any:
        """The next event, as the package's user gets it."""
        async with asyncio.timeout(PATIENCE_S):
            frame = await self.connection.recv_bytes()
        SERVER_EVENT.validate_json(frame)
        self.seen.append(json.loads(frame))
        return self.connection.parse_event(frame)

    async def until(self, kind: str) -> Any:
        """Read events up to the first one of this type; that one."""
        while (event := await self.next()).type != kind:
            pass
        return event

    async def say(self, text: str) -> None:
        """Add a user message and ask for a response."""
        content: Any = [{"type": "input_text", "text": text}]
        await self.connection.conversation.item.create(item={"type": "message", "role": "user", "content": content})
        await self.connection.response.create()

    def report(self, **more: Any) -> None:
        """Print what the tests look at; audio is replaced by its length in characters."""
        seen = [
            event | {"delta": len(event["delta"])} if event["type"] == "response.output_audio.delta" else event
            for event in self.seen
        ]
        json.dump({"seen": seen, **more}, sys.stdout)
        sys.stdout.write("\n")


@asynccontextmanager
async def conversation(base_url: str, model: str = "gpt-realtime") -> AsyncIterator[Conversation]:
    """Connect as a user of the package does, and wait for the session."""
    async with (
        AsyncOpenAI(api_key="test-key", base_url=base_url) as client,
        client.realtime.connect(model=model) as connection,
    ):
        talk = Conversation(connection)
        first = await talk.next()
        assert first.type == "session.created", first
        yield talk
