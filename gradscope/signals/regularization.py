"""How strong penalties and dropout are, against what they act on."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gradscope.records import LayerProfile, Profile
from gradscope.signals.common import lacks_weights

_DROPOUTS = ("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D")
_LEAST_RATE = 0.05  # less may be chance


@dataclass(frozen=True, slots=True)
class Dropping:
    """What a dropout layer does in training.

    Attributes:
        rate: share of the entries that it sets to zero.
        num_active: entries of a sample that are not zero before it.
    """

    layer: LayerProfile
    rate: float
    num_active: float

    @property
    def noise(self) -> float:
        """Its variance over that of the signal, where all entries agree."""
        return self.rate / ((1.0 - self.rate) * self.num_active)


def find_pulls(profile: Profile) -> dict[str, float]:
    """By layer with penalised weights: the least ratio of penalty to data among its weights."""
    found: dict[str, float] = {}
    for layer in profile.layers:
        ratios = [w.penalty_ratio for w in layer.weights if w.penalty_ratio]
        if ratios and layer.trainable and not layer.call:
            found[layer.id] = min(ratios)
    return found


def lacks_penalties(layer: LayerProfile) -> bool:
    """Whether the layer learns and it is not known what pulls at its weights."""
    unknown = any(w.trainable and w.penalty_ratio is None for w in layer.weights)
    return lacks_weights(layer) or unknown


def find_droppings(profile: Profile) -> list[Dropping]:
    """The dropout layers behind one another; of those side by side the one with least noise."""
    found: dict[int, Dropping] = {}
    for layer in profile.layers:
        dropping = _measure(layer)
        if dropping is None:
            continue
        other = found.get(layer.depth)
        if other is None or dropping.noise < other.noise:
            found[layer.depth] = dropping
    return list(found.values())


def _measure(layer: LayerProfile) -> Dropping | None:
    before, after, shape = layer.input, layer.output, layer.output_shape
    if layer.class_ not in _DROPOUTS or before is None or after is None or not shape:
        return None
    kept = 1.0 - before.zero_fraction
    rate = (after.zero_fraction - before.zero_fraction) / kept if kept else 0.0
    # SpatialDropout keeps or drops whole channels.
    axes = shape[-1:] if layer.class_ != "Dropout" else shape[1:]
    num_active = kept * math.prod(axis or 1 for axis in axes)
    if not _LEAST_RATE <= rate < 1.0:
        return None
    return Dropping(layer, rate, num_active)
