"""What the model says in pieces: most pieces only say more of the part before, and mean all that the first one did."""

from typing import Any

import pytest

from support.talk import Talk, agent
from voicebus.engine.config import GuardrailSpec
from voicebus.engine.inputs import Interrupt
from voicebus.engine.outputs import DispatchCheck, Emit

SPOKEN = "response.output_audio_transcript.delta"
WRITTEN = "response.output_text.delta"


def answering(*, guardrails: tuple[GuardrailSpec, ...] = (), **config: Any) -> Talk:
    """An answer of one item has begun."""
    talk = Talk(agent(guardrails=guardrails), **config).live()
    talk.asks("Hello")
    talk.begins()
    talk.item_begins("item_1", "resp_1")
    return talk


def says(talk: Talk, delta: Any, *, kind: str = SPOKEN, **fields: Any) -> list[tuple[str, str]]:
    """One delta; returns the pieces that programs are shown, each with all of its item so far."""
    where = {"response_id": "resp_1", "item_id": "item_1", "content_index": 0, **fields}
    talk.model(kind, delta=delta, **where)
    pieces = [output.data for output in talk.last if isinstance(output, Emit) and output.type == "transcript_delta"]
    return [(piece["delta"], piece["text"]) for piece in pieces]


@pytest.mark.parametrize("kind", [SPOKEN, WRITTEN])
def test_pieces_add_up_to_their_items_text_in_events_and_in_the_history(kind: str) -> None:
    talk = answering()
    assert says(talk, "Good", kind=kind) == [("Good", "Good")]
    assert says(talk, " eve", kind=kind) == [(" eve", "Good eve")]
    assert says(talk, "ning", kind=kind) == [("ning", "Good evening")]
    (part,) = talk.session.history[-1]["content"]
    assert (part.get("transcript") or part.get("text")) == "Good evening"


def test_parts_and_items_that_take_turns_keep_their_texts_apart() -> None:
    talk = answering()
    talk.item_begins("item_2", "resp_1")
    assert says(talk, "one") == [("one", "one")]
    assert says(talk, "two", item_id="item_2") == [("two", "two")]
    assert says(talk, " more") == [(" more", "one more")]
    assert says(talk, "three", content_index=1) == [("three", "one more three")]
    assert says(talk, "!") == [("!", "one more! three")]
    assert says(talk, "?", item_id="item_2") == [("?", "two?")]


def test_a_piece_that_names_no_part_or_no_response_belongs_to_what_is_being_said() -> None:
    talk = answering()
    says(talk, "a")
    assert says(talk, "b", content_index=None) == [("b", "ab")]
    assert says(talk, "c", content_index=None) == [("c", "abc")]
    assert says(talk, "d", response_id=None) == [("d", "abcd")]
    assert says(talk, "e") == [("e", "abcde")]


@pytest.mark.parametrize("odd", [None, 5, ["x"], {"text": "x"}])
def test_a_piece_without_text_adds_nothing(odd: Any) -> None:
    talk = answering()
    says(talk, "a")
    assert says(talk, odd) == [("", "a")]
    assert says(talk, "b") == [("b", "ab")]


def test_pieces_after_the_responses_end_are_late() -> None:
    talk = answering()
    says(talk, "a")
    talk.ends("resp_1")
    assert says(talk, "b") == []


def test_nobody_is_shown_what_is_said_on_after_an_interruption() -> None:
    talk = answering()
    says(talk, "a")
    says(talk, "b")
    talk.put(Interrupt())
    assert says(talk, "c") == []


def test_guardrails_judge_each_time_enough_was_added() -> None:
    talk = answering(guardrails=(GuardrailSpec("rude", debounce=4),))
    judged = []
    for piece in ("ab", "cd", "ef", "gh", "i"):
        says(talk, piece)
        judged += [output.text for output in talk.last if isinstance(output, DispatchCheck)]
    assert judged == ["abcd", "abcdefgh"]


def test_each_piece_is_a_sign_of_life_of_its_response() -> None:
    talk = answering(create_timeout_ms=1000)
    for _ in range(4):
        talk.now += 2.0
        assert says(talk, "a")
        talk.timer("stall")
    assert not talk.errors()
    talk.timer("stall")
    assert talk.errors() == ["response_stalled"]


def test_who_is_shown_raw_events_is_shown_every_piece() -> None:
    talk = answering(raw_events=True)
    for piece in ("a", "b", "c"):
        says(talk, piece)
        assert [output.type for output in talk.last if isinstance(output, Emit)] == [
            "raw_model_event",
            "transcript_delta",
        ]
