"""dead-relu: units that are off for every sample and can never come back."""

from __future__ import annotations

import dataclasses

from gradscope.records import Evidence, Finding, LayerProfile, Profile, Skipped
from gradscope.signals.common import clean_unless, confidence, consumers, example_chain, names, num
from gradscope.signals.units import FEW_SAMPLES, dead_share, find_longest_seen
from gradscope.symptoms import symptom
from gradscope.thresholds import Threshold

_ID = "dead-relu"


def _example(fraction: float, sparsity: float = 0.5) -> Profile:
    profile = example_chain([1e-2] * 4)
    dead = tuple(
        dataclasses.replace(
            layer,
            dead_fraction=fraction,
            num_dead=round(64 * fraction),
            num_units=64,
            saturated_fraction=max(fraction, sparsity),
        )
        for layer in profile.layers
    )
    return dataclasses.replace(profile, layers=dead)


@symptom(
    id=_ID,
    precedence=80,
    summary="rectifier units are off for every sample, get no gradient and never come back",
    why=(
        "Left of its corner ReLU is flat: a unit that is off for every sample gets no gradient, "
        "so its weights never change again. It is lost, and with it part of the layer."
    ),
    measured=(
        "Units (channels) whose local derivative is exactly zero at every sample and position "
        "seen, with the number of samples; for ReLU, ReLU6 and any activation flat on one side. Of "
        "a training run as many batches as hold 32 samples together."
    ),
    silent=(
        "Units off for most samples but not for all: 60-80 % zeros are ordinary sparsity; units "
        "that are on in another call of their layer. Output layers. Made-up inputs."
    ),
    needs=("data",),
    measures=("layers", "num_dead"),
    thresholds=(
        Threshold(
            f"{_ID}.warning_fraction",
            0.5,
            "fraction",
            "convention",
            "SageMaker Debugger, DyingRelu rule: more than 50 % of the layer",
            "Half of the layer's capacity is gone.",
        ),
        Threshold(
            f"{_ID}.error_fraction",
            0.9,
            "fraction",
            "derived",
            "the gradient that passes scales with the root of the share of live units",
            "Next to nothing gets through the layer, in either direction.",
        ),
    ),
    treatments=(
        "he-initialization",
        "swap-activation",
        "batch-normalization",
        "learning-rate",
        "input-normalization",
    ),
    sources=(
        "Lu et al. 2020, Dying ReLU and initialization, arXiv:1903.06733",
        "Maas, Hannun, Ng 2013, Rectifier nonlinearities improve neural network acoustic models",
    ),
    sick=lambda: _example(0.95),
    healthy=lambda: _example(0.02, sparsity=0.8),
)
def examine(profile: Profile, limits: dict[str, float]) -> list[Finding] | Skipped:
    takers = consumers(profile)
    hidden = [layer for layer in profile.layers if takers[layer.id]]
    lacking = [row for row in hidden if _is_uncounted(row)]
    if profile.history is not None:
        rectifiers, hidden = hidden, find_longest_seen(hidden, profile.history)
        seen = {row.id for row in hidden}
        lacking += [row for row in rectifiers if row.num_units and row.id not in seen]
    hidden = _at_their_best(hidden)
    shares = {layer.id: dead_share(layer) for layer in hidden}
    bound = limits["warning_fraction"]
    dead = [row for row in hidden if shares[row.id] > bound]
    if not dead:
        return clean_unless(_ID, lacking, f"which units are off for {FEW_SAMPLES} samples")
    worst = max(dead, key=lambda layer: shares[layer.id])
    is_error = shares[worst.id] >= limits["error_fraction"]
    enough = profile.history is not None or profile.data.num_samples >= FEW_SAMPLES
    return [
        Finding(
            symptom=_ID,
            severity="error" if is_error and enough else "warning",
            confidence=confidence(profile) if enough else "low",
            layers=tuple(layer.id for layer in dead),
            culprits=_culprits(dead),
            evidence=tuple(
                Evidence("dead_fraction", shares[row.id], bound, "fraction", row.id) for row in dead
            ),
            message=_message(worst, dead, profile),
        )
    ]


def _at_their_best(hidden: list[LayerProfile]) -> list[LayerProfile]:
    """Of each layer with weights the call with the fewest dead units: on in one, a unit learns."""
    best: dict[str, LayerProfile] = {}
    for row in hidden:
        key = row.path if row.weights else row.id
        best[key] = min(best.get(key, row), row, key=dead_share)
    return list(best.values())


def _is_uncounted(layer: LayerProfile) -> bool:
    counts = (layer.num_dead, layer.num_units)
    return None in counts and (layer.dead_fraction, *counts) != (None, None, None)


def _culprits(dead: list[LayerProfile]) -> tuple[str, ...]:
    """Below a layer that is dead throughout constants follow: the first such is to blame."""
    for layer in sorted(dead, key=lambda layer: layer.depth):
        if layer.dead_fraction == 1.0:
            return (layer.id,)
    return tuple(layer.id for layer in dead)


def _message(worst: LayerProfile, dead: list[LayerProfile], profile: Profile) -> str:
    count = profile.data.num_samples  # of a training run it is not known
    seen = "the one sample" if count == 1 else f"all {num(count, 'sample') if count else 'samples'}"
    text = (
        f"{worst.num_dead} of {worst.num_units} units of {names([worst.id])} are off for "
        f"{seen} seen: they get no gradient"
    )
    if len(dead) > 1:
        text += f"; also affected: {names([layer.id for layer in dead if layer is not worst])}"
    return text + "."
