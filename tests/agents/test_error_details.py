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


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (RealtimeErrorDetails("No.", "odd", "model_error"), {"code": "odd", "message": "No.", "source": "model"}),
        (
            RealtimeErrorDetails("No.", "odd", param="p", event_id="e", count=3),
            {"code": "odd", "message": "No.", "source": "error", "param": "p", "event_id": "e", "count": 3},
        ),
        (ValueError("broken"), {"code": None, "message": "broken"}),
    ],
)
def test_it_has_the_json_form_of_the_native_face(error: object, shown: dict[str, object]) -> None:
    event = RealtimeError(error, RealtimeEventInfo(RunContextWrapper(None)), seq=2)
    assert event.to_json() == {"type": "error", "seq": 2, **shown}
