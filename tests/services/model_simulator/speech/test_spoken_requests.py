"""Requests said aloud by the voice, heard by the ears, and understood by the brain: the whole offline path."""

import json
from datetime import date

import pytest

from voicebus_services.model_simulator.brain import ToolPickingBrain
from voicebus_services.model_simulator.brains import BrainContext, Call
from voicebus_services.model_simulator.speech import EspeakVoice, WhisperEars

pytestmark = pytest.mark.speech

TEXT = {"type": "string"}
TOOLS = tuple(
    {"type": "function", "name": name, "description": description,
     "parameters": {"type": "object", "properties": properties, "required": list(properties)}}
    for name, description, properties in (
        ("get_weather", "Get the current weather for a city.", {"city": TEXT}),
        ("book_table", "Reserve a table at a restaurant.",
         {"people": {"type": "integer"}, "date": {"type": "string", "format": "date"}, "time": TEXT}),
        ("set_light", "Switch a light on or off.", {"room": TEXT, "on": {"type": "boolean"}}),
        ("transfer_money", "Move money between the customer's own accounts.",
         {"amount": {"type": "number"}, "from_account": {"type": "string", "enum": ["checking", "savings"]},
          "to_account": {"type": "string", "enum": ["checking", "savings"]}}),
        ("start_timer", "Start a countdown timer.", {"seconds": {"type": "integer"}}),
    )
)  # fmt: skip
SPOKEN = [
    ("What is the weather in Paris?", "get_weather", {"city": "Paris"}),
    ("Do I need an umbrella in London?", "get_weather", {"city": "London"}),
    ("Book a table for four people on Friday at 7 p.m.", "book_table",
     {"people": 4, "date": "2026-11-27", "time": "19:00"}),
    ("Switch off the lights in the living room.", "set_light", {"room": "living room", "on": False}),
    ("Turn the bathroom lamp off, please.", "set_light", {"room": "bathroom", "on": False}),
    ("Move two hundred and fifty euros from my checking account to my savings account.", "transfer_money",
     {"amount": 250, "from_account": "checking", "to_account": "savings"}),
    ("Set a timer for ten minutes.", "start_timer", {"seconds": 600}),
    ("Start a countdown of one hour and thirty minutes.", "start_timer", {"seconds": 5400}),
]  # fmt: skip


async def test_most_spoken_requests_arrive_as_the_right_calls() -> None:
    """Synthetic speech and the smallest recogniser mishear a word now and then; six of eight must be right."""
    voice, ears, brain = EspeakVoice(), WhisperEars(), ToolPickingBrain(lambda: date(2026, 11, 23))
    wrong = []
    for said, name, arguments in SPOKEN:
        heard = await ears.transcribe(bytes(14_400) + await voice.speak(said) + bytes(33_600))
        item = {"type": "message", "role": "user", "content": [{"type": "input_audio", "transcript": heard}]}
        calls = [
            (output.name, json.loads(output.arguments))
            for output in brain.decide(BrainContext("", TOOLS, "auto", (item,)))
            if isinstance(output, Call)
        ]
        if calls != [(name, arguments)]:
            wrong.append(f"{said!r} heard as {heard!r}: {calls}")
    voice.close()
    ears.close()
    assert len(wrong) <= 2, "\n".join(wrong)
