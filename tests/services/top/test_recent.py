"""What the last minute's events come to."""

from typing import Any

import pytest

from voicebus.contracts.envelope import Entry
from voicebus.errors import ContractError
from voicebus_services.top.recent import Quantiles, Recent

NOW = 1_000_000


def entry(kind: str, at: int = NOW, **data: Any) -> Entry:
    return Entry(id="1", type=kind, session="s", epoch=1, at=at, data=data, seq=1)


def test_latencies_are_of_the_answers_that_have_them() -> None:
    recent = Recent()
    for value in range(1, 101):
        recent.add(entry("turn_ended", latencies={"first_audio": float(value)}))
    recent.add(entry("turn_ended", latencies={"first_text": 7.0}))
    recent.add(entry("turn_ended"))
    seen = recent.seen(NOW)
    assert seen.turns == 102
    assert seen.first_audio == Quantiles(100, 51.0, 96.0, 100.0)
    assert seen.first_text == Quantiles(1, 7.0, 7.0, 7.0)


def test_what_is_older_than_a_minute_is_forgotten_wherever_it_stood() -> None:
    recent = Recent()
    recent.add(entry("session_started"))
    recent.add(entry("session_started", at=NOW - 61_000))
    recent.add(entry("session_ended", at=NOW - 59_000, reason="hangup"))
    seen = recent.seen(NOW)
    assert (seen.started, seen.ended) == (1, {"hangup": 1})
    assert recent.seen(NOW + 60_001).started == 0


def test_tools_are_told_by_how_often_they_were_called() -> None:
    recent = Recent()
    for outcome, took in (("ok", 10), ("ok", 30), ("timeout", 50)):
        recent.add(entry("tool_end", tool="price", outcome=outcome, started_ms=0, ended_ms=took))
    recent.add(entry("tool_end", tool="weather", outcome="ok", started_ms=0, ended_ms=1))
    price, weather = recent.seen(NOW).tools
    assert (price.tool, price.outcomes, price.took) == ("price", {"ok": 2, "timeout": 1}, Quantiles(3, 30, 50, 50))
    assert weather.tool == "weather"


def test_trips_errors_and_reconnects_are_counted_by_what_they_were() -> None:
    recent = Recent()
    recent.add(entry("guardrail_tripped", guardrails=["manners", "money"]))
    recent.add(entry("error", code="server_error"))
    recent.add(entry("model_reconnecting", cause="dropped", attempt=1))
    recent.add(entry("item_recorded", text="what is said is nobody's business here"))
    seen = recent.seen(NOW)
    assert seen.trips == {"manners": 1, "money": 1}
    assert (seen.errors, seen.reconnects) == ({"server_error": 1}, {"dropped": 1})


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("turn_ended", {"latencies": [1]}),
        ("turn_ended", {"latencies": {"first_audio": "soon"}}),
        ("session_ended", {"reason": {}}),
        ("session_ended", {}),
        ("tool_end", {"tool": "t", "outcome": [], "started_ms": 0, "ended_ms": 1}),
        ("tool_end", {"tool": "t", "outcome": "ok", "started_ms": None, "ended_ms": 1}),
        ("guardrail_tripped", {"guardrails": 3}),
        ("error", {"code": None}),
    ],
)
def test_an_event_of_the_wrong_form_is_refused_and_changes_nothing(kind: str, data: dict[str, Any]) -> None:
    recent = Recent()
    with pytest.raises(ContractError, match=kind):
        recent.add(entry(kind, **data))
    assert recent.seen(NOW) == Recent().seen(NOW)


def test_nothing_has_no_latency() -> None:
    seen = Recent().seen(NOW)
    assert (seen.first_audio, seen.tools, seen.turns) == (None, [], 0)
