"""Frames of the protocol: what is recognised without a full parse, and what is refused."""

import base64
import contextlib
import json
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicebus.runtime import frames
from voicebus.runtime.frames import (
    Append,
    AppendReader,
    DeltaReader,
    append_frame,
    check_values,
    dump_event,
    event_of,
    parse_event,
    parse_model_event,
    read_append,
    read_audio_delta,
)

DELTA: dict[str, Any] = {
    "type": "response.output_audio.delta",
    "event_id": "event_1",
    "response_id": "r",
    "item_id": "i",
    "output_index": 1,
    "content_index": 2,
    "delta": "AAEC",
}


@given(st.binary(max_size=300), st.permutations(list(DELTA)), st.booleans())
def test_an_audio_delta_is_read_whatever_the_order_of_its_fields(
    samples: bytes, order: list[str], spaced: bool
) -> None:
    event = DELTA | {"delta": base64.b64encode(samples).decode(), "obfuscation": '"audio.delta"'}
    separators = (", ", ": ") if spaced else (",", ":")
    frame = json.dumps({name: event[name] for name in [*order, "obfuscation"]}, separators=separators).encode()
    delta = read_audio_delta(frame)
    assert delta is not None
    assert (delta.response_id, delta.item_id, delta.output_index, delta.content_index) == ("r", "i", 1, 2)
    assert delta.samples == samples
    assert delta.text == event["delta"].encode()
    assert event_of(delta)["delta"] == event["delta"]


def test_a_frame_is_decoded_once_wherever_its_samples_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[bytes] = []

    def decode(frame: bytes) -> frames.AudioDelta:
        decoded.append(frame)
        return msgspec.json.decode(frame, type=frames.AudioDelta)

    monkeypatch.setattr(frames, "_decode_delta", decode)
    fields = {"type": "response.output_audio.delta", "response_id": "r", "item_id": "i"}
    for event in ({**fields, "delta": "AAAA"}, {"delta": "AAAA", **fields}):
        assert (read_audio_delta(json.dumps(event).encode()) or DELTA) is not DELTA
    assert len(decoded) == 2


def test_the_delta_of_an_older_server_is_read_too() -> None:
    event = DELTA | {"type": "response.audio.delta"}
    del event["output_index"], event["content_index"]
    delta = read_audio_delta(json.dumps(event).encode())
    assert delta is not None
    assert (delta.output_index, delta.content_index) == (0, 0)


@pytest.mark.parametrize(
    "kind",
    [*sorted(frames.AUDIO_TYPES), "response.output_audio_transcript.delta", "response.output_text.delta"],
)
def test_the_mark_of_deltas_stands_in_each_that_is_read(kind: str) -> None:
    where = {"response_id": "r", "item_id": "i", "output_index": 0, "content_index": 0}
    frame = json.dumps({"type": kind, **where, "delta": "aGk="}).encode()
    assert frames.read_audio_delta(frame) or frames.read_text_delta(frame)
    assert frames.DELTA_MARK in frame


def test_a_delta_whose_slashes_are_escaped_is_read() -> None:
    frame = json.dumps(DELTA | {"delta": "//8="}).replace("/", "\\/").encode()
    delta = read_audio_delta(frame)
    assert delta is not None
    assert delta.samples == b"\xff\xff"


@pytest.mark.parametrize(
    "change",
    [
        {"type": "response.output_audio_transcript.delta"},
        {"type": "response.output_text.delta", "delta": 'he said "response.output_audio.delta"'},
        {"delta": "not base64"},
        {"delta": 'AA"A'},
        {"delta": "AAÄA"},
        {"delta": None},
        {"response_id": 5},
    ],
)
def test_anything_else_is_no_audio_delta(change: dict[str, Any]) -> None:
    assert read_audio_delta(json.dumps(DELTA | change).encode()) is None
    assert read_audio_delta(json.dumps(DELTA | change, ensure_ascii=False).encode()) is None


@given(st.binary(max_size=400) | st.text(max_size=400).map(str.encode))
def test_no_bytes_at_all_raise_anything_unexpected(frame: bytes) -> None:
    for tail in (b"", b'audio.delta"', b"input_audio_buffer.append"):
        read_audio_delta(frame + tail)
        read_append(frame + tail)
        with contextlib.suppress(ValueError):
            parse_event(frame + tail)


@pytest.mark.parametrize(
    "frame", [b"[]", b"1", b"null", b"", b"{", b'{"a": NaN}', b'{"a": "\\ud800"}', b'{"a": "\xff"}']
)
def test_what_is_not_one_strict_json_object_is_refused_with_a_sentence(frame: bytes) -> None:
    with pytest.raises(ValueError, match=r"JSON"):
        parse_event(frame)


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (b'["\\ud800"]', "one JSON object"),
        (b'{"a": "\\ud800"', "not valid JSON"),
        (b'{"a": "\xff"}', "not valid JSON"),
        (b'{"a": "\\ud800", "b":' + b"[" * 100_000, "JSON"),
    ],
    ids=["no object", "cut off", "no UTF-8", "nested too deeply"],
)
def test_of_a_model_half_a_surrogate_pair_is_read_as_a_mark_and_nothing_else_is(frame: bytes, why: str) -> None:
    assert parse_model_event(rb'{"\uDC00": ["so \ud83d", "\ud83d\ude00"]}') == {"?": ["so ?", "\U0001f600"]}
    with pytest.raises(ValueError, match=why):
        parse_model_event(frame)


def test_nesting_beyond_reason_is_refused() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_event(b'{"a":' + b"[" * 100_000)


@pytest.mark.parametrize("refuses", [check_values, parse_model_event])
@pytest.mark.parametrize("values", [b"{},", b"[[1]],", b'"a",'])
def test_a_frame_of_more_values_than_any_event_has_is_refused_before_it_is_read(
    values: bytes, refuses: Callable[[bytes], object]
) -> None:
    with pytest.raises(ValueError, match="more than 250,000 values"):
        refuses(b'{"type":"x","a":[' + values * 300_000 + b"1]}")


@pytest.mark.parametrize("text", ["a", "one, two, three and "])
def test_long_texts_are_no_values(text: str) -> None:
    check_values(dump_event({"type": "x", "text": text * 100_000, "more": [1, 2, 3]}))


def test_a_delta_of_audio_with_nesting_beyond_reason_is_none_that_can_be_read() -> None:
    nested = b'{"a":' * 5000 + b"1" + b"}" * 5000
    frame = b'{"type":"response.output_audio.delta","response_id":"r","item_id":"i","output_index":0,"content_index":0'
    assert read_audio_delta(frame + b',"more":' + nested + b',"delta":"AAAA"}') is None


def test_an_append_is_rebuilt_around_its_audio() -> None:
    append = read_append(b'{"audio": "AAEC", "type": "input_audio_buffer.append", "event_id": "e\\"1"}')
    assert append is not None
    assert json.loads(append.frame) == {"type": "input_audio_buffer.append", "event_id": 'e"1', "audio": "AAEC"}
    assert append.size == 3
    assert append_frame("AAEC") == b'{"type":"input_audio_buffer.append","audio":"AAEC"}'


@given(st.lists(st.binary(max_size=300), min_size=2, max_size=4), st.permutations(["type", "audio"]), st.booleans())
def test_the_appends_of_a_client_are_read_alike_however_it_writes_them(
    parts: list[bytes], order: list[str], spaced: bool
) -> None:
    read = AppendReader()
    for samples in parts:
        fields = {"type": "input_audio_buffer.append", "audio": base64.b64encode(samples).decode()}
        frame = json.dumps({name: fields[name] for name in order}, separators=(", ", ": ") if spaced else (",", ":"))
        append = read(frame.encode())
        assert append == Append(append_frame(fields["audio"]), len(samples))


@pytest.mark.parametrize(
    "tail",
    [
        b'AAEC","type":"session.update"}',
        b'AAEC","event_id":"e"}',
        b'","audio":"AAEC"}',
        b'AA\\/C"}',
        b'AAE"}',
        b'AAEC"',
        b'AAEC"} ',
        b'\xc3\xa4AEC"}',
        b"}",
    ],
)
@pytest.mark.parametrize(
    "head",
    [b'{"type":"input_audio_buffer.append","audio":"', b'{ "type": "input_audio_buffer.append", "audio": "'],
)
def test_a_frame_that_begins_like_the_last_append_is_read_for_what_it_is(head: bytes, tail: bytes) -> None:
    read = AppendReader()
    assert read(head + b'AAEC"}') == Append(append_frame("AAEC"), 3)
    assert read(head + tail) == read_append(head + tail)


def as_known(frame: bytes, known: bytes) -> frames.AudioDelta | None:
    """The frame as one reads it who has read `known` before."""
    read = DeltaReader()
    read(known)
    return read(frame)


@given(
    st.permutations([*DELTA, "audio.delta", "event_id_"]), st.permutations([*DELTA, "obfuscation"]),
    st.sampled_from(["event_1", "", "a-b_C9", 'a"b', "ä", "\\", "with space"]), st.booleans(),
    st.sampled_from(["", "AAEC", "//8=", "no base64", "AA", 'A","x":"AAAA']),
)  # fmt: skip
def test_a_delta_is_read_alike_by_who_has_read_another_before(
    one: list[str], other: list[str], event_id: str, spaced: bool, text: str
) -> None:
    separators = (", ", ": ") if spaced else (",", ":")

    def frame(order: list[str], **change: Any) -> bytes:
        event = DELTA | change
        return json.dumps({name: event.get(name, "x") for name in order}, separators=separators).encode()

    known = frame(one)
    for order in (one, other):
        for change in ({}, {"type": "response.output_audio.deltaAAAA"}, {"item_id": "another"}, {"event_id": None}):
            given = frame(order, **{"event_id": event_id, "delta": text, **change})
            assert as_known(given, known) == read_audio_delta(given)


@pytest.mark.parametrize(
    "known",
    [
        b'{"type":"response.output_audio.delta","response_id":"r","item_id":"i","event_id":"e","x":{"event_id":"e"},"delta":"AAAA"}',
        b'{"type":"response.output_audio.delta","response_id":"r","item_id":"i","x":{"event_id":"e"},"delta":"AAAA"}',
        b'{"delta":"","response_id":"r","item_id":"i","event_id":"e","type":"response.output_audio.delta"}',
        b'{"event_id":"e","delta":"AAAA","response_id":"r","item_id":"i","type":"response.output_audio.delta","delta":"AAAA"}',
    ],
)
def test_a_frame_that_says_more_of_its_id_or_samples_is_no_pattern(known: bytes) -> None:
    for begin in range(len(known) - 1):
        for mark in (b'"', b"A", b'AAAA"}', b'e2"'):
            given = known[:begin] + mark + known[begin:]
            assert as_known(given, known) == read_audio_delta(given)


def test_a_delta_that_ends_where_its_samples_should_begin_is_none() -> None:
    known = json.dumps(DELTA).encode()
    cut = known.removesuffix(b'AAEC"}') + b"}"
    assert cut.endswith(b'"delta": "}')
    assert as_known(cut, known) is read_audio_delta(cut) is None


def test_of_the_deltas_of_a_part_the_first_is_decoded_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    read = DeltaReader()
    first = json.dumps(DELTA).encode()
    assert read(first) == read_audio_delta(first)
    monkeypatch.setattr(frames, "_decode_delta", None)
    delta = read(json.dumps(DELTA | {"event_id": "event_2", "delta": "//8="}).encode())
    assert delta is not None
    assert (delta.event_id, delta.item_id, delta.text, delta.samples) == ("event_2", "i", b"//8=", b"\xff\xff")


def test_a_field_that_only_ends_like_that_of_the_samples_is_not_taken_for_it() -> None:
    frame = json.dumps({**DELTA, 'x"delta': "//8="}, separators=(",", ":")).encode()
    assert frame.endswith(b'\\"delta":"//8="}')
    delta = read_audio_delta(frame)
    assert delta is not None
    assert delta.samples == base64.b64decode(DELTA["delta"])


@pytest.mark.parametrize(
    "frame",
    [
        b'{"type": "input_audio_buffer.append"}',
        b'{"type": "input_audio_buffer.append", "audio": 1}',
        b'{"type": "input_audio_buffer.append", "audio": "AAEC", "extra": 1}',
        b'{"type": "input_audio_buffer.append", "audio": "AAEC", "type": "session.update"}',
        b'{"type": "conversation.item.create", "audio": "input_audio_buffer.append"}',
    ],
)
def test_what_is_not_a_plain_append_is_left_to_the_long_path(frame: bytes) -> None:
    assert read_append(frame) is None


def test_events_hold_any_mapping() -> None:
    assert (
        dump_event({"a": MappingProxyType({"b": [MappingProxyType({})]}), "c": "ü"})
        == '{"a":{"b":[{}]},"c":"ü"}'.encode()
    )
    with pytest.raises(TypeError):
        dump_event({"a": object()})


def test_half_a_surrogate_pair_becomes_a_mark_wherever_it_stands() -> None:
    event = {"type": "x", "item": {"content": [{"text": "a\ud800b"}], "\udc00": 1}, "size": 2}
    assert parse_event(dump_event(event)) == {"type": "x", "item": {"content": [{"text": "a?b"}], "?": 1}, "size": 2}
