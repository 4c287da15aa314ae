"""What of the user's sound a client keeps, and what it sends again."""

from voicebus.client.spoken import KEPT_S, MAX_PIECES, MAX_TURNS, Spoken, is_spoken

SECOND = bytes(48_000)


def unsent(spoken: Spoken) -> list[bytes | str]:
    """What would be sent now, in order; it counts as sent then."""
    found: list[bytes | str] = []
    while (piece := spoken.unsent()) is not None:
        found.append(piece.commit or piece.samples)
        piece.sent = True
    return found


def say(spoken: Spoken, *samples: bytes) -> None:
    for each in samples:
        spoken.add(each).sent = True


def test_the_newest_seconds_are_kept_and_told_apart_from_what_was_sent() -> None:
    spoken = Spoken()
    say(spoken, *[SECOND] * 8)
    spoken.add(b"\1\0")
    assert unsent(spoken) == [b"\1\0"]
    spoken.lost()
    assert b"".join(piece for piece in unsent(spoken) if isinstance(piece, bytes)) == SECOND * int(KEPT_S) + b"\1\0"


def test_telephone_sound_has_a_sixth_of_the_bytes() -> None:
    spoken = Spoken()
    spoken.learn({"input": {"type": "audio/pcmu"}})
    say(spoken, *[bytes(8_000)] * 8)
    spoken.lost()
    assert len(unsent(spoken)) == KEPT_S


def test_what_was_committed_is_not_sent_again_and_what_came_behind_it_is() -> None:
    spoken = Spoken()
    say(spoken, b"\1\0")
    spoken.committing("c1")
    say(spoken, b"\2\0")
    spoken.committed("c1")
    spoken.committed("another")
    spoken.lost()
    assert unsent(spoken) == [b"\2\0"]


def test_a_commit_without_an_answer_keeps_its_place_among_the_sound() -> None:
    spoken = Spoken()
    say(spoken, b"\1\0")
    spoken.committing("c1")
    say(spoken, b"\2\0")
    assert (spoken.has("c1"), spoken.has("c2")) == (True, False)
    spoken.lost()
    spoken.unanswered(["c1"])
    assert unsent(spoken) == [b"\1\0", "c1", b"\2\0"]


def test_a_turn_that_the_model_made_leaves_only_what_was_on_its_way() -> None:
    spoken = Spoken()
    say(spoken, *[SECOND[:4_800]] * 10)
    spoken.heard("item_1")
    spoken.lost()
    assert len(unsent(spoken)) == 2
    assert is_spoken({"role": "user", "content": [{"type": "input_audio", "transcript": None}]})
    assert not is_spoken({"role": "user", "content": [{"type": "input_text", "text": "hello"}]})
    assert not is_spoken(None)


def test_a_turn_without_words_is_sent_again_where_a_gateway_asks_for_it() -> None:
    spoken = Spoken()
    say(spoken, b"\1\0" * 24_000)
    spoken.heard("item_1")
    say(spoken, *[SECOND] * 5)
    assert spoken.turns() == [("item_1", 1_000), ("", 5_000)]
    spoken.lost(["item_1"])
    say(spoken, SECOND)
    assert [len(piece) for piece in unsent(spoken)] == [48_000] + [48_000] * 5
    assert spoken.turns() == [("", 7_000)]
    spoken.heard("item_2")
    say(spoken, *[SECOND] * 8)
    assert spoken.turns()[1:] == [("", 5_000)]


def test_a_turn_whose_words_are_known_is_not_sent_again_nor_one_before_it() -> None:
    spoken = Spoken()
    for item_id in ("item_1", "item_2", "item_3"):
        say(spoken, SECOND)
        spoken.heard(item_id)
    spoken.known("another")
    spoken.known("item_2")
    assert spoken.turns() == [("item_3", 1000), ("", 0)]
    spoken.lost()
    assert (unsent(spoken), spoken.turns()) == ([], [("", 0)])


def test_turns_without_words_are_bounded_by_their_number() -> None:
    spoken = Spoken()
    for number in range(MAX_TURNS + 1):
        say(spoken, SECOND)
        spoken.heard(f"item_{number}")
    assert [item_id for item_id, _ in spoken.turns()] == ["item_1", "item_2", "item_3", "item_4", ""]


def test_what_was_lost_on_its_way_is_sent_again_and_nothing_before_it() -> None:
    spoken = Spoken()
    say(spoken, b"\1\0", b"\2\0")
    spoken.committing("c1")
    say(spoken, b"\3\0")
    spoken.unanswered([])
    spoken.missed(4)
    assert unsent(spoken) == [b"\2\0", b"\3\0"]
    spoken.missed(0)
    spoken.missed(-2)
    assert unsent(spoken) == []


def test_tiny_frames_are_bounded_by_their_number() -> None:
    spoken = Spoken()
    say(spoken, *[b"\0\0"] * (MAX_PIECES + 10))
    spoken.lost()
    assert len(unsent(spoken)) == MAX_PIECES
