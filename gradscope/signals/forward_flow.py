"""How the forward signal changes with depth: shared by signal-collapse and signal-explosion."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gradscope.records import LayerProfile, Profile
from gradscope.signals.flow import normalizes, outputs

RESET = -math.inf  # given by a layer that puts the signal right, whatever happened before it
WHAT = "the signal and the kernel"  # what is to be measured
_CULPRIT_PART = 0.5  # of what the average layer of the stretch does
_FLOOR = 1e-45  # float32's range: what is zero counts as this small

# (layer, the layer that its strongest input comes from or None) -> decades for the worse
Change = Callable[[LayerProfile, "LayerProfile | None"], float]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive layer calls over which the signal gets worse, and what lies behind them."""

    layers: tuple[LayerProfile, ...]
    decades: tuple[float, ...]
    behind: tuple[LayerProfile, ...]

    @property
    def total(self) -> float:
        return sum(self.decades)

    @property
    def culprits(self) -> tuple[str, ...]:
        """Layers that do their part of the work, the first one first: there it starts."""
        bound = _CULPRIT_PART * self.total / len(self.layers)
        pairs = zip(self.layers, self.decades, strict=True)
        return tuple(layer.id for layer, change in pairs if change >= bound)

    @property
    def affected(self) -> tuple[str, ...]:
        """Culprits, then the rest of the stretch, then what lies behind it."""
        ids = (layer.id for layer in (*self.layers, *self.behind))
        return tuple(dict.fromkeys((*self.culprits, *ids)))


def find_unmeasured(profile: Profile) -> list[LayerProfile]:
    """Layers whose output or kernel was not measured, though a gradient came to it."""
    return [
        layer
        for layer in profile.layers
        if (layer.output is None and layer.activation_gradient is not None)
        or (layer.kernel is None and any(w.trainable and w.reached for w in layer.weights))
    ]


def worst(profile: Profile, change: Change) -> Stretch | None:
    """The worst stretch that is still felt where the model's output layers begin."""
    found = [s for path in paths(profile) if (s := _stretch(path, change))]
    return max(found, key=lambda stretch: stretch.total, default=None)


def paths(profile: Profile) -> list[list[LayerProfile]]:
    """For every output of the model the layer calls that its strongest signal comes through.

    Where branches meet, the way is that of the branch whose output differs most over the samples.
    """
    rows = {layer.id: layer for layer in profile.layers}
    found = []
    for layer in outputs(profile.layers):
        if layer.output is None:
            continue
        path, seen = [layer], {layer.id}
        while sources := [rows[i] for i in _summands(path[-1].inputs, rows) if i not in seen]:
            path.append(max(sources, key=_strength))
            seen.add(path[-1].id)
        found.append(path[::-1])
    return found


def _summands(ids: Sequence[str], rows: dict[str, LayerProfile]) -> dict[str, None]:
    """The rows themselves, and all that is added to them on the way to where they go."""
    found: dict[str, None] = {}
    waiting = list(ids)
    while waiting:
        id = waiting.pop()
        if id in rows and id not in found:
            found[id] = None
            waiting += rows[id].added_to
    return found


def level(rms: float) -> float:
    return math.log10(max(rms, _FLOOR))


def count_in_layers(layer: LayerProfile, lost: float) -> float:
    """Losses count in layers and activations; gains count anywhere.

    Pooling and merging are meant to average, and gated cells start with small outputs by nature.
    """
    is_layer = (layer.kernel or layer.activation) and not layer.timesteps
    return lost if is_layer else min(0.0, lost)


def _strength(layer: LayerProfile) -> float:
    if layer.output is None:
        return 0.0
    varies = 1.0 if layer.sample_variation is None else layer.sample_variation
    return layer.output.rms * varies


def last_kernel(path: Sequence[LayerProfile]) -> int:
    """The index of the last layer with a kernel: the signal matters as far as there."""
    return max((i for i, row in enumerate(path) if row.kernel and not normalizes(row)), default=0)


def _stretch(path: Sequence[LayerProfile], change: Change) -> Stretch | None:
    last = last_kernel(path)
    total, start = 0.0, 0
    changes = []
    for i, layer in enumerate(path[:last]):
        changes.append(change(layer, path[i - 1] if i else None))
        total += changes[-1]
        if total <= 0.0:
            total, start = 0.0, i + 1
    if total == 0.0:
        return None
    return Stretch(tuple(path[start:last]), tuple(changes[start:]), tuple(path[last:]))
