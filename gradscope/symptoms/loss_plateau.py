"""loss-plateau: the loss stays where a prediction that does not look at the inputs gets."""

from __future__ import annotations

import numpy as np

from gradscope.records import Evidence, Finding, History, Profile, Skipped
from gradscope.symptoms import _history as runs
from gradscope.symptoms import symptom
from gradscope.symptoms._runs import example_noise, example_run
from gradscope.thresholds import Threshold

_ID = "loss-plateau"
_FEWEST, _SHARE = 64, 0.2  # steps, and share of those planned, before anything is said
_BINS = 16
_BLIND, _SEEING = 1e-3, 0.5  # outputs that differ between samples by less, by more


@symptom(
    id=_ID,
    summary="the loss is flat, no lower than a constant prediction gets it",
    why=(
        "The output's bias learns in a few steps what can be known without the inputs. A model "
        "whose loss stays there has learned nothing else: its gradient vanishes, its units are "
        "dead, its start is symmetric, or the inputs say nothing about the labels."
    ),
    measured=(
        "Mean loss over the last half of the steps, less two standard errors, over that of the "
        "best constant prediction on the labels; how much of it the second half of these steps "
        "took away, at most; growth of the gradient, and of the output's variation, in them."
    ),
    silent=(
        "Converged models, which are far below a constant prediction; a first plateau that is "
        "being left, where the signal grows; noisy losses, as long as they may hide that "
        "something is learned; LSTM and GRU whose output depends on the inputs, which on tasks of "
        "memory are flat for long and end well."
    ),
    needs=("history",),
    thresholds=(
        Threshold(
            f"{_ID}.warning_level",
            0.97,
            "ratio",
            "calibrated",
            "python -m benchmarks.watching",
            "At most a thirtieth of the loss of knowing nothing can have been learned.",
        ),
        Threshold(
            f"{_ID}.warning_fall",
            0.02,
            "ratio",
            "calibrated",
            "python -m benchmarks.watching",
            "A loss that may be falling by more than this is given time.",
        ),
        Threshold(
            f"{_ID}.leaving_growth",
            1.4,
            "ratio",
            "calibrated",
            "python -m benchmarks.watching",
            "On the way out of a saddle the signal grows exponentially (Saxe et al. 2014, eq. 6).",
        ),
    ),
    treatments=(
        "swap-activation",
        "batch-normalization",
        "he-initialization",
        "learning-rate",
        "residual-connection",
        "gated-recurrence",
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
        return Skipped(_ID, "it is not known what a constant prediction reaches with this loss")
    if not runs.enough(history, _FEWEST, _SHARE):
        return []
    losses = runs.track(history.loss).after(history.num_steps / 2).mean
    if len(losses) < _BINS or runs.is_rising(history.learning_rate):
        return []
    earlier, later = np.array_split(losses, 2)
    # Noise may hide that something is learned, unless the output says nothing of the inputs.
    doubt = 2.0 if _is_blind(history) else -2.0
    error = np.hypot(runs.error_of_mean(earlier), runs.error_of_mean(later))
    reached = float(losses.mean() + doubt * runs.error_of_mean(losses)) / level
    fall = float(earlier.mean() - later.mean() - doubt * error) / level
    if reached < limits["warning_level"] or fall > limits["warning_fall"]:
        return []
    if _is_leaving(history, limits) or (runs.has_gates(profile) and not _is_blind(history)):
        return []
    return [_finding(history, reached, fall, limits)]


def _is_leaving(history: History, limits: dict[str, float]) -> bool:
    """Whether the gradient grows, or how far the output depends on the inputs."""
    seen = runs.output_variations(history)[-3:]
    growth = limits["leaving_growth"]
    if len(seen) > 1 and _BLIND <= seen[-1] < _SEEING and seen[-1] > growth * min(seen[:-1]):
        return True
    norms = runs.track(history.gradient_norm).after(history.num_steps / 2).mean
    if len(norms) < _BINS:
        return False
    parts = np.array_split(norms, 4)
    return bool(np.median(parts[-1]) > growth * np.median(parts[0]))


def _is_blind(history: History) -> bool:
    """Whether the output hardly depends on the inputs."""
    seen = runs.output_variations(history)
    return bool(seen) and seen[-1] < _BLIND


def _finding(history: History, reached: float, fall: float, limits: dict[str, float]) -> Finding:
    blind = _is_blind(history)
    evidence = [
        Evidence("level", reached, limits["warning_level"], "ratio"),
        Evidence("fall", fall, limits["warning_fall"], "ratio"),
    ]
    text = (
        f"After {history.num_steps:,} steps the loss is flat at {reached:.3g} times what a "
        "constant prediction reaches"
    )
    if blind:
        variation = runs.output_variations(history)[-1]
        evidence.append(Evidence("sample_variation", variation, _BLIND, "ratio"))
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
