"""learning-rate-too-low: the steps of the whole run together cannot move the weights."""

from __future__ import annotations

import numpy as np

from gradscope.records import Curve, Evidence, Finding, History, Profile, Skipped
from gradscope.signals import curves as runs
from gradscope.signals.example_runs import example_run
from gradscope.symptoms import symptom
from gradscope.thresholds import Threshold

_ID = "learning-rate-too-low"
_SHARE = 0.15  # of the planned steps, before anything is said
_FEWEST = 32
_EVEN = 1e4  # a kernel so many times slower than another gets no gradient; that is no rate
_LOST = 0.1  # of the rate with which kernels still moved


def _run(ratio: float, level: float) -> Profile:
    losses = [level * (1 - 1e-4 * n) for n in range(100)]
    return example_run(losses, ratio=ratio, planned=300, constant=1.0)


@symptom(
    id=_ID,
    precedence=190,
    summary="the learning rate is so low that the whole run barely changes the weights",
    why=(
        "The learning rate decides how much one update changes a kernel. If all updates of the "
        "run together change it by only a few percent, the model ends close to where it began."
    ),
    measured=(
        "Update ratio of the fastest kernel (norm of an update over norm of the kernel), summed "
        "over the steps taken and those still planned, as if all went in the same direction. The "
        "inverse is how many runs of this length it takes at least to move a kernel by its own "
        "norm. Reported only if the loss, extrapolated linearly, ends no lower than 90 % of what "
        "a constant prediction reaches (or of the initial loss, where that is not known)."
    ),
    silent=(
        "Fine-tuning and converged models, whose loss is far below a constant prediction's; a "
        "learning rate that is still warming up; kernels without a gradient, which no learning "
        "rate would move; runs of unknown length."
    ),
    needs=("history",),
    thresholds=(
        Threshold(
            f"{_ID}.warning_runs",
            10.0,
            "runs",
            "calibrated",
            "python -m benchmarks.watching",
            "No kernel can move by more than a tenth of its norm in the whole run.",
        ),
        Threshold(
            f"{_ID}.error_runs",
            200.0,
            "runs",
            "convention",
            "ten times the warning",
            "The model ends where it began.",
        ),
        Threshold(
            f"{_ID}.warning_level",
            0.9,
            "ratio",
            "calibrated",
            "python -m benchmarks.watching",
            "At its present pace the run learns a tenth of what it could, at most.",
        ),
    ),
    treatments=("learning-rate", "target-normalization", "adaptive-optimizer", "longer-training"),
    sources=(
        "Karpathy, CS231n lecture notes, Neural networks part 3: ratio of weights to updates",
        "Goodfellow, Bengio, Courville 2016, Deep learning, section 11.4.1",
    ),
    sick=lambda: _run(1e-5, 1.1),
    healthy=lambda: _run(1e-5, 0.2),
)
def examine(profile: Profile, limits: dict[str, float]) -> list[Finding] | Skipped:
    history = runs.history_of(profile)
    budget, losses = runs.num_budget(history), runs.track(history.loss)
    if budget is None:
        return Skipped(_ID, "it is not known how many steps are planned")
    if not runs.enough(history, _FEWEST, _SHARE):
        return runs.too_early(_ID, history)
    if not len(losses.mean):
        return Skipped(_ID, runs.NO_LOSSES)
    if sum(bool(runs.kernel_ratios(s)) for s in history.snapshots) < 2:
        return Skipped(_ID, runs.NO_UPDATES)
    path = _path(history, budget)
    if path is None or runs.is_rising(history.learning_rate):
        return []
    level, at_end = runs.reference_level(profile), _at_end(losses, budget)
    runs_needed, bound = 1.0 / path, limits["warning_runs"]
    if level is None:
        return Skipped(_ID, runs.NO_LEVEL)
    if at_end < limits["warning_level"] * level or runs_needed < bound:
        return []
    return [
        Finding(
            symptom=_ID,
            severity="error" if runs_needed >= limits["error_runs"] else "warning",
            confidence="medium",
            layers=(),
            culprits=(),
            evidence=(
                Evidence("runs_needed", runs_needed, bound, "runs"),
                Evidence("loss_at_end", at_end / level, limits["warning_level"], "ratio"),
            ),
            message=(
                f"All {budget:,} planned steps together can move the fastest kernel by {path:.2g} "
                f"of its norm at most; at its present pace the loss ends at {at_end / level:.3g} "
                "times what a constant prediction reaches."
            ),
        )
    ]


def _path(history: History, budget: int) -> float | None:
    """How far the fastest kernel can get in the whole run; None where that is no matter of rate."""
    known = [(s.step, runs.kernel_ratios(s)) for s in history.snapshots]
    known = [(step, ratios) for step, ratios in known if ratios]
    at, last = next(((s, r) for s, r in reversed(known) if min(r) > 0), known[-1])
    if min(last) <= 0 or max(last) > _EVEN * min(last):
        return None
    if at != known[-1][0] and not _has_fallen(history.learning_rate, at):
        return None
    ends = [step for step, _ in known[1:]] + [budget]
    rates = runs.track(history.learning_rate)
    path, begin = 0.0, 0
    for (step, ratios), end in zip(known, ends, strict=True):
        path += max(ratios) * (end - begin) * _measure_slowing(rates, step, end)
        begin = end
    return path or None


def _measure_slowing(rates: runs.Track, step: int, end: int) -> float:
    """The mean rate from `step` to `end` over that of `step`."""
    taken = rates.after(step - 1).until(end).mean
    return float(taken.mean() / taken[0]) if len(taken) and taken[0] > 0 else 1.0


def _has_fallen(rates: Curve, at: int) -> bool:
    """Whether the rate is far below what it was, so that steps may be lost in rounding."""
    known = runs.track(rates)
    before = known.until(at).mean
    return bool(len(before) and known.mean[-1] < _LOST * before[-1])


def _at_end(losses: runs.Track, budget: int) -> float:
    """Where the loss ends if it goes on in a straight line, which a rate too low makes it do."""
    if len(losses.mean) < 2:
        return float(losses.mean[-1])
    line = np.polynomial.Polynomial.fit(losses.steps, losses.mean, 1)
    return float(line(budget))
