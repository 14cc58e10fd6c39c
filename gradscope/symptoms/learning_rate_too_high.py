"""learning-rate-too-high: steps replace the weights, and nothing is learned."""

from __future__ import annotations

import numpy as np

from gradscope.records import Evidence, Finding, Profile, Severity, Skipped
from gradscope.signals import curves as runs
from gradscope.signals.example_runs import example_noise, example_run
from gradscope.symptoms import symptom
from gradscope.thresholds import Threshold

_ID = "learning-rate-too-high"
_FEWEST, _SHARE = 32, 0.05  # steps, and share of those planned, before anything is said
_RECENT = 0.25  # of the run so far


@symptom(
    id=_ID,
    precedence=180,
    summary="every step changes the kernels by so much that nothing is kept",
    why=(
        "A step is good as far as the gradient means something. One that changes a kernel by a "
        "large part of its size leaves that region, and the next gradient only corrects it."
    ),
    measured=(
        "Median over the kernels of the update ratio (norm of a step over norm of the kernel), the "
        "largest of all snapshots, where the loss of the last quarter of the steps is not below "
        "that of the best constant prediction, or of the first step where that is not known."
    ),
    silent=(
        "Long steps that learn: normalised kernels, whose scale does not matter, and the first "
        "steps of an adaptive optimizer; loss and ratio must both be bad."
    ),
    needs=("history",),
    thresholds=(
        Threshold(
            f"{_ID}.warning_ratio",
            0.1,
            "ratio",
            "calibrated",
            "python -m benchmarks.watching",
            "A hundred times the thousandth that is usual (Karpathy, CS231n).",
        ),
        Threshold(
            f"{_ID}.error_ratio",
            1.0,
            "ratio",
            "convention",
            "one step as long as the kernel itself",
            "The start, and whatever was learned, is gone with that step.",
        ),
        Threshold(
            f"{_ID}.warning_level",
            0.95,
            "ratio",
            "calibrated",
            "python -m benchmarks.watching",
            "The loss is not below that of the constant prediction.",
        ),
    ),
    treatments=(
        "learning-rate",
        "gradient-clipping",
        "batch-normalization",
        "target-normalization",
        "adaptive-optimizer",
    ),
    sources=(
        "Karpathy, CS231n lecture notes, Neural networks part 3: ratio of weights to updates",
        "LeCun, Bottou, Orr, Mueller 1998, Efficient BackProp, section 5: rates above 2/lambda",
        "Godbole et al. 2023, Deep Learning Tuning Playbook, on training instability",
    ),
    sick=lambda: example_run([1.4 + v for v in example_noise(60, 0.3)], ratio=0.4, planned=200),
    healthy=lambda: example_run([0.96**n for n in range(60)], ratio=0.4, planned=200),
)
def examine(profile: Profile, limits: dict[str, float]) -> list[Finding] | Skipped:
    history = runs.history_of(profile)
    level = runs.reference_level(profile)
    if not runs.enough(history, _FEWEST, _SHARE):
        return runs.too_early(_ID, history)
    if level is None:
        return Skipped(_ID, runs.NO_LEVEL)
    recent = runs.track(history.loss).after((1 - _RECENT) * history.num_steps).mean
    ratios = [r for r in (runs.usual_ratio(s) for s in history.snapshots) if r is not None]
    if not len(recent) or not ratios:
        return Skipped(_ID, runs.NO_LOSSES if not len(recent) else runs.NO_UPDATES)
    ratio, reached = max(ratios), float(np.median(recent)) / level
    if ratio < limits["warning_ratio"] or reached < limits["warning_level"]:
        return []
    severity: Severity = "error" if ratio >= limits["error_ratio"] else "warning"
    return [
        Finding(
            symptom=_ID,
            severity=severity,
            confidence="medium",
            layers=(),
            culprits=(),
            evidence=(
                Evidence("update_ratio", ratio, limits["warning_ratio"], "ratio"),
                Evidence("loss_level", reached, limits["warning_level"], "ratio"),
            ),
            message=(
                f"A step changed the median kernel by {ratio:.2g} of its norm, and after "
                f"{history.num_steps:,} steps the loss is {reached:.3g} times what a "
                "constant prediction reaches."
            ),
        )
    ]
