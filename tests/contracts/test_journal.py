"""Records as a session's own caller may see them."""

from voicebus.contracts.journal import GuardrailTripped, ItemRecorded, for_callers


def test_what_a_guardrail_kept_from_being_heard_is_for_no_caller() -> None:
    line = ItemRecorded(
        item_id="i", role="assistant", agent="a", text="Damn", heard_text="", started_ms=0, ended_ms=1, withheld=True
    )
    assert (for_callers(line)["text"], for_callers(line)["heard_text"]) == ("", "")
    trip = GuardrailTripped(
        response_id="r", item_id="i", agent="a", guardrails=["rude"], info={"rude": "Damn"}, message="Damn", at_ms=1,
        withheld=True,
    )  # fmt: skip
    assert (for_callers(trip)["message"], for_callers(trip)["info"], for_callers(trip)["guardrails"]) == (
        "",
        {},
        ["rude"],
    )


def test_all_else_is_shown_as_it_is_recorded() -> None:
    line = ItemRecorded(item_id="i", role="user", agent="a", text="Hello", started_ms=0, ended_ms=1)
    trip = GuardrailTripped(response_id="r", item_id="i", agent="a", guardrails=["rude"], message="Damn", at_ms=1)
    for data in (line, trip):
        assert for_callers(data) == data.model_dump(mode="json")
