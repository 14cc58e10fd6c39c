"""disconnected-layer: trainable weights that the loss cannot reach."""

from __future__ import annotations

import dataclasses

from gradscope.records import Evidence, Finding, LayerProfile, Profile, Severity, Skipped
from gradscope.signals.common import (
    clean_unless,
    consumers,
    example_chain,
    example_weight,
    lacks_weights,
    names,
    num,
)
from gradscope.symptoms import symptom

_ID = "disconnected-layer"


def _example(*, reached: bool, trainable: bool = True) -> Profile:
    profile = example_chain([1e-2] * 4)
    weight = dataclasses.replace(example_weight(reached=reached), trainable=trainable)
    first = dataclasses.replace(profile.layers[0], weights=(weight,))
    return dataclasses.replace(profile, layers=(first, *profile.layers[1:]))


@symptom(
    id=_ID,
    precedence=40,
    summary="trainable weights get no gradient at all: no path leads from the loss to them",
    why=(
        "GradientTape returns None for them and fit leaves them as they are, silently. Usual "
        "causes: an operation without gradient (argmax, round, a cast to integer, stop_gradient, "
        "NumPy inside call), an output without loss, a layer that is built but not called."
    ),
    measured="Trainable weights whose gradient is None.",
    silent="Frozen weights (trainable=False), and weights whose gradient is zero but exists.",
    treatments=("straight-through",),
    sources=("TensorFlow guide, Introduction to gradients: getting a gradient of None",),
    sick=lambda: _example(reached=False),
    healthy=lambda: _example(reached=False, trainable=False),
)
def examine(profile: Profile, limits: dict[str, float]) -> list[Finding] | Skipped:
    cut = {layer.id: layer for layer in profile.layers if _num_cut(layer)}
    if not cut:
        lacking = [layer for layer in profile.layers if lacks_weights(layer)]
        return clean_unless(_ID, lacking, "what reaches the weights")
    # Never called, or called for an output that nothing takes and no loss is set on.
    takers = consumers(profile)
    used = [
        layer
        for layer in cut.values()
        if layer.depth and takers[layer.id] and not _num_reached(layer)
    ]
    # The cut is right above the last layer that gets nothing: those below are its victims.
    fed = {name for layer in used for name in layer.inputs}
    culprits = [layer.id for layer in used if layer.id not in fed] or list(cut)
    total = sum(_num_cut(layer) for layer in cut.values())
    return [
        Finding(
            symptom=_ID,
            severity=_severity(cut, used),
            confidence="high",
            layers=tuple(dict.fromkeys([*culprits, *cut])),
            culprits=tuple(culprits),
            evidence=(Evidence("num_unreached_weights", float(total), 0.0, "weights"),),
            message=_message(cut, used, total),
        )
    ]


def _num_cut(layer: LayerProfile) -> int:
    return sum(1 for w in layer.weights if w.trainable and not w.reached)


def _severity(cut: dict[str, LayerProfile], used: list[LayerProfile]) -> Severity:
    if used:
        return "error"
    return "info" if all(map(_num_reached, cut.values())) else "warning"


def _num_reached(layer: LayerProfile) -> int:
    return sum(1 for w in layer.weights if w.trainable and w.reached)


def _message(cut: dict[str, LayerProfile], used: list[LayerProfile], total: int) -> str:
    text = f"{num(total, 'trainable weight')} of {names(list(cut))} get no gradient: "
    if used:
        return text + "an operation between them and the loss has no derivative."
    if all(layer.depth == 0 for layer in cut.values()):
        return text + "the layers are never called."
    if all(map(_num_reached, cut.values())):
        return text + "the calls do not use them, though they use others of the same layers."
    return text + "no loss is computed from their output."
