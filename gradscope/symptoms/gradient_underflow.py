"""gradient-underflow: gradients too small for float16 are rounded to zero."""

from __future__ import annotations

import dataclasses

from gradscope.records import Evidence, Finding, LayerProfile, Profile, Skipped
from gradscope.signals.common import clean_unless, confidence_in_weights, example_chain, names
from gradscope.symptoms import symptom
from gradscope.thresholds import Threshold

_ID = "gradient-underflow"


def _example(*fractions: float) -> Profile:
    profile = example_chain([1e-7] * len(fractions))
    layers = tuple(
        dataclasses.replace(layer, compute_dtype="float16", underflow_fraction=fraction)
        for layer, fraction in zip(profile.layers, fractions, strict=True)
    )
    return dataclasses.replace(profile, layers=layers)


@symptom(
    id=_ID,
    precedence=150,
    summary="gradients too small for float16 are rounded to zero in the backward pass",
    why=(
        "float16 has no numbers between 0 and 6e-8. A gradient that is rounded to zero in one "
        "layer is missing in all layers below it: they learn from the few large gradients, or not "
        "at all."
    ),
    measured=(
        "The backward pass is repeated with a loss scale near the top of float16's range. "
        "Reported is the fraction of the nonzero gradient entries that become zero at the loss "
        "scale the model trains with."
    ),
    silent=(
        "Entries that are zero at any scale (ReLU, masks, dropout); layers that compute in "
        "another dtype; the few smallest entries of a wide distribution."
    ),
    thresholds=(
        Threshold(
            f"{_ID}.warning_fraction",
            0.3,
            "fraction",
            "convention",
            "a third of what makes a network diverge (see error_fraction)",
            "Almost a third of the gradients are gone.",
        ),
        Threshold(
            f"{_ID}.error_fraction",
            0.8,
            "fraction",
            "literature",
            "NVIDIA's guide to mixed precision on the SSD detector, which diverges without loss "
            "scaling: 31 % of all gradients become zero and 5.3 % remain, so 85 % are lost",
            "Too little is left to train on.",
        ),
    ),
    treatments=("loss-scaling", "he-initialization", "batch-normalization", "full-precision"),
    sources=(
        "Micikevicius et al. 2018, Mixed precision training, arXiv:1710.03740, section 3.2",
        "NVIDIA, Training with mixed precision, user guide, section on loss scaling",
    ),
    sick=lambda: _example(0.95, 0.9, 0.5, 0.1),
    healthy=lambda: _example(0.05, 0.03, 0.01, 0.0),
)
def examine(profile: Profile, limits: dict[str, float]) -> list[Finding] | Skipped:
    lossy = [
        layer
        for layer in profile.layers
        if (layer.underflow_fraction or 0.0) >= limits["warning_fraction"]
    ]
    if not lossy:
        lacking = [layer for layer in profile.layers if _is_uncompared(layer)]
        return clean_unless(_ID, lacking, "the fraction that float16 rounds to zero")
    lossy.sort(key=lambda layer: -layer.depth)
    worst = max(lossy, key=lambda layer: layer.underflow_fraction or 0.0)
    fraction = worst.underflow_fraction or 0.0
    bound = limits["warning_fraction"]
    return [
        Finding(
            symptom=_ID,
            severity="error" if fraction >= limits["error_fraction"] else "warning",
            confidence=confidence_in_weights(profile),
            layers=tuple(layer.id for layer in lossy),
            culprits=(lossy[0].id,),
            evidence=tuple(
                Evidence(
                    "underflow_fraction",
                    layer.underflow_fraction or 0.0,
                    bound,
                    "fraction",
                    layer.id,
                )
                for layer in lossy
            ),
            message=_message(lossy[0], worst, fraction),
        )
    ]


def _is_uncompared(layer: LayerProfile) -> bool:
    """Whether a float16 gradient was not compared with a scaled one; one of zeros need not be."""
    gradient = layer.activation_gradient
    arrives = gradient is not None and gradient.abs_max > 0.0
    return layer.compute_dtype == "float16" and arrives and layer.underflow_fraction is None


def _message(first: LayerProfile, worst: LayerProfile, fraction: float) -> str:
    return (
        f"{fraction:.0%} of the gradients at {names([worst.id])} are too small for float16 and "
        f"become zero; from {names([first.id])} down, too much is lost."
    )
