"""signal-explosion: the forward signal grows with depth until the output saturates."""

from __future__ import annotations

import dataclasses
import math

from gradscope.records import Evidence, Finding, LayerProfile, Profile, Skipped
from gradscope.signals.common import (
    clean_unless,
    confidence_in_weights,
    consumers,
    example_chain,
    stretch_of,
)
from gradscope.signals.flow import normalizes
from gradscope.signals.forward_flow import RESET, WHAT, Stretch, find_unmeasured, level, worst
from gradscope.symptoms import symptom
from gradscope.thresholds import Threshold

_ID = "signal-explosion"
_HOPELESS = 10.0  # times the loss of a guess
# Losses of a regression: to which power of a large error they grow.
_ERROR_POWERS = {"mse": 2, "mean_squared_error": 2, "mae": 1, "mean_absolute_error": 1, "huber": 1}


def _sick() -> Profile:
    profile = example_chain([1e-2] * 12, outputs=[3.0**k for k in range(12)])
    return dataclasses.replace(profile, loss=dataclasses.replace(profile.loss, value=9.0**11))


@symptom(
    id=_ID,
    precedence=170,
    summary="activations grow from layer to layer",
    why=(
        "If every layer multiplies the signal by more than one, the outputs start at huge values: "
        "softmax and sigmoid are saturated and wrong, the first losses and gradients are "
        "enormous, and a few layers later the numbers overflow."
    ),
    measured=(
        "Rms of the outputs along the strongest path from the inputs to the output layer: the "
        "decades by which it grows above an rms of one. The loss, compared with that of a guess, "
        "confirms it."
    ),
    silent=(
        "Growth that a normalisation removes; residual sums that grow with the square root of the "
        "depth; large inputs; Rescaling layers; large outputs that match large targets."
    ),
    thresholds=(
        Threshold(
            f"{_ID}.warning_decades",
            3.0,
            "decades",
            "calibrated",
            "scikit-learn's digits, 340 steps of Adam: 8 ReLU layers of N(0, 0.5) grow by 3.7 "
            "decades and reach 82 %, with He's start 98 %; residual sums without normalisation "
            "that grow by 2.2 decades (10 blocks) reach 95 %, by 4.9 (20 blocks) 75 %",
            "Outputs start 1,000 times too large.",
        ),
        Threshold(
            f"{_ID}.error_decades",
            5.0,
            "decades",
            "calibrated",
            "the same: N(0, 1), 5.6 decades, a first loss of 2e5 and 70 %",
            "float16 overflows here, float32 a few layers later.",
        ),
    ),
    treatments=(
        "he-initialization",
        "glorot-initialization",
        "layer-sequential-unit-variance",
        "batch-normalization",
        "layer-normalization",
    ),
    sources=(
        "He et al. 2015, arXiv:1502.01852, eq. 9",
        "Zhang, Dauphin, Ma 2019, Fixup initialization, arXiv:1901.09321, section 2",
        "Hanin and Rolnick 2018, How to start training, arXiv:1803.01719",
    ),
    sick=_sick,
    healthy=lambda: example_chain([1e-2] * 12, outputs=[math.sqrt(1.0 + k) for k in range(12)]),
)
def examine(profile: Profile, limits: dict[str, float]) -> list[Finding] | Skipped:
    stretch = worst(profile, _measure_gain)
    if stretch is None or stretch.total < limits["warning_decades"] or _fits_targets(profile):
        return clean_unless(_ID, find_unmeasured(profile), WHAT)
    bound = limits["warning_decades"]
    per_layer = stretch.total / len(stretch.layers)
    evidence = [
        Evidence("growth_decades", stretch.total, bound, "decades", stretch.layers[-1].id),
        Evidence("decades_per_layer", per_layer, bound / len(stretch.layers), "decades"),
    ]
    guess = _loss_of_a_guess(profile)
    text = _message(stretch)
    if guess and profile.loss.value and profile.loss.value > _HOPELESS * guess:
        evidence.append(Evidence("loss", profile.loss.value, guess))
        text += f" The loss is {profile.loss.value:.3g}; a guess would cost {guess:.2g}."
    return [
        Finding(
            symptom=_ID,
            severity="error" if stretch.total >= limits["error_decades"] else "warning",
            confidence=confidence_in_weights(profile),
            layers=stretch.affected,
            culprits=stretch.culprits,
            evidence=tuple(evidence),
            message=text,
        )
    ]


def _measure_gain(layer: LayerProfile, below: LayerProfile | None) -> float:
    before = below.output if below else layer.input
    if normalizes(layer):
        return RESET
    if before is None or layer.output is None:
        return 0.0
    # Growth up to one is none: small inputs may come up to the scale of units.
    gained = max(0.0, level(layer.output.rms)) - max(0.0, level(before.rms))
    return gained if layer.kernel or len(layer.inputs) > 1 else min(0.0, gained)


def _fits_targets(profile: Profile) -> bool:
    """Whether the outputs of a regression are large because its targets are."""
    output = _only_output(profile)
    power = _ERROR_POWERS.get(profile.loss.name)
    if output is None or output.output is None or power is None or profile.loss.value is None:
        return False
    return profile.loss.value < (output.output.rms / 2) ** power


def _loss_of_a_guess(profile: Profile) -> float | None:
    """What saying the same of every class costs a classifier with one output."""
    output = _only_output(profile)
    if output is None or "crossentropy" not in profile.loss.name or not output.output_shape:
        return None
    num_classes = output.output_shape[-1]
    return math.log(max(2, num_classes)) if num_classes else None


def _only_output(profile: Profile) -> LayerProfile | None:
    takers = consumers(profile)
    outputs = [layer for layer in profile.layers if not takers[layer.id]]
    return outputs[0] if len(outputs) == 1 else None


def _message(stretch: Stretch) -> str:
    last = stretch.layers[-1]
    rms = last.output.rms if last.output else 0.0
    return (
        f"The signal grows by {stretch.total:.3g} decades "
        f"{stretch_of(stretch.layers[0].id, last.id)}, to an rms of {rms:.1e}."
    )
