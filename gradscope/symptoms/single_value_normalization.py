"""single-value-normalization: the mean is over one value, and takes all of it away."""

from __future__ import annotations

import dataclasses
import math

from gradscope.records import Evidence, Finding, LayerProfile, Profile, Skipped
from gradscope.signals.common import clean_unless, consumers, example_chain, names
from gradscope.symptoms import symptom
from gradscope.thresholds import Threshold

_ID = "single-value-normalization"
_ROUNDING = 1e-3  # relative, of float16
_OVER_BATCH, _OVER_FEATURES = "BatchNormalization", "LayerNormalization"


def _example(num_samples: int) -> Profile:
    profile = example_chain([1e-2] * 4)
    second = dataclasses.replace(
        profile.layers[1], class_=_OVER_BATCH, activation=None, input_gradient=None
    )
    return dataclasses.replace(
        profile,
        data=dataclasses.replace(profile.data, num_samples=num_samples, num_batches=4),
        layers=(profile.layers[0], second, *profile.layers[2:]),
    )


@symptom(
    id=_ID,
    precedence=45,
    summary="a layer normalises single values, and so gives the same for every input",
    why=(
        "A value less the mean of that one value is zero. BatchNormalization of batches of one "
        "sample, and LayerNormalization of one feature, pass on their offset alone: nothing of "
        "the input gets past them, and no gradient back."
    ),
    measured=(
        "How many values each mean is taken over: of a BatchNormalization the samples a batch "
        "times the positions of each, of a LayerNormalization the features."
    ),
    silent=(
        "Batches of one sample with several positions, as images; layers that are frozen, and so "
        "normalise by moving statistics; layers that let a gradient or the differences of samples "
        "through; a single batch, which may not be of the size that you train with."
    ),
    thresholds=(
        Threshold(
            f"{_ID}.num_values",
            1.0,
            "values",
            "derived",
            "x - mean(x) is 0 for one value",
            "As many values or fewer leave nothing to tell inputs apart.",
        ),
    ),
    treatments=("replaced-normalization",),
    sources=(
        "Ioffe and Szegedy 2015, Batch Normalization, arXiv:1502.03167, algorithm 1",
        "Ba, Kiros, Hinton 2016, Layer normalization, arXiv:1607.06450, equation 3",
    ),
    sick=lambda: _example(4),
    healthy=lambda: _example(128),
)
def examine(profile: Profile, limits: dict[str, float]) -> list[Finding] | Skipped:
    normalizing = [
        layer
        for layer in profile.layers
        if layer.class_ in (_OVER_BATCH, _OVER_FEATURES) and layer.trainable
    ]
    counts = {layer.id: count_values(layer, profile) for layer in normalizing}
    found = [
        layer
        for layer in normalizing
        if (counts[layer.id] or math.inf) <= limits["num_values"] and not _lets_through(layer)
    ]
    if not found:
        unknown = [layer for layer in normalizing if counts[layer.id] is None]
        return clean_unless(_ID, unknown, "over how many values a mean is taken")
    takers = consumers(profile)
    culprits = tuple(layer.id for layer in found)
    behind = [taker.id for id in culprits for taker in takers.get(id, ())]
    return [
        Finding(
            symptom=_ID,
            severity="error",
            confidence="high",
            layers=tuple(dict.fromkeys((*culprits, *behind))),
            culprits=culprits,
            evidence=tuple(
                Evidence("num_values", counts[id] or 0.0, limits["num_values"], "values", id)
                for id in culprits
            ),
            message=_tell(found),
        )
    ]


def count_values(layer: LayerProfile, profile: Profile) -> float | None:
    """Over how many values the layer takes a mean; None where that is not known."""
    shape, data = layer.output_shape, profile.data
    if not shape or None in shape[1:]:
        return None
    if layer.class_ == _OVER_FEATURES:
        return float(shape[-1] or 0)
    if data.num_batches < 2:
        return math.inf
    return data.num_samples / data.num_batches * math.prod(n or 1 for n in shape[1:-1])


def _lets_through(layer: LayerProfile) -> bool:
    """Whether more than rounding of what differs, or of the gradient, gets past the layer.

    It may normalise over other axes than the usual, or by moving statistics.
    """
    arriving, leaving = layer.activation_gradient, layer.input_gradient
    passes_gradient = (
        arriving is not None and leaving is not None and leaving.rms > _ROUNDING * arriving.rms
    )
    return passes_gradient or (layer.sample_variation or 0.0) > _ROUNDING


def _tell(found: list[LayerProfile]) -> str:
    of_batches = [layer.id for layer in found if layer.class_ == _OVER_BATCH]
    of_features = [layer.id for layer in found if layer.class_ != _OVER_BATCH]
    told = []
    if of_batches:
        told.append(
            f"{names(of_batches)} normalises over a batch of one sample, which gives the same "
            "whatever the sample is: train on batches of 16 or more, or use LayerNormalization."
        )
    if of_features:
        told.append(
            f"{names(of_features)} normalises over a single feature, which gives the same "
            "whatever that is: leave it out, or scale the feature by its mean and spread over all "
            "samples (keras.layers.Normalization)."
        )
    return " ".join(told)
