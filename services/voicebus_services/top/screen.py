"""How a snapshot looks: tables for a terminal, or one JSON object. Pure."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from voicebus.errors import BusError
from voicebus_services.printable import printable
from voicebus_services.session_shown import SessionShown
from voicebus_services.top.cluster import QueueSeen, Snapshot
from voicebus_services.top.recent import LastMinute, Quantiles

_BACKLOG_S: Final = 5.0
# Columns of names, which are cut where a terminal is narrow. Figures are not, nor what a session is asked for by.
_CUT: Final = frozenset({"gateway", "queue", "tool", "outcomes", "agent"})

Rows = list[list[str | Text]]
Part = tuple[Sequence[str], Rows]


def as_json(snapshot: Snapshot) -> dict[str, Any]:
    """The snapshot as one object; sessions as REST shows them, times RFC 3339 in UTC."""
    return {
        "at": _time(snapshot.at),
        "gateways": [asdict(gateway) for gateway in snapshot.gateways],
        "queues": [asdict(queue) for queue in snapshot.queues],
        "last_minute": asdict(snapshot.recent),
        "sessions": [SessionShown.of(seen).model_dump(mode="json") for seen in snapshot.sessions],
    }


def render(snapshot: Snapshot, console: Console | None = None) -> RenderableType:
    """The snapshot as tables; of a screen, the `console`, they share the height: none pushes another one off it."""
    head, parts = _head(snapshot), _parts(snapshot)
    needs = [len(rows) for _, rows in parts]
    shares: Sequence[int] = needs
    if console is not None:
        # A blank line and the names of columns come before each.
        room = console.height - len(console.render_lines(head)) - 2 * len(parts)
        shares = _shares(needs, room)
    tables = (_table(columns, rows, share) for (columns, rows), share in zip(parts, shares, strict=True))
    return Group(head, *(part for table in tables for part in (Text(), table)))


def _shares(needs: Sequence[int], room: int) -> Sequence[int]:
    """How many lines each gets: what it needs, or as many as the others that do not get it, and one at least."""
    shares = [0] * len(needs)
    for left, index in zip(range(len(needs), 0, -1), sorted(range(len(needs)), key=needs.__getitem__), strict=True):
        shares[index] = max(1, min(needs[index], room // left))
        room -= shares[index]
    return shares


def troubled(error: BusError, last: Snapshot | None = None) -> RenderableType:
    """Why there is nothing to be seen, above what was seen last."""
    told = Text(printable(str(error)), style="red")
    return told if last is None else Group(told, Text("It was seen last:"), render(last))


def _head(snapshot: Snapshot) -> Text:
    recent = snapshot.recent
    held = sum(gateway.sessions or 0 for gateway in snapshot.gateways)
    free = sum(gateway.free for gateway in snapshot.gateways if not gateway.draining)
    text = Text(f"voicebus  {_time(snapshot.at)}   sessions {held}   free slots {free}\n", style="bold")
    text.append(
        f"last minute: {recent.started} began, {sum(recent.ended.values())} ended{_counts(recent.ended)}, "
        f"{recent.turns} answers   first audio {_quantiles(recent.first_audio)}   "
        f"first text {_quantiles(recent.first_text)}\n",
        style="not bold",
    )
    text.append(
        f"trips {sum(recent.trips.values())}{_counts(recent.trips)}   "
        f"errors {sum(recent.errors.values())}{_counts(recent.errors)}   "
        f"model reconnects {sum(recent.reconnects.values())}{_counts(recent.reconnects)}",
        style="yellow" if recent.errors or recent.reconnects else "not bold",
    )
    return text


def _parts(snapshot: Snapshot) -> Sequence[Part]:
    """Columns and rows of each table; one that has nothing says so in a row."""
    return (
        (("gateway", "sessions", "free", "state"), _gateways(snapshot) or [[Text("none lives", style="red")]]),
        (("queue", "workers", "waiting", "in hand", "oldest", "dead letters"), _queues(snapshot)),
        (
            ("tool", "calls", "p50", "p95", "most", "outcomes"),
            _tools(snapshot.recent) or [["no call in the last minute"]],
        ),
        (("session", "agent", "status", "for", "events", "gateway"), _sessions(snapshot) or [["no live session"]]),
    )


def _gateways(snapshot: Snapshot) -> Rows:
    rows: Rows = []
    for gateway in snapshot.gateways:
        sessions = "?" if gateway.sessions is None else str(gateway.sessions)
        state = Text("draining", style="yellow") if gateway.draining else Text("full" if gateway.free <= 0 else "open")
        rows.append([_name(gateway.id), sessions, str(gateway.free), state])
    return rows


def _queues(snapshot: Snapshot) -> Rows:
    return [
        [
            _name(queue.name),
            Text(str(queue.workers), style="red" if not queue.workers else ""),
            Text("?" if queue.lag is None else str(queue.lag), style="yellow" if queue.lag else ""),
            str(queue.pending),
            _oldest(queue),
            Text(str(queue.dead), style="yellow" if queue.dead else ""),
        ]
        for queue in snapshot.queues
    ]


def _oldest(queue: QueueSeen) -> Text:
    if not queue.pending:
        return Text("-")
    return Text(f"{queue.oldest_s:.1f} s", style="yellow" if queue.oldest_s > _BACKLOG_S else "")


def _tools(recent: LastMinute) -> Rows:
    rows: Rows = []
    for seen in recent.tools:
        took = seen.took
        figures = ("-", "-", "-") if took is None else (_ms(took.p50), _ms(took.p95), _ms(took.most))
        failed = set(seen.outcomes) - {"ok", "cancelled"}
        outcomes = _name(_counts(seen.outcomes).strip(" ()"), style="yellow" if failed else "")
        rows.append([_name(seen.tool), str(sum(seen.outcomes.values())), *figures, outcomes])
    return rows


def _sessions(snapshot: Snapshot) -> Rows:
    rows: Rows = []
    for seen in snapshot.sessions:
        lasted = max(0, snapshot.at - seen.started_at) // 1000
        rows.append(
            [
                _name(seen.id),
                _name(seen.agent),
                seen.status.value,
                f"{lasted // 60}:{lasted % 60:02}",
                str(seen.seq),
                _name(seen.gateway or "-"),
            ]
        )
    return rows


def _table(columns: Sequence[str], rows: Rows, share: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=column not in _CUT)
    shown = rows if len(rows) <= share else rows[: share - 1]
    for row in shown:
        table.add_row(*row)
    if len(shown) < len(rows):
        table.add_row(Text(f"… {len(rows) - len(shown)} more", style="dim"))
    return table


def _name(text: str, style: str = "") -> Text:
    """What others have named: it commands neither the terminal nor the table, as a plain text with brackets would."""
    return Text(printable(text), style=style, no_wrap=True, overflow="ellipsis")


def _quantiles(found: Quantiles | None) -> str:
    return "-" if found is None else f"p50 {_ms(found.p50)} p95 {_ms(found.p95)}"


def _ms(value: float) -> str:
    return f"{value:.0f} ms" if value < 10_000 else f"{value / 1000:.1f} s"


def _counts(found: dict[str, int]) -> str:
    return f" ({', '.join(f'{printable(name)} {count}' for name, count in found.items())})" if found else ""


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
