"""Kernels against the scale that the activations behind them ask for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

from gradscope.records import LayerProfile, Profile, WeightProfile
from gradscope.signals.common import consumers, lacks_weights
from gradscope.signals.flow import normalizes

# Which scale is asked for: He et al. 2015, eq. 10; Klambauer et al. 2017; else Glorot.
_RECTIFIERS = ("relu", "relu6", "leaky_relu", "elu", "gelu", "silu", "swish", "hard_silu", "mish")
_SELF_NORMALIZING = ("selu",)
_MAX_HOPS = 5
Place = Literal["multiplies", "hidden", "added"]


def find_scaled_kernels(profile: Profile) -> list[tuple[LayerProfile, float]]:
    """The hidden layers over which scale multiplies furthest, the first one first.

    Each with its kernel's scale over the one asked for. A normalisation and a softmax begin anew;
    of what is added or put side by side the larger signal counts.
    """
    scales = {layer.id: ratio for layer, ratio, place in _kernels(profile) if place == "multiplies"}
    rows = {layer.id: layer for layer in profile.layers}
    runs: dict[str, tuple[float, tuple[str, ...]]] = {}
    for id, layer in rows.items():
        before = [runs[source] for source in layer.inputs if source in runs]
        total, run = max(before, default=(0.0, ()))
        if normalizes(layer) or layer.class_ == "Softmax":
            total, run = 0.0, ()
        if id in scales:
            total, run = total + math.log10(scales[id]), (*run, id)
        around = [runs[source] for source in layer.added_to if source in runs]
        runs[id] = max(around, default=(total, run)) if layer.added_to else (total, run)
    _, furthest = max(runs.values(), key=lambda run: abs(run[0]), default=(0.0, ()))
    return [(rows[id], scales[id]) for id in furthest]


def find_hidden_kernels(profile: Profile) -> list[tuple[LayerProfile, float]]:
    """The same for kernels whose scale a normalisation behind them takes out again."""
    return [(layer, ratio) for layer, ratio, place in _kernels(profile) if place == "hidden"]


def without_fans(profile: Profile) -> list[LayerProfile]:
    """Layers with a kernel whose scale cannot be judged, as its fan-in is not known."""
    takers = consumers(profile)
    return [
        layer
        for layer in profile.layers
        if _takes_scale(layer) and takers[layer.id] and _kernel(layer) is None
        if lacks_weights(layer) or any(len(w.shape) >= 2 for w in layer.weights)
    ]


def _kernels(profile: Profile) -> Iterator[tuple[LayerProfile, float, Place]]:
    takers = consumers(profile)
    for layer in profile.layers:
        kernel = _kernel(layer)
        if kernel is None or layer.call or not takers[layer.id]:
            continue
        activation, place = _find_activation(layer, takers)
        spread = kernel.value.rms
        if spread > 0 and kernel.value.finite_fraction == 1.0:
            yield layer, spread / _standard_start(kernel, activation), place


def _takes_scale(layer: LayerProfile) -> bool:
    if layer.class_ not in ("Dense", "EinsumDense") and not layer.class_.startswith("Conv"):
        return False
    return "Transpose" not in layer.class_ and "LSTM" not in layer.class_


def _kernel(layer: LayerProfile) -> WeightProfile | None:
    if not _takes_scale(layer):
        return None
    return next((w for w in layer.weights if w.fan_in is not None), None)


def _find_activation(
    layer: LayerProfile, takers: dict[str, list[LayerProfile]]
) -> tuple[str | None, Place]:
    """The activation behind a kernel, and what becomes of the kernel's scale.

    It multiplies over the depth, but not in front of a normalisation, nor at the end of a residual
    branch, which is added.
    """
    activation, here = layer.activation, layer
    for _ in range(_MAX_HOPS):
        after = takers[here.id]
        if after and all(normalizes(row) for row in after):
            return activation, "added" if here.saturates else "hidden"
        if here.class_ == "Add" or here.added_to:
            return activation, "added"
        if len(after) != 1 or (after[0].kernel is not None and after[0].class_ != "Add"):
            return activation, "multiplies"
        here = after[0]
        activation = activation or here.activation
    return activation, "multiplies"


def _standard_start(kernel: WeightProfile, activation: str | None) -> float:
    fan_in, fan_out = kernel.fan_in or 1.0, kernel.fan_out or 1.0
    name = (activation or "linear").lower().replace("leakyrelu", "leaky_relu")
    if name in _RECTIFIERS:
        return math.sqrt(2.0 / fan_in)
    if name in _SELF_NORMALIZING:
        return math.sqrt(1.0 / fan_in)
    return math.sqrt(2.0 / (fan_in + fan_out))
