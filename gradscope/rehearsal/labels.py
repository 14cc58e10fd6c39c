"""What the labels of an output are, read from the labels themselves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gradscope.rehearsal.arrays import Array, are_whole, find_codes
from gradscope.rehearsal.inputs import MAX_MAP_SIDE, Grid, Reading
from gradscope.signals.losses import PROBABILITIES

Kind = Literal["one-hot", "indices", "binary", "labels", "numbers"]

MAX_TIMES = 32  # steps of a sequence with a label for each
MAX_CLASSES = 2000
MAX_HEAD_UNITS = 2048
_MOST_ORDINAL = 20  # distinct whole numbers that may be class indices though no loss says so
REGRESSION = {
    *("mean_squared_error", "mean_absolute_error", "mean_absolute_percentage_error"),
    *("mean_squared_logarithmic_error", "mse", "mae", "mape", "msle", "huber", "log_cosh"),
    *("poisson", "huber_loss", "logcosh"),
}


@dataclass(frozen=True, slots=True)
class OutputHint:
    """What a model says about one output. All of it may be missing, or wrong.

    Attributes:
        name: the output's name; the key of its labels where those are a dict.
        loss: the name of its loss, in snake_case.
        shape: the output's shape without the batch axis.
        activation: the name of the function that it ends in.
    """

    name: str | None = None
    loss: str | None = None
    shape: tuple[int | None, ...] | None = None
    activation: str | None = None


@dataclass(frozen=True, slots=True)
class NoYardstick:
    """Why there is no yardstick: a reason for a reader, not an error."""

    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """What the labels of one output are, read from the labels themselves.

    Labels are brought to the shape (samples, positions, channels). Class indices and one-hot labels
    become class numbers with one channel.

    Attributes:
        shape: the labels' shape without the sample axis, as given.
        values: the label that each class number stands for; (low, high) for "binary" and "labels".
        constant: the best prediction that ignores the inputs, (positions, channels).
        mean: per channel, of numbers; scale likewise.
        positions: the positions predicted where there are too many for a head; None for all.
    """

    name: str | None
    loss: str | None
    kind: Kind
    shape: tuple[int, ...]
    num_positions: int
    num_channels: int
    values: Array
    constant: Array
    mean: Array
    scale: Array
    grid: Grid | None
    positions: Array | None

    @property
    def num_units(self) -> int:
        """Units at each position."""
        return len(self.values) if self.kind in ("one-hot", "indices") else self.num_channels


def read_target(
    labels: Array, hint: OutputHint, inputs: Sequence[Array], readings: Sequence[Reading]
) -> Target | NoYardstick:
    """Say what the labels of one output are.

    The labels decide first: one class marked in each row, two values, whole numbers, or others. The
    loss decides only between class indices and counts, which look alike.

    Args:
        labels: with samples on axis 0.
        inputs: all inputs, which tell whether labels belong to time steps or pixels.
    """
    loss = (hint.loss or "").lower()
    if loss == "ctc":
        return NoYardstick("its labels are sequences of another length than the output")
    labels = labels.astype("float64")
    place = _find_grid(labels, hint, inputs, readings)
    source, size = place if place else (None, 0)
    channels_apart = labels.ndim > 1 + (size or (1 if _is_row_of_labels(labels, loss, hint) else 0))
    apart = labels if channels_apart else labels[..., None]
    shape = labels.shape[1:]
    apart = apart.reshape(len(labels), -1, apart.shape[-1])
    kind = _choose_kind(apart, loss, hint.activation)
    sparse = kind == "indices" and apart.shape[-1] > 1
    if sparse:  # several indices side by side: each is a position of its own
        apart = apart.reshape(len(labels), -1, 1)
    coded, values = _encode(apart, kind)
    if kind in ("one-hot", "indices") and len(values) < 2:
        return NoYardstick("all labels are of one class")
    if np.ptp(coded) == 0:
        return NoYardstick("all labels are equal")
    constant = _find_constant(coded, kind)
    flat = coded.reshape(-1, coded.shape[-1])
    mean, scale = flat.mean(0), flat.std(0)
    count = coded.shape[1]
    grid = None
    if source is not None and not sparse:
        if size == 2:
            grid = Grid(source, shape[:2], -(-max(shape[:2]) // MAX_MAP_SIDE))
        else:
            length = min(shape[0], MAX_TIMES)
            grid = Grid(source, (length,), start=(shape[0] - length) // 2)
    units = len(values) if kind in ("one-hot", "indices") else coded.shape[-1]
    most = max(1, MAX_HEAD_UNITS // units)
    positions = None
    if grid is None and count > most:
        positions = np.linspace(0, count - 1, most).astype(int)
    elif grid is not None and math.prod(grid.shape) < count:
        positions = np.arange(grid.start, grid.start + grid.shape[0])
    return Target(
        name=hint.name,
        loss=hint.loss,
        kind=kind,
        shape=shape,
        num_positions=count,
        num_channels=coded.shape[-1],
        values=values,
        constant=constant,
        mean=mean,
        scale=np.where(scale > 1e-12 * np.maximum(np.abs(mean), 1e-30), scale, 1.0),
        grid=grid,
        positions=positions,
    )


def _find_grid(
    labels: Array, hint: OutputHint, inputs: Sequence[Array], readings: Sequence[Reading]
) -> tuple[int, int] | None:
    """(input, number of its axes) along which the labels lie; None for one label a sample."""
    for index in reversed(range(len(inputs))):  # a decoder's input comes last
        array, reading = inputs[index], readings[index]
        size = {"vector": 0, "tokens": 1, "sequence": 1, "image": 2}[reading]
        if not size or labels.ndim < size + 1:
            continue
        if labels.shape[1 : size + 1] != array.shape[1 : size + 1] or array.shape[1] == 1:
            continue
        if reading == "tokens" and labels.ndim == 2:
            # As many labels as tokens: one each where the output is a row of classes for each.
            deep = hint.shape is not None and len(hint.shape) == 2
            if not (deep or "sparse" in (hint.loss or "")):
                continue
        return index, size
    return None


def _is_row_of_labels(labels: Array, loss: str, hint: OutputHint) -> bool:
    """Whether the last axis holds positions, each with a class index, and no channels."""
    if labels.ndim < 2 or labels.shape[-1] == 1:
        return False
    deep = hint.shape is not None and len(hint.shape) == labels.ndim
    return "sparse" in loss and (deep or labels.ndim > 2)


def _choose_kind(labels: Array, loss: str, activation: str | None) -> Kind:
    """What labels of shape (samples, positions, channels) are."""
    channels = labels.shape[-1]
    seen = np.unique(labels[:2000] if labels.size > 4_000_000 else labels)
    if channels > 1:
        if len(seen) == 2 and seen[0] == 0 and ((labels == seen[1]).sum(-1) == 1).all():
            return "one-hot"
        if len(seen) <= 2:
            return "labels"
        soft = labels.min() >= 0 and np.allclose(labels.sum(-1), 1, atol=1e-3)
        if soft and "categorical" in loss:
            return "one-hot"
        return "indices" if "sparse" in loss and are_whole(seen) else "numbers"
    if len(seen) <= 2:
        return "binary"
    # A head that gives one probability is meant for classes, whatever the loss.
    is_amount = labels.shape[1] > 1 or activation not in PROBABILITIES
    if not are_whole(seen) or seen[0] < 0 or (loss in REGRESSION and is_amount):
        return "numbers"
    if "sparse" in loss:
        return "indices"
    ordered = seen[0] <= 1 and len(seen) == seen[-1] - seen[0] + 1
    return "indices" if ordered and len(seen) <= _MOST_ORDINAL else "numbers"


def _encode(labels: Array, kind: Kind) -> tuple[Array, Array]:
    """(coded labels, what the codes stand for)."""
    if kind == "one-hot":
        return labels.argmax(-1)[..., None], np.arange(labels.shape[-1])
    if kind == "indices":
        values, counts = np.unique(labels, return_counts=True)
        if len(values) > MAX_CLASSES:  # the rarest are given up, for the head to stay small
            values = np.sort(values[np.argsort(-counts)[:MAX_CLASSES]])
        return find_codes(labels, values), values
    if kind == "numbers":
        return labels, np.zeros(0)
    low, high = labels.min(), labels.max()
    return (labels > (low + high) / 2).astype("float64"), np.array([low, high])


def _find_constant(coded: Array, kind: Kind) -> Array:
    """The best prediction without inputs, for each position and channel."""
    if kind == "numbers":
        return coded.mean(0)
    if kind in ("binary", "labels"):
        return (coded.mean(0) > 0.5).astype("float64")
    majority = [np.bincount(column.astype(int)).argmax() for column in coded[..., 0].T]
    return np.array(majority, "float64")[:, None]


def code_labels(target: Target, y: Array) -> Array | None:
    """Labels as (samples, positions, channels) codes; None where their shape is another."""
    if y.shape[1:] != target.shape:
        return None
    labels = np.asarray(y, "float64")
    if target.kind == "one-hot":
        return labels.reshape(len(y), target.num_positions, -1).argmax(-1)[..., None]
    labels = labels.reshape(len(y), target.num_positions, target.num_channels)
    if target.kind == "indices":
        return find_codes(labels, target.values)
    if target.kind == "numbers":
        return labels
    return np.where(np.isfinite(labels), labels > target.values.mean(), np.nan).astype("float64")
