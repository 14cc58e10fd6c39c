"""exploding-gradient: the backward signal grows on its way to the first layers."""

from __future__ import annotations

from gradscope.records import Finding, Profile
from gradscope.signals.common import example_chain
from gradscope.signals.flow_findings import SCALE, START, flow_finding
from gradscope.symptoms import symptom
from gradscope.thresholds import Threshold

_ID = "exploding-gradient"
_STEP = ("gradient-clipping", "learning-rate")
_TREATMENTS: dict[str, tuple[str, ...]] = {
    "activation": ("swap-activation", *SCALE, *_STEP, *START),
    "weight": (*START, *SCALE, *_STEP, "swap-activation"),
    "rest": (*SCALE, *_STEP, *START, "swap-activation"),
}


def _sick() -> Profile:
    return example_chain([10.0 ** (6 - k / 2) for k in range(12)], factor=0.7)


def _healthy() -> Profile:
    """Large gradients (targets in the thousands), but equally large in every layer."""
    return example_chain([1e4 * (1 + 0.1 * k) for k in range(12)])


@symptom(
    id=_ID,
    precedence=120,
    summary=(
        "the gradient grows on its way back until the first layers get updates that are far too "
        "large"
    ),
    why=(
        "If the weights multiply the gradient by more than one in every layer, the first layers "
        "get updates that are too large by orders of magnitude: the loss jumps, then turns into "
        "NaN."
    ),
    measured=(
        "L2 norm of dL/d(output) by graph depth. The stretch over which it grows most toward the "
        "input is reported in decades, split into activation derivatives, weights and other "
        "operations."
    ),
    silent=(
        "Gradients that are equally large in all layers (large targets); weights that start at "
        "zero."
    ),
    thresholds=(
        Threshold(
            f"{_ID}.warning_decades",
            3.0,
            "decades",
            "convention",
            "mirrors vanishing-gradient.warning_decades",
            "No single learning rate suits layers whose gradients are 1,000 times apart.",
        ),
        Threshold(
            f"{_ID}.warning_decades_per_layer",
            0.1,
            "decades",
            "calibrated",
            "fresh ResNet101, ResNet152 and NASNetLarge grow by 0.04 to 0.06 a layer, python -m "
            "tests.zoo larger; sick models by 0.22 and more, python -m benchmarks.diagnosis",
            "Below error_decades, slower growth is normal for great depth between normalisations.",
        ),
        Threshold(
            f"{_ID}.error_decades",
            5.0,
            "decades",
            "convention",
            "mirrors vanishing-gradient.error_decades",
            "An update that suits the last layers changes the first by more than their size.",
        ),
    ),
    treatments=_TREATMENTS["weight"],
    sources=(
        "Pascanu, Mikolov, Bengio 2013, arXiv:1211.5063, section 2",
        "He et al. 2015, Delving deep into rectifiers, arXiv:1502.01852, eq. 13",
    ),
    sick=_sick,
    healthy=_healthy,
)
def examine(profile: Profile, limits: dict[str, float]) -> list[Finding]:
    return flow_finding(_ID, profile, limits, _TREATMENTS, growing=True)
