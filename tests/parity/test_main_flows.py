"""The main flows of a voice session give the same events in one process and through the cluster, fields and all."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import pytest

from support.gates import Gates
from support.stages import Cluster, Conversation, InProcess, Stage
from voicebus import (
    GuardrailFunctionOutput,
    OutputGuardrail,
    RealtimeAgent,
    RealtimeRunConfig,
    function_tool,
    realtime_handoff,
)
from voicebus.testing import (
    ScriptedRealtimeServer,
    ServerStep,
    audio_turn,
    function_call,
    function_calls,
    open_turn,
    text_turn,
)

CREATE: Final = "response.create"
SOUND: Final = b"\1\0" * 2400
"""A single frame of audio: whatever is done after it was heard comes after all audio."""


gates: Final = Gates()


@function_tool
async def weather(city: str) -> str:
    """The weather of a city."""
    await gates.passed(city)
    return f"Sunny in {city}."


@function_tool(needs_approval=True)
def refund(order: str) -> str:
    """Pay an order back."""
    return f"Paid back {order}."


async def _says_forbidden(context: Any, agent: Any, text: str) -> GuardrailFunctionOutput:
    await gates.passed("verdict")
    return GuardrailFunctionOutput(output_info={"length": len(text)}, tripwire_triggered="forbidden" in text)


def clerk(**more: Any) -> RealtimeAgent[Any]:
    return RealtimeAgent(name="clerk", instructions="Help.", **more)


async def _taken(context: Any) -> None:
    await gates.passed("handoff")


def triage() -> RealtimeAgent[Any]:
    billing = RealtimeAgent[Any](name="billing", instructions="Bill.", handoff_description="Bills.")
    return clerk(handoffs=[realtime_handoff(billing, on_handoff=_taken)])


async def _text(talk: Conversation) -> None:
    await talk.say("hello")
    await talk.until("agent_end")


async def _handoff(talk: Conversation) -> None:
    await talk.say("a bill, please")
    await talk.until("agent_end", agent="clerk")
    gates.open("handoff")
    await talk.until("handoff")
    await talk.until("agent_end", agent="billing")


async def _guardrail(talk: Conversation) -> None:
    await talk.say("say it")
    await talk.until("audio")
    gates.open("verdict")
    await talk.until("guardrail_tripped")
    await talk.until("agent_end")
    await talk.until("agent_end")


async def _tools(talk: Conversation) -> None:
    await talk.say("the weather?")
    await talk.until("agent_end")
    calls = len(talk.of("tool_start"))
    for place, city in enumerate(["Rome", "Oslo"][:calls]):
        gates.open(city)
        await talk.until("tool_end", call_id=f"c{place + 1}")
    await talk.until("agent_end")


async def _approval(talk: Conversation) -> None:
    await talk.say("my money, please")
    asked = await talk.until("tool_approval_required")
    await talk.until("agent_end")
    await talk.approve(asked["call_id"])
    await talk.until("tool_end")
    await talk.until("agent_end")


async def _rejection(talk: Conversation) -> None:
    await talk.say("my money, please")
    asked = await talk.until("tool_approval_required")
    await talk.until("agent_end")
    await talk.reject(asked["call_id"], message="Not today.")
    await talk.until("tool_end")
    await talk.until("agent_end")


async def _interruption(talk: Conversation) -> None:
    await talk.say("tell me a story")
    await talk.until("audio")
    await talk.interrupt()
    await talk.until("agent_end")


Flow = tuple[
    Callable[[], RealtimeAgent[Any]], Sequence[ServerStep], Callable[[Conversation], Awaitable[None]], set[str]
]

FLOWS: Final[dict[str, Flow]] = {
    "a text turn": (clerk, [ServerStep(CREATE, text_turn("Good day."))], _text, {"transcript_delta", "history_added"}),
    "an audio turn": (clerk, [ServerStep(CREATE, audio_turn("Good day."))], _text, {"audio", "audio_end"}),
    "a tool call": (
        lambda: clerk(tools=[weather]),
        [
            ServerStep(CREATE, function_call("weather", {"city": "Rome"}, call_id="c1")),
            ServerStep(CREATE, text_turn("It is sunny.")),
        ],
        _tools,
        {"tool_start", "tool_end"},
    ),
    "two parallel tools": (
        lambda: clerk(tools=[weather]),
        [
            ServerStep(
                CREATE, function_calls(("weather", {"city": "Rome"}, "c1"), ("weather", {"city": "Oslo"}, "c2"))
            ),
            ServerStep(CREATE, text_turn("Both are sunny.")),
        ],
        _tools,
        {"tool_start", "tool_end"},
    ),
    "a handoff": (
        triage,
        [
            ServerStep(CREATE, function_call("transfer_to_billing", {}, call_id="h1")),
            ServerStep(CREATE, text_turn("Billing here.")),
        ],
        _handoff,
        {"handoff"},
    ),
    "a guardrail's trip": (
        lambda: clerk(output_guardrails=[OutputGuardrail(_says_forbidden, name="polite")]),
        [
            ServerStep(CREATE, open_turn("this is forbidden " + "x" * 100, SOUND)),
            ServerStep(CREATE, text_turn("Let us speak of something else.")),
        ],
        _guardrail,
        {"guardrail_tripped"},
    ),
    "an approval": (
        lambda: clerk(tools=[refund]),
        [
            ServerStep(CREATE, function_call("refund", {"order": "7"}, call_id="c1")),
            ServerStep(CREATE, text_turn("Done.")),
        ],
        _approval,
        {"tool_approval_required", "tool_start", "tool_end"},
    ),
    "a rejection": (
        lambda: clerk(tools=[refund]),
        [
            ServerStep(CREATE, function_call("refund", {"order": "7"}, call_id="c1")),
            ServerStep(CREATE, text_turn("Sorry.")),
        ],
        _rejection,
        {"tool_approval_required", "tool_end"},
    ),
    "an interruption": (
        clerk,
        [ServerStep(CREATE, open_turn("Once upon a time", SOUND))],
        _interruption,
        {"audio", "audio_interrupted"},
    ),
}


# Tracing is asked for as the server greets: before or behind the user's first word, and it takes a number.
UNTRACED: Final[RealtimeRunConfig] = {"tracing_disabled": True}


async def held(stage: Stage, flow: Flow) -> list[dict[str, Any]]:
    make_agent, script, play, _ = flow
    gates.close_all()
    async with ScriptedRealtimeServer(script) as server:
        async with stage.conversation(make_agent(), server, UNTRACED) as talk:
            await play(talk)
        server.assert_complete()
    return talk.comparable()


@pytest.mark.parametrize("name", FLOWS)
async def test_a_flow_gives_the_same_events_in_one_process_and_through_the_cluster(
    name: str, redis_url: str, stream_prefix: str
) -> None:
    inside = await held(InProcess(), FLOWS[name])
    outside = await held(Cluster(redis_url, stream_prefix), FLOWS[name])
    assert FLOWS[name][3] <= {event["type"] for event in inside}
    assert outside == inside
