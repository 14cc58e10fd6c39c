"""Units that are copies of one another."""

from __future__ import annotations

from gradscope.records import LayerProfile, Profile, WeightProfile
from gradscope.signals.common import consumers, lacks_weights

HALF = 0.5


def repeated(profile: Profile, at_least: float = HALF) -> list[tuple[LayerProfile, float, str]]:
    """Hidden layers whose trainable kernel has repeated units, with their share.

    Returns:
        (layer, share of units that copy another one, "n of m units differ"), inputs first.
    """
    takers = consumers(profile)
    found = []
    for layer in profile.layers:
        if layer.call or not takers[layer.id] or layer.class_ == "Embedding":
            continue
        for weight in layer.weights:
            distinct, units = weight.num_distinct_units, weight.shape[-1] if weight.shape else 0
            if distinct is None or not (weight.trainable and weight.reached):
                continue
            if pruned := num_pruned(weight):
                distinct, units = distinct - 1, units - pruned
            if units < 2:
                continue
            share = (units - distinct) / (units - 1)
            if share >= at_least:
                found.append((layer, share, f"{distinct} of {units} units"))
                break
    return found


def uncounted(profile: Profile) -> list[LayerProfile]:
    """Hidden layers with a trainable kernel of which it is not known how many units differ."""
    takers = consumers(profile)
    return [
        layer
        for layer in profile.layers
        if not layer.call and takers[layer.id] and layer.class_ != "Embedding"
        if lacks_weights(layer) or any(_is_uncounted(w) for w in layer.weights)
    ]


def _is_uncounted(weight: WeightProfile) -> bool:
    learns = weight.trainable and weight.reached and len(weight.shape) >= 2
    return learns and weight.num_distinct_units is None


def num_pruned(weight: WeightProfile) -> int:
    """Units whose weights are all zero beside others that work: removed, neither copies nor dead.

    Where all units are zero, none was removed: the kernel starts so.
    """
    units = weight.shape[-1] if weight.shape else 0
    return weight.num_zero_units if weight.num_zero_units < units else 0
