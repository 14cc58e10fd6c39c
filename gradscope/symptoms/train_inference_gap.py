"""train-inference-gap: BatchNormalization predicts with other statistics than it trains with."""

from __future__ import annotations

import dataclasses

from gradscope.records import Evidence, Finding, Profile, Skipped
from gradscope.signals.common import clean_unless, confidence, example_chain, names
from gradscope.symptoms import symptom
from gradscope.thresholds import Threshold

_ID = "train-inference-gap"


def _example(gap: float) -> Profile:
    profile = example_chain([1e-2] * 4)
    second = dataclasses.replace(
        profile.layers[1], class_="BatchNormalization", activation=None, inference_gap=gap
    )
    return dataclasses.replace(profile, layers=(profile.layers[0], second, *profile.layers[2:]))


@symptom(
    id=_ID,
    precedence=70,
    summary="BatchNormalization predicts with statistics far from those it trains with",
    why=(
        "In training a batch is normalised by its own mean and variance, at inference by moving "
        "averages. If those lag behind (momentum 0.99 forgets 1 % per step) or come from other "
        "data, the layers above get values they never saw in training, and validation is poor "
        "although the training loss falls."
    ),
    measured=(
        "For every BatchNormalization: how far an output moves when the moving statistics replace "
        "those of the batch (rms over the channels), in standard deviations of the output."
    ),
    silent=(
        "Models that were never trained (means 0, variances 1); frozen layers; the usual noise of "
        "batches (0.1 to 0.3 standard deviations at 32 samples)."
    ),
    needs=("data",),
    thresholds=(
        Threshold(
            f"{_ID}.warning_gap",
            1.0,
            "deviations",
            "convention",
            "one standard deviation of the layer's output",
            "A typical value looks like an extreme one to the next layer.",
        ),
        Threshold(
            f"{_ID}.error_gap",
            10.0,
            "deviations",
            "convention",
            "ten standard deviations of the layer's output",
            "Predictions have nothing to do with what was trained.",
        ),
    ),
    treatments=("shorter-average",),
    sources=(
        "Ioffe and Szegedy 2015, Batch Normalization, arXiv:1502.03167, section 3.1",
        "Wu and Johnson 2021, Rethinking 'Batch' in BatchNorm, arXiv:2105.07576, section 3",
    ),
    sick=lambda: _example(3.0),
    healthy=lambda: _example(0.3),
)
def examine(profile: Profile, limits: dict[str, float]) -> list[Finding] | Skipped:
    gaps = {layer.id: layer.inference_gap or 0.0 for layer in profile.layers}
    wide = sorted((i for i in gaps if gaps[i] >= limits["warning_gap"]), key=lambda i: -gaps[i])
    if not wide:
        unknown = [
            layer
            for layer in profile.layers
            if layer.class_ == "BatchNormalization" and layer.inference_gap is None
        ]
        return clean_unless(_ID, unknown, "the moving statistics (frozen, or still in training)")
    worst = gaps[wide[0]]
    is_error = worst >= limits["error_gap"]
    bound = limits["error_gap" if is_error else "warning_gap"]
    return [
        Finding(
            symptom=_ID,
            severity="error" if is_error else "warning",
            confidence=confidence(profile),
            layers=tuple(wide),
            culprits=tuple(wide),
            evidence=tuple(
                Evidence("inference_gap", gaps[i], bound if i == wide[0] else 0.0, "deviations", i)
                for i in wide
            ),
            message=(
                f"At prediction the output of {names(wide)} is moved by up to {worst:.3g} standard "
                "deviations: the moving statistics are far from the batches'. Train for more "
                "steps, give BatchNormalization a smaller momentum (0.9), or run the training "
                "data through the model with training=True once more."
            ),
        )
    ]
