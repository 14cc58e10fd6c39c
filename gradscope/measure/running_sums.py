"""Running sums of one tensor, and the statistics that follow from them."""

from __future__ import annotations

import math
import sys

import numpy as np

from gradscope.records import Histogram, TensorStats

# Octaves kept apart in a histogram: float32 spans 2**-149 .. 2**127; wider ones count at the ends.
LOWEST, HIGHEST = -200, 200
NUM_BINS = HIGHEST - LOWEST + 1


class Sums:
    """Running sums of one tensor; everything in TensorStats follows from them.

    `total` and `squares` are those of entries divided by 2**`exponent`, which is 0 unless float64
    would be left.
    """

    __slots__ = (
        "abs_max", "count", "exponent", "histogram", "num_finite", "num_zero", "squares", "total"
    )  # fmt: skip

    def __init__(self) -> None:
        self.count = self.num_finite = self.num_zero = self.exponent = 0
        self.total = self.squares = self.abs_max = 0.0
        self.histogram = np.zeros(NUM_BINS, np.int64)

    def add(self, total: float, squares: float, exponent: int = 0) -> None:
        """Add sums of entries that were divided by 2**exponent."""
        if exponent == self.exponent:
            self.total += total
            self.squares += squares
            return
        common = max(exponent, self.exponent) if self.squares and squares else exponent
        common = common if squares else self.exponent
        held, given = self.exponent - common, exponent - common
        self.total = math.ldexp(self.total, held) + math.ldexp(total, given)
        self.squares = math.ldexp(self.squares, 2 * held) + math.ldexp(squares, 2 * given)
        self.exponent = common


def finish(sums: Sums) -> TensorStats:
    n = sums.num_finite
    mean = sums.total / n if n else 0.0
    mean_square = sums.squares / n if n else 0.0
    filled = np.flatnonzero(sums.histogram)
    histogram = Histogram()
    if filled.size:
        low, high = int(filled[0]), int(filled[-1]) + 1
        histogram = Histogram(LOWEST + low, tuple(sums.histogram[low:high].tolist()))
    return TensorStats(
        count=sums.count,
        finite_fraction=n / sums.count if sums.count else 1.0,
        mean=_times(mean, sums.exponent),
        std=_times(math.sqrt(max(0.0, mean_square - mean * mean)), sums.exponent),
        rms=_times(math.sqrt(mean_square), sums.exponent),
        l2_norm=_times(math.sqrt(sums.squares), sums.exponent),
        abs_max=sums.abs_max,
        zero_fraction=sums.num_zero / sums.count if sums.count else 0.0,
        histogram=histogram,
    )


def _times(value: float, exponent: int) -> float:
    """value * 2**exponent, at most the largest float."""
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return math.copysign(sys.float_info.max, value)
