"""An error as programs read it: by attribute or by key."""

import pytest

from voicebus import RealtimeErrorDetails
from voicebus.agents.context import RunContextWrapper
from voicebus.agents.events import RealtimeError, RealtimeEventInfo


def test_a_servers_error_is_read_leniently() -> None:
    error = RealtimeErrorDetails.of({"message": "No.", "code": 7, "param": None, "more": "x", "event_id": "e1"})
    assert (error.message, error.code, error["event_id"], error.get("param")) == ("No.", None, "e1", None)
    assert str(error) == "No."
    assert len(error) == len(dict(error)) == len(error.model_dump()) == 5
    with pytest.raises(KeyError):
        error["more"]


def test_a_count_is_there_only_where_something_was_counted() -> None:
    assert "count" not in dict(RealtimeErrorDetails())
    assert RealtimeErrorDetails(count=3)["count"] == len([*RealtimeErrorDetails(count=3)]) - 3 == 3


def test_it_has_a_json_form() -> None:
    shown = RealtimeError(RealtimeErrorDetails("No.", "odd"), RealtimeEventInfo(RunContextWrapper(None))).to_json()
    assert shown["error"]["code"] == "odd"
