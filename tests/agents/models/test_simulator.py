"""A model alone against the model-simulator: whole conversations, as a program that uses the model layer has them."""

import pytest

from support.model_ear import Ear
from support.simulator import SimulatorHandle, running_simulator
from support.waiting import wait_until
from voicebus.agents.models.events import (
    RealtimeModelAudioEvent,
    RealtimeModelErrorEvent,
    RealtimeModelItemUpdatedEvent,
)
from voicebus.agents.models.openai import OpenAIRealtimeWebSocketModel
from voicebus.agents.models.sends import RealtimeModelSendInterrupt, RealtimeModelSendUserInput


def going_on(simulator: SimulatorHandle, there: bool) -> bool:
    """`there`; while it is not, the next piece may go out."""
    if not there:
        simulator.step()
    return there


@pytest.mark.parametrize("modality", ["text", "audio"])
async def test_a_message_is_answered(modality: str) -> None:
    async with running_simulator(pace=0) as simulator:
        model, ear = OpenAIRealtimeWebSocketModel(), Ear()
        model.add_listener(ear)
        await model.connect(
            {
                "api_key": "sk-test",
                "url": simulator.url,
                "initial_model_settings": {"output_modalities": [modality]},  # type: ignore[list-item]
            }
        )
        await model.send_event(RealtimeModelSendUserInput("Hello there"))
        ended = await ear.hears("turn_ended")
        started = await ear.hears("turn_started")
        assert started.response_id == ended.response_id
        delta = "output_text_delta" if modality == "text" else "transcript_delta"
        said = "".join(event.delta for event in ear.heard if event.type == delta)  # type: ignore[union-attr]
        assert said
        samples = b"".join(event.data for event in ear.heard if isinstance(event, RealtimeModelAudioEvent))
        assert bool(samples) == (modality == "audio")
        roles = [event.item.role for event in ear.heard if isinstance(event, RealtimeModelItemUpdatedEvent)]  # type: ignore[union-attr]
        assert roles[0] == "user"
        assert "assistant" in roles
        usage = await ear.hears("usage")
        assert usage.usage.total_tokens > 0
        assert not [event for event in ear.heard if isinstance(event, RealtimeModelErrorEvent)]
        await model.close()


async def test_an_answer_that_is_interrupted_stops() -> None:
    async with running_simulator(pace="step") as simulator:
        model, ear = OpenAIRealtimeWebSocketModel(), Ear()
        model.add_listener(ear)
        await model.connect({"api_key": "sk-test", "url": simulator.url})
        await model.send_event(RealtimeModelSendUserInput("Tell me a long story"))
        await ear.hears("turn_started")
        await wait_until(lambda: going_on(simulator, "audio" in ear.types()), description="the first audio")
        await model.send_event(RealtimeModelSendInterrupt())
        await ear.hears("audio_interrupted")
        await wait_until(lambda: going_on(simulator, "turn_ended" in ear.types()), description="the end of the turn")
        assert "error" not in ear.types()
        await model.close()


async def test_a_key_that_the_server_refuses_ends_in_an_error_and_an_exception() -> None:
    async with running_simulator(simulator_api_key="sk-right") as simulator:
        model, ear = OpenAIRealtimeWebSocketModel(), Ear()
        model.add_listener(ear)
        await model.connect({"api_key": "sk-wrong", "url": simulator.url})
        lost = await ear.hears("exception")
        error = await ear.hears("error")
        assert error.error["code"] == "invalid_api_key"
        assert lost.exception.close_code == 3000
        assert "sk-wrong" not in str(lost.exception)
