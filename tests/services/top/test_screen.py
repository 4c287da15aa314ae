"""How a snapshot looks in a terminal, and as JSON."""

import json
import re
from dataclasses import replace
from io import StringIO

from rich.console import Console

from voicebus.adapters.redis.directory import SessionSeen, Status
from voicebus_services.top.cluster import GatewaySeen, QueueSeen, Snapshot
from voicebus_services.top.recent import LastMinute, Quantiles, ToolSeen
from voicebus_services.top.screen import _shares, as_json, render

AT = 1_790_000_000_000
NOTHING = LastMinute(0, {}, 0, None, None, [], {}, {}, {})


def text(snapshot: Snapshot) -> str:
    console = Console(width=140, color_system=None, record=True, file=StringIO())
    console.print(render(snapshot))
    return console.export_text()


def test_a_busy_cluster_shows_its_sessions_queues_tools_and_latencies() -> None:
    recent = LastMinute(
        started=3, ended={"hangup": 2}, turns=9, first_audio=Quantiles(9, 420.0, 900.0, 12_345.0), first_text=None,
        tools=[ToolSeen("price", Quantiles(2, 25.0, 12_000.0, 12_000.0), {"ok": 1, "timeout": 1})],
        trips={"manners": 1}, errors={"server_error": 2}, reconnects={},
    )  # fmt: skip
    shown = text(
        Snapshot(
            AT,
            [GatewaySeen("gw-1", 12, 488, draining=False), GatewaySeen("gw-2", None, 0, draining=True)],
            [QueueSeen("default", 0, 7, 2, 6.5, 1), QueueSeen("events", 2, None, 0, 0.0, 0)],
            [SessionSeen("01ABC", "desk", Status.ACTIVE, "gw-1", AT - 75_000, None, None, 41)],
            recent,
        )
    )
    assert "sessions 12   free slots 488" in shown
    assert "3 began, 2 ended (hangup 2), 9 answers   first audio p50 420 ms p95 900 ms   first text -" in shown
    assert "trips 1 (manners 1)   errors 2 (server_error 2)   model reconnects 0" in shown
    lines = [line.split() for line in shown.splitlines()]
    assert ["gw-1", "12", "488", "open"] in lines
    assert ["gw-2", "?", "0", "draining"] in lines
    assert ["default", "0", "7", "2", "6.5", "s", "1"] in lines
    assert ["events", "2", "?", "0", "-", "0"] in lines
    assert ["price", "2", "25", "ms", "12.0", "s", "12.0", "s", "ok", "1,", "timeout", "1"] in lines
    assert ["01ABC", "desk", "active", "1:15", "41", "gw-1"] in lines


def test_names_as_kubernetes_makes_them_leave_room_for_figures_on_a_screen_of_80_columns() -> None:
    gateway = "calls-voicebus-gateway-6d5f8c9b7d-abcde-1-0a1b2c"
    session = "01M8NCREFME48199BY64PHGWG3"
    tool = ToolSeen("a_tool_of_a_long_name", Quantiles(909, 25.0, 12_000.0, 12_000.0), {"ok": 900, "timeout": 9})
    snapshot = Snapshot(
        AT,
        [GatewaySeen(gateway, 200, 50, draining=False)],
        [QueueSeen("reservations-of-the-front-desk", 2, 7, 2, 6.5, 1)],
        [SessionSeen(session, "reservations", Status.ACTIVE, gateway, AT - 75_000, None, None, 1410)],
        replace(NOTHING, tools=[tool]),
    )
    console = Console(width=80, height=24, color_system=None, record=True, file=StringIO())
    console.print(render(snapshot, console))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    (row,) = [line for line in lines if line.startswith("a_tool")]
    assert row.split()[1:8] == ["909", "25", "ms", "12.0", "s", "12.0", "s"]
    (row,) = [line for line in lines if line.startswith(session)]
    assert row.split()[2:5] == ["active", "1:15", "1410"]


def test_names_of_others_command_neither_the_table_nor_the_terminal() -> None:
    name = "[/b] [red]\x1b[2J"
    seen = SessionSeen(name, name, Status.ACTIVE, name, AT, None, None, 1)
    recent = replace(NOTHING, tools=[ToolSeen(name, None, {name: 1})], errors={name: 1})
    gateways, queues = [GatewaySeen(name, 1, 1, draining=False)], [QueueSeen(name, 1, 0, 0, 0.0, 0)]
    shown = text(Snapshot(AT, gateways, queues, [seen], recent))
    assert shown.count("[/b] [red]\ufffd[2J") == 8


def test_an_empty_cluster_says_so() -> None:
    shown = text(Snapshot(AT, [], [], [], NOTHING))
    assert "none lives" in shown
    assert "no call in the last minute" in shown
    assert "no live session" in shown


def test_the_same_is_one_json_object() -> None:
    seen = SessionSeen("01ABC", "desk", Status.IDLE, None, AT, None, None, 1)
    made = json.loads(json.dumps(as_json(Snapshot(AT, [GatewaySeen("g", 1, 2, False)], [], [seen], NOTHING))))
    assert made["at"] == "2026-09-21T14:13:20Z"
    assert made["gateways"] == [{"id": "g", "sessions": 1, "free": 2, "draining": False}]
    assert (made["sessions"][0]["id"], made["sessions"][0]["status"]) == ("01ABC", "idle")
    assert made["last_minute"]["turns"] == 0


def test_what_does_not_fit_a_screen_is_counted_and_pushes_nothing_off_it() -> None:
    gateways = [GatewaySeen(f"gateway-{number}", number, 5, False) for number in range(40)]
    queues = [QueueSeen(name, 1, 0, 0, 0.0, 0) for name in ("default", "guardrails", "events")]
    sessions = [SessionSeen(f"s{number}", "desk", Status.ACTIVE, "g", AT, None, None, 1) for number in range(3)]
    console = Console(width=80, height=24, file=StringIO())
    lines = console.render_lines(render(Snapshot(AT, gateways, queues, sessions, NOTHING), console))
    assert len(lines) <= 24
    shown = "\n".join("".join(part.text for part in line) for line in lines)
    for what in ("gateway-0", "default", "events", "no call in the last minute", "s2"):
        assert what in shown
    (more,) = re.findall(r"… (\d+) more", shown)
    assert int(more) + len(re.findall(r"^gateway-\d+ ", shown, re.MULTILINE)) == 40


def test_lines_of_a_screen_are_shared_by_those_that_want_more_than_there_are() -> None:
    assert _shares([2, 40, 1, 30], 20) == [2, 9, 1, 8]
    assert _shares([2, 3, 1, 4], 20) == [2, 3, 1, 4]
    assert _shares([5, 5, 5, 5], 2) == [1, 1, 1, 1]
