"""The front desk of a small hotel: two agents that hand off to each other, four tools and a guardrail.

    voicebus dev examples.front_desk

One module is deployed everywhere: the gateway serves its agents, tool workers run its tools, guardrail workers its
guardrail.
"""

import asyncio
import hashlib
import re
from typing import Annotated, Any

from pydantic import Field

from voicebus import (
    GuardrailFunctionOutput,
    RealtimeAgent,
    RealtimeRunner,
    RunContextWrapper,
    ToolContext,
    function_tool,
    output_guardrail,
)

_WEATHER = ("sunny", "cloudy", "rainy", "windy")


@function_tool(idempotent=True)
async def get_weather(city: str) -> dict[str, Any]:
    """Get the current weather of a city.

    Args:
        city: Name of the city, such as Paris.
    """
    # A made-up but stable forecast: the same city gets the same weather in every process.
    number = hashlib.sha256(city.lower().encode()).digest()[0]
    return {"city": city, "condition": _WEATHER[number % len(_WEATHER)], "temperature_celsius": 8 + number % 20}


@function_tool
async def book_room(
    context: ToolContext[Any],
    guest: str,
    nights: Annotated[int, Field(ge=1, le=30)],
    breakfast: bool = True,
) -> dict[str, Any]:
    """Book a hotel room for a guest. Takes a moment, because the reservation system is slow.

    Args:
        guest: Name of the guest.
        nights: Number of nights.
        breakfast: Whether breakfast is included.
    """
    await asyncio.sleep(2)
    # The idempotency key makes the reference the same, however often the call is delivered.
    reference = hashlib.sha256(context.idempotency_key.encode()).hexdigest()[:6].upper()
    return {"reference": reference, "guest": guest, "nights": nights, "breakfast": breakfast}


@function_tool
def check_loyalty_points(member_number: str) -> str:
    """Check how many loyalty points a member has collected.

    Args:
        member_number: The number on the membership card.
    """
    raise ConnectionError(f"the loyalty system does not answer for member {member_number}")


@function_tool(idempotent=True)
def find_best_rate(budget: Annotated[int, Field(ge=10, le=2000)]) -> str:
    """Find the best room rate for a budget, by searching through all price combinations.

    Args:
        budget: The most that the guest wants to pay per night, in euros.
    """
    # Honest work for a processor core, in the worker's thread: the conversation does not feel it.
    best = 0
    for candidate in range(2_000_000):
        rate = (candidate * 7919) % 1000
        if best < rate <= budget:
            best = rate
    return f"The best rate within {budget} euros is {best} euros per night."


@output_guardrail
def no_card_numbers(_: RunContextWrapper[Any], __: RealtimeAgent[Any], text: str) -> GuardrailFunctionOutput:
    """The front desk never reads out a card number."""
    found = re.search(r"(?:\d[ -]?){13,16}", text)
    return GuardrailFunctionOutput(output_info={"found": bool(found)}, tripwire_triggered=bool(found))


concierge = RealtimeAgent(
    name="concierge",
    handoff_description="Answers questions about the weather, the town and loyalty points.",
    instructions="You are the concierge of a small hotel. Be brief and friendly.",
    tools=[get_weather, check_loyalty_points],
    output_guardrails=[no_card_numbers],
)
reservations = RealtimeAgent(
    name="reservations",
    handoff_description="Books rooms and finds room rates.",
    instructions="You book rooms and find rates. Confirm the guest's name and the number of nights.",
    tools=[book_room, find_best_rate],
    handoffs=[concierge],
    output_guardrails=[no_card_numbers],
)

concierge.handoffs.append(reservations)

runner = RealtimeRunner(
    concierge,
    config={
        "model_settings": {
            "turn_detection": {"type": "server_vad", "silence_duration_ms": 500},
            "input_audio_transcription": {"model": "gpt-4o-mini-transcribe"},
        }
    },
)
