"""The sizing on the operators' page: its second table follows from the first one's figures."""

import re
from pathlib import Path

import yaml

from benchmarks.sizing.__main__ import PLANS
from benchmarks.sizing.plan import Figures, Habits, plan, rows

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


def test_twice_the_calls_need_about_twice_as_much() -> None:
    one, two = plan(50_000, figures()), plan(100_000, figures())
    for name in ("gateway_cores", "redis_commands", "redis_mbit", "redis_gb", "postgres_rows", "postgres_gb_day"):
        assert abs(getattr(two, name) / getattr(one, name) - 2) < 0.001, name
    assert two.cost_per_call == one.cost_per_call


def test_idle_callers_cost_no_tool_workers() -> None:
    quiet = plan(10_000, figures(), Habits(tool_calls_per_minute=0))
    assert (quiet.tool_workers, quiet.tool_worker_cores) == (0, 0)
