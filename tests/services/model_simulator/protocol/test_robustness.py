"""Whatever a client sends, the session answers with an error and goes on."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from services.model_simulator.bench import Bench, Say, only, types
from voicebus_services.model_simulator.protocol.client_events import SHAPES

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20)
)
# Words of the protocol, so that shapes are entered and not refused at the door.
words = st.sampled_from(
    [
        "realtime", "transcription", "message", "function_call", "function_call_output",
        "item_reference", "user", "system", "assistant", "input_text", "input_audio", "output_text",
        "server_vad", "semantic_vad", "audio/pcm", "audio/pcmu", "auto", "none", "inf", "root",
        "AAAA", "i1", "text", "audio", "function", "whisper-1",
    ]
)  # fmt: skip
keys = st.sampled_from(
    [
        "type", "event_id", "session", "item", "response", "item_id", "audio", "id", "role",
        "content", "text", "call_id", "name", "arguments", "output", "input", "format", "rate",
        "turn_detection", "transcription", "voice", "tools", "tool_choice", "instructions",
        "output_modalities", "max_output_tokens", "metadata", "conversation", "content_index",
        "audio_end_ms", "previous_item_id", "response_id", "threshold", "silence_duration_ms",
        "prefix_padding_ms", "model", "create_response", "status", "object", "tracing",
        "truncation", "include", "speed",
    ]
)  # fmt: skip
values = st.recursive(
    scalars | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys | st.text(max_size=8), inner, max_size=6),
    max_leaves=20,
)
events = st.fixed_dictionaries(
    {"type": st.sampled_from(sorted(SHAPES))},
    optional={
        "event_id": st.text(max_size=10),
        "session": st.dictionaries(keys, values, max_size=5).map(lambda given: {"type": "realtime", **given}),
        "item": st.dictionaries(keys, values, max_size=5).map(
            lambda given: {"type": "message", "role": "user", "content": [], **given}
        ),
        "response": st.dictionaries(keys, values, max_size=4),
        "audio": st.sampled_from(["", "AAAA", "A", "zzzz"]) | values,
        "item_id": words | values,
        "content_index": st.integers(-1, 2) | values,
        "audio_end_ms": st.integers(-1, 2000) | values,
        "previous_item_id": words | values,
        "response_id": words | values,
    },
)


def goes_on(bench: Bench) -> None:
    """Ends what runs, then holds a plain turn."""
    session = bench.session
    if session.responder.active is not None:
        bench.send("response.cancel")
    session.work.clear()
    answered = bench.respond(Say("I am still here"), output_modalities=["text"], max_output_tokens="inf")
    assert only(answered, "response.done")["response"]["status"] == "completed"


@given(st.lists(events, min_size=1, max_size=8))
@settings(deadline=None, max_examples=80)
def test_events_of_any_content_are_obeyed_or_refused_and_the_session_goes_on(
    given_events: list[dict[str, Any]],
) -> None:
    bench = Bench()
    for event in given_events:
        answers = bench.raw(json.dumps(event))
        if "error" in types(answers):
            assert types(answers) == ["error"]
            given_id = event.get("event_id")
            assert answers[0]["error"]["event_id"] == given_id
    goes_on(bench)


@given(st.text(max_size=200) | values.map(json.dumps))
@settings(deadline=None, max_examples=80)
def test_frames_of_any_text_are_one_error_or_obeyed(frame: str) -> None:
    bench = Bench()
    answers = bench.raw(frame)
    assert types(answers) == ["error"]
    goes_on(bench)


def test_json_nested_without_end_is_refused() -> None:
    bench = Bench()
    for frame in ('{"type":' + "[" * 100_000, '{"type":"session.update","session":' + '{"a":' * 500 + "1" + "}" * 501):
        assert types(bench.raw(frame)) == ["error"]
    deep: Any = "x"
    for _ in range(100):
        deep = {"a": deep}
    tool = {"type": "function", "name": "a", "parameters": deep}
    assert types(bench.update(tools=[tool])) == ["error"]
    goes_on(bench)


def test_lone_surrogates_and_nul_are_carried_without_harm() -> None:
    bench = Bench()
    bench.raw(
        '{"type":"conversation.item.create","item":{"type":"message","role":"user","content":[{"type":"input_text","text":"\\u0000"}]}}'
    )
    bench.raw('{"type":"no\\ud800pe"}')
    goes_on(bench)


def test_numbers_and_characters_that_json_can_hardly_carry_do_not_end_the_session() -> None:
    bench = Bench()
    for number in ("1e999", "-1e999", str(2**64), str(-(2**63) - 1), "1" * 400):
        tool = f'{{"type":"function","name":"a","parameters":{{"maximum":{number}}}}}'
        bench.raw(f'{{"type":"session.update","session":{{"type":"realtime","tools":[{tool}]}}}}')
    for text in ("\\ud800", "\\udc00\\ud800", "\\uffff"):
        content = f'[{{"type":"input_text","text":"{text}"}}]'
        bench.raw(
            f'{{"type":"conversation.item.create","item":{{"type":"message","role":"user","content":{content}}}}}'
        )
    goes_on(bench)
