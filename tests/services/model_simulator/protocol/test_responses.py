"""Responses: their sequences, sums, cancels, parameters, and the responses out of band."""

import base64
from typing import Any

import pytest

from services.model_simulator.bench import MANUAL, TEXT, Bench, Call, Say, error, joined, only, speech, types
from voicebus_services.model_simulator import tape
from voicebus_services.model_simulator.protocol.audio import from_pcm16_24k
from voicebus_services.model_simulator.protocol.quirks import Quirks


def bench_with(session: dict[str, Any] | None = None, **options: Any) -> Bench:
    bench = Bench(**options)
    bench.send("session.update", session=session or MANUAL)
    bench.write()
    return bench


def unrepeated(names: list[str]) -> list[str]:
    return [name for place, name in enumerate(names) if not place or names[place - 1] != name]


def test_a_text_turn_has_the_captured_sequence() -> None:
    events = bench_with(TEXT).respond(Say("hello there, my friend"))
    assert unrepeated(types(events)) == [
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
        "rate_limits.updated",
    ]


def test_an_audio_turn_has_the_captured_sequence() -> None:
    names = types(bench_with().respond(Say("hello there")))
    deltas = [name for name in names if name.endswith(".delta")]
    assert set(deltas) == {"response.output_audio_transcript.delta", "response.output_audio.delta"}
    assert [name for name in names if not name.endswith(".delta")] == [
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
        "rate_limits.updated",
    ]


def test_a_function_call_turn_has_the_captured_sequence() -> None:
    events = bench_with().respond(Call("look", '{"where": "under the bed"}'))
    assert unrepeated(types(events)) == [
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
        "rate_limits.updated",
    ]
    added = only(events, "response.output_item.added")["item"]
    assert (added["status"], added["arguments"]) == ("in_progress", "")


def test_groups_of_several_outputs_come_in_order_and_done_holds_the_final_items() -> None:
    bench = bench_with()
    events = bench.respond(Say("Let me see."), Call("look", "{}"), Call("ask", '{"who": "Ann"}'))
    indexes = [event["output_index"] for event in events if "output_index" in event]
    assert indexes == sorted(indexes)
    done = only(events, "response.done")["response"]
    finals = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert done["output"] == finals
    assert [item["type"] for item in finals] == ["message", "function_call", "function_call"]
    assert len({item["id"] for item in finals} | {item.get("call_id") for item in finals[1:]}) == 5
    assert [item.id for item in bench.session.conversation][1:] == [item["id"] for item in finals]


@pytest.mark.parametrize("text", ["hello there, friend", "  two  spaces ", "word", "übermäßig schön 🎈", " "])
def test_deltas_add_up_to_the_done_value_the_part_and_the_item(text: str) -> None:
    for session, delta, name in (
        (MANUAL, "response.output_audio_transcript", "transcript"),
        (TEXT, "response.output_text", "text"),
    ):
        events = bench_with(session).respond(Say(text))
        assert joined(events, f"{delta}.delta") == text
        assert only(events, f"{delta}.done")[name] == text
        assert only(events, "response.content_part.done")["part"][name] == text
        assert only(events, "response.done")["response"]["output"][0]["content"][0][name] == text


@pytest.mark.parametrize("arguments", ['{"city": "Paris"}', "{not json", ""])
def test_arguments_pass_as_they_are_valid_json_or_not(arguments: str) -> None:
    events = bench_with().respond(Call("look", arguments))
    assert joined(events, "response.function_call_arguments.delta") == arguments
    done = only(events, "response.function_call_arguments.done")
    item = only(events, "response.done")["response"]["output"][0]
    assert done["arguments"] == item["arguments"] == arguments
    assert done["call_id"] == item["call_id"] != item["id"]
    assert done["name"] == "look"


@pytest.mark.parametrize("law", ["audio/pcm", "audio/pcmu", "audio/pcma"])
def test_audio_deltas_are_whole_samples_of_the_session_format(law: str) -> None:
    bench = bench_with()
    bench.update(audio={"output": {"format": {"type": law}}})
    events = bench.respond(Say("one two three"))
    deltas = [base64.b64decode(event["delta"]) for event in events if event["type"] == "response.output_audio.delta"]
    assert all(len(delta) % (2 if law == "audio/pcm" else 1) == 0 for delta in deltas)
    assert b"".join(deltas) == from_pcm16_24k(tape.record("one two three"), law)


def test_no_event_but_the_deltas_carries_audio() -> None:
    events = bench_with().respond(Say("one two three"))
    for event in events:
        for item in [event.get("item"), *event.get("response", {}).get("output", [])]:
            assert all("audio" not in part for part in (item or {}).get("content", []))


def test_a_second_response_is_refused_and_leaves_the_first_alone() -> None:
    bench = bench_with()
    bench.send("response.create")
    run = bench.partly(Say("one two three"))
    refused = error(bench.send("response.create", event_id="second"))
    assert refused["code"] == "conversation_already_has_active_response"
    assert run.id in refused["message"]
    assert run.active


def test_cancel_closes_the_open_parts_and_nothing_follows() -> None:
    bench = bench_with()
    bench.send("response.create")
    run = bench.partly(Say("one two three four five six"), steps=4)
    events = bench.send("response.cancel")
    assert types(events) == [
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
        "rate_limits.updated",
    ]
    done = events[5]["response"]
    assert (done["status"], done["status_details"]) == (
        "cancelled",
        {"type": "cancelled", "reason": "client_cancelled"},
    )
    assert done["output"][0]["status"] == "incomplete"
    heard = joined(bench.all, "response.output_audio_transcript.delta")
    assert done["output"][0]["content"] == [{"type": "output_audio", "transcript": heard}]
    assert run.step() is None
    assert types(bench.respond(Say("again")))[0] == "response.created"


def test_a_call_that_is_cancelled_ends_with_the_arguments_so_far() -> None:
    bench = bench_with()
    bench.send("response.create")
    bench.partly(Call("look", '{"where": "under the old bed"}'), steps=1)
    events = bench.send("response.cancel")
    assert only(events, "response.function_call_arguments.done")["arguments"] == '{"where": "u'
    assert only(events, "response.done")["response"]["output"][0]["status"] == "incomplete"


def test_a_cancel_before_any_output_gives_only_done() -> None:
    bench = bench_with()
    bench.send("response.create")
    bench.run()
    bench.taken()
    events = bench.send("response.cancel")
    assert types(events) == ["response.done", "rate_limits.updated"]
    assert events[0]["response"]["output"] == []


@pytest.mark.parametrize("fields", [{}, {"response_id": "resp_other"}])
def test_a_cancel_that_hits_nothing_is_an_error(fields: dict[str, Any]) -> None:
    bench = bench_with()
    assert error(bench.send("response.cancel", **fields))["code"] == "response_cancel_not_active"
    bench.respond(Say("hello"))
    assert error(bench.send("response.cancel", **fields))["code"] == "response_cancel_not_active"


def test_a_cancel_with_a_foreign_id_leaves_the_active_response_alone() -> None:
    bench = bench_with()
    bench.send("response.create")
    run = bench.partly(Say("hello"))
    assert error(bench.send("response.cancel", response_id="resp_x"))["code"] == "response_cancel_not_active"
    assert run.active


def test_metadata_is_echoed_in_created_and_done() -> None:
    events = bench_with().respond(Say("hello"), metadata={"turn": "17"})
    assert only(events, "response.created")["response"]["metadata"] == {"turn": "17"}
    assert only(events, "response.done")["response"]["metadata"] == {"turn": "17"}


def test_overrides_apply_to_one_response_only() -> None:
    bench = bench_with()
    tools = [{"type": "function", "name": "look"}]
    bench.send("response.create", response={"instructions": "Rhyme.", "tools": tools, "output_modalities": ["text"]})
    run = bench.run()
    assert (run.settings.instructions, run.settings.tools, run.settings.modality) == ("Rhyme.", tools, "text")
    bench.session.responder.complete(run)
    bench.send("response.create")
    plain = bench.run()
    assert (plain.settings.tools, plain.settings.modality) == ([], "audio")
    assert plain.settings.instructions == bench.session.config["instructions"] != "Rhyme."


@pytest.mark.parametrize(
    ("response", "code", "param"),
    [
        ({"foo": 1}, "unknown_parameter", "response.foo"),
        ({"metadata": {"a": 5}}, "invalid_type", "response.metadata.a"),
        ({"metadata": {str(n): "" for n in range(17)}}, "object_above_max_properties", "response.metadata"),
        ({"conversation": "other"}, "invalid_value", "response.conversation"),
        ({"input": [{"type": "item_reference", "id": "gone"}]}, "invalid_value", "response.input[0].id"),
    ],
)
def test_a_refused_response_is_never_created(response: dict[str, Any], code: str, param: str) -> None:
    bench = bench_with()
    refused = error(bench.send("response.create", response=response))
    assert (refused["code"], refused["param"]) == (code, param)
    assert bench.session.responder.active is None


def test_an_out_of_band_response_runs_beside_the_other_and_leaves_the_conversation_alone() -> None:
    bench = bench_with()
    bench.send("response.create")
    inside = bench.partly(Say("inside"))
    before = [item.id for item in bench.session.conversation]
    events = bench.respond(Say("outside"), conversation="none", metadata={"kind": "side"})
    done = only(events, "response.done")["response"]
    assert done["conversation_id"] is None
    assert done["metadata"] == {"kind": "side"}
    assert not any(name.startswith("conversation.item.") for name in types(events))
    assert [item.id for item in bench.session.conversation] == before
    assert inside.active


def test_a_cancel_without_an_id_or_speech_does_not_reach_an_out_of_band_response() -> None:
    bench = Bench()
    bench.send("response.create", response={"conversation": "none"})
    run = bench.run()
    bench.taken()
    assert error(bench.send("response.cancel"))["code"] == "response_cancel_not_active"
    assert types(bench.append(speech(300))) == ["input_audio_buffer.speech_started"]
    assert run.active
    done = only(bench.send("response.cancel", response_id=run.id), "response.done")["response"]
    assert done["status"] == "cancelled"


def test_input_replaces_the_conversation_as_context() -> None:
    bench = bench_with()
    first = next(iter(bench.session.conversation)).id
    reference = {"type": "item_reference", "id": first}
    extra = {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "Sum it up."}]}
    bench.write("second")
    bench.send("response.create", response={"conversation": "none", "input": [reference, extra]})
    assert [item.body["content"][0]["text"] for item in bench.run().context] == ["hi", "Sum it up."]
    bench.send("response.create", response={"input": []})
    assert bench.run().context == []


@pytest.mark.parametrize("session", [MANUAL, TEXT])
def test_max_output_tokens_cuts_the_answer(session: dict[str, Any]) -> None:
    bench = bench_with(session)
    text = "one two three four five six seven eight nine ten"
    events = bench.respond(Say(text), max_output_tokens=8)
    done = only(events, "response.done")["response"]
    assert (done["status"], done["status_details"]) == (
        "incomplete",
        {"type": "incomplete", "reason": "max_output_tokens"},
    )
    assert done["output"][0]["status"] == "incomplete"
    assert 0 < done["usage"]["output_tokens"] <= 8
    said = done["output"][0]["content"][0]
    assert text.startswith(said.get("text") or said["transcript"])


def test_a_failed_response_carries_its_error() -> None:
    bench = bench_with()
    bench.send("response.create")
    run = bench.partly(Say("well"))
    bench.session.responder.fail(run, "rate_limit_exceeded")
    done = only(bench.taken(), "response.done")["response"]
    assert done["status"] == "failed"
    assert done["status_details"]["error"]["code"] == "rate_limit_exceeded"
    assert types(bench.respond(Say("again")))[-2:] == ["response.done", "rate_limits.updated"]


@pytest.mark.parametrize(("where", "place"), [("after", -1), ("before", 1), ("never", None)])
def test_rate_limits_come_where_the_switch_says(where: Any, place: int | None) -> None:
    names = types(bench_with(quirks=Quirks(rate_limits=where)).respond(Say("hello")))
    assert names.count("rate_limits.updated") == (place is not None)
    if place is not None:
        assert names[place] == "rate_limits.updated"


def test_usage_adds_up_and_grows_with_the_conversation() -> None:
    bench = bench_with()
    last = 0
    for _ in range(3):
        usage = only(bench.respond(Say("one two three")), "response.done")["response"]["usage"]
        given, made = usage["input_token_details"], usage["output_token_details"]
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
        assert usage["input_tokens"] == given["text_tokens"] + given["audio_tokens"] + given["image_tokens"]
        assert usage["output_tokens"] == made["text_tokens"] + made["audio_tokens"]
        assert given["cached_tokens"] == sum(given["cached_tokens_details"].values())
        for name in ("text_tokens", "audio_tokens"):
            assert given["cached_tokens_details"][name] <= given[name]
        assert made["audio_tokens"] == len(tape.record("one two three")) // 48 // 50
        assert usage["input_tokens"] > last
        last = usage["input_tokens"]
        bench.write("more")


def test_user_audio_costs_one_token_per_100_ms() -> None:
    bench = bench_with()
    bench.append(bytes(48 * 1630))
    bench.send("input_audio_buffer.commit")
    usage = only(bench.respond(Say("yes")), "response.done")["response"]["usage"]
    assert usage["input_token_details"]["audio_tokens"] == 16


def test_a_function_output_waits_for_the_next_response_create() -> None:
    bench = bench_with()
    call = only(bench.respond(Call("look", "{}")), "response.done")["response"]["output"][0]
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "found"}
    assert types(bench.send("conversation.item.create", item=output)) == [
        "conversation.item.added",
        "conversation.item.done",
    ]
    assert bench.session.responder.active is None
    bench.send("response.create")
    assert bench.run().context[-1].body["output"] == "found"


@pytest.mark.parametrize("session", [MANUAL, TEXT])
def test_even_without_a_limit_a_response_ends_at_what_a_model_can_make(session: dict[str, Any]) -> None:
    text = "word " * (900 if session is MANUAL else 4000)
    done = only(bench_with(session).respond(Say(text)), "response.done")["response"]
    assert done["status_details"] == {"type": "incomplete", "reason": "max_output_tokens"}
    assert done["usage"]["output_tokens"] <= 4096
