"""Arrays -> TensorStats, streaming over batches and mergeable; numpy only.

Small arrays are copied into one float64 buffer and reduced by segment once it is full, so that a
thousand of them cost a few numpy calls. Large ones are read where they are, in pieces that stay in
the processor's cache; sums of a piece are in its own float32 (relative error below 1e-6, pieces are
added in float64), unless squares could vanish or overflow there: then it takes the buffer's way.
The histogram of an array of 2**16 entries or more counts every 7th entry for seven (a bin's share
is then off by 0.5 % at most in two of three cases); all else counts every entry.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Hashable, Iterable

import numpy as np

from gradscope.measure.running_sums import LOWEST, NUM_BINS, Sums, finish
from gradscope.records import Histogram, TensorStats

_BUFFER = 1 << 16
_PIECE = 1 << 19
_LARGE = 1 << 14
_HUGE = 1 << 16
_STRIDE = 7  # odd, so that it visits all channels alike
# Between these, squares of the largest entries are exact enough in float32.
_SAFE_SQUARES = (1e-12, 1e15)
# Outside of these, squares could leave float64: they are taken of entries divided by the largest.
_SAFE_MAGNITUDES = (1e-140, 1e140)
_EXPONENT_BIAS = 1023
_LOWEST_FIELD = LOWEST + _EXPONENT_BIAS
_FLOAT32_LOWEST = -127  # the exponent that field 0 would stand for
_SMALLEST_NORMAL = float(np.finfo(np.float32).smallest_normal)
_EMPTY = TensorStats(0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


class _Scratch:
    """Room for intermediate results: fresh large arrays would be mapped anew at every flush."""

    __slots__ = ("fields", "is_zero", "magnitudes", "offsets")

    def __init__(self) -> None:
        self.magnitudes = np.empty(_BUFFER)
        self.is_zero = np.empty(_BUFFER, bool)
        self.fields = np.empty(_BUFFER, np.int64)
        self.offsets = np.empty(_BUFFER, np.int64)  # of each entry's segment in the bins


class Reducer:
    """Collects arrays under keys and gives the statistics of each key.

    Example:
        >>> reducer = Reducer()
        >>> reducer.add("kernel", np.ones((2, 3)))
        >>> reducer.stats("kernel").rms
        1.0
    """

    def __init__(self) -> None:
        self._sums: dict[Hashable, Sums] = {}
        self._finished: dict[Hashable, TensorStats] = {}
        self._buffer = np.empty(_BUFFER)
        self._scratch = _Scratch()
        self._pending: list[tuple[Sums, int]] = []
        self._used = 0

    def add(self, key: Hashable, array: np.ndarray) -> None:
        """Add all entries of `array` (any shape, any real dtype) to those of `key`."""
        sums = self._sums.get(key)
        if sums is None:
            sums = self._sums[key] = Sums()
        flat = array.reshape(-1)
        if flat.size >= _LARGE and flat.dtype == np.float32:
            stride = _STRIDE if flat.size >= _HUGE else 1
            for start in range(0, flat.size, _PIECE):
                piece = flat[start : start + _PIECE]
                if not _add_large(sums, piece, stride):
                    self._copy(sums, piece)
        else:
            self._copy(sums, flat)

    def _copy(self, sums: Sums, flat: np.ndarray) -> None:
        start = 0
        while start < flat.size:
            if self._used == _BUFFER:
                self._flush()
            stop = min(flat.size, start + _BUFFER - self._used)
            length = stop - start
            self._buffer[self._used : self._used + length] = flat[start:stop]
            self._scratch.offsets[self._used : self._used + length] = (
                len(self._pending) * NUM_BINS - _LOWEST_FIELD
            )
            self._pending.append((sums, self._used))
            self._used += length
            start = stop

    def put(self, key: Hashable, stats: TensorStats) -> None:
        """Take statistics that were made elsewhere as those of `key`."""
        self._finished[key] = merge(self._finished[key], stats) if key in self._finished else stats

    def stats(self, key: Hashable) -> TensorStats | None:
        """The statistics of all that was added under `key`; None where nothing was."""
        if key in self._finished:
            return self._finished[key]
        self._flush()
        sums = self._sums.get(key)
        return None if sums is None else finish(sums)

    def _flush(self) -> None:
        if self._used:
            _reduce(self._buffer[: self._used], self._pending, self._scratch)
            self._pending, self._used = [], 0


def stats(array: np.ndarray) -> TensorStats:
    """The statistics of one array of any shape and real dtype."""
    reducer = Reducer()
    reducer.add(None, np.asarray(array))
    return reducer.stats(None) or _EMPTY


def merge_all(parts: Iterable[TensorStats | None]) -> TensorStats | None:
    """The statistics of all parts taken together; None where there are none."""
    present = [part for part in parts if part is not None]
    return functools.reduce(merge, present) if present else None


def merge(first: TensorStats, second: TensorStats) -> TensorStats:
    """The statistics of both tensors' entries taken together.

    Exact for the counts and the histogram; moments to float64 rounding.
    """
    count = first.count + second.count
    if not (first.count and second.count):
        return first if first.count else second
    finite = [round(s.count * s.finite_fraction) for s in (first, second)]
    num_finite = sum(finite)
    pairs = list(zip(finite, (first, second), strict=True))
    # Shares and hypot, because products of large entries with counts, and squares, overflow.
    shares = [(n / num_finite, s) for n, s in pairs] if num_finite else []
    mean = sum(share * s.mean for share, s in shares)
    std = math.hypot(*(math.sqrt(h) * math.hypot(s.std, s.mean - mean) for h, s in shares))
    rms = math.hypot(*(math.sqrt(share) * s.rms for share, s in shares))
    l2_norm = min(math.hypot(first.l2_norm, second.l2_norm), sys.float_info.max)
    zeros = sum(round(s.count * s.zero_fraction) for s in (first, second))
    return TensorStats(
        count=count,
        finite_fraction=num_finite / count,
        mean=mean,
        std=std,
        rms=rms,
        l2_norm=l2_norm,
        abs_max=max(first.abs_max, second.abs_max),
        zero_fraction=zeros / count,
        histogram=_merge_histograms(first.histogram, second.histogram),
    )


def _merge_histograms(first: Histogram, second: Histogram) -> Histogram:
    if not (first.counts and second.counts):
        return first if first.counts else second
    low = min(first.first_exponent, second.first_exponent)
    high = max(h.first_exponent + len(h.counts) for h in (first, second))
    counts = [0] * (high - low)
    for h in (first, second):
        for i, n in enumerate(h.counts):
            counts[h.first_exponent - low + i] += n
    return Histogram(low, tuple(counts))


def _add_large(sums: Sums, x: np.ndarray, stride: int) -> bool:
    """Add a float32 vector to the sums; False, and nothing done, where float32 is too narrow."""
    abs_max = max(float(x.max()), -float(x.min()))
    if not _SAFE_SQUARES[0] < abs_max < _SAFE_SQUARES[1]:
        return False
    sums.count += x.size
    sums.num_finite += x.size
    sums.num_zero += int(np.count_nonzero(x == 0.0))
    sums.add(float(x.sum()), float(np.dot(x, x)))
    sums.abs_max = max(sums.abs_max, abs_max)
    counted = x if stride == 1 else np.ascontiguousarray(x[::stride])
    octaves = _float32_octaves(counted)
    # Field 0 is that of zeros and of subnormals.
    has_subnormal = octaves[0] > np.count_nonzero(counted == 0.0)
    octaves[0] = 0
    first = _FLOAT32_LOWEST - LOWEST
    sums.histogram[first : first + octaves.size] += stride * octaves
    if has_subnormal:
        small = counted[(counted != 0.0) & (np.abs(counted) < _SMALLEST_NORMAL)]
        octave = np.frexp(np.abs(small))[1] - 1 - LOWEST
        sums.histogram += stride * np.bincount(octave, minlength=NUM_BINS)
    return True


def _float32_octaves(x: np.ndarray) -> np.ndarray:
    """Counts of the 256 exponent fields of float32; field 0 holds zeros and subnormals.

    In a long vector two fields are counted at a time, as one 16-bit number: half the work.
    """
    if x.size < _PIECE // 2:
        return np.bincount((x.view(np.int32) >> 23) & 0xFF, minlength=256)
    fields = np.empty(x.size + x.size % 2, np.uint8)
    fields[-1] = 0
    np.right_shift(x.view(np.uint32), 23, out=fields[: x.size], casting="unsafe")
    pairs = np.bincount(fields.view(np.uint16), minlength=1 << 16).reshape(256, 256)
    counts = pairs.sum(axis=0) + pairs.sum(axis=1)
    counts[0] -= x.size % 2
    return counts


def _reduce(x: np.ndarray, pending: list[tuple[Sums, int]], scratch: _Scratch) -> None:
    """Add the segments of `x` that start at the pending offsets to their sums."""
    starts = np.array([start for _, start in pending])
    lengths = np.append(starts[1:], x.size) - starts
    magnitudes = np.abs(x, out=scratch.magnitudes[: x.size])
    abs_max = np.maximum.reduceat(magnitudes, starts)
    num_finite = lengths
    if not np.isfinite(abs_max).all():
        finite = np.isfinite(x)
        num_finite = np.add.reduceat(finite, starts, dtype=np.int64)
        x = np.where(finite, x, 0.0)
        magnitudes = np.abs(x, out=magnitudes)
        abs_max = np.maximum.reduceat(magnitudes, starts)
    is_zero = np.equal(x, 0.0, out=scratch.is_zero[: x.size])
    zeros = np.add.reduceat(is_zero, starts, dtype=np.int64)
    octaves = _octaves(magnitudes, scratch, len(pending))
    octaves[:, 0] -= zeros
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        total = np.add.reduceat(x, starts)
        magnitudes *= magnitudes
        squares = np.add.reduceat(magnitudes, starts)
    for i, (sums, start) in enumerate(pending):
        missing = int(lengths[i] - num_finite[i])
        sums.count += int(lengths[i])
        sums.num_finite += int(num_finite[i])
        sums.num_zero += int(zeros[i]) - missing
        if _SAFE_MAGNITUDES[0] < abs_max[i] < _SAFE_MAGNITUDES[1] or not abs_max[i]:
            sums.add(float(total[i]), float(squares[i]))
        else:
            exponent = math.frexp(abs_max[i])[1]
            scaled = np.ldexp(x[start : start + lengths[i]], -exponent)
            sums.add(float(scaled.sum()), float(np.dot(scaled, scaled)), exponent)
        sums.abs_max = max(sums.abs_max, float(abs_max[i]))
        sums.histogram += octaves[i]


def _octaves(magnitudes: np.ndarray, scratch: _Scratch, num_segments: int) -> np.ndarray:
    """Counts of floor(log2 x) by segment, from the exponent bits of x >= 0.

    Zeros count in the lowest bin, exponents beyond the range at its ends.
    """
    fields = scratch.fields[: magnitudes.size]
    np.right_shift(magnitudes.view(np.int64), 52, out=fields)
    np.maximum(fields, _LOWEST_FIELD, out=fields)
    if fields.max() >= _LOWEST_FIELD + NUM_BINS:
        np.minimum(fields, _LOWEST_FIELD + NUM_BINS - 1, out=fields)
    fields += scratch.offsets[: magnitudes.size]
    counts = np.bincount(fields, minlength=num_segments * NUM_BINS)
    return counts.reshape(num_segments, NUM_BINS)
