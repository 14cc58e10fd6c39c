"""Statistics of tensors inside a compiled function: reduced where they are, handed out as numbers.

Of each tensor the sum, the largest magnitude and the squares are over all entries, in float32, with
the squares taken of entries over the largest, so that those of 1e-30 do not vanish. Counts by
octave (and from them the shares of zeros and of non-finite entries) are over an even sample of
about 2,048 entries where there are more. All of it is plain tensor operations, so XLA can compile
it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from gradscope.measure.tensor_stats import stats as exact_stats
from gradscope.records import Histogram, TensorStats

SAMPLE = 2048
ASSUMED_BATCH = 32  # where the number of samples is not known while tracing
_NUM_FIELDS = 256  # float32 has 8 bits of exponent: field 0 holds zeros, field 255 NaN and Inf
_LOWEST = -127
_SMALLEST = 1e-37
_PRIMES = np.array([p for p in range(2, 2000) if all(p % d for d in range(2, int(p**0.5) + 1))])


def stride_for(size: int, wanted: int = SAMPLE) -> int:
    """A prime step (1 for few entries) that takes about `wanted` of `size`, from all channels."""
    if size < 2 * wanted:
        return 1
    larger = _PRIMES[size // wanted <= _PRIMES]
    return int(larger[0]) if larger.size else (size // wanted) | 1


def reduce(tensors: Sequence[Any]) -> dict[str, Any]:
    """Numbers from which `stats_of` makes the statistics of each tensor.

    Args:
        tensors: floating, any shape, dense; at least one.

    Returns:
        "counts" int64 (tensors,), "moments" float32 (tensors, 3): largest magnitude, sum, squares
        over the largest's square; "octaves" int32 (tensors, 256): sampled entries by exponent.
    """
    flat = [tf.reshape(_narrow(tensor), [-1]) for tensor in tensors]
    highest = tf.stack([tf.reduce_max(x) for x in flat])
    lowest = tf.stack([tf.reduce_min(x) for x in flat])
    largest = tf.maximum(highest, -lowest)
    scales = tf.unstack(1.0 / tf.maximum(largest, _SMALLEST))
    halves = tf.stack([tf.nn.l2_loss(x * s) for x, s in zip(flat, scales, strict=True)])
    totals = tf.stack([tf.reduce_sum(x) for x in flat])
    return {
        "counts": tf.stack([tf.size(x, tf.int64) for x in flat]),
        "moments": tf.stack([largest, totals, 2.0 * halves], axis=1),
        "octaves": _octaves(tensors, flat),
    }


def stats_of(
    counts: np.ndarray, moments: np.ndarray, octaves: np.ndarray
) -> list[TensorStats | None]:
    """The statistics of each tensor; of one that is not all finite, moments from the octaves."""
    sampled = np.maximum(1, octaves.sum(axis=1))
    each = zip(
        counts.tolist(),
        moments.astype(np.float64).tolist(),
        octaves,
        sampled.tolist(),
        octaves[:, [0, -1]].tolist(),
        _histograms(octaves[:, 1:-1], counts / sampled),
        strict=True,
    )
    return [_stats(*numbers) for numbers in each]


def _narrow(tensor: Any) -> Any:
    return tensor if tensor.dtype == tf.float32 else tf.cast(tensor, tf.float32)


def assume_size(shape: Any) -> int:
    """How many entries a tensor of this static shape has, or will have with usual batches."""
    return math.prod(ASSUMED_BATCH if d is None else d for d in shape)


def _octaves(tensors: Sequence[Any], flat: list[Any]) -> Any:
    """Counts of the exponent fields of a sample of each tensor, (tensors, 256)."""
    samples = [
        x[:: stride_for(assume_size(tensor.shape))] for x, tensor in zip(flat, tensors, strict=True)
    ]
    lengths = tf.stack([tf.size(s) for s in samples])
    joined = tf.concat(samples, axis=0)
    ends = tf.cumsum(lengths)
    # tf.repeat would do, but XLA cannot compile it where lengths are tensors
    places = tf.minimum(ends[:-1], tf.size(joined) - 1)[:, None]
    marks = tf.scatter_nd(places, tf.ones_like(ends[:-1]), tf.size(joined)[None])
    fields = tf.bitwise.bitwise_and(
        tf.bitwise.right_shift(tf.bitcast(joined, tf.int32), 23), _NUM_FIELDS - 1
    )
    bins = len(samples) * _NUM_FIELDS
    counted = tf.raw_ops.DenseBincount(  # tf.math.bincount computes its size: XLA wants a constant
        input=tf.cumsum(marks) * _NUM_FIELDS + fields,
        size=bins,
        weights=tf.constant([], tf.int32),
    )
    return tf.reshape(counted, [len(samples), _NUM_FIELDS])


def _stats(
    count: int,
    moments: list[float],
    fields: np.ndarray,
    sampled: int,
    ends: list[int],
    histogram: Histogram,
) -> TensorStats | None:
    if not count:
        return exact_stats(np.zeros(0))
    largest, total, scaled = abs(moments[0]), moments[1], moments[2]
    zeros, broken = ends
    finite_fraction = 1.0 - broken / sampled
    if not math.isfinite(total + scaled * largest) or broken:
        finite_fraction = min(finite_fraction, 1.0 - 1.0 / count)
        largest, total, scaled = _from_octaves(fields, count)
    num_finite = max(1, round(count * finite_fraction))
    squares = min(scaled * largest * largest, sys.float_info.max)
    mean, mean_square = total / num_finite, squares / num_finite
    return TensorStats(
        count=count,
        finite_fraction=finite_fraction,
        mean=mean,
        std=math.sqrt(max(0.0, mean_square - mean * mean)),
        rms=math.sqrt(mean_square),
        l2_norm=largest * math.sqrt(scaled),
        abs_max=largest,
        zero_fraction=zeros / sampled if largest else finite_fraction,
        histogram=histogram,
    )


def _from_octaves(fields: np.ndarray, count: int) -> tuple[float, float, float]:
    """Largest magnitude, sum and scaled squares, as well as counts by octave tell them."""
    inner = fields[1:-1].astype(np.float64) * (count / max(1, int(fields.sum())))
    filled = np.flatnonzero(inner)
    if not filled.size:
        return 0.0, 0.0, 0.0
    largest = 2.0 ** (1 + _LOWEST + 1 + int(filled[-1]))
    # E[x^2] = 7/3 * 4^e where entries lie evenly in [2^e, 2^(e+1))
    ratios = 4.0 ** (np.arange(inner.size) + 1.0 + _LOWEST) / largest**2
    return largest, 0.0, float(7.0 / 3.0 * (inner * ratios).sum())


def _histograms(inner: np.ndarray, times: np.ndarray) -> list[Histogram]:
    """Of each tensor, from its sample's counts by octave and how many entries one stands for."""
    held = inner > 0
    first = held.argmax(axis=1).tolist()
    last = (inner.shape[1] - held[:, ::-1].argmax(axis=1)).tolist()
    every = np.rint(inner * times[:, None]).astype(np.int64)
    return [
        Histogram(_LOWEST + 1 + low, tuple(counts[low:high].tolist())) if some else Histogram()
        for counts, low, high, some in zip(
            every, first, last, (inner.sum(axis=1) > 0).tolist(), strict=True
        )
    ]
