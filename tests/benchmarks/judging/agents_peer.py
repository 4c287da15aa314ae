"""Sessions of openai-agents with an output guardrail, in one process: `agents_peer.py URL SESSIONS DEBOUNCE`.

Says `ready` when all are connected, and goes on until its input ends.
"""

import asyncio
import importlib
import sys
from typing import Any

sdk: Any = importlib.import_module("agents")
realtime: Any = importlib.import_module("agents.realtime")


@sdk.output_guardrail  # type: ignore[untyped-decorator]
async def manners(context: Any, agent: Any, text: str) -> Any:
    return sdk.GuardrailFunctionOutput(output_info=None, tripwire_triggered="vault" in text)


async def main(url: str, sessions: int, debounce: int) -> None:
    agent = realtime.RealtimeAgent(name="bench", instructions=f"debounce {debounce}", output_guardrails=[manners])
    connected = [asyncio.Event() for _ in range(sessions)]

    async def hold(ready: asyncio.Event) -> None:
        runner = realtime.RealtimeRunner(
            agent,
            model=realtime.OpenAIRealtimeWebSocketModel(),
            config={"guardrails_settings": {"debounce_text_length": debounce}},
        )
        async with await runner.run(model_config={"url": url, "api_key": "test-key"}) as session:
            ready.set()
            async for _ in session:
                pass

    tasks = [asyncio.create_task(hold(ready)) for ready in connected]
    await asyncio.gather(*(ready.wait() for ready in connected))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()


asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
