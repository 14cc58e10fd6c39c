"""What a model puts out: each output of one forward pass, kept as a few numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gradscope.backend.keras_private import has_logits
from gradscope.measure.recorder import as_array

TOLERANCE = 1e-3
_FEW_SAMPLES = 8


@dataclass(frozen=True, slots=True)
class Output:
    """One output; ragged and sparse ones, and those that are no floats, are not `dense`.

    Attributes:
        shape: of one sample.
        minimum, maximum: over a few samples; None where they are not finite.
        sums_to_one: whether the rows of the same samples do.
        has_logits: whether Keras finds the logits behind the output and computes from them.
    """

    dense: bool
    shape: tuple[int, ...]
    minimum: float | None
    maximum: float | None
    sums_to_one: bool
    has_logits: bool


def described(outputs: Any) -> Any:
    """The structure of `outputs` with a record in the place of every tensor."""
    return keras.tree.map_structure(_output, outputs)


def _output(tensor: Any) -> Output:
    dense = isinstance(tensor, tf.Tensor) and tensor.dtype.is_floating
    values = np.atleast_1d(as_array(tensor)) if dense else np.zeros(0)
    values = values[:_FEW_SAMPLES].astype(np.float32)
    finite = bool(values.size) and bool(np.isfinite(values).all())
    has_rows = finite and values.ndim > 1 and values.shape[-1] > 1
    return Output(
        dense=dense,
        shape=tuple(values.shape[1:]),
        minimum=float(values.min()) if finite else None,
        maximum=float(values.max()) if finite else None,
        sums_to_one=has_rows and bool((abs(values.sum(-1) - 1) <= TOLERANCE).all()),
        has_logits=has_logits(tensor),
    )
