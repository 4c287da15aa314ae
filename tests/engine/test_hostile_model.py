"""A model that sends anything: the session goes on, tells of it, and keeps only so much."""

import random
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.reachable import retained
from support.talk import Talk, agent, handoff, tool
from voicebus.engine.config import AgentSpec, Face, GuardrailMode, GuardrailSpec, HostedToolSpec, Transport
from voicebus.engine.inputs import End, ModelAudio, ModelEvent, ModelMalformed, TimerFired
from voicebus.engine.outputs import Close
from voicebus.engine.state import State

pytestmark = pytest.mark.timeout(300)

KINDS = [
    "session.created", "session.updated", "conversation.created", "error", "ping", "rate_limits.updated",
    "response.created", "response.done", "response.output_item.added", "response.output_item.done",
    "response.content_part.added", "response.content_part.done", "response.output_text.delta",
    "response.output_text.done", "response.text.delta", "response.output_audio.done",
    "response.output_audio_transcript.delta", "response.output_audio_transcript.done",
    "response.function_call_arguments.delta", "response.function_call_arguments.done",
    "conversation.item.added", "conversation.item.created", "conversation.item.done", "conversation.item.retrieved",
    "conversation.item.deleted", "conversation.item.truncated", "input_audio_buffer.committed",
    "conversation.item.input_audio_transcription.delta", "conversation.item.input_audio_transcription.updated",
    "conversation.item.input_audio_transcription.completed", "conversation.item.input_audio_transcription.failed",
    "input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped", "input_audio_buffer.timeout_triggered",
    "mcp_list_tools.completed", "response.mcp_call.completed", "output_audio_buffer.started", "something.new",
]  # fmt: skip
WORDS = [
    "", "item_1", "item_2", "resp_1", "resp_2", "call_1", "call_2", "weather", "transfer_to_billing", "message",
    "function_call", "function_call_output", "mcp_call", "mcp_approval_request", "mcp_list_tools", "assistant", "user",
    "system", "completed", "in_progress", "incomplete", "cancelled", "failed", "text", "audio", "input_text",
    "input_audio", "input_image", "output_text", "output_audio", "{}", "x" * 5000,
    "conversation_already_has_active_response", "invalid_api_key", "cannot_update_voice", "response.create",
    "session.x",
]  # fmt: skip
FIELDS = [
    "id", "item_id", "response_id", "call_id", "previous_item_id", "event_id", "type", "role", "status", "name",
    "arguments", "content", "text", "transcript", "delta", "item", "response", "session", "error", "output", "usage",
    "metadata", "code", "message", "param", "conversation_id", "status_details", "content_index", "output_index",
    "audio_end_ms", "audio", "input", "server_label", "tools", "input_token_details", "output_token_details",
    "cached_tokens_details", "text_tokens", "voice", "modalities", "turn_detection", "input_audio_format", "voicebus",
]  # fmt: skip

WORD = st.sampled_from(WORDS)
NUMBER = st.one_of(st.integers(-10, 10), st.sampled_from([10**400, -1, 2**63]), st.floats())
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBER, WORD, st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5)),
    max_leaves=12,
)
ITEM = st.fixed_dictionaries(
    {"id": WORD, "type": WORD},
    optional={
        "role": WORD, "status": WORD, "name": WORD, "call_id": WORD, "arguments": WORD, "output": JSON,
        "content": st.one_of(JSON, st.lists(st.fixed_dictionaries({"type": WORD}, optional={"text": WORD}),
        max_size=3)),
    },
)  # fmt: skip
EVENT = st.fixed_dictionaries(
    {"type": st.sampled_from(KINDS)},
    optional={
        "item_id": WORD, "response_id": WORD, "call_id": WORD, "delta": st.one_of(WORD, JSON), "transcript": WORD,
        "text": WORD, "previous_item_id": st.one_of(WORD, JSON), "content_index": st.one_of(NUMBER, JSON),
        "output_index": NUMBER, "audio_end_ms": NUMBER, "item": st.one_of(ITEM, JSON), "error": JSON, "session": JSON,
        "response": st.one_of(
            JSON,
            st.fixed_dictionaries(
                {"id": WORD}, optional={"status": WORD, "output": st.lists(ITEM, max_size=3), "metadata": JSON,
                "usage": JSON}
            ),
        ),
    },
)  # fmt: skip
ANYTHING = st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=6)
STEP = st.one_of(
    EVENT.map(ModelEvent),
    EVENT.map(ModelEvent),
    ANYTHING.map(ModelEvent),
    st.builds(ModelAudio, WORD, WORD, st.integers(-3, 3), st.integers(-3, 3), st.sampled_from([0, 1, 960, 10**9])),
    st.just(ModelMalformed("not JSON")),
    st.sampled_from(["message", "timer", "interrupt"]),
)


def everything(*, holds: bool = False) -> AgentSpec:
    mode = GuardrailMode.HOLD if holds else GuardrailMode.INTERRUPT
    return agent(
        tools=[tool("weather")],
        handoffs=[handoff("billing")],
        guardrails=[GuardrailSpec("rude", mode=mode, debounce=50)],
        hosted_tools=(HostedToolSpec("item_1", {"type": "mcp"}),),
    )


def ends_the_call(step: Any) -> bool:
    """What a server sends right before it closes the socket."""
    error = step.event.get("error") if isinstance(step, ModelEvent) else None
    return isinstance(error, Mapping) and error.get("code") == "session_expired"


@pytest.mark.parametrize("holds", [False, True])
@pytest.mark.parametrize(
    ("face", "transport"),
    [(Face.NATIVE, Transport.WIRE), (Face.OPENAI, Transport.WIRE), (Face.NATIVE, Transport.EVENTS)],
)
@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=60)
@given(steps=st.lists(STEP, max_size=40))
def test_no_event_of_a_model_ends_the_call_or_goes_unanswered(
    face: Face, transport: Transport, holds: bool, steps: list[Any]
) -> None:
    talk = Talk(everything(holds=holds), face=face, transport=transport, raw_events=True, dead_air_ms=0)
    if transport is Transport.WIRE:
        talk.live()
    for step in steps:
        if step == "message":
            talk.asks()
        elif step == "interrupt":
            talk.client("response.cancel") if face is Face.OPENAI else talk.put(_interrupt())
        elif step == "timer":
            if talk.timers():
                key = min(talk.timers(), key=lambda key: talk.timers()[key])
                talk.timer(key)
        elif not ends_the_call(step):
            talk.put(step, after=0.01)
        assert talk.session.state is State.LIVE
        assert not talk.of(Close, talk.last)
    talk.put(End("hangup"))
    assert isinstance(talk.last[-1], Close)


@pytest.mark.parametrize("face", list(Face))
@pytest.mark.parametrize("kind", ["conversation.item.added", "conversation.item.created", "conversation.item.done"])
def test_an_item_that_is_said_to_follow_itself_is_the_last(face: Face, kind: str) -> None:
    talk = Talk(agent(), face=face).live()
    for item_id in ("item_1", "item_2"):
        content = [{"type": "input_text", "text": item_id}]
        item = {"id": item_id, "type": "message", "role": "user", "content": content}
        talk.model(kind, item=item, previous_item_id=item_id)
    assert talk.session.state is State.LIVE
    assert [item["item_id"] for item in talk.session.history] == ["item_1", "item_2"]
    talk.put(End("ended"))
    assert [text for _, text, *_ in talk.lines()] == ["item_1", "item_2"]


def _interrupt() -> Any:
    from voicebus.engine.inputs import Interrupt

    return Interrupt()


@settings(deadline=None, max_examples=60)
@given(steps=st.lists(EVENT.map(ModelEvent), max_size=10))
def test_before_its_settings_are_confirmed_a_model_may_send_anything_but_their_refusal(steps: list[Any]) -> None:
    talk = Talk(everything())
    for step in steps:
        if not (ends_the_call(step) or "error" in step.event):
            talk.put(step)
            assert talk.session.state is not State.CLOSED


# --- memory -------------------------------------------------------------------------------------------

MEGABYTE = 1_000_000
LONG = 20_000


def flood(kind: str, number: int, chance: random.Random) -> dict[str, Any]:
    """One event of its kind about something new, with as much text as fits."""
    text = chr(97 + number % 26) * LONG + str(number)
    ids = {"item_id": f"item_{number}", "response_id": f"resp_{number // 20}", "call_id": f"call_{number}"}
    name = chance.choice(["weather", "transfer_to_billing", "nothing", text])
    item = {
        "id": f"item_{number}", "type": chance.choice(["message", "function_call", "function_call_output", "mcp_call"]),
        "role": chance.choice(["assistant", "user", "system"]), "status": chance.choice(["in_progress", "completed",
        ""]),
        "content": [{"type": chance.choice(["text", "output_audio", "input_text", "input_audio"]), "text": text}] * 3,
        "call_id": f"call_{number}", "name": name, "arguments": text,
    }  # fmt: skip
    response = {"id": f"resp_{number}", "status": "completed", "output": [item], "metadata": {"a": text}}
    return {
        "type": kind, **ids, "delta": text, "transcript": text, "text": text, "item": item, "response": response,
        "session": {f"key_{number}": text, "audio": {"input": {f"key_{number}": text}}},
        "previous_item_id": f"item_{number - 1}",
        "error": {"code": text, "message": text, "event_id": f"event_{number}"}, "content_index": number % 100,
    }  # fmt: skip


@pytest.mark.parametrize("face", Face)
@pytest.mark.parametrize("kind", [*KINDS, "all of them", "audio"])
def test_what_is_kept_of_a_flood_is_bounded(kind: str, face: Face) -> None:
    talk = Talk(agent(tools=[tool("weather", timeout_ms=10**9)]), face=face)
    talk.live()
    chance = random.Random(7)
    sizes = []
    for number in range(3000):
        chosen = chance.choice(KINDS) if kind == "all of them" else kind
        event = flood(chosen, number, chance)
        step = ModelAudio(event["response_id"], event["item_id"], 0, 0, 10**6) if kind == "audio" else ModelEvent(event)
        talk.session.handle(step, 100.0 + number * 0.001)
        if number in (1499, 2999):
            sizes.append(retained(talk.session))
    assert talk.session.state is State.LIVE
    assert sizes[-1] < 50 * MEGABYTE
    assert sizes[1] < sizes[0] * 2 + MEGABYTE, "it goes on growing"


@pytest.mark.parametrize("face", Face)
def test_one_answer_without_end_is_kept_in_part(face: Face) -> None:
    talk = Talk(everything(), face=face).live()
    talk.model("response.created", response={"id": "resp_1"})
    for number in range(2000):
        delta = {
            "type": "response.output_text.delta",
            "response_id": "resp_1",
            "item_id": "item_a",
            "delta": "x" * LONG,
        }
        talk.session.handle(ModelEvent(delta), 100.0 + number * 0.01)
    assert retained(talk.session) < 50 * MEGABYTE
    assert talk.session.state is State.LIVE


def test_timers_that_fire_are_not_kept() -> None:
    talk = Talk(agent(tools=[tool("weather", timeout_ms=1)])).live()
    talk.model("response.created", response={"id": "resp_1"})
    for number in range(300):
        talk.calls(call=f"call_{number}")
        talk.put(TimerFired(f"call:call_{number}"))
    assert len(talk.session._out._timers) < 10


def test_an_event_whose_type_is_no_text_is_shown_to_nobody() -> None:
    talk = Talk(everything(), face=Face.OPENAI).live()
    talk.model([])  # type: ignore[arg-type]
    assert talk.session.state is State.LIVE
