"""Programs of openai-agents see and send the same after a change of their imports, over the same server.

One program holds each conversation twice, with openai-agents and with voicebus. Compared are all events, raw ones
too, in order, and every frame that the server got. Where we differ on purpose is said where it is left out; that a
socket which the server closes ends a session there and none here is shown by tests/parity/test_lost_links.py.
"""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from support.real_clients import ENVIRONMENT, PROGRAMS
from voicebus.testing import (
    ScriptedRealtimeServer,
    ServerStep,
    audio_turn,
    barge_in,
    end_turn,
    function_call,
    open_turn,
    text_turn,
    user_turn,
)

# The first test of a fresh clone installs the clients.
pytestmark = [pytest.mark.clients, pytest.mark.timeout(300)]

CREATE: Final = "response.create"
# The model that the address names. A session is of this one here, whatever its settings name, as no open session may
# change its model; openai-agents names that of the settings, or its default.
ADDRESSED: Final = "m"
LAST: Final = {"type": "rate_limits.updated", "rate_limits": []}
UNTIL_LAST: Final = ["until", "rate_limits.updated", 1]

# What the server says by steps, what the program does, and the run config.
CONVERSATIONS: Final[Mapping[str, tuple[list[ServerStep], list[list[Any]], dict[str, Any]]]] = {
    "a text message and a spoken answer": (
        [ServerStep(CREATE, [audio_turn("Hello there"), LAST])], [["say", "hi"], UNTIL_LAST], {},
    ),
    "a text answer": (
        [ServerStep(CREATE, [text_turn("Hello there"), LAST])], [["say", "hi"], UNTIL_LAST],
        {"model_settings": {"modalities": ["text"]}},
    ),
    "a message with a picture": (
        [ServerStep(CREATE, [audio_turn("A cat"), LAST])],
        [
            ["say", {"type": "message", "role": "user", "content": [
                {"type": "input_text", "text": "What is it?"},
                {"type": "input_image", "image_url": "https://example.org/cat.png", "detail": "low"},
            ]}],
            UNTIL_LAST,
        ],
        {},
    ),
    "spoken turns": (
        [ServerStep("input_audio_buffer.append", [user_turn("Good morning"), audio_turn("Morning"), LAST])],
        [["audio", 4800], UNTIL_LAST], {},
    ),
    "a tool call": (
        [ServerStep(CREATE, function_call("add", {"a": 1, "b": 2})), ServerStep(CREATE, [audio_turn("Three"), LAST])],
        [["say", "one and two"], UNTIL_LAST], {},
    ),
    "a handoff": (
        [ServerStep(CREATE, function_call("transfer_to_billing", {})), ServerStep(CREATE, [audio_turn("Hi"), LAST])],
        [["say", "a bill"], UNTIL_LAST], {},
    ),
    "an approved call": (
        [ServerStep(CREATE, function_call("pay", {"amount": 3}, call_id="c1")),
         ServerStep(CREATE, [audio_turn("Paid"), LAST])],
        [["say", "pay"], ["until", "tool_approval_required", 1], ["approve", "c1"], UNTIL_LAST], {},
    ),
    "a rejected call": (
        [ServerStep(CREATE, function_call("pay", {"amount": 3}, call_id="c1")),
         ServerStep(CREATE, [audio_turn("Not paid"), LAST])],
        [["say", "pay"], ["until", "tool_approval_required", 1], ["reject", "c1"], UNTIL_LAST], {},
    ),
    "two messages during one answer": (
        [ServerStep(CREATE, open_turn("Wait")), ServerStep({"item": {"content": [{"text": "c"}]}}, end_turn()),
         ServerStep(CREATE, [audio_turn("Both"), LAST])],
        [["say", "a"], ["until", "agent_start", 1], ["say", "b"], ["say", "c"], UNTIL_LAST], {},
    ),
    "an answer that the user speaks into": (
        [ServerStep(CREATE, open_turn("Let me tell you", bytes(48_000))),
         ServerStep("input_audio_buffer.append", barge_in("Stop."))],
        [["say", "tell me"], ["until", "audio", 1], ["audio", 960], ["until", "conversation.item.truncated", 1]], {},
    ),
    "another agent by the program's word": (
        [ServerStep(CREATE, [audio_turn("Bills here"), LAST])], [["update_agent"], ["say", "hi"], UNTIL_LAST], {},
    ),
    "settings by their flat names": (
        [ServerStep(CREATE, LAST)], [["say", "hi"], UNTIL_LAST],
        {"tracing_disabled": True, "model_settings": {
            "model_name": "gpt-x", "voice": "sage", "turn_detection": None, "input_audio_format": "g711_ulaw",
            "output_audio_format": "g711_alaw", "max_output_tokens": 55, "speed": 1.2,
            "input_audio_noise_reduction": {"type": "near_field"},
            "input_audio_transcription": {"model": "whisper-1", "language": "de"}, "tool_choice": "required",
            "reasoning": {"effort": "low"}, "parallel_tool_calls": False,
        }},
    ),
    "nested settings": (
        [ServerStep(CREATE, LAST)], [["say", "hi"], UNTIL_LAST],
        {"tracing_disabled": True, "model_settings": {"voice": "ash", "audio": {
            "input": {"format": "pcm16", "turn_detection": {"type": "server_vad", "silenceDurationMs": 300}},
            "output": {"voice": "echo", "format": {"type": "audio/pcmu"}},
        }}},
    ),
}  # fmt: skip


async def held(sdk: str, steps: Sequence[ServerStep], actions: list[list[Any]], config: dict[str, Any]) -> Any:
    """One conversation: the program's events, and the frames that the server got."""
    python = Path(sys.executable) if sdk == "voicebus" else ENVIRONMENT / "bin" / "python"
    async with ScriptedRealtimeServer(steps) as server:
        plan = json.dumps({"url": f"{server.url}?model={ADDRESSED}", "actions": actions, "config": config})
        command = [str(python), str(PROGRAMS / "same_conversations.py"), sdk]
        options: Any = {"input": plan, "capture_output": True, "text": True, "check": False}
        ran = await asyncio.to_thread(lambda: subprocess.run(command, **options))  # noqa: PLW1510
        assert ran.returncode == 0, f"{sdk}: {ran.stderr[-3000:]}"
        return numbered(ran.stdout), [comparable(frame) for frame in server.received()]


def numbered(events: str) -> Any:
    """The events with items numbered in the order in which they come up: some have ids of the client's making."""
    known: dict[str, str] = {}
    ids = re.compile(r'"(item_\d+|vb_\w+)"')
    return json.loads(ids.sub(lambda found: json.dumps(known.setdefault(found[1], f"item {len(known) + 1}")), events))


def comparable(frame: Mapping[str, Any]) -> dict[str, Any]:
    """A frame without the ids that clients choose, our mark on a response, and how much was heard by the clock."""
    kept = {name: value for name, value in frame.items() if name not in ("event_id", "response_id", "response")}
    if "item" in kept:
        kept["item"] = {name: value for name, value in kept["item"].items() if name != "id"}
    if "audio_end_ms" in kept:
        kept["audio_end_ms"] = "so far"
    return kept


def in_order(events: list[Any]) -> list[Any]:
    """The events, but for what comes at its own time: the session's own events, and a tool's start, its wish for
    approval or a handoff, which may come before or after the end of the response that called; these stand at the end.
    """
    kept = [event for event in events if event not in (["raw", "session.created"], ["raw", "session.updated"])]
    timely = [event for event in kept if event[0] in ("tool_start", "tool_approval_required", "handoff")]
    return [event for event in kept if event not in timely] + timely


def settings_first(frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The frames; the settings that answer `session.created` may come before or after what a program says first."""
    return sorted(frames, key=lambda frame: "tracing" not in frame.get("session", {}))


def of_the_address(frame: dict[str, Any]) -> dict[str, Any]:
    """A frame of openai-agents with the model that the address names in the place of the one that it names."""
    session = frame.get("session", {})
    return {**frame, "session": {**session, "model": ADDRESSED}} if "model" in session else frame


@pytest.mark.parametrize("name", CONVERSATIONS)
async def test_a_conversation_is_the_same_after_a_change_of_imports(name: str) -> None:
    theirs, ours = await asyncio.gather(*(held(sdk, *CONVERSATIONS[name]) for sdk in ("agents", "voicebus")))
    assert in_order(ours[0]) == in_order(theirs[0])
    # Audio is never asked back from the server (history refers to it), which is all that we send less.
    expected = [of_the_address(frame) for frame in theirs[1] if frame["type"] != "conversation.item.retrieve"]
    assert settings_first(ours[1]) == settings_first(expected)
