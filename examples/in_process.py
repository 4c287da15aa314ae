"""A chat with a front desk in one process: no Redis, no gateway. Lines of standard input are said one after another.

    python examples/in_process.py

It reaches OpenAI with OPENAI_API_KEY, or the model of VOICEBUS_MODEL_URL, such as a model-simulator.
"""

import asyncio
import sys

from voicebus import RealtimeAgent, RealtimeRunner, RealtimeSession, function_tool


@function_tool
def room_price(nights: int) -> str:
    """Tell the price of a room.

    Args:
        nights: How many nights the guest stays.
    """
    return f"{nights} nights cost {nights * 120} euros."


desk = RealtimeAgent("desk", instructions="You are the front desk of a hotel. Be brief.", tools=[room_price])
runner = RealtimeRunner(desk, config={"model_settings": {"output_modalities": ["text"]}})


async def answer(session: RealtimeSession) -> None:
    """Print what happens until the agent has said something."""
    async for event in session:
        if event.type == "transcript_delta" and event.role == "assistant":
            print(event.delta, end="", flush=True)
        elif event.type == "tool_end":
            print(f"[{event.tool.name} {event.arguments}: {event.outcome} after {event.duration_ms} ms]")
        elif event.type == "error":
            print(f"[error: {event.error.message}]")
        elif event.type == "agent_end" and event.output:
            print()
            return


async def main() -> None:
    async with await runner.run() as session:
        while line := await asyncio.to_thread(sys.stdin.readline):
            if line.strip():
                await session.send_message(line.strip())
                await answer(session)


if __name__ == "__main__":
    asyncio.run(main())
