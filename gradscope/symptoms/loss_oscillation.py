"""loss-oscillation: the loss swings to and fro, and gets no lower."""

from __future__ import annotations

import numpy as np

from gradscope.records import Evidence, Finding, Profile, Skipped
from gradscope.signals import curves as runs
from gradscope.signals.example_runs import example_noise, example_run
from gradscope.signals.progress import strongest_swing
from gradscope.symptoms import symptom
from gradscope.thresholds import Threshold

_ID = "loss-oscillation"
_FEWEST, _MOST = 32, 256  # bins that are looked at
_TURN, _FEWEST_A_PART = 8, 8  # parts of the run, in which a turn is looked for; bins of each
Reason = tuple[tuple[Evidence, ...], str]


def _healthy() -> Profile:
    """Noise of small batches: large, and without a period."""
    noise = example_noise(100, 0.5)
    return example_run([float(np.exp(v)) for v in noise])


@symptom(
    id=_ID,
    precedence=220,
    summary="the loss swings up and down at a regular period and gets no lower",
    why=(
        "If the learning rate is near 2 / curvature, each update lands as far beyond the valley "
        "floor as it started before it. With high momentum the weights keep swinging through the "
        "valley. The steps are spent going back and forth."
    ),
    measured=(
        "Spectrum of the log of the loss, detrended, over the last half of the steps (at most 256 "
        "bins): the fraction of the variance in the strongest period, if the swings are large and "
        "their second half is no lower than their first. Also how much of a swing momentum still "
        "leaves after all planned steps, if the loss, in eighths of the run, rises again."
    ),
    silent=(
        "Noise of small batches, which has no period; swings that die out or sit on a falling "
        "loss; learning rate schedules with restarts."
    ),
    needs=("history",),
    thresholds=(
        Threshold(
            f"{_ID}.warning_share",
            0.6,
            "fraction",
            "calibrated",
            "python -m benchmarks.watching",
            "Noise of independent batches puts less than a fifth into any period.",
        ),
        Threshold(
            f"{_ID}.warning_swing",
            0.1,
            "ratio",
            "convention",
            "standard deviation of the log of the loss",
            "The loss changes by 10 % or more with every swing.",
        ),
        Threshold(
            f"{_ID}.warning_level",
            0.9,
            "ratio",
            "convention",
            "loss of the later half of the swings over that of the earlier",
            "If the loss falls along with the swings, training is only rough.",
        ),
        Threshold(
            f"{_ID}.warning_left",
            0.75,
            "fraction",
            "derived",
            "Goh 2017: with momentum b a swing shrinks by sqrt(b) a step",
            "Most of the first swing is still there when the training ends.",
        ),
    ),
    treatments=("momentum", "learning-rate", "input-normalization", "batch-normalization"),
    sources=(
        "LeCun, Bottou, Orr, Mueller 1998, Efficient BackProp, section 5: rates above 2/lambda",
        "Goh 2017, Why momentum really works, doi:10.23915/distill.00006, dynamics of momentum",
        "Cohen et al. 2021, Gradient descent at the edge of stability, arXiv:2103.00065",
        "Fisher 1929, Tests of significance in harmonic analysis, doi:10.1098/rspa.1929.0151",
    ),
    sick=lambda: example_run([1.5 + (-1) ** n * 0.8 for n in range(100)]),
    healthy=_healthy,
)
def examine(profile: Profile, limits: dict[str, float]) -> list[Finding] | Skipped:
    history = runs.history_of(profile)
    losses = runs.track(history.loss).after(history.num_steps / 2).mean[-_MOST:]
    if history.num_steps < 2 * _FEWEST:
        return runs.too_early(_ID, history)
    found = _find_swing(profile, limits) or _find_undamped(profile, limits)
    if found is None and len(losses) < _FEWEST:
        return Skipped(_ID, runs.NO_LOSSES)
    if found is None and (losses <= 0).any():
        return Skipped(_ID, runs.NOT_POSITIVE)
    if found is None:
        return []
    evidence, message = found
    return [Finding(_ID, "warning", "medium", (), (), evidence, message)]


def _find_swing(profile: Profile, limits: dict[str, float]) -> Reason | None:
    history = runs.history_of(profile)
    seen = runs.track(history.loss).after(history.num_steps / 2)
    losses, steps = seen.mean[-_MOST:], seen.steps[-_MOST:]
    if len(losses) < _FEWEST or (losses <= 0).any():
        return None
    logs = np.log(losses)
    spacing = (steps[-1] - steps[0]) / (len(steps) - 1)
    share, period, swing = strongest_swing(logs)
    middle = len(logs) // 4 * 2  # even, as swings of two steps count in pairs
    level = float(np.exp(logs[middle:].mean() - logs[:middle].mean()))
    if share < limits["warning_share"] or swing < limits["warning_swing"]:
        return None
    if level < limits["warning_level"]:
        return None
    evidence = (
        Evidence("share", share, limits["warning_share"], "fraction"),
        Evidence("swing", swing, limits["warning_swing"], "ratio"),
        Evidence("level", level, limits["warning_level"], "ratio"),
    )
    return evidence, (
        f"The loss swings with a period of about {period * spacing:.2g} steps, which makes "
        f"{share:.0%} of its changes, and is {level:.2g} times what it was before."
    )


def _find_undamped(profile: Profile, limits: dict[str, float]) -> Reason | None:
    """A loss that turned upwards under a momentum so great that no swing dies out in this run."""
    momentum, history = profile.model.momentum, runs.history_of(profile)
    planned, losses = runs.num_budget(history), runs.track(history.loss).mean
    if momentum is None or planned is None or len(losses) < _TURN * _FEWEST_A_PART:
        return None
    left = momentum ** (planned / 2)
    if left < limits["warning_left"]:
        return None
    parts = np.array_split(losses, _TURN)
    turn = int(np.argmin([part.mean() for part in parts[:-1]]))
    lowest, since = parts[turn], np.concatenate(parts[turn + 1 :])
    doubt = np.hypot(runs.error_of_mean(lowest), runs.error_of_mean(since))
    if since.mean() < lowest.mean() + doubt:
        return None
    return (Evidence("left", left, limits["warning_left"], "fraction"),), (
        f"The loss rises again, from {lowest.mean():.3g} to {since.mean():.3g}, and a momentum of "
        f"{momentum:g} leaves {left:.0%} of such a swing after the {planned:,} steps planned."
    )
