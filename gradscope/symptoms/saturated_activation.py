"""saturated-activation: most units sit where their activation is flat."""

from __future__ import annotations

import dataclasses

from gradscope.records import Evidence, Finding, LayerProfile, Profile, Skipped
from gradscope.signals.common import clean_unless, confidence, consumers, example_chain, names
from gradscope.symptoms import symptom
from gradscope.thresholds import Threshold

_ID = "saturated-activation"


def _example(fraction: float) -> Profile:
    profile = example_chain([1e-2] * 4, activation="tanh", saturates=True, max_derivative=1.0)
    saturated = tuple(
        dataclasses.replace(layer, saturated_fraction=fraction) for layer in profile.layers
    )
    return dataclasses.replace(profile, layers=saturated)


@symptom(
    id=_ID,
    precedence=90,
    summary="units of a bounded activation sit where it is flat and pass almost no gradient",
    why=(
        "At its flat ends an activation's derivative is close to zero. Units there pass on almost "
        "no gradient and hardly change, whatever the loss is."
    ),
    measured=(
        "Fraction of pre-activations at which the activation's own derivative is below a tenth of "
        "its maximum, for any activation that is flat at both ends (sigmoid, tanh, softsign, your "
        "own)."
    ),
    silent=(
        "Output layers (a good classifier is confident); ReLU and its variants, where zeros are "
        "sparsity; gates of recurrent cells; made-up inputs."
    ),
    needs=("data",),
    measures=("layers", "saturated_fraction"),
    thresholds=(
        Threshold(
            f"{_ID}.warning_fraction",
            0.6,
            "fraction",
            "convention",
            "standard normal pre-activations saturate tanh for 7 %; 60 % needs a spread of 3.5",
            "The typical unit of the layer is saturated.",
        ),
        Threshold(
            f"{_ID}.error_fraction",
            0.9,
            "fraction",
            "convention",
            "nine of ten pre-activations beyond the tenth of the derivative",
            "The layer passes on at most a tenth of the gradient.",
        ),
    ),
    treatments=(
        "input-normalization",
        "glorot-initialization",
        "batch-normalization",
        "swap-activation",
    ),
    sources=(
        "Glorot and Bengio 2010, section 3, figures 2 and 3",
        "LeCun et al. 1998, Efficient BackProp, section 4.4",
    ),
    sick=lambda: _example(0.95),
    healthy=lambda: _example(0.3),
)
def examine(profile: Profile, limits: dict[str, float]) -> list[Finding] | Skipped:
    takers = consumers(profile)
    saturated = [
        layer
        for layer in profile.layers
        if layer.saturates
        and (layer.saturated_fraction or 0.0) >= limits["warning_fraction"]
        and takers[layer.id]
    ]
    if not saturated:
        lacking = [
            layer
            for layer in profile.layers
            if layer.saturates and layer.saturated_fraction is None and takers[layer.id]
        ]
        return clean_unless(_ID, lacking, "the fraction of saturated entries")
    saturated.sort(key=lambda layer: layer.depth)
    worst = max(saturated, key=lambda layer: layer.saturated_fraction or 0.0)
    fraction = worst.saturated_fraction or 0.0
    return [
        Finding(
            symptom=_ID,
            severity="error" if fraction >= limits["error_fraction"] else "warning",
            confidence=confidence(profile),
            layers=tuple(layer.id for layer in saturated),
            culprits=tuple(layer.id for layer in saturated),
            evidence=tuple(_evidence(layer, limits) for layer in saturated),
            message=_message(saturated, worst),
        )
    ]


def _evidence(layer: LayerProfile, limits: dict[str, float]) -> Evidence:
    observed = layer.saturated_fraction or 0.0
    return Evidence(
        "saturated_fraction", observed, limits["warning_fraction"], "fraction", layer.id
    )


def _message(saturated: list[LayerProfile], worst: LayerProfile) -> str:
    text = (
        f"{worst.saturated_fraction:.0%} of the pre-activations of {names([worst.id])} lie where "
        f"{worst.activation or 'the activation'} is flat (derivative below a tenth of its maximum)"
    )
    if len(saturated) > 1:
        text += f"; also affected: {names([s.id for s in saturated if s is not worst])}"
    first = saturated[0]
    if not first.inputs and first.input is not None and first.input.rms > 5.0:
        text += f". The inputs are not scaled (rms {first.input.rms:.3g})"
    return text + "."
