"""learning-rate-too-high: steps replace the weights, and nothing is learned, or units die."""

from __future__ import annotations

import numpy as np

from gradscope.records import Evidence, Finding, Profile, Severity, Skipped
from gradscope.signals import curves as runs
from gradscope.signals.common import consumers, names
from gradscope.signals.example_runs import example_noise, example_run
from gradscope.signals.rehearsals import has_learned
from gradscope.signals.units import dead_share, find_longest_seen
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
        "large part of its size leaves that region, and the next gradient only corrects it. It can "
        "also put rectifier units where they are off for every sample, for good."
    ),
    measured=(
        "Median over the kernels of the update ratio (norm of a step over norm of the kernel), the "
        "largest of all snapshots, where the loss of the last quarter of the steps is not below "
        "that of the best constant prediction, or of the first step where that is not known. Of a "
        "loss whose constant level is not known also the units of each layer that were on for some "
        "sample in the first snapshot and are off for all of the last 32."
    ),
    silent=(
        "Long steps that learn: normalised kernels, whose scale does not matter, and the first "
        "steps of an adaptive optimizer; loss (or what is left of a layer) and ratio must both be "
        "bad. Sparsity that grows at usual steps."
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
        Threshold(
            f"{_ID}.warning_dead_fraction",
            0.5,
            "fraction",
            "convention",
            "as dead-relu.warning_fraction",
            "Half of a layer's units died in the run.",
        ),
        Threshold(
            f"{_ID}.error_dead_fraction",
            0.9,
            "fraction",
            "derived",
            "as dead-relu.error_fraction",
            "Next to nothing gets through the layer any more.",
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
        "Karpathy, CS231n lecture notes, Neural networks part 1: a rate set too high can kill as "
        "much as 40 % of the ReLU units",
        "LeCun, Bottou, Orr, Mueller 1998, Efficient BackProp, section 5: rates above 2/lambda",
        "Godbole et al. 2023, Deep Learning Tuning Playbook, on training instability",
    ),
    sick=lambda: example_run([1.4 + v for v in example_noise(60, 0.3)], ratio=0.4, planned=200),
    healthy=lambda: example_run([0.96**n for n in range(60)], ratio=0.4, planned=200),
)
def examine(profile: Profile, limits: dict[str, float]) -> list[Finding] | Skipped:
    history = runs.history_of(profile)
    ratios = [r for r in (runs.usual_ratio(s) for s in history.snapshots) if r is not None]
    ratio = max(ratios, default=0.0)
    died = _measure_deaths(profile, limits["warning_dead_fraction"])
    if died and ratio >= limits["warning_ratio"] and _is_blind(profile):
        return [_make_finding(ratio, died, None, profile, limits)]
    level = runs.reference_level(profile)
    if not runs.enough(history, _FEWEST, _SHARE):
        return runs.too_early(_ID, history)
    if level is None:
        return Skipped(_ID, runs.NO_LEVEL)
    recent = runs.track(history.loss).after((1 - _RECENT) * history.num_steps).mean
    if not len(recent) or not ratios:
        return Skipped(_ID, runs.NO_LOSSES if not len(recent) else runs.NO_UPDATES)
    reached = float(np.median(recent)) / level
    if ratio < limits["warning_ratio"] or reached < limits["warning_level"]:
        return []
    return [_make_finding(ratio, died, reached, profile, limits)]


def _is_blind(profile: Profile) -> bool:
    """Whether nothing tells what the loss comes to; then layers that died must."""
    learned = profile.rehearsal is not None and has_learned(profile.rehearsal)
    return runs.constant_level(profile) is None and not learned


def _measure_deaths(profile: Profile, bound: float) -> dict[str, float]:
    """Of layers that were alive in the first snapshot: the share of live units that died since."""
    history, takers = runs.history_of(profile), consumers(profile)
    start = {row.id: dead_share(row) for s in history.snapshots[:1] for row in s.layers}
    alive = [row for row in profile.layers if takers[row.id] and start.get(row.id, 1.0) <= bound]
    shares = {
        row.id: (dead_share(row) - start[row.id]) / (1.0 - start[row.id])
        for row in find_longest_seen(alive, history)
    }
    return {id: share for id, share in shares.items() if share > bound}


def _make_finding(
    ratio: float,
    died: dict[str, float],
    reached: float | None,
    profile: Profile,
    limits: dict[str, float],
) -> Finding:
    """`reached`: the loss as a multiple of the constant prediction's; None where not known."""
    most = max(died.values(), default=0.0)
    is_error = ratio >= limits["error_ratio"] or most >= limits["error_dead_fraction"]
    severity: Severity = "error" if is_error else "warning"
    evidence = [Evidence("update_ratio", ratio, limits["warning_ratio"], "ratio")]
    told = []
    if reached is not None:
        evidence.append(Evidence("loss_level", reached, limits["warning_level"], "ratio"))
        told.append(f"the loss is {reached:.3g} times what a constant prediction reaches")
    if died:
        bound = limits["warning_dead_fraction"]
        evidence += [Evidence("died_fraction", v, bound, "fraction", id) for id, v in died.items()]
        told.append(f"up to {most:.0%} of the units of {names(list(died))} died")
    return Finding(
        symptom=_ID,
        severity=severity,
        confidence="medium",
        layers=tuple(died),
        culprits=(),
        evidence=tuple(evidence),
        message=(
            f"A step changed the median kernel by {ratio:.2g} of its norm, and after "
            f"{runs.history_of(profile).num_steps:,} steps {', and '.join(told)}."
        ),
    )
