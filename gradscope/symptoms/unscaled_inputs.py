"""unscaled-inputs: features that arrive too large, too small, too far off zero or too uneven."""

from __future__ import annotations

import dataclasses
import math

from gradscope.records import Evidence, FeatureScales, Finding, LayerProfile, Profile, Skipped
from gradscope.signals.common import confidence, example_chain, names
from gradscope.signals.feature_scales import excesses
from gradscope.symptoms import symptom
from gradscope.thresholds import Threshold

_ID = "unscaled-inputs"


def _example(scale: float, *, offset: float = 0.2, largest: float = 1.5) -> Profile:
    profile = example_chain([1e-2] * 4)
    mean = offset * scale
    rms = math.hypot(mean, scale)
    features = FeatureScales(8, 0, mean, rms, scale, scale, largest * scale, offset, 0.0)
    first = dataclasses.replace(profile.layers[0], features=features)
    model = dataclasses.replace(profile.model, optimizer="SGD", learning_rate=0.01)
    return dataclasses.replace(profile, model=model, layers=(first, *profile.layers[1:]))


def _threshold(name: str, value: float, unit: str, source: str, note: str) -> Threshold:
    return Threshold(f"{_ID}.{name}", value, unit, "calibrated", source, note)


@symptom(
    id=_ID,
    precedence=50,
    summary="input features are too large, too small, far from zero or on very different scales",
    why=(
        "An update of the first kernel moves the outputs in proportion to the squared norm of the "
        "inputs. If the inputs are too large, training overshoots or units saturate; if they are "
        "too small, nothing is learned. If one feature is far larger than the others, or the mean "
        "far larger than the spread, no learning rate suits all directions."
    ),
    measured=(
        "For the inputs of the first layers with trainable weights: the norm of a sample's "
        "features (rms times the square root of the fan-in), the norm of the means over the norm "
        "of the standard deviations, the largest over the median standard deviation, and the "
        "learning rate times the squared norm if the optimizer does not rescale its updates."
    ),
    silent=(
        "Inputs behind a Normalization, Rescaling or other preprocessing layer; scale and offset "
        "in front of a normalisation layer, which removes them; one-hot, binary and sparse count "
        "features; constant features; token ids; made-up inputs."
    ),
    needs=("data",),
    thresholds=(
        _threshold(
            "warning_norm",
            150.0,
            "norm",
            "against a standardised twin, 30 epochs: none the worse at norm 24 and 62; at 245 "
            "ReLU regression ends in NaN (SGD) and at 110 times the twin's loss (Adam)",
            "The first steps overshoot.",
        ),
        _threshold(
            "error_step",
            100.0,
            "learning rate * norm^2",
            "SGD diverges beyond 2 / largest eigenvalue (LeCun et al. 1998); it trains at 38, and "
            "ends in NaN or makes no progress at 600 and above (ReLU)",
            "Plain SGD diverges, or kills every unit.",
        ),
        _threshold(
            "warning_smallness",
            20.0,
            "1 / norm",
            "at norm 0.024 SGD ends 30 epochs at 99 % of the initial loss, Adam at 11 times its "
            "standardised twin's; at 0.24 Adam ends at 1.3 times",
            "The gradient of the kernel is too small to learn from.",
        ),
        _threshold(
            "error_smallness",
            100.0,
            "1 / norm",
            "at norm 0.0024 SGD makes no progress in 30 epochs, Adam ends at 5 (tanh) and 27 "
            "(ReLU) times its twin's loss",
            "Only the biases learn.",
        ),
        _threshold(
            "warning_offset",
            9.0,
            "ratio",
            "at 10, SGD diverges (ReLU) and Adam ends at 13 times its twin's loss; at 3 both train",
            "All samples look alike compared with what they have in common.",
        ),
        _threshold(
            "error_offset",
            90.0,
            "ratio",
            "at 98 and 195, SGD and Adam, ReLU and tanh: no progress in 30 epochs",
            "Training does not get beyond the mean of the targets.",
        ),
        _threshold(
            "warning_unevenness",
            50.0,
            "ratio",
            "one of six features ten times the others costs little, a hundred times makes SGD "
            "diverge and leaves 10 times the loss even with BatchNormalization",
            "The outputs depend on the largest features alone.",
        ),
    ),
    treatments=("input-normalization", "batch-normalization"),
    sources=(
        "LeCun, Bottou, Orr, Mueller 1998, Efficient BackProp, section 4.3",
        "LeCun, Kanter, Solla 1991, Second order properties of error surfaces",
    ),
    sick=lambda: _example(300.0),
    healthy=lambda: _example(7.0),
)
def examine(profile: Profile, limits: dict[str, float]) -> list[Finding] | Skipped:
    if profile.layers and not any(layer.features for layer in profile.layers):
        return Skipped(_ID, "no layer takes numeric features such as pixels or measurements")
    return [
        _make_finding(layer, profile, found)
        for layer in profile.layers
        if (found := sorted(excesses(layer, profile, limits), key=lambda f: not f[0]))
    ]


def _make_finding(
    layer: LayerProfile, profile: Profile, found: list[tuple[bool, Evidence, str]]
) -> Finding:
    texts = "; ".join(text for _, _, text in found)
    return Finding(
        symptom=_ID,
        severity="error" if found[0][0] else "warning",
        confidence=confidence(profile),
        layers=(layer.id,),
        culprits=(layer.id,),
        evidence=tuple(evidence for _, evidence, _ in found),
        message=f"The inputs of {names([layer.id])} are not scaled: {texts}.",
    )
