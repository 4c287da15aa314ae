"""Everything that imitates the model behind the protocol, in one bundle, and the cache of what the voice has said."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable
from dataclasses import dataclass

from voicebus_services.model_simulator.brain import ToolPickingBrain
from voicebus_services.model_simulator.brains import (
    Brain,
    BrainContext,
    BrainReply,
    DetectorFactory,
    Ears,
    Voice,
)
from voicebus_services.model_simulator.protocol.audio import base64_text, bytes_per_ms, from_pcm16_24k
from voicebus_services.model_simulator.protocol.input_buffer import EnergyDetector
from voicebus_services.model_simulator.protocol.responses import Chunk, Utterance
from voicebus_services.model_simulator.scripted_brain import DirectedBrain, Scenario, ScriptedBrain
from voicebus_services.model_simulator.tape import TapeEars, TapeVoice

CHUNK_MS = 100
_CACHE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Imitation:
    """The parts of one simulated model; every session shares them, only detectors are made per session."""

    brain: Brain
    ears: Ears
    voice: Voice
    detector: DetectorFactory


def plain_imitation(scenario: Scenario | None = None) -> Imitation:
    """The model without the speech extra: tapes to hear and speak; a script, the session's tools or an echo answer."""
    brain = ScriptedBrain(scenario) if scenario is not None else ToolsOrEcho()
    return Imitation(DirectedBrain(brain), TapeEars(), TapeVoice(), EnergyDetector)


class ToolsOrEcho:
    """Answers from the session's tools; repeats what it was told where the session has none."""

    def __init__(self) -> None:
        self._tools = ToolPickingBrain()
        self._echo = ScriptedBrain()

    async def respond(self, context: BrainContext) -> BrainReply:
        return await (self._tools if context.tools else self._echo).respond(context)


def imitation_when_loaded(loading: Awaitable[Imitation], detector: DetectorFactory) -> Imitation:
    """Parts that wait for `loading` when they are first needed, so that the port can answer before."""
    loaded: asyncio.Future[Imitation] = asyncio.ensure_future(loading)
    later = _WhenLoaded(loaded)
    return Imitation(later, later, later, detector)


class _WhenLoaded:
    """Brain, ears and voice of an imitation that is still loading. A waiter's cancellation leaves the load alone."""

    def __init__(self, loaded: "asyncio.Future[Imitation]") -> None:
        self._loaded = loaded

    async def respond(self, context: BrainContext) -> BrainReply:
        return await (await asyncio.shield(self._loaded)).brain.respond(context)

    async def transcribe(self, pcm16_24k: bytes) -> str:
        return await (await asyncio.shield(self._loaded)).ears.transcribe(pcm16_24k)

    async def speak(self, text: str) -> bytes:
        return await (await asyncio.shield(self._loaded)).voice.speak(text)


class Utterances:
    """What the voice says, made and cut into deltas once per text and wire format; the least recently said goes."""

    def __init__(self, voice: Voice) -> None:
        self._voice = voice
        self._made: OrderedDict[tuple[str, str], Utterance] = OrderedDict()
        self._bytes = 0

    async def utterance(self, text: str, audio_format: str) -> Utterance:
        key = (text, audio_format)
        found = self._made.get(key)
        if found is None:
            found = _cut(from_pcm16_24k(await self._voice.speak(text), audio_format), audio_format)
            self._bytes += 0 if key in self._made else len(found.data)
            self._made[key] = found
            while self._bytes > _CACHE_BYTES and len(self._made) > 1:
                self._bytes -= len(self._made.popitem(last=False)[1].data)
        if key in self._made:
            self._made.move_to_end(key)
        return found


def _cut(data: bytes, audio_format: str) -> Utterance:
    per_ms = bytes_per_ms(audio_format)
    size = CHUNK_MS * per_ms
    pieces = (data[start : start + size] for start in range(0, len(data), size))
    chunks = tuple(Chunk(base64_text(piece), len(piece), len(piece) / per_ms) for piece in pieces)
    return Utterance(audio_format, data, chunks, len(data) / per_ms)
