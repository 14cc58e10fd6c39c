"""The targets of a regression against what the head of the model starts with."""

from __future__ import annotations

import math
from typing import NamedTuple

from gradscope.records import DataTensor, LayerProfile, LossTerm, Profile
from gradscope.signals.losses import num_units

SQUARED = ("mean_squared_error",)
ABSOLUTE = ("mean_absolute_error", "huber", "log_cosh")
# Optimizers that rescale their steps, so that a weight moves by about the learning rate.
RESCALED_STEPS = ("Adam", "AdamW", "Adamax", "Nadam", "RMSprop", "Lion")
# Functions without an upper bound that neither shift nor scale; a network that ends in exp
# reaches any scale by itself.
UNBOUNDED = (
    "linear", "relu", "leaky_relu", "elu", "selu", "gelu", "silu", "swish", "mish", "softplus",
)  # fmt: skip
_ON_THE_WAY = ("Activation", "ReLU", "LeakyReLU", "Reshape", "Flatten", "Permute", "Identity",
               "Dropout", "Rescaling")  # fmt: skip
_MOST_HOPS = 4


class Scales(NamedTuple):
    """Mean and standard deviation of the targets: one of each a unit, or one for all units."""

    means: tuple[float, ...]
    stds: tuple[float, ...]


class Head(NamedTuple):
    """The last layer with weights before an output.

    Attributes:
        row: its last call.
        is_rescaled: whether there is a fixed Rescaling behind it.
        scale: what fixed layers behind it multiply its output by.
        reach: sum of the magnitudes that one weight each is multiplied by to give one unit, the
            bias's 1 included: how far the output moves if all move by 1.
        gain: the same of the squares: how far a gradient step of length 1 moves the output.
    """

    row: LayerProfile
    is_rescaled: bool
    scale: float
    reach: float
    gain: float


def target_scales(term: LossTerm) -> Scales | None:
    """Of the labels of a term; None where they are not known, and where they are classes."""
    labels = term.labels
    if labels is None or not labels.means or _are_classes(labels):
        return None
    means, stds = labels.means, labels.stds
    if len(means) == 1 or (len(means) == num_units(term) and labels.shape == term.shape):
        return Scales(means, stds)
    mean = sum(means) / len(means)
    square = sum(m**2 + s**2 for m, s in zip(means, stds, strict=True)) / len(means)
    return Scales((mean,), (math.sqrt(max(square - mean**2, 0.0)),))


def standardize_in_code(term: LossTerm) -> str:
    """The line that gives the labels of a term mean 0 and standard deviation 1, by column."""
    name = term.labels.name if term.labels is not None else "y"
    return f"{name} = ({name} - {name}.mean(0)) / {name}.std(0)"


def _are_classes(labels: DataTensor) -> bool:
    """Whether a squared error is asked to tell classes apart: 0 and 1, or one hot."""
    return labels.num_distinct == 2 and (labels.minimum, labels.maximum) == (0.0, 1.0)


def head_of(term: LossTerm, profile: Profile) -> Head | None:
    """What makes an output; None where no layer with one kernel does, or it was not measured."""
    rows = {layer.id: layer for layer in profile.layers}
    row = next((r for r in reversed(profile.layers) if r.path == term.layer), None)
    scale, is_rescaled = 1.0, False
    for _ in range(_MOST_HOPS):
        if row is None or row.class_ not in _ON_THE_WAY:
            break
        before = rows.get(row.inputs[0]) if len(row.inputs) == 1 else None
        if row.class_ == "Rescaling":
            ends = (before and before.output, row.output)
            if not ends[0] or not ends[1] or not ends[0].std:
                return None
            scale, is_rescaled = scale * ends[1].std / ends[0].std, True
        row = before
    if row is None or row.input is None:
        return None
    kernel = next((w for w in row.weights if w.trainable and w.fan_in), None)
    if kernel is None or kernel.fan_in is None:
        return None
    size = row.input.rms
    reach, gain = 1.0 + kernel.fan_in * size, 1.0 + kernel.fan_in * size**2
    return Head(row, is_rescaled, scale, reach, gain)
