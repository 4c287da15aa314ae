"""Ids that the simulator gives: drawn under a seed, or counted as some servers do."""

from voicebus_services.model_simulator.protocol.ids import Ids


def test_ids_are_the_same_again_under_the_same_seed_and_differ_between_sessions() -> None:
    first, again, other = Ids(1, 0), Ids(1, 0), Ids(1, 1)
    assert [first.mint("item"), first.mint("resp")] == [again.mint("item"), again.mint("resp")]
    assert first.mint("item") != other.mint("item")


def test_counted_ids_begin_anew_in_each_session_and_leave_out_what_is_taken() -> None:
    for stream in range(2):
        ids = Ids(1, stream, counted=True)
        ids.taken = {"item_1", "item_3"}
        minted = [ids.mint(prefix) for prefix in ("item", "resp", "item", "call")]
        assert minted == ["item_2", "resp_1", "item_4", "call_1"]
    assert Ids(1, 0, counted=True).mint("sess") != Ids(1, 1, counted=True).mint("sess")
