"""How the repair benchmark counts."""

from __future__ import annotations

import pytest

from benchmarks import repair


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
