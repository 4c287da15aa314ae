"""Text that passes the whole parsing by is shown as if each frame had been parsed: random and hostile ones alike."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from types import SimpleNamespace
from typing import Any, Final, cast
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicebus.agents.agent import RealtimeAgent
from voicebus.agents.context import RunContextWrapper
from voicebus.agents.events import RealtimeError, RealtimeEventInfo
from voicebus.agents.local.broadcast import Broadcast
from voicebus.agents.local.face import EventFace
from voicebus.agents.local.showing import Showing
from voicebus.agents.local.tap import WireTap
from voicebus.engine.config import AgentSpec, Face, GuardrailMode, GuardrailSpec, SessionConfig
from voicebus.engine.session import Session
from voicebus.ports import SessionRef
from voicebus.runtime import frames
from voicebus.runtime.driver import SessionDriver
from voicebus.runtime.surroundings import Bus

DESK: Final = RealtimeAgent[Any]("desk")
WHERE: Final[dict[str, Any]] = {"response_id": "r1", "item_id": "i1", "output_index": 0, "content_index": 0}
SPOKEN: Final = "response.output_audio_transcript.delta"
WRITTEN: Final = "response.output_text.delta"
MESSAGE: Final[dict[str, Any]] = {"id": "i1", "type": "message", "role": "assistant", "content": []}
BEGIN: Final[tuple[dict[str, Any], ...]] = (
    {"type": "session.created", "session": {"id": "s"}},
    {"type": "session.updated", "session": {}},
    {"type": "response.created", "response": {"id": "r1", "status": "in_progress"}},
)


class World:
    """Every port; nothing leads anywhere, and the time is as it is set."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def at_ms(self) -> int:
        return 1000

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *about, **more: self.asked.append((name, repr(about[1:]), more))


class Listeners:
    def __init__(self, *, anybody: bool) -> None:
        self.listeners: Sequence[object] = [object()] if anybody else []
        self.heard: list[Any] = []

    def publish(self, event: Any) -> None:
        self.heard.append(as_told(event))


def as_told(value: Any) -> Any:
    """Everything about an event, with the types of its values, but for the order of the fields of JSON objects."""
    if is_dataclass(value) and not isinstance(value, type):
        told = [(entry.name, as_told(getattr(value, entry.name))) for entry in fields(value) if entry.name != "info"]
        return (type(value).__name__, told)
    if isinstance(value, dict):
        return sorted((key, as_told(one)) for key, one in value.items())
    return [as_told(one) for one in value] if isinstance(value, list) else repr(value)


async def shown(given: Sequence[bytes], *, parsed: bool, guarded: bool, listened: bool) -> tuple[list[Any], ...]:
    """What a session shows of these frames, what its listeners hear, and what it asks of the world."""
    world, info = World(), RealtimeEventInfo(RunContextWrapper(None))
    names = SimpleNamespace(agent=lambda name: DESK, tool=lambda *_: None, guardrail=lambda *_: None)
    hooks = SimpleNamespace(agent_start=lambda *_: None, agent_end=lambda *_: None)
    broadcast = Broadcast(dropped=lambda count: RealtimeError(count, info))
    showing = Showing(
        cast("Any", names), info, cast("Any", hooks), cast("Any", None), cast("Any", None), current=DESK, snapshot=1
    )
    listeners = Listeners(anybody=listened)
    face = EventFace(broadcast, showing, listeners=listeners)
    rules = (GuardrailSpec("a", debounce=7), GuardrailSpec("b", GuardrailMode.INTERRUPT, debounce=3)) if guarded else ()
    config = SessionConfig("S", Face.NATIVE, AgentSpec("desk", guardrails=rules), "m")
    port = cast("Any", world)
    driver = SessionDriver(
        Session(config, now=0.0), config, SessionRef("S", 1), Bus(port, port, port, port, port), face, author=port,
        tap=WireTap(face, showing, info.context, is_over=lambda: False),
    )  # fmt: skip
    driver.start()
    for event in BEGIN:
        driver.model_frame(json.dumps(event).encode())
    read = (lambda frame: None) if parsed else frames.read_text_delta
    with patch.object(frames, "read_text_delta", read):
        for frame in given:
            world.now += 0.01
            driver.model_frame(frame)
    driver._timers.clear()
    broadcast.end()
    return [as_told(event) async for event in broadcast], listeners.heard, world.asked


odd: Final[st.SearchStrategy[Any]] = st.sampled_from(
    [None, True, False, 0, 0.0, 1, -1, 2**70, "", "r2", "i2", [], {}, {"a": [1]}, "x" * 600]
)
words = st.one_of(
    st.sampled_from(["word ", "", 'transcript.delta"', "\u00e9\u4e2d", 'a"b\\c\n', "\U0001f600"]), st.text()
)


@st.composite
def delta_frames(draw: Any) -> bytes:
    """Mostly what servers send; often with something about it that is not."""
    event: dict[str, Any] = {"type": SPOKEN, "event_id": "e1", **WHERE, "delta": draw(words)}
    if draw(st.booleans()):
        event["type"] = draw(st.sampled_from([WRITTEN, "response.text.delta", "response.audio_transcript.delta", "x"]))
    for name in draw(st.lists(st.sampled_from([*event, "logprobs", "obfuscation"]), max_size=2)):
        if draw(st.booleans()):
            event.pop(name, None)
        else:
            event[name] = draw(odd)
    order = draw(st.permutations(list(event))) if draw(st.booleans()) else list(event)
    ascii_only = draw(st.booleans())
    parts = [f"{json.dumps(name)}:{json.dumps(event[name], ensure_ascii=ascii_only)}" for name in order]
    if draw(st.integers(0, 9)) == 0:  # a key that stands twice
        name = draw(st.sampled_from(order or ["type"]))
        parts.append(f"{json.dumps(name)}:{json.dumps(draw(odd))}")
    frame = "{" + draw(st.sampled_from([",", ", ", ",\n"])).join(parts) + "}"
    encoded: bytes = frame.encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 19)) == 0:
        place = draw(st.integers(0, len(encoded)))
        encoded = (
            encoded[:place]
            + draw(st.sampled_from([b"", b"\xff", b"}", b'"', b"\\u0074", b"\x00"]))
            + encoded[place + 1 :]
        )
    return encoded


AROUND: Final = st.sampled_from(
    [
        {"type": "response.output_audio.delta", "event_id": "e", **WHERE, "delta": "AAAA"},
        {"type": "response.output_audio_transcript.done", **WHERE, "transcript": "word word"},
        {"type": "response.output_item.added", "response_id": "r1", "item": MESSAGE},
        {"type": "input_audio_buffer.speech_started", "item_id": "u1", "audio_start_ms": 0},
        {"type": "response.output_audio.done", **WHERE},
        {"type": "response.done", "response": {"id": "r1", "status": "completed", "output": []}},
        {"type": "response.created", "response": {"id": "r2", "status": "in_progress"}},
        {"type": "error", "error": {"type": "server_error", "message": "no"}},
    ]
).map(lambda event: json.dumps(event).encode())  # fmt: skip


@given(st.lists(st.one_of(delta_frames(), delta_frames(), AROUND), max_size=12), st.booleans(), st.booleans())
def test_text_is_shown_as_if_each_frame_had_been_parsed_whole(
    given: list[bytes], guarded: bool, listened: bool
) -> None:
    async def both() -> None:
        quick = await shown(given, parsed=False, guarded=guarded, listened=listened)
        whole = await shown(given, parsed=True, guarded=guarded, listened=listened)
        assert quick == whole

    asyncio.run(both())


@pytest.mark.parametrize("kind", [SPOKEN, WRITTEN])
async def test_text_that_goes_on_is_not_parsed_whole_and_has_its_three_events(kind: str) -> None:
    frame = json.dumps({"type": kind, "event_id": "e1", **WHERE, "delta": "word "}).encode()
    with patch.object(frames, "parse_event", wraps=frames.parse_event) as parse:
        events, _, _ = await shown([frame] * 5, parsed=False, guarded=False, listened=False)
    assert parse.call_count == len(BEGIN) + 1
    names = [name for name, _ in events]
    assert names[-15:] == ["RealtimeRawModelEvent", "RealtimeRawModelEvent", "RealtimeTranscriptDelta"] * 5
    (_, last) = events[-1]
    assert ("text", repr("word " * 5)) in last
