"""Conversations with the model-simulator give the same events in one process and through the cluster, in each mode.

In order as spoken, in bursts, reordered and delayed: fields, deltas and the length of every piece of sound included.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import pytest

from support.gates import Gates
from support.simulator import MODES, running_simulator
from support.stages import Cluster, Conversation, InProcess
from support.waiting import wait_until
from voicebus import (
    RealtimeAgent,
    RealtimeRunConfig,
    ToolContext,
    ToolGuardrailFunctionOutput,
    ToolInputGuardrailData,
    ToolOutputGuardrailData,
    function_tool,
    tool_input_guardrail,
    tool_output_guardrail,
)
from voicebus_services.model_simulator import tape

pytestmark = pytest.mark.timeout(120)

CONFIG: Final[RealtimeRunConfig] = {
    "model_settings": {
        "turn_detection": {"type": "server_vad", "silence_duration_ms": 300},
        "input_audio_transcription": {"model": "whisper-1"},
        "tracing": None,  # whose message may come before or behind the user's first one, and takes a number
    }
}
gates: Final = Gates()


@function_tool
async def rate(city: str) -> str:
    """Find what a room costs."""
    await gates.passed(city)
    return f"100 in {city}"


@function_tool(needs_approval=True)
async def refund(amount: int) -> str:
    """Refund money."""
    return f"refunded {amount}"


@function_tool
async def search(context: ToolContext[Any]) -> dict[str, Any]:
    """Search."""
    await gates.passed("search")
    await context.progress("half way")
    return {"found": [1, None, "é"]}


@function_tool
async def broken() -> str:
    """Break."""
    await gates.passed("broken")
    raise ValueError("the till is locked")


@tool_input_guardrail
async def not_abroad(data: ToolInputGuardrailData) -> ToolGuardrailFunctionOutput:
    await gates.passed("guardrail")
    if "Paris" in (data.context.tool_arguments or ""):
        return ToolGuardrailFunctionOutput.reject_content("not there")
    return ToolGuardrailFunctionOutput.allow()


@tool_output_guardrail
async def no_gold(data: ToolOutputGuardrailData) -> ToolGuardrailFunctionOutput:
    if "gold" in str(data.output):
        return ToolGuardrailFunctionOutput.reject_content("hidden")
    return ToolGuardrailFunctionOutput.allow()


@function_tool(tool_input_guardrails=[not_abroad], tool_output_guardrails=[no_gold])
async def treasure(city: str) -> str:
    """Find treasures."""
    return f"gold in {city}"


def front() -> RealtimeAgent[Any]:
    desk = RealtimeAgent[Any]("desk", instructions="Desk.", handoff_description="The desk.", tools=[rate])
    tools: list[Any] = [rate, refund, search, broken, treasure]
    return RealtimeAgent[Any]("front", instructions="Front.", tools=tools, handoffs=[desk])


def asks(call: str, *opened: str, heard: Callable[[str], bool] = bool) -> Callable[[Conversation], Awaitable[None]]:
    """One turn: the model calls what `call` says; when that response is over the gates open, and it says the output."""

    async def play(talk: Conversation) -> None:
        await talk.say(f"[[call: {call}]] [[next]] [[say: {{outputs}}]]")
        await talk.until("agent_end", output="")
        await calls_are_shown(talk)
        for gate in opened:
            gates.open(gate)
        await says(talk, heard)

    return play


async def calls_are_shown(talk: Conversation) -> None:
    """Its last frames may come behind a response's end."""
    await wait_until(
        lambda: any(event["item"]["type"] == "function_call" for event in talk.of("history_added")),
        description="the call in the history",
    )


async def says(talk: Conversation, heard: Callable[[str], bool]) -> None:
    await wait_until(
        lambda: any(event["output"] and heard(event["output"]) for event in talk.of("agent_end")),
        description=f"the answer among {talk.of('agent_end')}",
        timeout=20,
    )


async def written(talk: Conversation) -> None:
    await talk.say("[[say: Good day to you.]]")
    await talk.until("agent_end", output="Good day to you.")


async def spoken(talk: Conversation) -> None:
    sound = bytes(9600) + tape.record("hi [[say: Good day.]]") + bytes(48_000)
    for start in range(0, len(sound), 4800):
        await talk.send_audio(sound[start : start + 4800])
    await talk.until("agent_end", output="Good day.")


async def approved(talk: Conversation) -> None:
    await talk.say('[[call: refund {"amount": 5}]] [[next]] [[say: {outputs}]]')
    await talk.until("agent_end", output="")
    asked = await wait_until(lambda: talk.of("tool_approval_required"), description="the question")
    await calls_are_shown(talk)
    await talk.approve(asked[0]["call_id"])
    await says(talk, lambda output: output == "refunded 5")


async def rejected(talk: Conversation) -> None:
    await talk.say('[[call: refund {"amount": 5}]] [[next]] [[say: {outputs}]]')
    await talk.until("agent_end", output="")
    asked = await wait_until(lambda: talk.of("tool_approval_required"), description="the question")
    await calls_are_shown(talk)
    await talk.reject(asked[0]["call_id"], message="Not today.")
    await says(talk, lambda output: output == "Not today.")


TALKS: Final[Mapping[str, tuple[Callable[[Conversation], Awaitable[None]], set[str]]]] = {
    "a written turn": (written, {"transcript_delta", "audio", "audio_end"}),
    "a spoken turn": (spoken, {"transcript_delta", "audio"}),
    "a tool": (asks('rate {"city": "Rome"}', "Rome"), {"tool_start", "tool_end"}),
    "progress": (asks("search {}", "search"), {"tool_progress", "tool_end"}),
    "a tool that raises": (asks("broken {}", "broken"), {"tool_end"}),
    "a refused call": (asks('treasure {"city": "Paris"}', "guardrail"), {"tool_end"}),
    "a replaced output": (asks('treasure {"city": "Rome"}', "guardrail"), {"tool_start", "tool_end"}),
    "an approval": (approved, {"tool_approval_required", "tool_start", "tool_end"}),
    "a rejection": (rejected, {"tool_approval_required", "tool_end"}),
}

_IDS: Final = re.compile(r"\b(item|resp|call)_[0-9A-Za-z]{8,}\b")


def told(talk: Conversation) -> list[Any]:
    """The events, with the model's ids numbered as they first come."""
    known: dict[str, str] = {}

    def numbered(value: Any) -> Any:
        if isinstance(value, str):
            return _IDS.sub(lambda found: known.setdefault(found[0], f"{found[1]} {len(known)}"), value)
        if isinstance(value, dict):
            return {name: numbered(inner) for name, inner in value.items()}
        return [numbered(inner) for inner in value] if isinstance(value, list) else value

    return [numbered(event) for event in talk.comparable()]


@pytest.mark.parametrize("name", TALKS)
@pytest.mark.parametrize("mode", MODES)
async def test_a_conversation_gives_the_same_events_in_one_process_and_through_the_cluster(
    mode: str, name: str, redis_url: str, stream_prefix: str
) -> None:
    play, expected = TALKS[name]
    async with running_simulator(**MODES[mode]) as simulator:
        gates.close_all()
        async with InProcess().conversation(front(), simulator, CONFIG) as inside:
            await play(inside)
            gates.close_all()
            async with Cluster(redis_url, stream_prefix).conversation(front(), simulator, CONFIG) as outside:
                await play(outside)
                assert expected <= {event["type"] for event in inside.events}
                try:
                    await wait_until(lambda: told(outside) == told(inside), description="the last frames")
                except AssertionError:
                    assert told(outside) == told(inside)
