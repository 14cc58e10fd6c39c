"""What a model puts out: each output of one forward pass, kept as a few numbers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gradscope.backend.keras_private import has_logits
from gradscope.measure.layer_call import Row
from gradscope.measure.provenance import sources_of
from gradscope.measure.recorder import Rows, as_array
from gradscope.measure.tensor_stats import merge_all, stats
from gradscope.records import TensorStats

TOLERANCE = 1e-3
_FEW_SAMPLES = 8
_EXACT = 1e-6
# Layers that change values, but never beyond the range of those that arrive.
_WITHIN = ("Dropout", "Pooling", "UpSampling", "Cropping")


@dataclass(frozen=True, slots=True)
class Output:
    """One output; ragged and sparse ones, and those that are no floats, are not `dense`.

    Attributes:
        shape: of one sample.
        minimum, maximum: over a few samples; None where they are not finite.
        sums_to_one: whether the rows of the same samples do.
        has_logits: whether Keras finds the logits behind the output and computes from them.
        makers: the layer calls whose values it holds, in another shape or type at most; none
            where code in between makes other values of them.
    """

    dense: bool
    shape: tuple[int, ...]
    minimum: float | None
    maximum: float | None
    sums_to_one: bool
    has_logits: bool
    makers: tuple[Row, ...] = ()


def describe(outputs: Any, rows: Rows) -> Any:
    """The structure of `outputs` with a record in the place of every tensor.

    Args:
        rows: what the taps have noted in the pass that gave the outputs, and in no other.
    """
    return keras.tree.map_structure(lambda tensor: _output(tensor, rows), outputs)


def _output(tensor: Any, rows: Rows) -> Output:
    dense = isinstance(tensor, tf.Tensor) and tensor.dtype.is_floating
    whole = np.atleast_1d(as_array(tensor)) if dense else np.zeros(0)
    values = whole[:_FEW_SAMPLES].astype(np.float32)
    finite = bool(values.size) and bool(np.isfinite(values).all())
    has_rows = finite and values.ndim > 1 and values.shape[-1] > 1
    return Output(
        dense=dense,
        shape=tuple(values.shape[1:]),
        minimum=float(values.min()) if finite else None,
        maximum=float(values.max()) if finite else None,
        sums_to_one=has_rows and bool((abs(values.sum(-1) - 1) <= TOLERANCE).all()),
        has_logits=has_logits(tensor),
        makers=_makers([name for name, _ in sources_of(tensor)], stats(whole), rows)
        if dense
        else (),
    )


def _makers(sources: Iterable[str], held: TensorStats | None, rows: Rows) -> tuple[Row, ...]:
    """The calls that made the values in `held`, past those that only hand values on."""
    found = [rows.rows[name] for name in sources if name in rows.rows]
    if not found or not _are_same(held, merge_all(rows.stats(row, "output") for row in found)):
        return ()
    if len(found) > 1:  # put side by side, as both directions of a Bidirectional
        return tuple(found)
    (row,) = found
    arrives = rows.stats(row, "input")
    if row.activation or getattr(row.site.layer, "weights", None) or arrives is None:
        return (row,)
    is_within = any(kind in type(row.site.layer).__name__ for kind in _WITHIN)
    if not is_within and not _are_same(held, arrives):
        return (row,)
    return _makers(row.inputs or _alike(row, arrives, rows), arrives, rows) or (row,)


def _alike(row: Row, arrives: TensorStats, rows: Rows) -> Iterator[str]:
    """The last call before `row` that put out what arrives there: a cast between hides it."""
    before = list(rows.rows)[: list(rows.rows).index(row.id)]
    same = (
        id for id in reversed(before) if _are_same(arrives, rows.stats(rows.rows[id], "output"))
    )
    return itertools.islice(same, 1 if arrives.abs_max else 0)


def _are_same(one: TensorStats | None, other: TensorStats | None) -> bool:
    """Whether both are numbers on the same entries, in whatever order."""
    if one is None or other is None or one.count != other.count:
        return False
    pairs = ((one.mean, other.mean), (one.rms, other.rms), (one.abs_max, other.abs_max))
    slack = _EXACT * one.abs_max
    return all(math.isclose(a, b, rel_tol=_EXACT, abs_tol=slack) for a, b in pairs)
