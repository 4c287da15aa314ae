"""A simulated session on the bench: no loop, no socket, a clock that stands still until it is told."""

import base64
import json
from collections.abc import Sequence
from typing import Any

import msgspec

from voicebus_services.model_simulator import tape
from voicebus_services.model_simulator.brains import Call, Output, Say
from voicebus_services.model_simulator.imitation import _cut
from voicebus_services.model_simulator.protocol.audio import from_pcm16_24k, to_pcm16_24k
from voicebus_services.model_simulator.protocol.ids import Ids
from voicebus_services.model_simulator.protocol.input_buffer import EnergyDetector
from voicebus_services.model_simulator.protocol.responder import Think
from voicebus_services.model_simulator.protocol.responses import ResponseRun
from voicebus_services.model_simulator.protocol.session import Listen, SimulatedSession

JsonObject = dict[str, Any]

MANUAL = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}
TEXT = {"type": "realtime", "output_modalities": ["text"]}


def silence(ms: int) -> bytes:
    return bytes(48 * ms)


def speech(ms: int) -> bytes:
    """Sound well above the threshold that carries no words; `ms` must be a multiple of 30."""
    symbol = tape.record("")[: 30 * 48]
    return symbol * (ms // 30)


class Bench:
    """Sends client events and gives back the server events each caused."""

    def __init__(self, *, seed: int = 1, **options: Any) -> None:
        self.now = 1000.0
        self.session = SimulatedSession(ids=Ids(seed, 0), clock=lambda: self.now, detector=EnergyDetector, **options)
        self.all: list[JsonObject] = []

    def taken(self) -> list[JsonObject]:
        events, self.session.events = self.session.events, []
        # What goes over the wire is JSON made at this moment.
        events = [json.loads(msgspec.json.encode(event)) for event in events]
        self.all += events
        return events

    def send(self, event_type: str, **fields: Any) -> list[JsonObject]:
        return self.raw(json.dumps({"type": event_type, **fields}))

    def raw(self, frame: str) -> list[JsonObject]:
        self.session.handle(frame)
        return self.taken()

    def append(self, audio: bytes, frame: int = 960) -> list[JsonObject]:
        events: list[JsonObject] = []
        for start in range(0, len(audio), frame):
            data = base64.b64encode(audio[start : start + frame]).decode()
            events += self.send("input_audio_buffer.append", audio=data)
        return events

    def update(self, **session: Any) -> list[JsonObject]:
        return self.send("session.update", session={"type": "realtime", **session})

    def write(self, text: str = "hi", **fields: Any) -> list[JsonObject]:
        content = [{"type": "input_text", "text": text}]
        return self.send(
            "conversation.item.create", item={"type": "message", "role": "user", "content": content}, **fields
        )

    def tick(self, seconds: float) -> list[JsonObject]:
        self.now += seconds
        self.session.tick()
        return self.taken()

    def listen(self) -> list[JsonObject]:
        """Report what is in the audio that waits to be heard."""
        for work in [work for work in self.session.work if isinstance(work, Listen)]:
            self.session.work.remove(work)
            self.session.heard(work, tape.play_back(to_pcm16_24k(work.audio, work.format)))
        return self.taken()

    def run(self) -> ResponseRun:
        """The oldest response that waits for the model, announced."""
        work = next(work for work in self.session.work if isinstance(work, Think))
        self.session.work.remove(work)
        self.session.responder.announce(work.run)
        return work.run

    def begin(self, run: ResponseRun, output: Output) -> None:
        utterance = None
        if isinstance(output, Say) and run.settings.modality == "audio":
            audio_format = run.settings.format["type"]
            utterance = _cut(from_pcm16_24k(tape.record(output.text), audio_format), audio_format)
        run.begin(output, utterance)

    def partly(self, output: Output, steps: int = 2) -> ResponseRun:
        """Answer, but stop after some pieces."""
        run = self.run()
        self.begin(run, output)
        for _ in range(steps):
            run.step()
        self.taken()
        return run

    def answer(self, *outputs: Output) -> list[JsonObject]:
        """Let the model answer the oldest open response completely."""
        run = self.run()
        for output in outputs:
            self.begin(run, output)
            while run.step() is not None:
                pass
            if run.cut:
                break
        self.session.responder.complete(run)
        return self.taken()

    def respond(self, *outputs: Output, **response: Any) -> list[JsonObject]:
        """`response.create`, then a complete answer."""
        events = self.send("response.create", response=response)
        return events + self.answer(*outputs)


def types(events: Sequence[JsonObject]) -> list[str]:
    return [event["type"] for event in events]


def only(events: Sequence[JsonObject], event_type: str) -> JsonObject:
    """The one event of this type."""
    found = [event for event in events if event["type"] == event_type]
    assert len(found) == 1, f"{len(found)} {event_type} in {types(events)}"
    return found[0]


def error(events: Sequence[JsonObject]) -> JsonObject:
    """The error that is the only event."""
    assert types(events) == ["error"]
    body: JsonObject = events[0]["error"]
    return body


def joined(events: Sequence[JsonObject], event_type: str) -> str:
    """The deltas of this type put together."""
    return "".join(event["delta"] for event in events if event["type"] == event_type)


__all__ = ["MANUAL", "TEXT", "Bench", "Call", "Say", "error", "joined", "only", "silence", "speech", "types"]
