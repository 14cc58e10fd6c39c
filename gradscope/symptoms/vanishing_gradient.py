"""vanishing-gradient: the backward signal dies out on its way to the first layers."""

from __future__ import annotations

from gradscope.records import Finding, Profile
from gradscope.signals.common import example_chain
from gradscope.signals.flow_findings import SCALE, START, flow_finding
from gradscope.symptoms import symptom
from gradscope.thresholds import Threshold

_ID = "vanishing-gradient"
_AROUND = ("residual-connection",)
_TREATMENTS: dict[str, tuple[str, ...]] = {
    "activation": ("swap-activation", *SCALE, *_AROUND, *START),
    "weight": (*START, *SCALE, *_AROUND, "swap-activation"),
    "rest": (*_AROUND, *SCALE, *START, "swap-activation"),
}


def _sick() -> Profile:
    return example_chain([10.0**-k for k in range(12, 0, -1)], activation="sigmoid", factor=0.24)


def _healthy() -> Profile:
    """Converged: every gradient is tiny, and all are equally tiny."""
    return example_chain([1e-9 * (1 + 0.1 * k) for k in range(12)])


@symptom(
    id=_ID,
    precedence=110,
    summary="the gradient shrinks with depth until the first layers do not learn",
    why=(
        "Every layer multiplies the gradient by its activation's derivative and its weights. If "
        "the product stays below one, layers near the input get a gradient that is smaller by "
        "orders of magnitude and stay at their random start."
    ),
    measured=(
        "L2 norm of dL/d(output) by graph depth (a skip connection shortens it). The stretch over "
        "which it falls most is reported in decades, split into activation derivatives, weights "
        "and other operations."
    ),
    silent=(
        "Gradients that are equally small in all layers (a converged model); branches that start "
        "at zero; frozen layers; weights that still change by a tenth of themselves per step."
    ),
    thresholds=(
        Threshold(
            f"{_ID}.warning_decades",
            3.0,
            "decades",
            "literature",
            "AutoTrainer (Zhang et al., ICSE 2021), section 3: first/last gradient ratio < 1e-3",
            "A layer whose gradient is a thousandth of the last one's learns a thousand times "
            "more slowly.",
        ),
        Threshold(
            f"{_ID}.error_decades",
            5.0,
            "decades",
            "derived",
            "float32 rounds changes below 6e-8 of a weight; at a relative step of 1e-3 in the last "
            "layer, 5 decades leave 1e-8 in the first",
            "Updates of the first layers are rounded away.",
        ),
    ),
    treatments=_TREATMENTS["activation"],
    sources=(
        "Hochreiter 1991; Bengio, Simard, Frasconi 1994, doi:10.1109/72.279181",
        "Glorot and Bengio 2010, Understanding the difficulty of training deep feedforward neural "
        "networks, eq. 6 and 14",
    ),
    sick=_sick,
    healthy=_healthy,
)
def examine(profile: Profile, limits: dict[str, float]) -> list[Finding]:
    return flow_finding(_ID, profile, limits, _TREATMENTS, growing=False)
