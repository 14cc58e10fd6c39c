"""Sums over the rows of attention probabilities, head by head, eagerly and in a graph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from gradscope.records import AttentionProfile

_MOST = 2**16  # scores that are looked at of one call and batch, evenly spread
_EACH_HEAD = (0, 2)

Part = Literal["choices", "gradients"]
Choices = tuple[Any, Any]  # probabilities, and which of them are counted


class HeadSums:
    """What the attention of one call came to, over all batches.

    A row is what one query gives to all keys. Rows to which the mask leaves fewer than two keys
    have no choice and are not counted. Of many scores an even share of samples and queries is
    looked at (`thin`).
    """

    def __init__(self, num_heads: int) -> None:
        self.choices = np.zeros((6, num_heads))
        self.gradients = np.zeros((2, num_heads))

    def add(self, part: Part, sums: np.ndarray) -> None:
        """What `sum_choices` or `sum_gradients` gave."""
        held = self.choices if part == "choices" else self.gradients
        held += sums

    def profile(self) -> AttentionProfile:
        """The means over all rows."""
        num_rows, entropies, peaks, variances, num_padded_rows, padding = self.choices
        arriving, leaving = self.gradients
        return AttentionProfile(
            heads=len(num_rows),
            entropy_fraction=_divide(entropies, num_rows),
            max_probability=_divide(peaks, num_rows),
            backward_factor=_divide(leaving, arriving, root=True),
            score_std=_divide(variances, num_rows, root=True),
            padding_fraction=_divide(padding, num_padded_rows) if num_padded_rows.any() else None,
        )


def sum_choices(scores: Any, kept: Any, padded: tuple[Any, Any]) -> tuple[Any, Choices]:
    """Count one batch.

    Args:
        scores: (samples, heads, queries, keys), before the softmax.
        kept: of this shape, False at keys that the mask takes away.
        padded: (samples, 1, 1, keys), True at padding; and whether that is known.

    Returns:
        Sums, (6, heads), and what `sum_gradients` needs of the batch.
    """
    num_keys = tf.reduce_sum(tf.cast(kept, tf.float64), -1, keepdims=True)
    counted = kept & (num_keys > 1)
    num_keys = tf.maximum(num_keys, 2.0)
    scores = tf.cast(scores, tf.float64)
    largest = tf.reduce_max(tf.where(counted, scores, scores.dtype.min), -1, keepdims=True)
    below = tf.where(counted, scores - largest, 0.0)
    powers = tf.where(counted, tf.exp(below), 0.0)
    is_row = tf.reduce_any(counted, -1, keepdims=True)
    total = tf.where(is_row, tf.reduce_sum(powers, -1, keepdims=True), 1.0)
    probabilities = powers / total
    entropies = tf.math.log(total) - tf.reduce_sum(probabilities * below, -1, keepdims=True)
    means = tf.reduce_sum(below, -1, keepdims=True) / num_keys
    around = tf.where(counted, tf.square(below - means), 0.0)
    positions, is_known = padded
    rows = tf.cast(is_row, tf.float64)
    known = tf.cast(is_known, tf.float64)
    hidden = tf.cast(positions, tf.float64)
    by_row = [
        rows,
        entropies / tf.math.log(num_keys),
        tf.reduce_max(probabilities, -1, keepdims=True),
        tf.reduce_sum(around, -1, keepdims=True) / num_keys,
        rows * known,
        tf.reduce_sum(probabilities * hidden, -1, keepdims=True) * known,
    ]
    sums = [tf.reduce_sum(each[..., 0], _EACH_HEAD) for each in by_row]
    return tf.stack(sums), (probabilities, counted)


def sum_gradients(choices: Choices, gradient: Any) -> Any:
    """Count what arrives at a batch's probabilities p, and what goes on to its scores s.

    dL/ds = p (dL/dp - sum p dL/dp), the sum over the keys.

    Returns:
        Sums of squares, (2, heads).
    """
    probabilities, counted = choices
    arriving = tf.where(counted, tf.cast(gradient, tf.float64), 0.0)
    middle = tf.reduce_sum(probabilities * arriving, -1, keepdims=True)
    leaving = probabilities * (arriving - middle)
    return tf.stack([tf.reduce_sum(tf.square(each), (0, 2, 3)) for each in (arriving, leaving)])


def find_padding(masks: Sequence[Any], num_samples: Any, num_keys: Any) -> tuple[Any, Any]:
    """Which keys are padding, by the masks that were made for sequences of their shape.

    Args:
        masks: (samples, positions) each, True at what counts.

    Returns:
        (samples, 1, 1, keys), True at padding; and whether that is known: it is not where there
        is no such mask, or where two differ.
    """
    size = tf.stack([num_samples, num_keys])
    hidden, fitting = [tf.zeros(size, tf.bool)], [tf.constant(False)]
    for mask in masks:
        cut = ~mask[:num_samples, :num_keys]
        missing = size - tf.shape(cut)
        hidden.append(tf.pad(cut, [[0, missing[0]], [0, missing[1]]]))
        fitting.append(tf.reduce_all(tf.shape(mask) == size))
    fits = tf.stack(fitting)[:, None, None]
    padded = tf.reduce_any(tf.stack(hidden) & fits, 0)
    agree = tf.reduce_all((tf.stack(hidden) == padded) | ~fits)
    return padded[:, None, None], tf.reduce_any(fits) & agree


def thin(shape: Sequence[Any]) -> tuple[slice, slice]:
    """Which samples and which queries are looked at, of (samples, heads, queries, keys).

    Args:
        shape: numbers, or tensors of one where a graph does not know them.
    """
    is_known = all(isinstance(size, int) for size in shape)
    least, most = (min, max) if is_known else (tf.minimum, tf.maximum)
    sizes = shape if is_known else [tf.cast(size, tf.int64) for size in shape]
    every = -(-math.prod(sizes) // _MOST)
    of_samples = most(least(every, sizes[0]), 1)
    of_queries = most(least(every // of_samples, sizes[2]), 1)
    return slice(None, None, of_samples), slice(None, None, of_queries)


def cut(tensor: Any, samples: slice, queries: slice = slice(None)) -> Any:
    """What is looked at of (samples, heads, queries, ...)."""
    part = tensor[samples, :, queries]
    # A step that a graph does not know would leave it without a rank.
    part.set_shape([None, tensor.shape[1], *[None] * (len(tensor.shape) - 2)])
    return part


def _divide(
    sums: np.ndarray, counts: np.ndarray, *, root: bool = False
) -> tuple[float | None, ...]:
    with np.errstate(divide="ignore", invalid="ignore"):
        means = sums / counts
    return tuple(
        (math.sqrt(mean) if root else mean) if math.isfinite(mean) else None
        for mean in means.tolist()
    )
