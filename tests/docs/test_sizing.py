"""The sizing on the operators' page: its second table follows from the first one's figures."""

import re
from pathlib import Path

import yaml

from benchmarks.sizing.__main__ import PLANS
from benchmarks.sizing.plan import GB, Figures, Habits, plan, rows
from voicebus_services.settings import ArchiverSettings

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/operations.md").read_text(encoding="utf-8")


def figures() -> Figures:
    found = re.findall(r"^\| `(\w+)` \| ([\d.e+]+) \|", PAGE, re.MULTILINE)
    return Figures(**{name: float(value) for name, value in found if name in Figures.__dataclass_fields__})


def test_every_need_on_the_page_follows_from_the_measured_figures() -> None:
    # The page's figures are rounded, so the last digit of what follows may differ.
    for name, values in rows([plan(calls, figures()) for calls in PLANS]):
        line = re.search(rf"^\| {re.escape(name)} \| (.*) \|$", PAGE, re.MULTILINE)
        assert line is not None, name
        for told, follows in zip(line[1].split(" | "), values, strict=True):
            wanted, got = (float(text.replace(",", "")) for text in (told, follows))
            assert abs(wanted - got) <= max(1e-6, 0.002 * got) + (0.1 if got < 100 and "." in told else 0), name


def test_the_plan_takes_gateways_workers_and_shards_as_the_chart_makes_them() -> None:
    chart = yaml.safe_load((ROOT / "helm/voicebus/values.yaml").read_text(encoding="utf-8"))
    habits, gateway = Habits(), chart["gateway"]
    assert habits.sessions_per_gateway == gateway["maxSessions"]
    assert habits.calls_per_worker == chart["toolWorkerDefaults"]["concurrency"]
    assert plan(1, figures()).shards == chart["redis"]["eventShards"]
    # A full pod wants what it asks the node for, and fits its limit of memory.
    assert habits.sessions_per_gateway * figures().gateway_ms / 1000 / habits.full <= float(
        gateway["resources"]["requests"]["cpu"]
    )
    scaled = f"{-(-100_000 // int(gateway['maxSessions'] * gateway['scaling']['targetUtilization']))} pods"
    most = f"{gateway['maxSessions'] * gateway['scaling']['maxReplicas']:,} calls are the end"
    assert scaled in PAGE
    assert most in PAGE


def test_what_is_said_of_each_row_follows_too() -> None:
    f, h, of = figures(), Habits(), plan(100_000, figures())
    calls = of.calls * h.tool_calls_per_minute / 60
    items = h.minutes * 2 * (h.turns_per_minute + h.tool_calls_per_minute)
    records = h.minutes * h.tool_calls_per_minute
    session = f.redis_state + items * f.redis_item + records * f.call_redis_bytes
    day = of.calls / (h.minutes * 60) * h.busy_hours_per_day * 3600
    pod_gb = (f.gateway_process_mb + h.sessions_per_gateway * f.gateway_mb) / 1000
    told = {
        "Gateways": [
            f"{of.calls:,} / {h.sessions_per_gateway}",
            f"= {of.gateways} pods",
            f"1000 / {f.gateway_ms:.1f} ms x {h.full:.0%} = {1000 / f.gateway_ms * h.full:.0f} conversations",
            f"{pod_gb:.1f} GB of the 0.5",
        ],
        "Tool workers": [
            f"are {calls:,.0f} a second",
            f"{of.tool_workers} pods",
            f"{f.call_worker_us:.0f} us a call, {calls * f.call_worker_us / 1e6:.2f} cores of work",
        ],
        "Guardrail workers": [f"{f.guardrail_ms:.2f} ms a second"],
        "Redis": [
            f"{of.calls:,} x {f.redis_ms:.3f} ms + {calls:,.0f} x {f.call_redis_us:.0f} us",
            f"= {of.redis_cores * h.full:.0f} cores of work",
            f"{of.redis_masters} masters",
            f"{round(of.redis_commands / of.redis_masters, -2):,.0f} commands/s",
            f"{of.redis_mbit / of.redis_masters:.0f} Mbit/s",
        ],
        "Event shards": [
            f"about {h.sessions_per_shard:,} conversations each",
            f"{h.sessions_per_shard * h.events_per_second:.0f} events/s",
            f"of the {round(1e6 / f.event_archiver_us, -3):,.0f} that",
            f"gets some of them: {of.shards}",
        ],
        "Redis' memory": [
            f"{h.minutes * 2 * h.turns_per_minute:.0f} lines and {records:.0f} calls",
            f"{f.redis_state / 1000:.1f} kB + {items:.0f} x {f.redis_item / 1000:.2f} kB",
            f"{records:.0f} records of {f.call_redis_bytes / 1000:.1f} kB = {session / 1000:.0f} kB",
            f"({f.event_redis_bytes:.0f} bytes each) has room while PostgreSQL is away, {of.redis_events_gb:.0f} GB",
            f"{day / 1e6:.0f} million a busy day, {of.redis_gb:.0f} GB over {of.redis_masters} masters",
            f"{of.redis_gb / of.redis_masters:.0f} GB each",
        ],
        "Archivers and PostgreSQL": [
            f"{60 * h.events_per_second:.0f} events a minute",
            f"{round(of.postgres_rows, -3):,.0f} a second",
            f"{of.postgres_cores:.1f} cores and {of.postgres_gb_day / 1000:.1f} TB a day",
            f"({f.event_row_bytes:.0f} bytes an event)",
        ],
        "Cost": [
            f"{h.core_hour} a core-hour",
            f"{h.memory_gb_hour} an hour",
            f"{h.gb_month} for a month of a GB",
            f"{of.cost_per_call:.6f} a call of five minutes, {of.calls * of.cost_per_call:.1f} for {of.calls:,}",
        ],
    }
    assert of.archivers == 7  # in words on the page
    for row, words in told.items():
        line = re.search(rf"^- \*\*{re.escape(row)}\*\*.*$", PAGE, re.MULTILINE)
        assert line is not None, row
        assert [word for word in words if word.replace("0%", "0 %") not in line[0]] == [], row


def test_how_long_postgresql_may_be_away_follows_too() -> None:
    f = figures()
    room = ArchiverSettings.model_fields["events_max_bytes"].default / f.event_redis_bytes
    hours, tens, hundreds = (room / plan(calls, f).postgres_rows / 3600 for calls in PLANS)
    assert (round(room / 1e6), round(hours), round(tens * 60), int(hundreds * 60)) == (13, 11, 65, 6)
    assert "4 GiB are 13 million events" in PAGE
    assert "eleven hours at 1,000 calls at once, in 65 minutes at 10,000 and in six minutes at 100,000" in PAGE
    of = plan(100_000, f)
    more = of.redis_events_gb / (of.redis_gb - of.redis_events_gb)
    assert f"{100 * more:.0f} % more for each further hour" in PAGE
    assert of.redis_events_gb == of.postgres_rows * 3600 * f.event_redis_bytes / GB


def test_what_the_cost_leaves_out_is_as_much_as_the_page_says() -> None:
    h, of = Habits(), plan(100_000, figures())
    chart = yaml.safe_load((ROOT / "helm/voicebus/values.yaml").read_text(encoding="utf-8"))
    room = (1 / chart["gateway"]["scaling"]["targetUtilization"] - 1) * of.gateway_cores
    assert round(of.cost_per_call / (room * h.core_hour * h.minutes / 60 / of.calls)) == 8  # in words on the page
    assert 0.01 * h.minutes > 1000 * of.cost_per_call


def test_a_conversation_in_redis_grows_with_what_is_said_and_called() -> None:
    short, long = (plan(10_000, figures(), Habits(minutes=minutes)) for minutes in (5.0, 50.0))
    # A tenth as many end in a day, each ten times as long: what a conversation has however short it is counts less.
    assert 0.8 * short.redis_gb < long.redis_gb < short.redis_gb
    silent = plan(10_000, figures(), Habits(tool_calls_per_minute=0))
    assert silent.redis_gb < short.redis_gb


def test_twice_the_calls_need_about_twice_as_much() -> None:
    one, two = plan(50_000, figures()), plan(100_000, figures())
    for name in ("gateway_cores", "redis_commands", "redis_mbit", "redis_gb", "postgres_rows", "postgres_gb_day"):
        assert abs(getattr(two, name) / getattr(one, name) - 2) < 0.001, name
    assert two.cost_per_call == one.cost_per_call


def test_idle_callers_cost_no_tool_workers() -> None:
    quiet = plan(10_000, figures(), Habits(tool_calls_per_minute=0))
    assert (quiet.tool_workers, quiet.tool_worker_cores) == (0, 0)
