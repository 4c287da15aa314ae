"""Starts the model-simulator: settings to parts, the public port, the ops port, and the load of ears and voice."""

import asyncio
import importlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from pydantic import ValidationError

from voicebus.errors import SettingsError
from voicebus.runtime.lifecycle import operating, stop_event
from voicebus.telemetry.health import Health
from voicebus.telemetry.logging import get_logger
from voicebus_services.http import HttpServer, serving
from voicebus_services.model_simulator.brain import ToolPickingBrain
from voicebus_services.model_simulator.calls import Calls
from voicebus_services.model_simulator.hub import Hub
from voicebus_services.model_simulator.imitation import Imitation, imitation_when_loaded, plain_imitation
from voicebus_services.model_simulator.protocol.quirks import Quirks
from voicebus_services.model_simulator.scripted_brain import DirectedBrain, Scenario, ScriptedBrain
from voicebus_services.model_simulator.server import SimulatorApp
from voicebus_services.model_simulator.speech import EspeakVoice, SentenceMeaning, SpeechVad, WhisperEars
from voicebus_services.settings import SimulatorSettings

log = get_logger(__name__)

# One append may hold 15 MiB of audio, which base64 and JSON make larger.
_MAX_FRAME_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Simulator:
    """A running simulator. `loading` is the load of ears and voice, None where nothing is loaded."""

    server: HttpServer
    hub: Hub
    calls: Calls
    loading: "asyncio.Task[Imitation] | None"


@asynccontextmanager
async def simulating(settings: SimulatorSettings) -> AsyncIterator[Simulator]:
    """Serve the simulator's public port while the block runs.

    Raises:
        SettingsError: the port cannot be opened, the scenario file is not one, or a quirk is unknown.
    """
    scenario = Scenario.load(settings.scenario) if settings.scenario is not None else None
    quirks = _quirks(settings)
    async with AsyncExitStack() as stack:
        loading: asyncio.Task[Imitation] | None = None
        if settings.speech:
            ears, voice = WhisperEars(), EspeakVoice()
            stack.callback(ears.close)
            stack.callback(voice.close)
            loading = asyncio.create_task(_load(ears, voice, scenario), name="load-speech")
            stack.push_async_callback(_settled, loading)
            imitation = imitation_when_loaded(loading, SpeechVad)
        else:
            imitation = plain_imitation(scenario)
        hub = Hub(
            imitation,
            seed=settings.seed,
            pace=None if settings.pace == "step" else settings.pace,
            lifetime=settings.session_lifetime.total_seconds(),
            quirks=quirks,
        )
        key = settings.simulator_api_key
        calls = await stack.enter_async_context(Calls(hub).running())
        app = SimulatorApp(
            hub,
            calls,
            api_key=None if key is None else key.get_secret_value(),
            strict=settings.strict_auth,
            ledger=settings.ledger,
        )
        server = await stack.enter_async_context(
            serving(
                app,
                host=settings.http_host,
                port=settings.http_port,
                ws="websockets-sansio",
                ws_max_size=_MAX_FRAME_BYTES,
                ws_ping_interval=settings.ping_interval.total_seconds(),
                ws_ping_timeout=settings.ping_interval.total_seconds(),
            )
        )
        yield Simulator(server, hub, calls, loading)


def _quirks(settings: SimulatorSettings) -> Quirks:
    try:
        return Quirks.model_validate(dict(settings.simulator_quirks))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SettingsError(
            f"VOICEBUS_SIMULATOR_QUIRKS: {where!r} was read, but {first['msg'].lower()}; "
            f"allowed are {', '.join(Quirks.model_fields)}"
        ) from error


async def _load(ears: WhisperEars, voice: EspeakVoice, scenario: Scenario | None) -> Imitation:
    meaning = SentenceMeaning()
    try:
        # All three import it, each in a thread of its own: two at once may deadlock in the middle of it.
        await asyncio.to_thread(importlib.import_module, "numpy")
        await asyncio.gather(ears.load(), voice.load(), meaning.load())
    except ImportError as error:
        raise SettingsError(
            f"VOICEBUS_SPEECH: it is set, but {error.name} is not installed; pip install 'voicebus[speech]'"
        ) from error
    brain = ScriptedBrain(scenario) if scenario is not None else ToolPickingBrain(meaning=meaning)
    log.info("ears and voice loaded")
    return Imitation(DirectedBrain(brain), ears, voice, SpeechVad)


async def _settled(loading: "asyncio.Task[Imitation]") -> None:
    loading.cancel()
    await asyncio.wait({loading})


async def serve(settings: SimulatorSettings, *, ready: Callable[[int], None] | None = None) -> None:
    """Run the simulator until SIGTERM or SIGINT; `ready` is told the public port once it answers.

    Raises:
        SettingsError: a port cannot be opened, the scenario file is not one, or the speech extra is missing.
    """
    stop = stop_event()
    health = Health("serving")
    async with (
        operating(health, host=settings.ops_host, port=settings.ops_port),
        simulating(settings) as running,
    ):
        # Ears and voice load behind the open port: a session that needs them before waits for them.
        health.set("serving", True)
        log.info("model-simulator serving", host=settings.http_host, port=running.server.port, speech=settings.speech)
        if ready is not None:
            ready(running.server.port)
        await _until_stopped(stop, running.loading)
        health.drain()


async def _until_stopped(stop: asyncio.Event, loading: "asyncio.Task[Imitation] | None") -> None:
    """Wait for the stop; a load that fails ends the service with its reason."""
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        if loading is not None:
            await asyncio.wait({stopping, loading}, return_when=asyncio.FIRST_COMPLETED)
            if loading.done():
                await loading
        await stopping
    finally:
        stopping.cancel()
