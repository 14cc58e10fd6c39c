"""Kernels against the scale that the activations behind them ask for."""

from __future__ import annotations

import math

from gradscope.records import LayerProfile, Profile, WeightProfile
from gradscope.symptoms._common import consumers

# Which scale is asked for: He et al. 2015, eq. 10; Klambauer et al. 2017; else Glorot.
_RECTIFIERS = ("relu", "relu6", "leaky_relu", "elu", "gelu", "silu", "swish", "hard_silu", "mish")
_SELF_NORMALIZING = ("selu",)


def scaled_kernels(profile: Profile) -> list[tuple[LayerProfile, float]]:
    """Hidden layers with their kernel's scale over the one asked for, where scale matters."""
    found = []
    takers = consumers(profile)
    for layer in profile.layers:
        kernel = _kernel(layer)
        if kernel is None or layer.call or not takers[layer.id]:
            continue
        activation, normalized = _follows(layer, takers)
        spread = kernel.value.rms
        if not normalized and spread > 0 and kernel.value.finite_fraction == 1.0:
            found.append((layer, spread / _asked(kernel, activation)))
    return found


def _kernel(layer: LayerProfile) -> WeightProfile | None:
    if layer.class_ not in ("Dense", "EinsumDense") and not layer.class_.startswith("Conv"):
        return None
    if "Transpose" in layer.class_ or "LSTM" in layer.class_:
        return None
    return next((w for w in layer.weights if w.fan_in is not None), None)


def _follows(layer: LayerProfile, takers: dict[str, list[LayerProfile]]) -> tuple[str | None, bool]:
    """The activation behind a kernel, and whether its scale does not multiply over the depth.

    It does not in front of a normalisation, nor at the end of a residual branch, which is added.
    """
    activation, here = layer.activation, layer
    for _ in range(4):
        after = takers[here.id]
        if len(after) != 1:
            return activation, False
        here = after[0]
        if "Normalization" in here.class_ or here.class_ == "Add":
            return activation, True
        if here.kernel is not None:
            return activation, False
        activation = activation or here.activation
    return activation, False


def _asked(kernel: WeightProfile, activation: str | None) -> float:
    fan_in, fan_out = kernel.fan_in or 1.0, kernel.fan_out or 1.0
    name = (activation or "linear").lower().replace("leakyrelu", "leaky_relu")
    if name in _RECTIFIERS:
        return math.sqrt(2.0 / fan_in)
    if name in _SELF_NORMALIZING:
        return math.sqrt(1.0 / fan_in)
    return math.sqrt(2.0 / (fan_in + fan_out))
