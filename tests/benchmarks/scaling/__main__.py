"""What the chart's autoscaling makes of days of calls: turned away, waiting, and what it costs.

    python -m benchmarks.scaling [--peak 5] [--seconds 86400] [--recorded FILE] [--json]

`--peak` is how many callers come in a second at the busiest time; a call lasts three minutes and calls a tool every
20 s. The first row of each table has the chart's own values; the others change one thing.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.scaling.chart import cores, gateway_rule, values, worker_rule
from benchmarks.scaling.days import DAY_S, Day, Habits, flash_crowd, node_loss, office_day, recorded
from benchmarks.scaling.gateways import GatewayRule, serve
from benchmarks.scaling.workers import WorkerRule, work


def gateway_rules(own: GatewayRule) -> Mapping[str, GatewayRule]:
    """By name; the first is the chart's."""
    return {
        "the chart's values": own,
        "no reserve (HPA on sessions)": replace(own, reserves=False),
        "utilization 0.5": replace(own, target_utilization=0.5),
        "utilization 0.9": replace(own, target_utilization=0.9),
        "half the slots": replace(own, slots=own.slots // 2),
        "reserve 200": replace(own, reserve_sessions=200),
        "pods start in 20 s": replace(own, start_s=20.0),
        "pods start in 180 s": replace(own, start_s=180.0),
        "scale down within a minute": replace(own, bounds=replace(own.bounds, down_stabilization_s=60, down_pods=4)),
    }


def worker_rules(own: WorkerRule) -> Mapping[str, WorkerRule]:
    """By name; the first is the chart's."""
    return {
        "the chart's values": own,
        "lag alone": replace(own, occupancy=None),
        "pending alone": replace(own, lag_per_replica=None),
        "occupancy 0.5": replace(own, occupancy=0.5),
        "occupancy 0.9": replace(own, occupancy=0.9),
        "one pod at least": replace(own, bounds=replace(own.bounds, min_replicas=1)),
        "pods start in 60 s": replace(own, start_s=60.0),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peak", type=float, default=5.0, help="callers in a second at the busiest time")
    parser.add_argument("--seconds", type=int, default=DAY_S, help="how long the synthetic days are")
    parser.add_argument("--recorded", type=Path, help="a day of your own: lines of `at,lasts` in seconds")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    habits = Habits()
    days = [make(options.peak, habits, seconds=options.seconds) for make in (office_day, flash_crowd, node_loss)]
    if options.recorded is not None:
        try:
            days.append(recorded(options.recorded, habits))
        except (OSError, ValueError) as error:
            parser.error(str(error))
    chart = values()
    for day in days:
        print_day(day, chart, as_json=options.json)


def print_day(day: Day, chart: Mapping[str, Any], *, as_json: bool) -> None:
    calls = max(1, len(day.calls))
    gateway_cores, worker_cores = cores(chart["gateway"]), cores(chart["toolWorkerDefaults"])
    served = {name: serve(day, rule) for name, rule in gateway_rules(gateway_rule(chart)).items()}
    worked = {name: work(day, rule) for name, rule in worker_rules(worker_rule(chart)).items()}
    if as_json:
        for kind, results in (("gateways", served), ("workers", worked)):
            for name, result in results.items():
                print(json.dumps({"day": day.name, "of": kind, "setting": name, **asdict(result)}))
        return
    print(f"\n{day.name}: {len(day.calls)} calls in {day.seconds / 3600:.1f} h")
    print(f"  {'gateways':30}{'rejected':>10}{'%':>8}{'cut':>7}{'most pods':>11}{'used':>7}{'core-h/1000 calls':>19}")
    for name, one in served.items():
        share, cost = one.rejected / calls * 100, one.pod_hours * gateway_cores / calls * 1000
        print(f"  {name:30}{one.rejected:10}{share:8.3f}{one.cut:7}{one.most_pods:11}{one.used:7.2f}{cost:19.2f}")
    print(f"  {'tool workers':30}{'p50 s':>10}{'p99 s':>8}{'worst':>7}{'most pods':>11}{'':7}{'core-h/1000 calls':>19}")
    for name, each in worked.items():
        cost = each.pod_hours * worker_cores / calls * 1000
        print(f"  {name:30}{each.p50_s:10.3f}{each.p99_s:8.2f}{each.worst_s:7.1f}{each.most_pods:11}{'':7}{cost:19.2f}")


if __name__ == "__main__":
    main()
