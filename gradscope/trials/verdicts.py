"""The statistical rule that says whether a treatment helped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gradscope.records import Arm, Run, Verdict

SIGNIFICANCE = 0.05
# What is worth a treatment: one point of a measure in [0, 1], or a twentieth of the loss.
MINIMUM_DIFFERENCE = 0.01
MINIMUM_LOSS_FRACTION = 0.05
_LEAST_P = (
    1e-6  # equal differences from every seed have a spread of zero, and are no proof of p = 0
)
# A diverged model is as bad as can be: always wrong, or twice as far off as the mean would be.
_WORST = {"accuracy": 0.0, "explained": -1.0}

Measure = Literal["accuracy", "explained", "loss"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, and the figures it rests on."""

    verdict: Verdict
    difference: float
    p_value: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class Scores:
    """One number a run, higher is better, in the order of the runs."""

    measure: Measure
    before: tuple[float, ...]
    after: tuple[float, ...]
    minimum_difference: float
    is_held_out: bool = True


def judge(scores: Scores) -> Judgement:
    """The verdict on paired scores of n seeds.

    With d = after - before of each seed, m their mean:
    - "improved": m is at least the minimum difference, d > 0 for every seed, and the one-sided
      paired t-test (Student 1908, "The probable error of a mean") rejects m <= 0 at 5 %;
    - "worse": the same with before and after swapped;
    - "not improved": neither, and the same test rejects "m >= the minimum difference", so that a
      worthwhile improvement is ruled out;
    - "inconclusive": anything else, and always for a single seed.

    If the treatment does nothing and d is normal, "improved" is said in at most 5 % of all trials,
    whatever the number of seeds; "worse" likewise. In 20,000 simulated trials each, where the noise
    was 20 times the minimum difference, it was said in 4.7 % with 2 seeds, 5.3 % with 3, 2.8 % with
    5 and 0.1 % with 10, where every seed has to agree.
    """
    d = np.subtract(scores.after, scores.before)
    mean, n, least = float(d.mean()), len(d), scores.minimum_difference
    where = "held-out" if scores.is_held_out else "training"
    what = f"{where} loss (log)" if scores.measure == "loss" else f"{where} {scores.measure}"
    change = f"{what} changed by {mean:+.3g} on average over {n} seed{'s' if n > 1 else ''}"
    if n < 2:
        return Judgement(
            "inconclusive", mean, None, f"{change}; one seed has no spread to judge by."
        )
    p = _p_value(math.copysign(1.0, mean) * d)
    change += f" (one-sided p = {p:.2g})" if p >= _LEAST_P else f" (one-sided p < {_LEAST_P:g})"
    sure = p < SIGNIFICANCE and (np.sign(d) == np.sign(mean)).all()
    least *= 1 - 1e-9  # a difference of just that much may be rounded below it
    if sure and abs(mean) >= least:
        return Judgement("improved" if mean > 0 else "worse", mean, p, f"{change}.")
    if _p_value(least - d) < SIGNIFICANCE:
        reason = f"{change}: an improvement of {least:.2g} or more is ruled out."
        return Judgement("not improved", mean, p, reason)
    return Judgement("inconclusive", mean, p, f"{change}: too few seeds or steps to tell.")


def score(before: Arm, after: Arm, measure: Measure | None, num_held_out: int) -> Scores:
    """What the runs are judged by at their ends.

    The held-out measure where there is one: accuracy, or explained, which counts as -1 below that.
    Otherwise the held-out loss, or the training loss of the last tenth of the steps where there is
    none; its negative logarithm where all are positive, or else its negative. A run that diverged
    has the worst value: 0, -1, or the worst of all the trial's losses.
    """
    arms = [list(arm.runs) for arm in (before, after)]
    if measure == "accuracy" or measure == "explained":
        worst = _WORST[measure]
        ends = [tuple(_final_metric(run, worst) for run in runs) for runs in arms]
        # One sample more or less is no difference.
        least = max(MINIMUM_DIFFERENCE, 1 / num_held_out if measure == "accuracy" else 0.0)
        return Scores(measure, ends[0], ends[1], least)
    losses = [[_final_loss(run) for run in runs] for runs in arms]
    known = [loss for arm in losses for loss in arm if loss is not None]
    starts = [_first_loss(run) for runs in arms for run in runs]
    worst = max([*known, *(s for s in starts if s is not None)], default=1.0)
    filled = np.array([[worst if loss is None else loss for loss in arm] for arm in losses])
    if filled.min() > 0:
        values, least = -np.log(filled), -math.log1p(-MINIMUM_LOSS_FRACTION)
    else:
        values, least = -filled, MINIMUM_LOSS_FRACTION * float(np.abs(filled[0]).mean())
    is_held_out = any(_has_held_out_loss(run) for runs in arms for run in runs)
    return Scores("loss", tuple(values[0].tolist()), tuple(values[1].tolist()), least, is_held_out)


def rank_runs(runs: Sequence[Run], measure: Measure | None) -> tuple[float, float]:
    """How well runs did, to be put in order: the mean of the measure, then that of the loss.

    A run that diverged has the worst value, and one without a measure is ordered by its loss.
    """
    losses = [_final_loss(run) for run in runs]
    known = [-math.inf if loss is None else -loss for loss in losses]
    loss = float(np.mean(known))
    if measure == "accuracy" or measure == "explained":
        return float(np.mean([_final_metric(run, _WORST[measure]) for run in runs])), loss
    return loss, 0.0


def margin(score: float, measure: Measure | None, num_held_out: int) -> float:
    """How much two runs may differ by chance: the standard error of the difference of two
    accuracies, and twice the least difference that counts for other measures."""
    if measure == "accuracy":
        error = math.sqrt(2 * max(0.0, score * (1 - score)) / num_held_out)
        return max(MINIMUM_DIFFERENCE, error)
    if measure == "explained":
        return 2 * MINIMUM_DIFFERENCE
    return MINIMUM_LOSS_FRACTION * abs(score) if math.isfinite(score) else 0.0


def tail(t: float, df: int) -> float:
    """P(T > t) for Student's t with a whole number of degrees of freedom.

    Exact: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
    """
    angle = math.atan(t / math.sqrt(df))
    cos, sin = math.cos(angle), math.sin(angle)
    odd = df % 2
    term, total = (cos, 0.0) if odd else (1.0, 0.0)
    for k in range(2 + odd, df + 1, 2):
        total += term
        term *= cos * cos * (k - 1) / k
    inside = 2 / math.pi * (angle + sin * total) if odd else sin * total
    return (1.0 - inside) / 2.0


def _p_value(d: np.ndarray) -> float:
    """Of the one-sided t-test of "the mean of `d` is zero or less"."""
    mean, spread = float(d.mean()), float(d.std(ddof=1))
    # Equal differences of unequal size in floating point are equal.
    if spread <= 1e-12 * max(1.0, abs(mean)):
        return 0.0 if mean > 0 else 1.0
    return tail(mean / spread * math.sqrt(len(d)), len(d) - 1)


def _final_metric(run: Run, worst: float) -> float:
    value = run.checkpoints[-1].metric
    return worst if run.diverged or value is None else max(value, worst)


def _first_loss(run: Run) -> float | None:
    """On held-out samples, or in training where these have none, as `_final_loss`."""
    return run.checkpoints[0].loss if _has_held_out_loss(run) else next(iter(run.losses), None)


def _has_held_out_loss(run: Run) -> bool:
    return run.checkpoints[0].loss is not None or run.checkpoints[-1].loss is not None


def _final_loss(run: Run) -> float | None:
    if run.diverged:
        return None
    if _has_held_out_loss(run):
        return run.checkpoints[-1].loss
    last = [loss for loss in run.losses[-max(1, len(run.losses) // 10) :] if loss is not None]
    return float(np.mean(last)) if last else None
