"""Over how many values a normalisation takes its mean."""

from __future__ import annotations

import math

from gradscope.records import LayerProfile, Profile

_ROUNDING = 1e-3  # relative, of float16
OVER_BATCH, OVER_FEATURES = "BatchNormalization", "LayerNormalization"


def is_normalizing(layer: LayerProfile) -> bool:
    """Whether the layer takes means of what it gets: a frozen one has them already."""
    return layer.class_ in (OVER_BATCH, OVER_FEATURES) and layer.trainable


def count_values(layer: LayerProfile, profile: Profile) -> float | None:
    """Over how many values a normalising layer takes a mean; None where that is not known.

    Infinite where more than one value shows through: it may normalise over other axes than the
    usual, or by moving statistics.
    """
    shape, data = layer.output_shape, profile.data
    if not shape or None in shape[1:]:
        return None
    positions = math.prod(n or 1 for n in shape[1:-1])
    # Made-up batches, and one sample alone, are not of the size that the training has.
    is_size_known = data.kind != "synthetic" and data.num_samples > 1
    if layer.class_ == OVER_BATCH and positions == 1 and not is_size_known:
        return None
    if _lets_through(layer):
        return math.inf
    if layer.class_ == OVER_FEATURES:
        return float(shape[-1] or 0)
    return data.num_samples / data.num_batches * positions


def _lets_through(layer: LayerProfile) -> bool:
    """Whether more than rounding of what differs, or of the gradient, gets past the layer."""
    arriving, leaving = layer.activation_gradient, layer.input_gradient
    passes_gradient = (
        arriving is not None and leaving is not None and leaving.rms > _ROUNDING * arriving.rms
    )
    return passes_gradient or (layer.sample_variation or 0.0) > _ROUNDING
