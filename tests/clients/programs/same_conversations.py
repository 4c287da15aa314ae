"""A conversation as programs of openai-agents hold it: `same_conversations.py voicebus|agents`, the plan on stdin.

The plan is JSON: `url`, `config` of the runner, and `actions`. Prints every event, in a form that both packages share.
The source is one; only what it imports from differs.
"""

import asyncio
import json
import sys
from typing import Any

if sys.argv[1] == "voicebus":
    from voicebus import (
        GuardrailFunctionOutput,
        RealtimeAgent,
        RealtimeRunner,
        function_tool,
        output_guardrail,
    )
else:
    from agents.realtime import RealtimeAgent, RealtimeRunner  # type: ignore[no-redef]

    from agents import GuardrailFunctionOutput, function_tool, output_guardrail  # type: ignore[no-redef]

PATIENCE_S = 60
# Events that only one of the two has, by design.
OURS = {"transcript_delta", "audio_start", "audio_stopped"}
FIELDS = {
    "agent_start": ("agent",),
    "agent_end": ("agent",),
    "handoff": ("from_agent", "to_agent"),
    "tool_start": ("agent", "tool", "arguments"),
    "tool_end": ("agent", "tool", "arguments", "output"),
    "tool_approval_required": ("agent", "tool", "call_id", "arguments"),
    "audio": ("item_id", "content_index"),
    "audio_end": ("item_id", "content_index"),
    "audio_interrupted": ("item_id", "content_index"),
    "history_added": ("item",),
    "history_updated": ("history",),
    "guardrail_tripped": ("message",),
}


@function_tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@function_tool(needs_approval=True)
async def pay(amount: int) -> str:
    """Pay an amount."""
    return f"paid {amount}"


@output_guardrail
async def polite(context: Any, agent: Any, text: str) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput(output_info=None, tripwire_triggered="forbidden" in text)


billing = RealtimeAgent(name="Billing", instructions="You bill.", handoff_description="Bills.", tools=[add])
desk = RealtimeAgent(
    name="Desk", instructions="You help.", tools=[add, pay], handoffs=[billing], output_guardrails=[polite]
)


def shown(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return shown(value.model_dump())
    if isinstance(value, dict):
        # The item before is shown by one of the two only, where the server names it.
        kept = {name: entry for name, entry in value.items() if name not in ("object", "previous_item_id")}
        return {name: shown(entry) for name, entry in kept.items() if entry is not None}
    if isinstance(value, list):
        return [shown(entry) for entry in value]
    return value if isinstance(value, str | int | float | None) else value.name


def described(event: Any) -> list[Any]:
    if event.type == "raw_model_event":
        server = event.data.type == "raw_server_event"
        return ["raw", event.data.data["type"] if server else event.data.type]
    return [event.type, {name: shown(getattr(event, name)) for name in FIELDS.get(event.type, ())}]


async def main() -> None:
    plan = json.load(sys.stdin)
    events: list[list[Any]] = []
    news = asyncio.Condition()

    async def read(session: Any) -> None:
        async for event in session:
            async with news:
                if event.type not in OURS:
                    events.append(described(event))
                news.notify_all()

    async def until(kind: str, count: int) -> None:
        async with news:
            await news.wait_for(lambda: sum(kind in event[:2] for event in events) >= count)

    runner = RealtimeRunner(desk, config=plan["config"])
    async with asyncio.timeout(PATIENCE_S):
        async with await runner.run(model_config={"url": plan["url"], "api_key": "test-key"}) as session:
            reading = asyncio.create_task(read(session))
            for action, *given in plan["actions"]:
                if action == "say":
                    await session.send_message(given[0])
                elif action == "audio":
                    await session.send_audio(bytes(given[0]))
                elif action == "until":
                    await until(*given)
                elif action == "interrupt":
                    await session.interrupt()
                elif action == "approve":
                    await session.approve_tool_call(given[0])
                elif action == "reject":
                    await session.reject_tool_call(given[0])
                elif action == "update_agent":
                    await session.update_agent(billing)
            reading.cancel()
    json.dump(events, sys.stdout)
    sys.stdout.write("\n")


asyncio.run(main())
