"""The rule that says whether a treatment helped, on made-up scores."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from gradscope.records import Arm, Checkpoint, Run
from gradscope.trials import verdicts
from gradscope.trials.verdicts import Scores, judge, score, tail

OPPOSITE = {"improved": "worse", "worse": "improved"}


def paired(before, after, least=0.01):
    return Scores("accuracy", tuple(before), tuple(after), least)


def run(metric=None, loss=None, *, diverged=False, start=2.3, losses=()):
    ends = (Checkpoint(0, start, 0.1), Checkpoint(10, loss, metric))
    return Run(0, 10, tuple(losses), ends, diverged, 0.0)


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        pytest.param((0.10, 0.11, 0.12), (0.90, 0.93, 0.91), "improved", id="clear gain"),
        pytest.param((0.90, 0.93, 0.91), (0.10, 0.11, 0.12), "worse", id="clear loss"),
        pytest.param((0.980, 0.981, 0.979), (0.981, 0.980, 0.980), "not improved", id="healthy"),
        pytest.param((0.1, 0.1, 0.1), (0.1, 0.1, 0.1), "not improved", id="both stuck"),
        pytest.param((0.5, 0.5, 0.5), (0.504, 0.505, 0.506), "not improved", id="sure but small"),
        pytest.param((0.5, 0.6, 0.4), (0.9, 0.55, 0.5), "inconclusive", id="noisy"),
        pytest.param((0.1,), (0.9,), "inconclusive", id="one seed"),
        pytest.param((0.2, 0.2), (0.3, 0.3), "improved", id="equal differences"),
        pytest.param(
            (0.5,) * 10, (0.7,) * 9 + (0.49,), "inconclusive", id="significant but not every seed"
        ),
    ],
)
def test_verdict(before, after, verdict):
    assert judge(paired(before, after)).verdict == verdict


def test_swapping_the_arms_swaps_improved_and_worse():
    rng = np.random.default_rng(0)
    seen = set()
    for spread, gain in itertools.product((0.01, 0.1), (-0.3, 0.0, 0.3)):
        for _ in range(20):
            before, after = rng.normal(0.5, spread, 3), rng.normal(0.5 + gain, spread, 3)
            there, back = (judge(paired(*p)) for p in ((before, after), (after, before)))
            seen.add(there.verdict)
            assert (there.verdict in OPPOSITE) == (back.verdict in OPPOSITE)
            assert OPPOSITE.get(there.verdict, back.verdict) == back.verdict
            assert there.difference == -back.difference
    assert seen >= {"improved", "worse", "inconclusive"}


@pytest.mark.slow
@pytest.mark.parametrize("num_seeds", [2, 3, 5, 10])
def test_false_positives_under_the_null_stay_within_five_percent(num_seeds):
    """4,000 trials of a treatment that does nothing, where noise dwarfs the minimum difference."""
    rng = np.random.default_rng(1)
    before, after = rng.normal(0.5, 0.2, (2, 4000, num_seeds))
    verdicts = [judge(paired(b, a)).verdict for b, a in zip(before, after, strict=True)]

    # Three standard errors of a share of 5 % in 4,000.
    assert verdicts.count("improved") / 4000 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 4000)
    assert verdicts.count("worse") / 4000 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 4000)


@pytest.mark.parametrize("df", range(1, 12))
@pytest.mark.parametrize("t", [-4.0, -0.3, 0.0, 1.0, 2.92, 9.0])
def test_tail_is_the_integral_of_the_density(t, df):
    from math import gamma, pi, sqrt

    u, step = np.linspace(0, np.arctan(abs(t) / sqrt(df)), 20001, retstep=True)
    density = np.cos(u) ** (df - 1)  # substituted x = sqrt(df) tan(u)
    area = step * (density.sum() - (density[0] + density[-1]) / 2)
    constant = gamma((df + 1) / 2) / (sqrt(pi) * gamma(df / 2))

    assert tail(t, df) == pytest.approx(0.5 - np.sign(t) * constant * area, abs=1e-8)


def test_a_diverged_run_has_the_worst_accuracy():
    found = score(Arm((run(0.3, 1.0, diverged=True),)), Arm((run(0.4, 1.0),)), "accuracy", 500)

    assert (found.before, found.after) == ((0.0,), (0.4,))


def test_one_held_out_sample_is_no_difference():
    arm = Arm((run(0.5, 1.0),))

    assert score(arm, arm, "accuracy", 20).minimum_difference == 0.05
    assert score(arm, arm, "accuracy", 2000).minimum_difference == 0.01


def test_explained_counts_as_minus_one_below_that():
    found = score(Arm((run(-30.0, 1.0),)), Arm((run(0.4, 1.0),)), "explained", 500)

    assert (found.before, found.after) == ((-1.0,), (0.4,))


def test_without_a_measure_the_logarithm_of_the_loss_counts():
    found = score(Arm((run(None, 2.0),)), Arm((run(None, 0.5),)), None, 500)

    assert found.measure == "loss"
    assert found.after[0] - found.before[0] == pytest.approx(np.log(4))


def test_a_diverged_run_has_the_worst_loss_of_the_trial():
    before = Arm((run(None, None, diverged=True), run(None, 1.0)))
    found = score(before, Arm((run(None, 0.5), run(None, 0.5))), None, 500)

    assert found.before[0] == pytest.approx(-np.log(2.3))


def test_a_diverged_run_without_a_held_out_loss_has_the_worst_training_loss():
    lost = run(start=None, diverged=True)
    after = Arm((run(start=None, losses=[8.0] + [1.0] * 9), run(start=None, losses=[7.0] * 10)))
    found = score(Arm((lost, lost)), after, None, 500)

    assert found.before == pytest.approx((-np.log(8.0),) * 2)


def test_losses_below_zero_are_compared_as_they_are():
    found = score(Arm((run(None, -1.0),)), Arm((run(None, -2.0),)), None, 500)

    assert (found.before, found.after) == ((1.0,), (2.0,))
    assert found.minimum_difference == pytest.approx(0.05)


def test_without_a_held_out_loss_the_end_of_the_training_loss_counts():
    arm = Arm((run(start=None, losses=[4.0] * 18 + [1.0, 3.0]),))

    assert score(arm, arm, None, 500).before == pytest.approx((-np.log(2.0),))


# ---- putting runs in order


def ended(metric, loss, diverged=False):
    points = (Checkpoint(0, 2.0, 0.1), Checkpoint(5, 1.5, 0.3), Checkpoint(10, loss, metric))
    return Run(0, 10, (1.0,) * 10, points, diverged, 0.1)


def test_standing_is_the_mean_of_the_measure_then_of_the_loss():
    pair = [ended(0.8, 0.5), ended(0.6, 0.7)]

    assert verdicts.rank_runs(pair, "accuracy") == pytest.approx((0.7, -0.6))
    assert verdicts.rank_runs(pair, None) == pytest.approx((-0.6, 0.0))


def test_a_diverged_run_stands_last():
    lost = verdicts.rank_runs([ended(None, None, diverged=True)], "explained")

    assert lost[0] == -1.0
    assert lost < verdicts.rank_runs([ended(-0.9, 9.0)], "explained")


def test_the_margin_is_the_standard_error_of_a_difference_of_two_accuracies():
    rng = np.random.default_rng(0)
    pairs = rng.binomial(100, 0.9, (20_000, 2)) / 100
    naive = float(np.std(pairs[:, 0] - pairs[:, 1]))

    assert verdicts.margin(0.9, "accuracy", 100) == pytest.approx(naive, rel=0.02)
    assert verdicts.margin(1.0, "accuracy", 100) == 0.01
