"""Units that are copies of one another, and units that are off for all samples."""

from __future__ import annotations

from gradscope.records import History, LayerProfile, Profile, WeightProfile
from gradscope.signals.common import consumers, lacks_weights

HALF = 0.5
FEW_SAMPLES = 32  # off for fewer, a unit may be on for others


def find_repeated(
    profile: Profile, at_least: float = HALF
) -> list[tuple[LayerProfile, float, str]]:
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


def find_uncounted(profile: Profile) -> list[LayerProfile]:
    """Hidden layers with a trainable kernel of which it is not known how many units differ."""
    takers = consumers(profile)
    return [
        layer
        for layer in profile.layers
        if not layer.call and takers[layer.id] and layer.class_ != "Embedding"
        if lacks_weights(layer) or any(_is_uncounted(w) for w in layer.weights)
    ]


def _is_uncounted(weight: WeightProfile) -> bool:
    is_kernel = len(weight.shape) >= 2 and not weight.path.endswith("bias")
    learns = weight.trainable and weight.reached and is_kernel
    return learns and weight.num_distinct_units is None


def num_pruned(weight: WeightProfile) -> int:
    """Units whose weights are all zero beside others that work: removed, neither copies nor dead.

    Where all units are zero, none was removed: the kernel starts so.
    """
    units = weight.shape[-1] if weight.shape else 0
    return weight.num_zero_units if weight.num_zero_units < units else 0


def find_longest_seen(hidden: list[LayerProfile], history: History) -> list[LayerProfile]:
    """Each row where its fewest units are dead, of the last snapshots that hold enough samples."""
    seen = {row.id: 0.0 for row in hidden if row.num_units}
    found: dict[str, list[LayerProfile]] = {id: [] for id in seen}
    for snapshot in reversed(history.snapshots):
        wanted = {id for id, count in seen.items() if count < FEW_SAMPLES}
        if not wanted:
            break
        for row in snapshot.layers:
            if row.id in wanted and row.num_units and row.output is not None:
                seen[row.id] += row.output.count / row.num_units
                found[row.id].append(row)
    return [min(found[id], key=dead_share) for id in seen if seen[id] >= FEW_SAMPLES]


def dead_share(layer: LayerProfile) -> float:
    """The share of dead units, of those that were not removed by pruning."""
    if not layer.num_dead or not layer.num_units:
        return 0.0
    kernels = (w for w in layer.weights if w.shape and w.shape[-1] == layer.num_units)
    pruned = max((num_pruned(w) for w in kernels), default=0)
    return max(0, layer.num_dead - pruned) / (layer.num_units - pruned)
