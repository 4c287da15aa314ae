"""One session over a fast model: `session_load.py SDK URL`, SDK `voicebus` or `agents`; the program is the same.

Prints, as JSON, microseconds of this process's CPU per audio delta, transcript delta (both in a burst, and one at a
time) and tool call. Every event of the
session is read. The least of several rounds counts: what else the machine does can only add to it.
"""

import asyncio
import importlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any

PATIENCE_S = 120
COUNTED: dict[str, Callable[[Any], bool]] = {
    "audio": lambda event: event.type == "audio",
    "transcript": lambda event: event.type == "raw_model_event" and event.data.type == "transcript_delta",
    "tools": lambda event: event.type == "tool_end",
}
COUNTS = {"audio": 1000, "transcript": 1000, "audio-paced": 400, "transcript-paced": 400, "tools": 60}
ROUNDS = 6


def imported(name: str) -> Any:
    """Everything that the program uses, from one package or the other."""
    if name == "voicebus":
        return importlib.import_module("voicebus")

    class Both:
        def __init__(self) -> None:
            self.modules = [importlib.import_module("agents.realtime"), importlib.import_module("agents")]

        def __getattr__(self, attribute: str) -> Any:
            return next(getattr(module, attribute) for module in self.modules if hasattr(module, attribute))

    return Both()


async def main(name: str, url: str) -> None:
    sdk = imported(name)

    @sdk.function_tool  # type: ignore[untyped-decorator]
    async def look_up(thing: str) -> str:
        """Look something up."""
        return thing

    agent = sdk.RealtimeAgent(name="bench", instructions="Talk.", tools=[look_up])
    runner = sdk.RealtimeRunner(agent, model=sdk.OpenAIRealtimeWebSocketModel())
    async with await runner.run(model_config={"url": url, "api_key": "test-key"}) as session:
        await measured(session, "warm audio 200", "audio", 200)
        await measured(session, "warm tools 20", "tools", 20)
        result = {}
        for kind, count in COUNTS.items():
            result[kind] = min([await measured(session, f"go {kind} {count}", kind, count) for _ in range(ROUNDS)])
    json.dump(result, sys.stdout)
    sys.stdout.write("\n")


async def measured(session: Any, command: str, kind: str, count: int) -> float:
    """Ask for `count` of a kind and read events to the end of them; microseconds of CPU for each."""
    seen, counts = 0, COUNTED[kind.partition("-")[0]]
    started = time.process_time()
    await session.send_message(command)
    async with asyncio.timeout(PATIENCE_S):
        async for event in session:
            seen += counts(event)
            if event.type == "agent_end" and seen >= count:
                break
    return (time.process_time() - started) / count * 1e6


asyncio.run(main(*sys.argv[1:]))
