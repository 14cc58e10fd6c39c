"""Learning rates by step, counted from 0."""

from __future__ import annotations

import math
from collections.abc import Callable

Rate = Callable[[int], float]


def cosine(peak: float, steps: int, warmup: int = 0, floor: float = 0.0) -> Rate:
    def rate(t: int) -> float:
        if t < warmup:
            return peak * (t + 1) / warmup
        done = (t - warmup) / (steps - warmup)
        return floor + (peak - floor) * 0.5 * (1 + math.cos(math.pi * done))

    return rate


def restarts(peak: float, period: int) -> Rate:
    return lambda t: 1e-3 * peak + peak * 0.5 * (1 + math.cos(math.pi * (t % period) / period))
