"""Frames in other orders and late: what the quirks `reordered` and `frame_delay_ms` do to them, over real sockets."""

import base64
from typing import Any

import pytest

from services.model_simulator.client import Client, connected
from support.simulator import running_simulator
from voicebus.errors import SettingsError
from voicebus_services.model_simulator import tape

HEARING = {
    "turn_detection": {"type": "server_vad", "silence_duration_ms": 300},
    "transcription": {"model": "whisper-1"},
}
TRANSCRIBED = "conversation.item.input_audio_transcription.completed"


async def a_spoken_turn(client: Client) -> list[str]:
    """The types of a turn's events, up to the last of its response and its transcription."""
    await client.send("session.update", session={"type": "realtime", "audio": {"input": HEARING}})
    await client.until("session.updated")
    await client.append(bytes(9600) + tape.record("how are you") + bytes(48_000))
    while not {"response.done", TRANSCRIBED} <= set(client.types()):
        await client.receive()
    return client.types()


@pytest.mark.parametrize("reordered", [False, True])
async def test_what_the_protocol_leaves_open_comes_the_other_way_round(reordered: bool) -> None:
    async with (
        running_simulator(simulator_quirks={"reordered": reordered}) as simulator,
        connected(simulator.url) as client,
    ):
        types = await a_spoken_turn(client)
        spoken = [event["delta"] for event in client.events if event["type"] == "response.output_audio.delta"]
    item_done = max(at for at, kind in enumerate(types) if kind == "conversation.item.done")
    assert (types.index("response.output_item.done") < item_done) is reordered
    sound_over = types.index("response.output_audio.done")
    assert (types.index("response.output_audio_transcript.done") < sound_over) is reordered
    assert (types.index(TRANSCRIBED) > types.index("response.done")) is reordered
    assert tape.play_back(b"".join(map(base64.b64decode, spoken))) == "You said: how are you"


async def test_a_transcription_with_no_response_beside_it_is_not_held_back() -> None:
    quiet = {**HEARING, "turn_detection": None}
    async with (
        running_simulator(simulator_quirks={"reordered": True}) as simulator,
        connected(simulator.url) as client,
    ):
        await client.send("session.update", session={"type": "realtime", "audio": {"input": quiet}})
        await client.append(tape.record("how are you"))
        await client.send("input_audio_buffer.commit")
        assert (await client.until(TRANSCRIBED))["transcript"] == "how are you"
    assert "response.created" not in client.types()


async def test_late_frames_keep_their_order() -> None:
    types: list[list[str]] = []
    for quirks in ({}, {"frame_delay_ms": [0, 4]}):
        async with running_simulator(simulator_quirks=quirks) as simulator, connected(simulator.url) as client:
            await client.say("[[say: All in good time.]]")
            await client.until("rate_limits.updated")
            types.append(client.types())
    assert types[0] == types[1]


@pytest.mark.parametrize("bounds", [[5, 1], [-1, 1], [1], [0, 60_000], "soon"])
async def test_a_delay_that_cannot_be_stops_the_start(bounds: Any) -> None:
    with pytest.raises(SettingsError, match="VOICEBUS_SIMULATOR_QUIRKS: 'frame_delay_ms"):
        async with running_simulator(simulator_quirks={"frame_delay_ms": bounds}):
            pass
