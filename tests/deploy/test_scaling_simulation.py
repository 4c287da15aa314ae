"""The simulation of days under the chart's autoscaling: the autoscaler's rules, and what they come to."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.scaling.autoscaler import Autoscaler, Bounds
from benchmarks.scaling.chart import cores, gateway_rule, values, worker_rule
from benchmarks.scaling.days import Call, Day, Habits, flash_crowd, node_loss, office_day, recorded
from benchmarks.scaling.gateways import serve
from benchmarks.scaling.workers import work

WIDE = Bounds(1, 100, down_stabilization_s=60, down_pods=1, down_period_s=30)


def test_the_wish_is_the_metric_by_its_target_rounded_up() -> None:
    assert Autoscaler(WIDE).decide(0, 4, 5.1) == 6
    assert Autoscaler(WIDE).decide(0, 4, 2.0, 5.1) == 6, "the highest metric counts"


@pytest.mark.parametrize("load", [3.61, 4.0, 4.39])
def test_within_a_tenth_nothing_changes(load: float) -> None:
    assert Autoscaler(WIDE).decide(0, 4, load) == 4


def test_up_it_goes_by_doubling_or_four_in_fifteen_seconds() -> None:
    scaler = Autoscaler(WIDE)
    assert scaler.decide(0, 2, 50.0) == 6
    assert scaler.decide(5, 6, 50.0) == 6, "within the same fifteen seconds"
    assert scaler.decide(15, 6, 50.0) == 12
    assert scaler.decide(30, 12, 50.0) == 24


def test_down_it_goes_to_the_highest_wish_of_the_window_and_one_by_one() -> None:
    scaler = Autoscaler(WIDE)
    assert scaler.decide(0, 8, 8.0) == 8
    assert scaler.decide(30, 8, 2.0) == 8
    assert scaler.decide(75, 8, 2.0) == 7
    assert scaler.decide(90, 7, 2.0) == 7, "one in thirty seconds"
    assert scaler.decide(105, 7, 2.0) == 6


def test_the_bounds_hold() -> None:
    bounds = replace(WIDE, min_replicas=2, max_replicas=5)
    assert Autoscaler(bounds).decide(0, 4, 50.0) == 5
    assert Autoscaler(bounds).decide(100, 2, 0.0) == 2


def test_calls_are_turned_away_where_all_slots_are_taken_and_not_before() -> None:
    rule = replace(gateway_rule(values()), slots=2, bounds=Bounds(1, 1, 60, 1, 60))
    day = Day("three at once", [Call(1.0, 10.0, ()), Call(2.0, 10.0, ()), Call(3.0, 10.0, ()), Call(12.0, 1.0, ())], 60)
    assert (serve(day, rule).calls, serve(day, rule).rejected) == (4, 1)


def test_sessions_of_a_lost_pod_go_on_where_there_is_room() -> None:
    rule = replace(gateway_rule(values()), slots=10, bounds=Bounds(3, 3, 60, 1, 60))
    calls = [Call(1.0, 100.0, ()) for _ in range(15)]
    assert serve(Day("loss", calls, 120, (50.0,)), rule).cut == 0
    full = [Call(1.0, 100.0, ()) for _ in range(30)]
    assert serve(Day("loss of a full one", full, 120, (50.0,)), rule).cut == 10


def test_a_call_waits_for_the_first_worker_that_is_free() -> None:
    rule = replace(worker_rule(values()), concurrency=1, bounds=Bounds(1, 1, 60, 1, 60))
    calls = [Call(0.0, 20.0, [(1.0, 3.0), (2.0, 1.0)])]
    worked = work(Day("two tools", calls, 30), rule)
    assert (worked.calls, worked.worst_s) == (2, 2.0)


def test_the_charts_own_values_turn_nobody_away_on_an_office_day() -> None:
    habits = Habits()
    day = office_day(5.0, habits, seconds=5400)
    chart = values()
    served = serve(day, gateway_rule(chart))
    assert (served.rejected, served.cut) == (0, 0)
    assert work(day, worker_rule(chart)).p99_s < 0.5
    assert serve(node_loss(5.0, habits, seconds=5400), gateway_rule(chart)).cut == 0


def test_the_charts_utilization_is_a_tenth_below_what_still_turns_nobody_away() -> None:
    rule = gateway_rule(values())

    def rejected(utilization: float) -> int:
        days = (office_day(peak, Habits(), seconds=5400) for peak in (5.0, 8.0))
        return sum(serve(day, replace(rule, target_utilization=utilization)).rejected for day in days)

    own = rule.target_utilization
    assert rejected(round(own + 0.1, 1)) == 0
    assert rejected(round(own + 0.2, 1)) > 0


def test_the_charts_occupancy_is_two_tenths_below_what_still_lets_nothing_wait() -> None:
    rule, day = worker_rule(values()), office_day(8.0, Habits(), seconds=5400)
    assert rule.occupancy is not None
    assert work(day, replace(rule, occupancy=round(rule.occupancy + 0.2, 1))).p99_s < 0.01
    assert work(day, replace(rule, occupancy=round(rule.occupancy + 0.3, 1))).p99_s > 0.1
    # The lag is what somebody waits in already: by it alone calls wait, however few entries it is.
    assert work(day, replace(rule, occupancy=None, lag_per_replica=1)).p99_s > 0.5


def test_the_reserve_is_what_helps_in_a_flash_crowd() -> None:
    rule = gateway_rule(values())
    crowd = flash_crowd(5.0, Habits(), seconds=5400)
    assert serve(crowd, rule).rejected < serve(crowd, replace(rule, reserves=False)).rejected / 2


def test_a_day_is_the_same_each_time() -> None:
    assert office_day(1.0, Habits(), seconds=600) == office_day(1.0, Habits(), seconds=600)


def test_a_recorded_day_is_read_and_a_wrong_line_is_named(tmp_path: Path) -> None:
    file = tmp_path / "monday.csv"
    file.write_text("20.5\n3,60\n\n")
    day = recorded(file, Habits())
    assert [call.at for call in day.calls] == [3.0, 20.5]
    assert day.calls[0].lasts == 60.0
    file.write_text("3\nsoon\n")
    with pytest.raises(ValueError, match=r"monday\.csv, line 2: .* not 'soon'"):
        recorded(file, Habits())


def test_a_pods_cores_are_read_as_kubernetes_writes_them() -> None:
    assert cores({"resources": {"requests": {"cpu": "250m"}}}) == 0.25
    assert cores({"resources": {"requests": {"cpu": 2}}}) == 2
