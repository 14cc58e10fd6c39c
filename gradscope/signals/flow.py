"""How the backward signal of a profile changes with depth, and what changes it.

The signal of a layer call is the L2 norm of dL/d(output): an orthogonal map keeps it, and so do
strides and pooling windows of any size up to a constant, where the rms of single entries would
fall with every larger feature map (Saxe et al. 2014, arXiv:1312.6120, section 3).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gradscope.records import LayerProfile, Profile, TensorStats

# A gradient that is exactly zero is this many decades below the largest: float32's whole range.
FLOOR_DECADES = 45.0
# Weights that change by a tenth of themselves in one step are on their way somewhere else: an
# output kernel or residual scale that starts at zero. What they block today says little.
_UNSETTLED_UPDATE_RATIO = 0.1


@dataclass(frozen=True, slots=True)
class FlowStep:
    """What one layer call does to the signal on its way down one unit of depth, in decades.

    `lost` = `activation` + `weight` + `rest`; negative where the signal grows. `normalizes` marks
    normalisation layers.
    """

    layer: LayerProfile
    lost: float
    activation: float
    weight: float
    rest: float
    settled: bool
    normalizes: bool


def gradient_of(layer: LayerProfile) -> TensorStats | None:
    """dL/d(output), or dL/d(pre-activation) where the loss is computed from that directly."""
    return layer.activation_gradient or layer.preactivation_gradient


def signal(layer: LayerProfile) -> float | None:
    """The L2 norm of the gradient at the layer's output; None where none is computed."""
    gradient = gradient_of(layer)
    return None if gradient is None else gradient.l2_norm


def normalizes(layer: LayerProfile) -> bool:
    """Whether the layer puts the scale of what it gets right."""
    return "Normalization" in layer.class_


def strongest(profile: Profile) -> list[LayerProfile]:
    """At each depth the layer call with the strongest signal, from the inputs up.

    Where branches run side by side the signal is as good as its best way: a skip connection
    carries it past a branch that blocks it. Depths below which no output lies are such a branch's.
    """
    return _strongest(profile.layers)


def norms(layers: Sequence[LayerProfile]) -> tuple[float | None, ...]:
    """The strongest signal at each depth, from the inputs up."""
    return tuple(signal(layer) for layer in _strongest(layers))


def outputs(layers: Sequence[LayerProfile]) -> list[LayerProfile]:
    """The layer calls whose output no other takes or has added to it: the model's outputs."""
    taken = {source for layer in layers for source in (*layer.inputs, *layer.added_to)}
    return [layer for layer in layers if layer.id not in taken]


def _strongest(layers: Sequence[LayerProfile]) -> list[LayerProfile]:
    top = max((layer.depth for layer in outputs(layers)), default=0)
    best: dict[int, LayerProfile] = {}
    for layer in layers:
        value = signal(layer)
        if value is not None and 0 < layer.depth <= top:
            held = best.get(layer.depth)
            if held is None or value > (signal(held) or 0.0):
                best[layer.depth] = layer
    return [best[depth] for depth in sorted(best)]


def steps(profile: Profile) -> list[FlowStep]:
    """The signal's way from the loss down to the inputs, first step first, balanced."""
    path = strongest(profile)
    top = max((signal(layer) or 0.0 for layer in path), default=0.0)
    if top == 0.0:
        return []
    floor = math.log10(top) - FLOOR_DECADES
    levels = [_level(signal(layer), floor) for layer in path]
    found = [
        _step(upper, level - below)
        for upper, level, below in reversed(
            list(zip(path[1:], levels[1:], levels[:-1], strict=True))
        )
    ]
    # A fixed scale behind the output multiplies every gradient alike, as the unit of the loss does.
    behind = itertools.dropwhile(lambda step: step.layer.class_ == "Rescaling", found)
    return _balance(list(behind))


def _balance(path: list[FlowStep]) -> list[FlowStep]:
    """The steps with each normalisation and what it normalises taken together.

    A normalisation divides by the scale of what it gets. A kernel before it that is too large by
    some factor gives the gradient that factor and the normalisation takes it away again, and the
    other way round for one that is too small; only what both leave together is a change. So what
    a normalisation did is booked, as `rest`, on the steps below it that did the opposite, as far
    as they did, up to the next normalisation. Below the last one lies the model's first kernel,
    through which no gradient is followed; what is left there counts as that kernel's.
    """
    found = list(path)
    for n, step in enumerate(path):
        if not step.normalizes:
            continue
        for m in range(n + 1, len(path)):
            if found[m].normalizes or not found[n].lost:
                break
            opposite = found[n].lost * found[m].lost < 0.0
            size = min(abs(found[n].lost), abs(found[m].lost)) if opposite else 0.0
            moved = math.copysign(size, found[n].lost)
            found[n], found[m] = _book(found[n], -moved), _book(found[m], moved)
        else:
            found[n] = _book(found[n], -found[n].lost)
    return found


def _book(step: FlowStep, decades: float) -> FlowStep:
    return replace(step, lost=step.lost + decades, rest=step.rest + decades)


def steepest(path: Sequence[FlowStep], *, growing: bool = False) -> list[FlowStep]:
    """The stretch of `path` over which the signal shrinks (or grows) most, possibly empty.

    Where the signal shrinks, steps whose weights are not settled count nothing: a kernel that
    starts at zero grows. A kernel through which it grows is not such a one; it changes much because
    its gradient is large. Growth that is left in a normalisation counts nothing: it gives back what
    the signal lost forward, between layers of which none lost it backward.
    """
    best_total, best = 0.0, (0, 0)
    total, start = 0.0, 0
    for i, step in enumerate(path):
        change = -step.lost if growing else step.lost
        if not growing and not step.settled:
            change = 0.0
        if growing and _gives_back(step):
            change = 0.0
        if total + change <= 0.0:
            total, start = 0.0, i + 1
            continue
        total += change
        if total > best_total:
            best_total, best = total, (start, i + 1)
    stretch = path[best[0] : best[1]]
    return [s for s in stretch if (not _gives_back(s) if growing else s.settled)]


def _gives_back(step: FlowStep) -> bool:
    return step.normalizes and step.lost < 0.0


def is_obstructed(profile: Profile) -> bool:
    """Whether unsettled weights hide more than a decade, so that a later look is worth it."""
    return any(not step.settled and step.lost > 1.0 for step in steps(profile))


def _level(value: float | None, floor: float) -> float:
    return max(floor, math.log10(value)) if value else floor


def _step(layer: LayerProfile, lost: float) -> FlowStep:
    factors = layer.backward
    activation = -_log(factors.activation_factor)
    if normalizes(layer):
        weight = 0.0
    elif factors.weight_factor is not None:
        weight = -_log(factors.weight_factor) - _size_decades(layer)
    elif layer.weights:
        # Without a factor (first in a chain, blocked) all that is not the activation is the kernel.
        weight = lost - activation
    else:
        weight = 0.0
    rest = lost - activation - weight
    return FlowStep(layer, lost, activation, weight, rest, is_settled(layer), normalizes(layer))


def _size_decades(layer: LayerProfile) -> float:
    """log10 of what turns a ratio of rms into a ratio of norms: sqrt(entries in / entries out)."""
    lower = layer.input_gradient
    upper = layer.preactivation_gradient or layer.activation_gradient
    if lower is None or upper is None or not (lower.count and upper.count):
        return 0.0
    return 0.5 * math.log10(lower.count / upper.count)


def _log(factor: float | None) -> float:
    return math.log10(factor) if factor else 0.0


def hidden_decades(layer: LayerProfile) -> float:
    """What a layer takes from the signal only today, in decades.

    A weight that the first steps will replace, or a dropout that happened to drop all there was, as
    stochastic depth drops a branch (Huang et al. 2016, arXiv:1603.09382, equation 2).
    """
    if is_dropped(layer):
        return FLOOR_DECADES
    if is_settled(layer):
        return 0.0
    factor = layer.backward.weight_factor
    if not factor or layer.kernel is None or layer.kernel.l2_norm == 0.0:
        return FLOOR_DECADES
    return max(0.0, -_log(factor) - _size_decades(layer))


def is_dropped(layer: LayerProfile) -> bool:
    """Whether the layer is a dropout that left nothing of what it got."""
    before, after = layer.input, layer.output
    has_input = before is not None and before.abs_max > 0.0
    return "Drop" in layer.class_ and has_input and after is not None and after.abs_max == 0.0


def is_settled(layer: LayerProfile) -> bool:
    """Whether the layer's weights are more than a start that the first steps will replace."""
    if not layer.trainable or layer.kernel is None:
        return True
    if layer.kernel.l2_norm == 0.0:
        return False
    return layer.update_ratio is None or layer.update_ratio < _UNSETTLED_UPDATE_RATIO
