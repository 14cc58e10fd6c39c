"""Where a curve is going: the slope of its end, and the power law it follows."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from gradscope.signals.curves import Track

_FEWEST = 8  # bins for a slope and its error


class Trend(NamedTuple):
    """The line through the last third of a loss.

    Attributes:
        t: slope over its standard error; negative where the loss falls.
        fall_per_step: what it falls a step, as a fraction of its level there.
        is_negative: whether the loss goes below zero, where it can fall for ever.
    """

    t: float
    fall_per_step: float
    is_negative: bool


def fit_trend(losses: Track) -> Trend | None:
    """Fit a line through the last third of the steps; None where too few are known.

    Neighbouring steps are taken to be independent: each has its own batch.
    """
    if not len(losses.steps):
        return None
    last = losses.after(losses.steps[-1] * 2 / 3)
    fit = _fit_line(last.steps, last.mean)
    if fit is None:
        return None
    slope, error = fit
    level = abs(float(last.mean.mean()))
    t = slope / error if error else math.copysign(math.inf, slope) if slope else 0.0
    return Trend(t, -slope / level if level else 0.0, bool(last.mean.min() < 0))


def fit_exponent(losses: Track) -> tuple[float, float] | None:
    """The exponent b of loss ~ steps^-b over the last half of the steps, and its standard error.

    Learning curves follow power laws over decades of steps (Hestness et al. 2017,
    arXiv:1712.00409, section 3); None where too few steps are known or a loss is not positive.
    """
    if not len(losses.steps):
        return None
    last = losses.after(losses.steps[-1] / 2)
    if len(last.mean) < _FEWEST or last.mean.min() <= 0:
        return None
    fit = _fit_line(np.log(last.steps), np.log(last.mean))
    return None if fit is None else (-fit[0], fit[1])


def _fit_line(x: np.ndarray, y: np.ndarray) -> tuple[float, float] | None:
    """Slope and its standard error by least squares."""
    if len(y) < _FEWEST:
        return None
    place = x - x.mean()
    spread = float((place**2).sum())
    slope = float((place * y).sum()) / spread
    rest = y - y.mean() - slope * place
    return slope, math.sqrt(float((rest**2).sum()) / (len(y) - 2) / spread)
