"""loss-plateau: the loss stays where a prediction that does not look at the inputs gets."""

from __future__ import annotations

import numpy as np

from gradscope.records import Evidence, Finding, History, Profile, Skipped
from gradscope.signals import curves as runs
from gradscope.signals import progress
from gradscope.signals.example_runs import example_noise, example_run
from gradscope.symptoms import symptom
from gradscope.thresholds import Threshold

_ID = "loss-plateau"
_GROWN = 2.0  # a loss that doubled is not flat


@symptom(
    id=_ID,
    precedence=230,
    summary="the loss is flat and no lower than that of a constant prediction",
    why=(
        "In a few steps the output's bias learns all that can be predicted without the inputs. A "
        "model whose loss stays there has learned nothing else: its gradient vanishes, its units "
        "are dead, its start is symmetric, or the inputs say nothing about the labels."
    ),
    measured=(
        "Mean loss over the last half of the steps, minus two standard errors, over the loss of "
        "the best constant prediction (batch by batch if a recurrent gradient vanishes); how much "
        "of it the second half of these steps removed, at most; how much the gradient and the "
        "variation of the output grew meanwhile. When all planned steps are taken: whether the "
        "loss is above the constant prediction's, however it moves."
    ),
    silent=(
        "Converged models, which are far below a constant prediction; losses that grow or are NaN "
        "(see loss-divergence); a first plateau that the model is leaving, where the signal "
        "grows; losses so noisy that progress may be hidden, unless a recurrent gradient "
        "vanishes; LSTM and GRU whose output depends on the inputs, which stay flat for long on "
        "memory tasks and succeed in the end."
    ),
    needs=("history",),
    thresholds=(
        Threshold(
            f"{_ID}.warning_level",
            0.97,
            "ratio",
            "calibrated",
            "python -m benchmarks.watching",
            "At most a thirtieth of the constant prediction's loss can have been learned.",
        ),
        Threshold(
            f"{_ID}.ended_level",
            1.0,
            "ratio",
            "derived",
            "the loss of the best constant prediction",
            "A run that ends above it, by two standard errors, has learned nothing of use.",
        ),
        Threshold(
            f"{_ID}.warning_fall",
            0.02,
            "ratio",
            "calibrated",
            "python -m benchmarks.watching",
            "A loss that may be falling faster than this is given time.",
        ),
        Threshold(
            f"{_ID}.leaving_growth",
            1.4,
            "ratio",
            "calibrated",
            "python -m benchmarks.watching",
            "On the way out of a saddle the signal grows exponentially (Saxe et al. 2014, eq. 6).",
        ),
        Threshold(
            f"{_ID}.forgetting_decades",
            2.0,
            "decades",
            "convention",
            "early inputs of a sequence have a hundredth of the influence of late ones",
            "In that case a flat loss counts as flat even if noise could hide slow progress.",
        ),
    ),
    treatments=(
        "swap-activation",
        "batch-normalization",
        "he-initialization",
        "learning-rate",
        "residual-connection",
        "gated-recurrence",
        "target-normalization",
        "adaptive-optimizer",
    ),
    sources=(
        "Glorot and Bengio 2010, section 3: plateaus of sigmoid networks",
        "Saxe, McClelland, Ganguli 2014, arXiv:1312.6120: plateaus that end by themselves",
        "Le, Jaitly, Hinton 2015, arXiv:1504.00941, section 4.1: the adding problem",
        "Hastie, Tibshirani, Friedman 2009, The elements of statistical learning, section 2.4",
    ),
    sick=lambda: example_run([1.2] * 5 + [1.0 + v for v in example_noise(200, 0.002)]),
    healthy=lambda: example_run([1.0] * 5 + [0.05 + v for v in example_noise(200, 0.002)]),
)
def examine(profile: Profile, limits: dict[str, float]) -> list[Finding] | Skipped:
    history = runs.history_of(profile)
    level = runs.constant_level(profile)
    if level is None or level <= 0:
        return Skipped(_ID, runs.NO_LEVEL)
    if not runs.enough(history, progress.FEWEST, progress.SHARE):
        return runs.too_early(_ID, history)
    # What would have to be learned from does not come back through time.
    forgets = progress.sum_losses(history) >= limits["forgetting_decades"]
    half = history.num_steps / 2
    losses = (
        runs.without_luck(history, level, half) if forgets else runs.track(history.loss).after(half)
    ).mean
    if len(losses) < progress.FEWEST_BINS:
        return Skipped(_ID, runs.NO_LOSSES)
    earlier, later = np.array_split(losses, 2)
    ended = (later.mean() - 2.0 * runs.error_of_mean(later)) / level
    if _is_over(profile) and later[-1] > 0 and ended >= limits["ended_level"]:
        return [_report_end(history, float(later.mean()) / level, limits["ended_level"])]
    if runs.is_rising(history.learning_rate):
        return []
    if history.loss.mean[-1] is None or later.mean() > _GROWN * earlier.mean():
        return []
    # Noise may hide that something is learned, unless it is known why nothing is.
    doubt = 2.0 if progress.is_blind(history) or forgets else -2.0
    error = np.hypot(runs.error_of_mean(earlier), runs.error_of_mean(later))
    reached = float(losses.mean() + doubt * runs.error_of_mean(losses)) / level
    fall = float(earlier.mean() - later.mean() - doubt * error) / level
    if reached < limits["warning_level"] or fall > limits["warning_fall"]:
        return []
    if progress.is_leaving(history, limits["leaving_growth"]) or (
        runs.has_gates(profile) and not progress.is_blind(history)
    ):
        return []
    return [_make_finding(history, reached, fall, limits)]


def _is_over(profile: Profile) -> bool:
    """Whether all steps that the user planned are taken; of a rehearsal's own plan it is not."""
    history = runs.history_of(profile)
    is_assumed = profile.rehearsal is not None and profile.rehearsal.epochs is None
    planned = None if is_assumed else history.num_planned_steps
    return planned is not None and history.num_steps >= planned


def _report_end(history: History, reached: float, bound: float) -> Finding:
    return Finding(
        symptom=_ID,
        severity="warning",
        confidence="high",
        layers=(),
        culprits=(),
        evidence=(Evidence("level", reached, bound, "ratio"),),
        message=(
            f"The training ended after {history.num_steps:,} steps no better than a constant "
            f"prediction: its loss is {reached:.3g} times what that reaches."
        ),
    )


def _make_finding(
    history: History, reached: float, fall: float, limits: dict[str, float]
) -> Finding:
    blind = progress.is_blind(history)
    evidence = [
        Evidence("level", reached, limits["warning_level"], "ratio"),
        Evidence("fall", fall, limits["warning_fall"], "ratio"),
    ]
    text = (
        f"After {history.num_steps:,} steps the loss is flat at {reached:.3g} times what a "
        "constant prediction reaches"
    )
    if blind:
        variation = progress.output_variations(history)[-1]
        evidence.append(Evidence("sample_variation", variation, progress.BLIND, "ratio"))
        text += f"; of the output only {variation:.1e} depends on the input"
    return Finding(
        symptom=_ID,
        severity="error" if blind else "warning",
        confidence="high" if blind else "medium",
        layers=(),
        culprits=(),
        evidence=tuple(evidence),
        message=f"{text}.",
    )
