"""How the benchmarks count."""

from __future__ import annotations

import pytest

from benchmarks import monitor, repair, watching
from tests.runs import Case


def line(*, sick=True, before=(0.1, 0.1, 0.1), after=(0.9, 0.9, 0.9), **rest):
    times = {"seconds": 6.0, "plain_seconds": 2.0, "cpu_seconds": 4.0, "plain_cpu_seconds": 2.0}
    return {
        "case": "c", "sick": sick, "threshold": 0.8, "before": list(before), "after": list(after),
        "kept": ["he-initialization"], "status": "improved", **times, **rest,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("after", "counts"),
    [((0.9, 0.8, 0.9), True), ((0.9, 0.79, 0.9), False), ((0.9, None, 0.9), False)],
)
def test_a_repair_counts_when_every_seed_reaches_the_threshold(after, counts):
    assert repair.repaired(line(after=after)) is counts


def test_a_case_that_could_not_be_treated_is_not_repaired():
    assert not repair.repaired({"sick": True, "threshold": 0.8})


@pytest.mark.parametrize(
    ("before", "after", "counts"),
    [
        ((0.9, 0.9, 0.9), (0.9, 0.7, 0.9), True),
        ((0.9, 0.9, 0.9), (0.9, None, 0.9), True),
        ((0.9, 0.5, 0.9), (0.9, 0.4, 0.9), False),
        ((0.9, 0.9, 0.9), (0.81, 0.81, 0.81), False),
    ],
)
def test_a_healthy_model_is_worse_when_a_seed_no_longer_reaches_it(before, after, counts):
    assert repair.worse(line(sick=False, before=before, after=after)) is counts


def test_the_summary_is_shares_points_and_trainings():
    lines = [
        line(),
        line(before=(0.1, -3.0, None), after=(0.3, 0.2, None)),
        line(sick=False, before=(0.9,), after=(0.9,)),
    ]
    found = repair.summary(lines)

    assert (found["sick"], found["repaired"], found["repaired_share"]) == (2, 1, 0.5)
    assert found["mean_gain_points"] == pytest.approx((3 * 80 + 20 + 20 + 0) / 6, abs=0.1)
    assert (found["mean_trainings_wall"], found["mean_trainings_cpu"]) == (3.0, 2.0)
    assert (found["healthy"], found["healthy_treated"], found["healthy_worse"]) == (1, 1, 0)


def test_the_stretches_of_a_fit_hold_all_its_steps_and_what_follows_the_last():
    steps = [(1.0, 2.0)] * monitor.STEPS + [(0.5, 0.25)]
    found = monitor.stretches(steps)

    assert len(found) == monitor.STEPS // monitor.STRETCH
    assert found[0] == (1.0 * monitor.STRETCH, 2.0 * monitor.STRETCH)
    assert found[-1] == (monitor.STRETCH + 0.5, 2.0 * monitor.STRETCH + 0.25)


def test_the_interval_of_a_median_holds_the_ranks_of_the_binomial_distribution():
    # For 25 values ranks 8 and 18 (Conover 1999, table A3).
    assert monitor.between([float(n) for n in range(1, 26)]) == [8.0, 18.0]


def outcome(names, num_steps, *calls):
    case = Case("c", names, None, lambda: None, num_steps)
    return watching.Outcome(case, 0, num_steps, calls)


def test_runs_called_in_time_by_a_right_name_and_healthy_ones_called():
    found = [
        outcome(("loss-plateau",), 100, (50, "loss-plateau")),
        outcome(("loss-plateau",), 100, (20, "dead-relu"), (51, "loss-plateau")),
        outcome(("loss-plateau",), 100, (51, "loss-plateau")),
        outcome(("loss-plateau",), 100),
        outcome((), 100),
        outcome((), 100, (99, "gradient-spike")),
    ]
    told = watching.rates(found)

    assert (told["doomed"], told["healthy"]) == (4, 2)
    assert (told["called"], told["called_before_half"]) == (0.75, 0.5)
    assert told["rightly_named_before_half"] == 0.25
    assert (told["median_share_at_call"], told["false_alarms"]) == (0.5, 0.5)
