"""A TARGET with an agent for each phase of a conversation that loses its model's socket in it.

Tools and guardrails leave files in a folder (`PHASE_DESK`), and wait for some: a test sees what has happened, and says
when it goes on.
"""

import os
from pathlib import Path
from typing import Any, Final

from support.waiting import wait_until
from voicebus import (
    GuardrailFunctionOutput,
    InputGuardrail,
    OutputGuardrail,
    RealtimeAgent,
    RealtimeRunConfig,
    RealtimeRunner,
    function_tool,
)

PHASES: Final = {
    # state CONFIGURING
    "first socket not answered": "text",
    "first settings not sent": "text",
    "first settings on their way": "text",
    "first settings not confirmed": "text",
    # state LIVE, a turn
    "idle": "text",
    "speaking": "text",
    "speech stopped": "text",
    "speech committed": "text",
    "speech an item": "text",
    "speech not transcribed": "text",
    "speech transcribed": "text",
    "message not sent": "text",
    "message on its way": "text",
    "message an item": "text",
    "question not sent": "text",
    "question on its way": "text",
    "response created": "text",
    "answer begun": "text",
    "in mid-text": "text",
    "text complete": "text",
    "answer complete": "text",
    "response done": "text",
    "in mid-audio": "voice",
    "audio playing": "voice",
    "push-to-talk half way": "manual",
    "push-to-talk commit lost": "manual",
    "push-to-talk commit on its way": "manual",
    "push-to-talk committed": "manual",
    # state LIVE, a tool
    "call begun": "text",
    "call in mid-arguments": "text",
    "call's arguments complete": "text",
    "call complete": "text",
    "call's response done": "text",
    "tool running": "text",
    "tool running, person speaking": "text",
    "one of two tools done": "text",
    "approval pending": "text",
    "approval given meanwhile": "text",
    "output not sent": "text",
    "output on its way": "text",
    "output an item": "text",
    "follow-up not sent": "text",
    "follow-up on its way": "text",
    "follow-up created": "text",
    "follow-up in mid-text": "text",
    "handoff's settings not sent": "text",
    "handoff's settings on their way": "text",
    "handoff's settings confirmed": "text",
    # state LIVE, an interruption or a guardrail
    "cancel not sent": "text",
    "cancel on its way": "text",
    "truncation not sent": "voice",
    "truncation on its way": "voice",
    "truncated": "voice",
    "input held": "input held",
    "output held": "output held",
    "output held as sound": "voice held",
    # state LIVE, a second socket
    "second socket not answered": "text",
    "second socket being told": "text",
    "second socket told": "text",
    "second socket ready": "text",
    "second socket lost": "text",
    # states RECONNECTING, REPLAYING, CLOSED
    "next socket not answered": "text",
    "message meanwhile": "text",
    "speech meanwhile": "text",
    "next socket without settings": "text",
    "replay not sent": "text",
    "replay on its way": "text",
    "replay in the middle": "text",
    "replay not confirmed": "text",
    "ended meanwhile": "text",
    "ended": "text",
}
"""The phases, each with the manner of its agent; its model is named as the phase is."""


def place(what: str, name: str) -> Path:
    return Path(os.environ["PHASE_DESK"]) / f"{what} {name}"


async def _may_go_on(name: str) -> None:
    await wait_until(place("go", name).exists, description=f"the word to go on with {name}", timeout=120)


def _effect(fact: str) -> str:
    with place("effects of", fact).open("a") as file:
        file.write("one\n")
    return f"noted {fact}"


@function_tool
async def note(fact: str) -> str:
    """Note a fact."""
    return _effect(fact)


@function_tool
async def ponder(fact: str) -> str:
    """Note a fact, when one may."""
    place("pondering", fact).touch()
    await _may_go_on(fact)
    return _effect(fact)


@function_tool(needs_approval=True)
async def confirm(fact: str) -> str:
    """Note a fact that a person has to approve."""
    return _effect(fact)


async def patience(_: Any, agent: Any, text: str) -> GuardrailFunctionOutput:
    if "patience" in text:
        place("judging", agent.name).touch()
        await _may_go_on(agent.name)
    return GuardrailFunctionOutput(None, tripwire_triggered=False)


colleague: RealtimeAgent[Any] = RealtimeAgent("colleague", instructions="You follow.", tools=[note])

_HOLDS_INPUT: Final = InputGuardrail[Any](patience, "input patience", mode="hold", budget_ms=60_000)
_HOLDS_OUTPUT: Final = OutputGuardrail[Any](patience, "output patience", mode="hold")
_DETECTION: Final[dict[str, Any]] = {"type": "server_vad", "silence_duration_ms": 300}


def runner(phase: str, manner: str) -> RealtimeRunner:
    """A runner of an agent and with a model of this name."""
    config: RealtimeRunConfig = {
        "model_settings": {
            "model_name": phase,
            "output_modalities": ["audio" if manner.startswith("voice") else "text"],
            "turn_detection": None if manner == "manual" else _DETECTION,  # type: ignore[typeddict-item]
            "input_audio_transcription": {"model": "whisper-1"},
        }
    }
    agent: RealtimeAgent[Any] = RealtimeAgent(
        phase,
        instructions="You note facts.",
        tools=[note, ponder, confirm],
        handoffs=[colleague],
        input_guardrails=[_HOLDS_INPUT] if manner == "input held" else [],
        output_guardrails=[_HOLDS_OUTPUT] if manner in ("output held", "voice held") else [],
    )
    return RealtimeRunner(agent, config=config)


globals().update({f"runner_{number}": runner(*entry) for number, entry in enumerate(PHASES.items())})
