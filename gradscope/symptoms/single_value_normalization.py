"""single-value-normalization: the mean is over one value, and takes all of it away."""

from __future__ import annotations

import dataclasses

from gradscope.records import Evidence, Finding, LayerProfile, Profile, Skipped
from gradscope.signals.common import clean_unless, consumers, example_chain, names
from gradscope.signals.normalization import OVER_BATCH, count_values, is_normalizing
from gradscope.symptoms import symptom
from gradscope.thresholds import Threshold

_ID = "single-value-normalization"


def _example(num_samples: int) -> Profile:
    profile = example_chain([1e-2] * 4)
    second = dataclasses.replace(
        profile.layers[1], class_=OVER_BATCH, activation=None, input_gradient=None
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
        "times the positions of each, of a LayerNormalization the features. Made-up inputs and one "
        "sample alone do not show the size of your batches: the former is then not examined."
    ),
    silent=(
        "Batches of one sample with several positions, as images; layers that are frozen, and so "
        "normalise by moving statistics; layers that let a gradient or the differences of samples "
        "through."
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
    counts = [(n, count_values(n, profile)) for n in profile.layers if is_normalizing(n)]
    found = {n.id: count for n, count in counts if count and count <= limits["num_values"]}
    if not found:
        unknown = [layer for layer, count in counts if count is None]
        return clean_unless(_ID, unknown, "over how many values a mean is taken")
    takers = consumers(profile)
    behind = [taker.id for id in found for taker in takers.get(id, ())]
    return [
        Finding(
            symptom=_ID,
            severity="error",
            confidence="high",
            layers=tuple(dict.fromkeys((*found, *behind))),
            culprits=tuple(found),
            evidence=tuple(
                Evidence("num_values", count, limits["num_values"], "values", id)
                for id, count in found.items()
            ),
            message=_tell([layer for layer, _ in counts if layer.id in found]),
        )
    ]


def _tell(found: list[LayerProfile]) -> str:
    of_batches = [layer.id for layer in found if layer.class_ == OVER_BATCH]
    of_features = [layer.id for layer in found if layer.class_ != OVER_BATCH]
    told = []
    if of_batches:
        told.append(
            f"In {names(of_batches)} each mean is over a batch of one sample, which gives the same "
            "whatever the sample is: train on batches of 16 or more, or use LayerNormalization."
        )
    if of_features:
        told.append(
            f"In {names(of_features)} each mean is over a single feature, which gives the same "
            "whatever that is: leave the layer out, or scale the feature by its mean and spread "
            "over all samples (keras.layers.Normalization)."
        )
    return " ".join(told)
