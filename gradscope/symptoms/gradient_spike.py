"""gradient-spike: one gradient many times longer than any before it."""

from __future__ import annotations

import numpy as np

from gradscope.records import Evidence, Finding, Profile, Severity, Skipped
from gradscope.signals import curves as runs
from gradscope.signals.example_runs import example_noise, example_run
from gradscope.symptoms import symptom
from gradscope.thresholds import Threshold

_ID = "gradient-spike"
_BEFORE = 32  # steps that tell how long a gradient may be
_LASTING = 64  # steps for which a spike is reported


def _run(spike: float) -> Profile:
    norms = [1.0 + 0.3 * v for v in example_noise(100, 1.0)]
    norms[80] = spike
    losses = [2.3 * 0.98**n for n in range(100)]
    return example_run(losses, norms=[abs(n) for n in norms], constant=2.3)


@symptom(
    id=_ID,
    precedence=200,
    summary="the gradient of one step is many times larger than any before it",
    why=(
        "Such an update moves the weights far from where the gradient is meaningful. The loss "
        "jumps, and it stays high if units saturate or die."
    ),
    measured=(
        "Norm of all gradients of a step over the largest of all steps before it (at least 32), "
        "within the last 64 steps."
    ),
    silent=(
        "Small batches of a converged model, whose gradients are usually small: spikes no larger "
        "than the gradients at the start are ignored. Gradients that grow over many steps, as "
        "when the loss leaves a plateau."
    ),
    needs=("history",),
    thresholds=(
        Threshold(
            f"{_ID}.warning_ratio",
            10.0,
            "ratio",
            "calibrated",
            "python -m benchmarks.watching",
            "Ten times the largest gradient of the whole run so far.",
        ),
        Threshold(
            f"{_ID}.error_ratio",
            1000.0,
            "ratio",
            "convention",
            "an update a thousand times larger than usual",
            "With plain SGD such an update replaces the weights rather than adjusting them.",
        ),
    ),
    treatments=("gradient-clipping", "learning-rate"),
    sources=(
        "Pascanu, Mikolov, Bengio 2013, arXiv:1211.5063, section 2.3 and 3.2",
        "Godbole et al. 2023, Deep Learning Tuning Playbook, on training instability",
    ),
    sick=lambda: _run(40.0),
    healthy=lambda: _run(4.0),
)
def examine(profile: Profile, limits: dict[str, float]) -> list[Finding] | Skipped:
    history = runs.history_of(profile)
    norms = runs.track(history.gradient_norm)
    if history.num_steps <= _BEFORE:
        return runs.too_early(_ID, history)
    if not len(norms.mean):
        return Skipped(_ID, "no step had a finite gradient norm")
    longest = np.maximum.accumulate(norms.high)[:-1]
    counted = norms.steps[1:] > max(_BEFORE, history.num_steps - _LASTING)
    counted &= (norms.steps[:-1] >= _BEFORE) & (longest > 0)
    if not counted.any():
        return runs.too_early(_ID, history)
    ratios = np.where(counted, norms.high[1:] / np.where(longest > 0, longest, 1.0), 0.0)
    worst = int(ratios.argmax())
    ratio, bound = float(ratios[worst]), limits["warning_ratio"]
    if ratio < bound:
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
                Evidence("ratio", ratio, bound, "ratio"),
                Evidence("gradient_norm", float(norms.high[worst + 1]), float(longest[worst])),
            ),
            message=(
                f"At step {norms.steps[worst + 1]:.0f} the gradient's norm is "
                f"{norms.high[worst + 1]:.3g}, {ratio:.3g} times the largest before it."
            ),
        )
    ]
