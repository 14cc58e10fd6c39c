"""How each input is read: as a vector, token ids, a sequence or an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from gradscope.rehearsal.arrays import Array, are_whole, find_codes

Reading = Literal["vector", "tokens", "sequence", "image"]

MAX_FEATURES = 4096  # of a vector; more are folded together
MAX_MAP_SIDE = 32  # of an image with a label for each pixel
MAX_SIDE = 20  # of an image whose labels have no place in it
MAX_STEPS = 256  # of any other sequence
MAX_VOCABULARY = 5000
_FEWEST_IDS, _LEAST_MAXIMUM = 4, 16  # of a row; fewer or lower ones are marks and counts


@dataclass(frozen=True, slots=True)
class Grid:
    """How labels lie on an input: along its time steps or its pixels.

    Attributes:
        source: the index of the input.
        shape: steps, or height and width, of labels and input alike.
        stride: only every `stride`-th pixel is predicted; the rest repeat it.
        start: the first time step seen: of a long sequence only a window in its middle is, since
            neighbours matter there, and no other position is scored.
    """

    source: int
    shape: tuple[int, ...]
    stride: int = 1
    start: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class InputPlan:
    """How one input is read, with what its training part has told."""

    reading: Reading
    shape: tuple[int, ...]
    stride: int
    mean: Array
    scale: Array
    vocabulary: Array
    channels_first: bool = False
    window: slice | None = None


def may_be_ids(array: Array) -> bool:
    """Whether the numbers may be ids of a vocabulary: whole ones, a row of them a sample."""
    flat = array.reshape(len(array), -1)
    is_row = array.ndim == 2 or (array.ndim == 3 and 1 in array.shape[1:])
    if not is_row or flat.shape[1] < _FEWEST_IDS:
        return False
    return bool(flat.min() >= 0 and flat.max() >= _LEAST_MAXIMUM) and are_whole(flat)


def choose_reading(array: Array, tokens: bool | None) -> Reading:
    if tokens and array.ndim == 3 and may_be_ids(array):
        return "tokens"
    whole = array.dtype.kind in "iu"
    if array.ndim <= 2:
        if tokens is None:  # bytes are pixels; ids come as 32 or 64 bits, and are never negative
            tokens = whole and array.dtype.itemsize >= 4 and may_be_ids(array)
        is_id = tokens and array.min() >= 0 and are_whole(array)
        return "tokens" if is_id else "vector"
    if array.ndim == 3:
        # Pictures without an axis for their channels; a dense network sees enough of them.
        square = array.shape[1] == array.shape[2] >= 8
        return "vector" if square or array.shape[1] == 1 else "sequence"
    return "image" if array.ndim == 4 else "vector"


def plan_input(array: Array, reading: Reading, grid: Grid | None) -> InputPlan:
    stride, first, vocabulary = 1, False, np.zeros(0)
    if reading == "image":
        first = array.shape[1] in (1, 3, 4) and array.shape[-1] > 4 and grid is None
        sides = array.shape[2:] if first else array.shape[1:3]
        limit = MAX_SIDE if grid is None else MAX_MAP_SIDE
        stride = -(-max(sides) // limit)
    elif reading in ("sequence", "tokens") and array.ndim > 1:
        stride = -(-max(array.shape[1:]) // MAX_STEPS)
    window = None
    if grid is not None:
        stride = grid.stride
        if len(grid.shape) == 1:
            window = slice(grid.start, grid.start + grid.shape[0])
    if reading == "tokens":
        ids, counts = np.unique(array, return_counts=True)
        vocabulary = np.sort(ids[np.argsort(-counts, kind="stable")[: MAX_VOCABULARY - 1]])
    raw = InputPlan(
        reading, array.shape[1:], stride, np.zeros(1), np.ones(1), vocabulary, first, window
    )
    if reading == "tokens":
        return raw
    shaped = shape_input(raw, array)
    axes = (0,) if shaped.ndim == 2 else tuple(range(shaped.ndim - 1))
    mean, scale = shaped.mean(axes, dtype="float64"), shaped.std(axes, dtype="float64")
    # A constant feature is only shifted: dividing by rounding noise would make it a loud one.
    scale = np.where(scale > 1e-7 * np.abs(mean) + 1e-30, scale, 1.0)
    return InputPlan(reading, array.shape[1:], stride, mean, scale, vocabulary, first, window)


def shape_input(plan: InputPlan, array: Array) -> Array:
    """Pool, stride and fold; the values stay as they are, in float64 where they are numbers."""
    if plan.window is not None:
        array = array[:, plan.window]
    if plan.reading == "tokens":
        array = array.reshape(len(array), -1)
        return find_codes(array[:, :: plan.stride], plan.vocabulary)
    if plan.reading == "vector":
        flat = array.reshape(len(array), -1)
        return flat.astype("float64") if flat.shape[1] <= MAX_FEATURES else _fold(flat)
    if plan.channels_first:
        array = np.moveaxis(array, 1, -1)
    if plan.stride == 1:
        return array.astype("float64")
    return _pool(array, plan.stride, array.ndim - 2)


def _pool(array: Array, stride: int, num_axes: int) -> Array:
    """The mean over blocks of `stride` along the axes after the first; edges are repeated."""
    for axis in range(1, num_axes + 1):
        missing = -array.shape[axis] % stride
        if missing:
            width = [(0, missing if a == axis else 0) for a in range(array.ndim)]
            array = np.pad(array, width, mode="edge")
        blocks = array.shape[axis] // stride
        split = (*array.shape[:axis], blocks, stride, *array.shape[axis + 1 :])
        array = array.reshape(split).mean(axis + 1, dtype="float32")
    return array.astype("float64")


def _fold(flat: Array) -> Array:
    """Sums of features under random signs, in MAX_FEATURES groups (a count sketch)."""
    rng = np.random.default_rng(0)
    order = rng.permutation(flat.shape[1])
    signs = rng.choice(np.array([-1.0, 1.0], "float32"), flat.shape[1])
    starts = np.linspace(0, flat.shape[1], MAX_FEATURES, endpoint=False).astype(int)
    chunks = np.array_split(np.arange(len(flat)), max(1, flat.size // 20_000_000 + 1))
    parts = [np.add.reduceat(flat[c][:, order] * signs, starts, axis=1) for c in chunks if len(c)]
    return np.concatenate(parts).astype("float64")
