"""The simulator as a process of its own."""

import asyncio
import signal
import sys
from pathlib import Path

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed

from services.model_simulator.client import connected
from support.simulator import running_simulator
from voicebus.errors import SettingsError

PROGRAM = """
from voicebus.runtime.lifecycle import run
from voicebus.telemetry.logging import configure
from voicebus_services.model_simulator.wiring import serve
from voicebus_services.settings import SimulatorSettings

configure(service="model-simulator", style="json")
run(serve(SimulatorSettings(http_port=0, ops_port=0), ready=lambda port: print(port, flush=True)))
"""


async def test_it_serves_until_sigterm_and_closes_what_is_open() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        port = int(await process.stdout.readline())
        async with connected(f"ws://127.0.0.1:{port}/v1/realtime") as client:
            await client.say("hello")
            await client.until("response.done")
            process.send_signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosed):
                await client.until("an event that never comes")
        _, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
        assert b'"level": "error"' not in errors
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_taken_port_is_said_in_one_sentence() -> None:
    async with running_simulator() as simulator, httpx2.AsyncClient() as http:
        port = int(simulator.http_url.rpartition(":")[2])
        with pytest.raises(SettingsError, match=f"VOICEBUS_HTTP_PORT: .*{port}"):
            async with running_simulator(http_port=port):
                pass
        assert (await http.get(f"{simulator.http_url}/ledger")).status_code == 200


async def test_an_unknown_quirk_or_a_wrong_scenario_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="VOICEBUS_SIMULATOR_QUIRKS: 'moody'"):
        async with running_simulator(simulator_quirks={"moody": True}):
            pass
    with pytest.raises(SettingsError, match="VOICEBUS_SCENARIO"):
        async with running_simulator(scenario=tmp_path / "none.json"):
            pass


async def test_a_scenario_file_decides_what_is_said(tmp_path: Path) -> None:
    path = tmp_path / "scenario.json"
    path.write_text('{"turns": [{"reply": [{"say": "Welcome."}]}]}')
    async with running_simulator(scenario=path) as simulator, connected(simulator.url) as client:
        await client.send("response.create")
        done = await client.until("response.done")
        assert done["response"]["output"][0]["content"][0]["transcript"] == "Welcome."


@pytest.mark.speech
async def test_with_speech_it_hears_picks_a_tool_and_speaks() -> None:
    pytest.importorskip("faster_whisper")
    from voicebus_services.model_simulator.speech import EspeakVoice

    voice = EspeakVoice()
    question = await voice.speak("What is the weather in Paris?")
    voice.close()
    weather = {
        "type": "function",
        "name": "get_weather",
        "description": "Get the weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }
    async with running_simulator(speech=True) as simulator, connected(simulator.url) as client:
        assert (await client.receive())["type"] == "session.created"
        detection = {"type": "server_vad", "silence_duration_ms": 500}
        await client.send(
            "session.update",
            session={"type": "realtime", "tools": [weather], "audio": {"input": {"turn_detection": detection}}},
        )
        await client.append(bytes(9600) + question + bytes(48_000))
        (call,) = (await client.until("response.done"))["response"]["output"]
        assert (call["name"], call["arguments"]) == ("get_weather", '{"city": "Paris"}')
        output = {"type": "function_call_output", "call_id": call["call_id"], "output": "sunny, 20 degrees"}
        await client.send("conversation.item.create", item=output)
        await client.send("response.create")
        (spoken,) = (await client.until("response.done"))["response"]["output"]
        assert "20 degrees" in spoken["content"][0]["transcript"]
