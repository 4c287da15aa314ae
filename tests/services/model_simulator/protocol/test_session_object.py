"""`session.created`, `session.update` and what of a session may change."""

from typing import Any

import pytest

from services.model_simulator.bench import Bench, Say, error, only, types
from voicebus_services.model_simulator.protocol.quirks import Quirks


def session_after(events: list[dict[str, Any]]) -> dict[str, Any]:
    session: dict[str, Any] = only(events, "session.updated")["session"]
    return session


def test_the_first_event_shows_every_path_at_its_default() -> None:
    bench = Bench()
    bench.session.greet()
    (created,) = bench.taken()
    session = created["session"]
    assert created["type"] == "session.created"
    assert session["id"].startswith("sess_")
    assert session["instructions"]
    assert {key: value for key, value in session.items() if key not in ("id", "instructions")} == {
        "type": "realtime",
        "object": "realtime.session",
        "model": "gpt-realtime",
        "expires_at": 4600,
        "output_modalities": ["audio"],
        "tools": [],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
        "tracing": None,
        "truncation": "auto",
        "prompt": None,
        "include": None,
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": 24000},
                "transcription": None,
                "noise_reduction": None,
                "turn_detection": {
                    "type": "server_vad",
                    "threshold": 0.5,
                    "prefix_padding_ms": 300,
                    "silence_duration_ms": 200,
                    "idle_timeout_ms": None,
                    "create_response": True,
                    "interrupt_response": True,
                },
            },
            "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "alloy", "speed": 1.0},
        },
    }


def test_event_ids_are_unique_and_the_same_under_the_same_seed() -> None:
    def traffic(seed: int) -> list[dict[str, Any]]:
        bench = Bench(seed=seed)
        bench.session.greet()
        bench.write("hello")
        bench.respond(Say("Good morning"))
        bench.taken()
        return bench.all

    first, again, other = traffic(7), traffic(7), traffic(8)
    ids = [event["event_id"] for event in first]
    assert len(set(ids)) == len(ids)
    assert first == again
    assert not set(ids) & {event["event_id"] for event in other}


@pytest.mark.parametrize(
    ("patch", "code", "param"),
    [
        ({"foo": 1}, "unknown_parameter", "session.foo"),
        ({"audio": {"foo": 1}}, "unknown_parameter", "session.audio.foo"),
        ({"audio": {"input": {"foo": 1}}}, "unknown_parameter", "session.audio.input.foo"),
        (
            {"audio": {"input": {"turn_detection": {"type": "server_vad", "eagerness": "low"}}}},
            "unknown_parameter",
            "session.audio.input.turn_detection.eagerness",
        ),
        ({"tools": [{"type": "function", "name": "a", "x": 1}]}, "unknown_parameter", "session.tools[0].x"),
        ({"tools": [{"type": "function"}]}, "missing_required_parameter", "session.tools[0].name"),
        ({"tools": {}}, "invalid_type", "session.tools"),
        ({"modalities": ["text"]}, "unknown_parameter", "session.modalities"),
        ({"temperature": 0.8}, "unknown_parameter", "session.temperature"),
        ({"output_modalities": ["audio", "text"]}, "invalid_value", "session.output_modalities"),
        ({"instructions": 5}, "invalid_type", "session.instructions"),
        ({"max_output_tokens": 0}, "integer_below_min_value", "session.max_output_tokens"),
        ({"max_output_tokens": 4097}, "integer_above_max_value", "session.max_output_tokens"),
        ({"max_output_tokens": "all"}, "invalid_value", "session.max_output_tokens"),
        ({"tool_choice": "sometimes"}, "invalid_value", "session.tool_choice"),
        ({"tool_choice": {"type": "function"}}, "missing_required_parameter", "session.tool_choice.name"),
        ({"model": "gpt-realtime-mini"}, "invalid_value", "session.model"),
        (
            {"truncation": {"type": "retention_ratio"}},
            "missing_required_parameter",
            "session.truncation.retention_ratio",
        ),
        (
            {"audio": {"input": {"format": {"type": "audio/pcm", "rate": 16000}}}},
            "integer_below_min_value",
            "session.audio.input.format.rate",
        ),
        ({"audio": {"output": {"format": "pcm16"}}}, "invalid_type", "session.audio.output.format"),
        ({"audio": {"output": {"speed": 2}}}, "decimal_above_max_value", "session.audio.output.speed"),
        (
            {"audio": {"input": {"turn_detection": {"type": "none"}}}},
            "invalid_value",
            "session.audio.input.turn_detection.type",
        ),
        (
            {"audio": {"input": {"turn_detection": {"type": "server_vad", "idle_timeout_ms": 4999}}}},
            "integer_below_min_value",
            "session.audio.input.turn_detection.idle_timeout_ms",
        ),
        (
            {"audio": {"input": {"turn_detection": {"type": "server_vad", "idle_timeout_ms": 30001}}}},
            "integer_above_max_value",
            "session.audio.input.turn_detection.idle_timeout_ms",
        ),
    ],
)
def test_a_wrong_setting_is_named_by_its_dotted_path_and_nothing_of_the_update_is_applied(
    patch: dict[str, Any], code: str, param: str
) -> None:
    bench = Bench()
    before = bench.session.config
    refused = error(bench.update(**{"instructions": "new", **patch}))
    assert (refused["code"], refused["param"], refused["type"]) == (code, param, "invalid_request_error")
    assert bench.session.config == before


def test_an_unknown_parameter_is_reported_in_the_words_of_the_service() -> None:
    assert error(Bench().update(foo=1))["message"] == "Unknown parameter: 'session.foo'."


def test_an_update_without_session_type_is_refused_unless_the_lenient_switch_is_on() -> None:
    refused = error(Bench().send("session.update", session={"instructions": "x"}))
    assert (refused["code"], refused["param"]) == ("missing_required_parameter", "session.type")
    lenient = Bench(quirks=Quirks(session_type_optional=True))
    assert session_after(lenient.send("session.update", session={"instructions": "x"}))["instructions"] == "x"


def test_an_update_answers_with_the_merged_full_object() -> None:
    bench = Bench()
    tools = [{"type": "function", "name": "look", "description": "Look.", "parameters": {"type": "object"}}]
    session = session_after(
        bench.update(
            instructions="Be brief.",
            tools=tools,
            audio={"output": {"voice": "marin"}, "input": {"noise_reduction": {"type": "near_field"}}},
        )
    )
    assert (session["instructions"], session["tools"]) == ("Be brief.", tools)
    assert session["audio"]["output"] == {
        "format": {"type": "audio/pcm", "rate": 24000},
        "voice": "marin",
        "speed": 1.0,
    }
    later = session_after(bench.update(audio={"input": {"format": {"type": "audio/pcmu"}}}))
    assert later["instructions"] == "Be brief."
    assert later["audio"]["input"]["noise_reduction"] == {"type": "near_field"}
    assert later["audio"]["input"]["format"] == {"type": "audio/pcmu"}


def test_null_clears_and_empty_values_clear() -> None:
    bench = Bench()
    bench.update(
        instructions="x",
        tools=[{"type": "function", "name": "a"}],
        audio={"input": {"transcription": {"model": "whisper-1"}, "noise_reduction": {"type": "far_field"}}},
        tracing="auto",
    )
    cleared = {"transcription": None, "noise_reduction": None, "turn_detection": None}
    session = session_after(bench.update(instructions="", tools=[], audio={"input": cleared}))
    assert (session["instructions"], session["tools"]) == ("", [])
    assert {name: session["audio"]["input"][name] for name in cleared} == cleared


def test_a_new_turn_detection_takes_defaults_for_what_it_leaves_out() -> None:
    bench = Bench()
    bench.update(audio={"input": {"turn_detection": {"type": "server_vad", "silence_duration_ms": 900}}})
    session = session_after(bench.update(audio={"input": {"turn_detection": {"type": "semantic_vad"}}}))
    assert session["audio"]["input"]["turn_detection"] == {
        "type": "semantic_vad",
        "eagerness": "auto",
        "create_response": True,
        "interrupt_response": True,
    }


def test_an_error_echoes_the_event_id_of_the_client_and_null_without_one() -> None:
    bench = Bench()
    assert error(bench.send("session.update", event_id="mine", session={}))["event_id"] == "mine"
    assert error(bench.send("session.update", session={}))["event_id"] is None
    assert error(bench.send("no.such.event", event_id="that"))["event_id"] == "that"


def test_the_voice_is_locked_once_the_assistant_has_spoken() -> None:
    bench = Bench()
    assert session_after(bench.update(audio={"output": {"voice": "ash"}}))["audio"]["output"]["voice"] == "ash"
    bench.write()
    bench.respond(Say("Good morning"))
    refused = error(bench.update(instructions="new", audio={"output": {"voice": "marin"}}))
    assert refused["code"] == "cannot_update_voice"
    assert bench.session.config["instructions"] != "new"
    again = session_after(bench.update(instructions="new", audio={"output": {"voice": "ash"}}))
    assert again["instructions"] == "new"


def test_the_voice_is_locked_while_the_first_answer_is_being_spoken() -> None:
    bench = Bench()
    bench.write()
    bench.send("response.create")
    bench.partly(Say("Good morning to you"))
    assert error(bench.update(audio={"output": {"voice": "marin"}}))["code"] == "cannot_update_voice"


def test_a_text_answer_does_not_lock_the_voice() -> None:
    bench = Bench()
    bench.update(output_modalities=["text"])
    bench.write()
    bench.respond(Say("Good morning"))
    assert types(bench.update(audio={"output": {"voice": "marin"}})) == ["session.updated"]


def test_a_session_cannot_change_its_type_or_its_tracing() -> None:
    bench = Bench()
    refused = error(bench.send("session.update", session={"type": "transcription"}))
    assert (refused["code"], refused["param"]) == ("invalid_value", "session.type")
    bench.update(tracing="auto")
    assert types(bench.update(tracing="auto")) == ["session.updated"]
    assert error(bench.update(tracing=None))["code"] == "cannot_update_tracing"


def test_a_session_expires_with_an_error_and_a_close() -> None:
    bench = Bench(lifetime=30)
    assert bench.tick(29) == []
    assert bench.session.closing is None
    expired = error(bench.tick(1))
    assert expired["code"] == "session_expired"
    assert bench.session.closing is not None
    assert bench.tick(1) == []


def test_a_transcription_session_never_responds() -> None:
    bench = Bench(session_type="transcription", model=None)
    bench.session.greet()
    assert bench.taken()[0]["session"]["object"] == "realtime.transcription_session"
    assert error(bench.send("response.create"))["code"] == "invalid_value"
    assert (
        error(bench.send("session.update", session={"type": "transcription", "tools": []}))["param"] == "session.tools"
    )
    patch = {"type": "transcription", "audio": {"input": {"transcription": {"model": "gpt-4o-transcribe"}}}}
    assert types(bench.send("session.update", session=patch)) == ["session.updated"]


def test_switches_add_what_other_servers_send() -> None:
    bench = Bench(quirks=Quirks(conversation_created=True, extra_fields=True))
    bench.session.greet()
    events = bench.taken()
    assert types(events) == ["session.created", "conversation.created"]
    assert all("x_simulator" in event for event in events)
