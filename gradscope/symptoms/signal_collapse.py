"""signal-collapse: the forward signal fades with depth, or no longer depends on the input."""

from __future__ import annotations

import dataclasses

from gradscope.records import Finding, Profile, Skipped
from gradscope.signals.collapse import (
    find_uncompared,
    make_finding,
    measure_scale_loss,
    measure_variation_loss,
    tokens,
)
from gradscope.signals.common import clean_unless, example_chain
from gradscope.signals.forward_flow import WHAT, find_unmeasured, worst
from gradscope.symptoms import symptom
from gradscope.thresholds import Threshold

_ID = "signal-collapse"


def _example(shrinks: float, forgets: float) -> Profile:
    """Each of 12 layers multiplies the rms by `shrinks`, the sample variation by `forgets`."""
    profile = example_chain([1e-2] * 12, outputs=[shrinks**k for k in range(12)])
    layers = tuple(
        dataclasses.replace(layer, sample_variation=forgets**k)
        for k, layer in enumerate(profile.layers)
    )
    return dataclasses.replace(profile, layers=layers)


@symptom(
    id=_ID,
    precedence=160,
    summary="activations fade with depth, or become the same for every sample or position",
    why=(
        "What does not reach the last layers cannot be learned. If a deep layer gives almost the "
        "same answer for every sample, or almost none, biases learn the mean answer at once, and "
        "everything that depends on the input follows slowly or never. If all tokens have become "
        "the same, attention has nothing left to choose from and its queries get no gradient."
    ),
    measured=(
        "Rms of the outputs, and the fraction of it that differs from sample to sample, along the "
        "strongest path from the inputs to the output layer: the decades each loses and does not "
        "regain. For sequences, also the fraction that differs from position to position, from "
        "the first layer to the input of the last attention."
    ),
    silent=(
        "Losses that a normalisation or a skip connection restores; outputs; pooling, merging, "
        "rescaling and recurrent layers; large inputs that shrink to about one; weights that "
        "start at zero; the slow convergence of samples in deep ReLU networks."
    ),
    thresholds=(
        Threshold(
            f"{_ID}.warning_decades",
            3.0,
            "decades",
            "calibrated",
            "scikit-learn's digits, 340 steps of Adam: 20 ReLU layers with Glorot's start lose 3.0 "
            "decades and reach 75 % where He's reach 96 %; 2.4 decades in 4 layers do no harm",
            "The last layers see a thousandth of the signal.",
        ),
        Threshold(
            f"{_ID}.error_decades",
            5.0,
            "decades",
            "calibrated",
            "the same: 5.5 decades lost over 8 layers end at 35 %",
            "Any bias outweighs the signal.",
        ),
        Threshold(
            f"{_ID}.warning_variation_decades",
            2.5,
            "decades",
            "calibrated",
            "the same: 5 sigmoid layers lose 2.7 decades and reach 44 %, 3 lose 1.2 and reach "
            "78 %; 50 ReLU layers with He's start lose 0.4",
            "Samples differ only in the third digit.",
        ),
        Threshold(
            f"{_ID}.error_variation_decades",
            4.0,
            "decades",
            "calibrated",
            "the same: 8 sigmoid layers lose more than 4 decades and stay at chance",
            "To the last layers all samples look the same.",
        ),
        Threshold(
            f"{_ID}.warning_position_decades",
            2.5,
            "decades",
            "convention",
            "as warning_variation_decades, with positions for samples",
            "Tokens differ only in the third digit.",
        ),
        Threshold(
            f"{_ID}.error_position_decades",
            4.0,
            "decades",
            "convention",
            "as error_variation_decades, with positions for samples",
            "To the last layers all tokens look the same.",
        ),
    ),
    treatments=(
        "he-initialization",
        "layer-sequential-unit-variance",
        "swap-activation",
        "batch-normalization",
        "layer-normalization",
        "residual-connection",
    ),
    sources=(
        "Poole et al. 2016, arXiv:1606.05340, section 2: the ordered phase",
        "Schoenholz et al. 2017, Deep information propagation, arXiv:1611.01232",
        "He et al. 2015, arXiv:1502.01852, eq. 9",
    ),
    sick=lambda: _example(0.9, 0.3),
    healthy=lambda: _example(0.9, 0.93),
)
def examine(profile: Profile, limits: dict[str, float]) -> list[Finding] | Skipped:
    losses = (
        ("position_decades", tokens(profile)),
        ("variation_decades", worst(profile, measure_variation_loss)),
        ("decades", worst(profile, measure_scale_loss)),
    )
    found = [
        make_finding(
            _ID, profile, stretch, kind, limits[f"warning_{kind}"], limits[f"error_{kind}"]
        )
        for kind, stretch in losses
        if stretch and stretch.total >= limits[f"warning_{kind}"]
    ]
    if found:
        return sorted(found, key=lambda f: f.severity)[:1]
    return clean_unless(_ID, find_unmeasured(profile), WHAT) or clean_unless(
        _ID, find_uncompared(profile), "how much samples and positions differ"
    )
